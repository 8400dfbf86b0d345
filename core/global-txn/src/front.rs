//! The front: requests of clients become key-value transactions, on every node.
//!
//! A request is decided on its *keys*: a transaction's record and the topics that it names, or one topic. They are
//! read from the local state, which may be old. So whatever is decided goes through the log and compares the
//! revisions of all of them: a change, and a refusal or a "that is so already" likewise, which changes nothing. If one is
//! another by then, the failed comparison brings them all, and the request is decided again, now on what the log
//! itself has shown.
//!
//! What was certainly not proposed, since nobody leads just now or another one does, is decided again after a pause: a
//! change of leaders is over within a second or two, and DTM's clients do not ask twice.
//!
//! Invariant: a request has reads or one transaction under way, or it pauses, or it waits for a result.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_kv::{
    Compare, CompareResult, CompareTarget, KeyRange, KeyValue, RangeRequest, RangeResult,
    TxnRequest, TxnResult,
};

use crate::api::{Halt, Progress, ReadId, Refused, Reply, Request, RequestId, TxnId, TxnOutcome};
use crate::decide::Decision;
use crate::gid::GlobalTxnId;
use crate::keys;
use crate::limits::{MAX_REJECTED_MS, MAX_REQUESTS, MAX_ROUNDS, REJECTED_PAUSE_MS};
use crate::machine::Context;
use crate::record::{Kind, Part, Record, Source, Status};
use crate::subject::{Found, Subject};
use crate::waiters::{self, Waiters};
use crate::write;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Front {
    requests: BTreeMap<RequestId, Asked>,
    reads: BTreeMap<ReadId, RequestId>,
    txns: BTreeMap<TxnId, RequestId>,
    /// Requests that are decided again, by when.
    pauses: BTreeSet<(Duration, RequestId)>,
    waiters: Waiters,
}

/// A request under way.
#[derive(Debug)]
struct Asked {
    subject: Subject,
    request: Request,
    rounds: u32,
    /// When it is not decided again any more.
    until: Duration,
    /// What has been read of the keys, in their order.
    read: Vec<Vec<KeyValue>>,
    step: Step,
}

/// What it waits for.
#[derive(Debug)]
enum Step {
    /// Its keys.
    Deciding,
    /// The transaction that makes this so, or confirms that it is. Of a topic: `None`.
    Writing(Option<Box<Record>>),
    /// The confirmation that this refusal rests on what is newest.
    Refusing(Refused),
    /// Whether a branch that is there already is the same, byte for byte.
    Comparing(Box<Found>),
    /// The record, once more, to see whether there is anything to wait for.
    BeforeWaiting(Status),
    /// What the steps of a workflow returned.
    Gathering(Box<Record>),
}

impl Front {
    pub(crate) fn request(&mut self, cx: &mut Context<'_>, id: RequestId, request: Request) {
        let subject = match Subject::of(&request) {
            Ok(subject) => subject,
            Err(refused) => return cx.reply(id, Reply::Refused(refused)),
        };
        if self.requests.len() >= MAX_REQUESTS {
            let refused = Refused::transient("too many requests: try again later");
            return cx.reply(id, Reply::Refused(refused));
        }
        let (read, step) = (Vec::new(), Step::Deciding);
        let until = cx.now.mono + Duration::from_millis(MAX_REJECTED_MS);
        self.requests.insert(id, Asked { subject, request, rounds: 0, until, read, step });
        self.begin(cx, id);
    }

    fn begin(&mut self, cx: &mut Context<'_>, id: RequestId) {
        let asked = self.requests.get(&id).expect("a request under way");
        for key in asked.subject.keys() {
            self.read(cx, id, write::get(key));
        }
    }

    /// Nothing of it has happened, nor will.
    fn rejected(&mut self, cx: &mut Context<'_>, id: RequestId) {
        let Some(asked) = self.requests.get_mut(&id) else { return };
        if cx.now.mono >= asked.until {
            let refused = Refused::transient("not accepted: try again later");
            return self.finish(cx, id, Reply::Refused(refused));
        }
        asked.step = Step::Deciding;
        self.pauses.insert((cx.now.mono + cx.jittered(REJECTED_PAUSE_MS), id));
    }

    fn read(&mut self, cx: &mut Context<'_>, id: RequestId, range: RangeRequest) {
        let read = cx.read(range);
        self.reads.insert(read, id);
    }

    fn propose(&mut self, cx: &mut Context<'_>, id: RequestId, txn: TxnRequest, takes_in: bool) {
        let txn = cx.propose(txn, takes_in);
        self.txns.insert(txn, id);
    }

    /// Takes the result of a read, unless it is not one of its own.
    pub(crate) fn range(
        &mut self,
        cx: &mut Context<'_>,
        read: ReadId,
        result: &RangeResult,
    ) -> Result<bool, Halt> {
        let Some(id) = self.reads.remove(&read) else { return Ok(false) };
        let Some(asked) = self.requests.get_mut(&id) else { return Ok(true) };
        match std::mem::replace(&mut asked.step, Step::Deciding) {
            Step::Deciding => {
                asked.read.push(result.kvs.clone());
                if asked.read.len() == asked.subject.len() {
                    let found = asked.subject.found(&std::mem::take(&mut asked.read))?;
                    self.decide(cx, id, found, false)?;
                }
            }
            Step::BeforeWaiting(wanted) => {
                let record = result.kvs.first().map(write::decode).transpose()?;
                self.wait(cx, id, wanted, record);
            }
            Step::Gathering(record) => self.gathered(cx, id, *record, &result.kvs)?,
            other => unreachable!("no read is under way in {other:?}"),
        }
        Ok(true)
    }

    /// `is_sure`: the log itself has shown these, after the request came.
    fn decide(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        found: Found,
        is_sure: bool,
    ) -> Result<(), Halt> {
        let asked = self.requests.get_mut(&id).expect("a request under way");
        let mut txn = asked.subject.unless_changed(&found);
        let takes_in = takes_in(&asked.request, &found);
        match asked.subject.decide(cx, &asked.request, &found) {
            Decision::Write { record, ops } => {
                txn.success = ops;
                asked.step = Step::Writing(record);
            }
            Decision::Keep(record) if is_sure => {
                self.done(cx, id, record);
                return Ok(());
            }
            Decision::Keep(record) => asked.step = Step::Writing(record),
            Decision::Refuse(refused) if is_sure => {
                self.finish(cx, id, Reply::Refused(refused));
                return Ok(());
            }
            Decision::Refuse(refused) => asked.step = Step::Refusing(refused),
            Decision::Compare { key, value } => {
                txn.compare.push(has_value(key, value));
                asked.step = Step::Comparing(Box::new(found));
            }
        }
        self.propose(cx, id, txn, takes_in);
        Ok(())
    }

    /// Takes the outcome of a transaction, unless it is not one of its own.
    pub(crate) fn txn(
        &mut self,
        cx: &mut Context<'_>,
        txn: TxnId,
        outcome: &TxnOutcome,
    ) -> Result<bool, Halt> {
        let Some(id) = self.txns.remove(&txn) else { return Ok(false) };
        let refused = match outcome {
            TxnOutcome::Done(result) => return self.applied(cx, id, result).map(|()| true),
            TxnOutcome::Refused(refusal) => Refused::of_store(*refusal),
            TxnOutcome::Rejected => {
                self.rejected(cx, id);
                return Ok(true);
            }
            TxnOutcome::Unknown => Refused {
                is_unknown: true,
                ..Refused::error("no answer in time: the outcome is unknown, ask again")
            },
        };
        self.finish(cx, id, Reply::Refused(refused));
        Ok(true)
    }

    fn applied(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        result: &TxnResult,
    ) -> Result<(), Halt> {
        let Some(asked) = self.requests.get_mut(&id) else { return Ok(()) };
        let step = std::mem::replace(&mut asked.step, Step::Deciding);
        if !result.succeeded {
            let reads = (0..asked.subject.len()).map(|at| Ok(write::pairs(result, at)?.to_vec()));
            let reads: Vec<Vec<KeyValue>> = reads.collect::<Result<_, Halt>>()?;
            let found = asked.subject.found(&reads)?;
            return self.again(cx, id, step, found);
        }
        match step {
            Step::Writing(record) => self.done(cx, id, record),
            Step::Comparing(found) => self.done(cx, id, found.record.map(Box::new)),
            Step::Refusing(refused) => self.finish(cx, id, Reply::Refused(refused)),
            other => unreachable!("no transaction is under way in {other:?}"),
        }
        Ok(())
    }

    /// The request was decided on what is not so any more.
    fn again(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        step: Step,
        found: Found,
    ) -> Result<(), Halt> {
        if let Step::Comparing(before) = &step
            && before.revisions == found.revisions
        {
            let refused = Refused::error("storage: UniqueKeyConflict");
            self.finish(cx, id, Reply::Refused(refused));
            return Ok(());
        }
        let asked = self.requests.get_mut(&id).expect("a request under way");
        asked.rounds += 1;
        if asked.rounds > MAX_ROUNDS {
            let refused = Refused::error("too many requests change this transaction: try again");
            self.finish(cx, id, Reply::Refused(refused));
            return Ok(());
        }
        self.decide(cx, id, found, true)
    }

    /// What the request wants is so.
    fn done(&mut self, cx: &mut Context<'_>, id: RequestId, record: Option<Box<Record>>) {
        let asked = self.requests.get_mut(&id).expect("a request under way");
        let (Some(record), Some(gid)) = (record, asked.subject.gid().cloned()) else {
            return self.finish(cx, id, Reply::Done);
        };
        let asks = matches!(&asked.request, Request::Submit(body) if body.options.wait_result);
        let waits = (record.options.wait_result || asks) && record.kind != Kind::Workflow;
        let wanted = match asked.request {
            Request::Submit(_) if waits => Status::Succeed,
            Request::Abort { .. } if waits => Status::Failed,
            Request::PrepareWorkflow(_) => {
                let range = keys::content_and_parts(&gid);
                asked.step = Step::Gathering(record);
                return self.read(cx, id, RangeRequest { range, ..RangeRequest::default() });
            }
            _ => return self.finish(cx, id, Reply::Done),
        };
        // It may have gone on since, and the news of that may have come already.
        asked.step = Step::BeforeWaiting(wanted);
        self.read(cx, id, write::get(keys::record(&gid)));
    }

    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        wanted: Status,
        record: Option<Record>,
    ) {
        let asked = self.requests.remove(&id).expect("a request under way");
        match (record, asked.subject.gid()) {
            (Some(record), Some(gid)) => self.waiters.add(cx, id, gid.clone(), wanted, &record),
            // Finished and forgotten meanwhile: how it ended is not known here any more.
            _ => cx.reply(id, waiters::not_through(None)),
        }
    }

    fn gathered(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        record: Record,
        kvs: &[KeyValue],
    ) -> Result<(), Halt> {
        let mut parts = BTreeMap::new();
        for kv in kvs {
            if let Some(number) = keys::part_number(&kv.key) {
                let part = Part::decode(&kv.value);
                parts.insert(number, part.map_err(|cause| Halt(format!("part: {cause}")))?.data);
            }
        }
        let data = record.rows.iter().map(|row| match row.source {
            Source::Part(number) => parts.get(&number).cloned().unwrap_or_default(),
            Source::Step(_) => Bytes::new(),
        });
        let data = data.collect();
        let gid = self.requests.get(&id).and_then(|asked| asked.subject.gid().cloned());
        let gid = gid.expect("a workflow is a transaction");
        self.finish(cx, id, Reply::Progress(Box::new(Progress { gid, record, data })));
        Ok(())
    }

    fn finish(&mut self, cx: &mut Context<'_>, id: RequestId, reply: Reply) {
        self.requests.remove(&id);
        cx.reply(id, reply);
    }

    /// A record has changed: whoever waits for it may be answered.
    pub(crate) fn changed(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        kv: &KeyValue,
    ) -> Result<(), Halt> {
        if self.waiters.waits_for(gid) {
            self.waiters.changed(cx, gid, &write::decode(kv)?);
        }
        Ok(())
    }

    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        while let Some((until, id)) = self.pauses.first().copied()
            && until <= cx.now.mono
        {
            self.pauses.pop_first();
            self.begin(cx, id);
        }
        self.waiters.tick(cx);
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let pause = self.pauses.first().map(|(until, _)| *until);
        pause.into_iter().chain(self.waiters.next_deadline()).min()
    }

    /// Requests under way, and those that wait for a result.
    pub(crate) fn figures(&self) -> (usize, usize) {
        (self.requests.len(), self.waiters.len())
    }

    pub(crate) fn invariants(&self) {
        let under_way = self.reads.len() + self.txns.len() + self.pauses.len();
        assert!(self.requests.len() <= under_way, "a request for which nothing is under way");
        self.waiters.invariants();
    }
}

fn has_value(key: Bytes, value: Bytes) -> Compare {
    Compare {
        range: KeyRange::single(key),
        target: CompareTarget::Value(value),
        result: CompareResult::Equal,
    }
}

/// Whether a request brings something new: what a full store refuses.
fn takes_in(request: &Request, found: &Found) -> bool {
    match request {
        Request::Prepare(_) | Request::Submit(_) | Request::PrepareWorkflow(_) => {
            found.record.is_none()
        }
        Request::RegisterBranch(_) | Request::Subscribe { .. } => true,
        _ => false,
    }
}
