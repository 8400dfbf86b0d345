//! One coordinator by itself: the real machine of global transactions over the real key-value machine, with nothing
//! late and nothing lost. What it calls waits until the schedule delivers it.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_engine::{Engine, MemEngine};
use quorate_global_txn::{
    CallId, Config, GlobalTxn, GlobalTxnId, Input, KEYSPACE, Now, Output, Record, Request,
    RequestId, Status, TxnOutcome, keys,
};
use quorate_kv::{At, Command, KeyRange, Kv, RangeRequest, Reply as KvReply, codec};
use quorate_outcall::{Call, CallResult};

/// A call that waits for its delivery.
pub(super) struct Waiting {
    id: CallId,
    /// Its path's last part: which piece of work.
    pub(super) gid: String,
    pub(super) branch: usize,
    pub(super) op: String,
}

/// See the module.
pub(super) struct Host {
    machine: GlobalTxn,
    kv: Kv,
    engine: MemEngine,
    index: u64,
    last_request: u64,
    pub(super) calls: Vec<Waiting>,
}

const NOW: Now = Now { mono: Duration::from_secs(10), group_ms: 10_000, wall_ms: 10_000 };

impl Host {
    pub(super) fn new() -> Self {
        let machine = GlobalTxn::new(Config::default(), 1);
        let (kv, engine) = (Kv::default(), MemEngine::new());
        let mut host = Self { machine, kv, engine, index: 0, last_request: 0, calls: Vec::new() };
        host.input(Input::Leading);
        host
    }

    pub(super) fn ask(&mut self, request: Request) {
        self.last_request += 1;
        self.input(Input::Request { id: RequestId(self.last_request), request });
    }

    /// A participant answers: with success, or it refuses.
    pub(super) fn answer(&mut self, call: &Waiting, is_good: bool) {
        let (message, body) = (String::new(), bytes::Bytes::new());
        let status = if is_good { 200 } else { 409 };
        let latency = Duration::ZERO;
        let result = CallResult::Answered { status, message, body, latency, attempts: 1 };
        self.input(Input::Called { id: call.id, result });
    }

    pub(super) fn status(&mut self, gid: &str) -> Status {
        let gid = GlobalTxnId::parse(gid).expect("a gid of a scenario");
        let range = KeyRange::single(keys::record(&gid));
        let view = self.kv.view(KEYSPACE, self.engine.snapshot());
        let found = view.range(&RangeRequest { range, ..RangeRequest::default() });
        let found = found.expect("the in-memory engine does not fail");
        Record::decode(&found.kvs[0].value).expect("the machine wrote it").status
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            self.machine.step(NOW, input, &mut out).expect("it reads what it wrote");
            self.machine.invariants();
            for output in out.into_iter().rev() {
                for answer in self.carry_out(output).into_iter().rev() {
                    inputs.push_front(answer);
                }
            }
        }
    }

    fn carry_out(&mut self, output: Output) -> Vec<Input> {
        match output {
            Output::Txn { id, txn, .. } => {
                self.index += 1;
                let at = At { index: self.index, term: 1, time_ms: NOW.group_ms };
                let data = codec::encode(KEYSPACE, &Command::Txn(txn));
                let applied = self.kv.apply(&mut self.engine, at, &data).expect("it decodes");
                self.engine.publish();
                let news = applied.events.map(|batch| Input::Applied { events: batch.events });
                let Ok(KvReply::Txn(result)) = applied.reply else { unreachable!("never refused") };
                let outcome = TxnOutcome::Done(result);
                news.into_iter().chain([Input::Txn { id, outcome }]).collect()
            }
            Output::Range { id, range } => {
                let view = self.kv.view(KEYSPACE, self.engine.snapshot());
                let result = view.range(&range).expect("the in-memory engine does not fail");
                vec![Input::Range { id, result }]
            }
            Output::Call { id, call } => {
                self.calls.extend(waiting(id, &call));
                Vec::new()
            }
            Output::CancelCall { id } => {
                self.calls.retain(|call| call.id != id);
                Vec::new()
            }
            Output::Reply { .. } => Vec::new(),
        }
    }
}

fn waiting(id: CallId, call: &Call) -> Option<Waiting> {
    let (_, query) = call.url.split_once('?')?;
    let get = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let branch = get("branch_id")?.parse::<usize>().ok()?.checked_sub(1)?;
    Some(Waiting { id, gid: get("gid")?, branch, op: get("op")? })
}
