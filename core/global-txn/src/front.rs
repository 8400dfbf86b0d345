//! The front: requests of clients become key-value transactions, on every node.
//!
//! A request is decided on the record as it stands in the local state, which may be old. So whatever is decided
//! goes through the log and compares that record's revision: a change, and a refusal or a "that is so
//! already" likewise, which changes nothing. If the record is another by then, the failed comparison brings it, and
//! the request is decided again, now on what the log itself has shown.
//!
//! Invariant: a request has exactly one read or transaction under way, or it waits for a result.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_kv::{
    Compare, CompareResult, CompareTarget, KeyRange, KeyValue, RangeRequest, RangeResult,
    TxnRequest, TxnResult,
};

use crate::api::{Halt, Progress, ReadId, Refused, Reply, Request, RequestId, TxnId, TxnOutcome};
use crate::decide::{Decision, decide, gid_of};
use crate::gid::GlobalTxnId;
use crate::keys;
use crate::limits::{MAX_REQUESTS, MAX_ROUNDS};
use crate::machine::Context;
use crate::record::{Kind, Part, Record, Source, Status};
use crate::waiters::{self, Waiters};
use crate::write::{self, Found};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Front {
    requests: BTreeMap<RequestId, Asked>,
    reads: BTreeMap<ReadId, RequestId>,
    txns: BTreeMap<TxnId, RequestId>,
    waiters: Waiters,
}

/// A request under way.
#[derive(Debug)]
struct Asked {
    gid: GlobalTxnId,
    request: Request,
    rounds: u32,
    step: Step,
}

/// What it waits for.
#[derive(Debug)]
enum Step {
    /// Its record.
    Deciding,
    /// The transaction that makes this so, or confirms that it is.
    Writing(Box<Record>),
    /// The confirmation that this refusal rests on the newest record.
    Refusing(Refused),
    /// Whether a branch that is there already is the same, byte for byte.
    Comparing(Found),
    /// The record, once more, to see whether there is anything to wait for.
    BeforeWaiting(Status),
    /// What the steps of a workflow returned.
    Gathering(Box<Record>),
}

impl Front {
    pub(crate) fn request(&mut self, cx: &mut Context<'_>, id: RequestId, request: Request) {
        let gid = match gid_of(&request) {
            Ok(gid) => gid,
            Err(refused) => return cx.reply(id, Reply::Refused(refused)),
        };
        if self.requests.len() >= MAX_REQUESTS {
            let refused = Refused::error("too many requests: try again later");
            return cx.reply(id, Reply::Refused(refused));
        }
        let range = write::get(keys::record(&gid));
        self.requests.insert(id, Asked { gid, request, rounds: 0, step: Step::Deciding });
        self.read(cx, id, range);
    }

    fn read(&mut self, cx: &mut Context<'_>, id: RequestId, range: RangeRequest) {
        let read = cx.read(range);
        self.reads.insert(read, id);
    }

    fn propose(&mut self, cx: &mut Context<'_>, id: RequestId, txn: TxnRequest) {
        let txn = cx.txn(txn);
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
            Step::Deciding => self.decide(cx, id, Found::of(&result.kvs)?, false)?,
            Step::BeforeWaiting(wanted) => self.wait(cx, id, wanted, Found::of(&result.kvs)?),
            Step::Gathering(record) => self.gathered(cx, id, *record, &result.kvs)?,
            other => unreachable!("no read is under way in {other:?}"),
        }
        Ok(true)
    }

    /// `is_sure`: the log itself has shown this record, after the request came.
    fn decide(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        found: Found,
        is_sure: bool,
    ) -> Result<(), Halt> {
        let asked = self.requests.get_mut(&id).expect("a request under way");
        let mut txn = write::on(&asked.gid, found.revision);
        match decide(cx.config, &asked.request, &asked.gid, &found, cx.stamp()) {
            Decision::Write { record, extra } => {
                txn.success = write::replace(&asked.gid, found.record.as_ref(), &record);
                txn.success.extend(extra);
                asked.step = Step::Writing(record);
            }
            Decision::Keep(record) if is_sure => {
                self.done(cx, id, *record);
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
                asked.step = Step::Comparing(found);
            }
        }
        self.propose(cx, id, txn);
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
            TxnOutcome::Refused(refusal) => Refused::error(refusal.to_string()),
            TxnOutcome::Rejected => Refused::error("not accepted: try again later"),
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
            let found = Found::of(write::pairs(result, 0)?)?;
            return self.again(cx, id, step, found);
        }
        match step {
            Step::Writing(record) => self.done(cx, id, *record),
            Step::Comparing(found) => {
                let record = found.record.expect("there is a branch to compare with");
                self.done(cx, id, record);
            }
            Step::Refusing(refused) => self.finish(cx, id, Reply::Refused(refused)),
            other => unreachable!("no transaction is under way in {other:?}"),
        }
        Ok(())
    }

    /// The record was another one than the request was decided on.
    fn again(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        step: Step,
        found: Found,
    ) -> Result<(), Halt> {
        if let Step::Comparing(before) = &step
            && before.revision == found.revision
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
    fn done(&mut self, cx: &mut Context<'_>, id: RequestId, record: Record) {
        let asked = self.requests.get_mut(&id).expect("a request under way");
        let waits = record.options.wait_result && record.kind != Kind::Workflow;
        let wanted = match asked.request {
            Request::Submit(_) if waits => Status::Succeed,
            Request::Abort { .. } if waits => Status::Failed,
            Request::PrepareWorkflow(_) => {
                let range = keys::content_and_parts(&asked.gid);
                asked.step = Step::Gathering(Box::new(record));
                return self.read(cx, id, RangeRequest { range, ..RangeRequest::default() });
            }
            _ => return self.finish(cx, id, Reply::Done),
        };
        // It may have gone on since, and the news of that may have come already.
        asked.step = Step::BeforeWaiting(wanted);
        let range = write::get(keys::record(&asked.gid));
        self.read(cx, id, range);
    }

    fn wait(&mut self, cx: &mut Context<'_>, id: RequestId, wanted: Status, found: Found) {
        let asked = self.requests.remove(&id).expect("a request under way");
        match found.record {
            // Finished and forgotten meanwhile: how it ended is not known here any more.
            None => cx.reply(id, waiters::not_through(None)),
            Some(record) => self.waiters.add(cx, id, asked.gid, wanted, &record),
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
        let gid = self.requests.get(&id).map(|asked| asked.gid.clone()).expect("under way");
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
        self.waiters.tick(cx);
    }

    pub(crate) fn next_deadline(&self) -> Option<std::time::Duration> {
        self.waiters.next_deadline()
    }

    /// Requests under way, and those that wait for a result.
    pub(crate) fn figures(&self) -> (usize, usize) {
        (self.requests.len(), self.waiters.len())
    }

    pub(crate) fn invariants(&self) {
        let under_way = self.reads.len() + self.txns.len();
        assert_eq!(self.requests.len(), under_way, "one read or transaction a request");
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
