//! A transaction that is being worked on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_kv::{Op, Revision, TxnResult};
use quorate_outcall::{CallFailure, CallId, CallResult};

use crate::answer;
use crate::api::{Halt, TxnId};
use crate::call::OWN_BRANCH;
use crate::gid::GlobalTxnId;
use crate::keys;
use crate::kind::{self, Plan, Target};
use crate::limits::{MAX_CALLS_PER_TXN, MAX_PASSED, MAX_STUCK, REJECTED_PAUSE_MS};
use crate::machine::Context;
use crate::planted::Bug;
use crate::record::{
    Answer, CallEntry, Class, Content, Kind, Op as RowOp, Record, RowStatus, Source, Status,
    StepResult,
};
use crate::transition::{Event, Took, cut, transition, waits_out};
use crate::write::{self, Found};

use super::ahead::Ahead;
use super::load::Load;
use super::{Calling, Driver, Proposed, alert, revision_in, written_at};

/// See the module.
#[derive(Debug)]
pub(super) struct Active {
    /// As applied last.
    pub(super) record: Record,
    /// When.
    pub(super) revision: Revision,
    /// Calls under way.
    pub(super) busy: BTreeMap<Target, CallId>,
    /// What has happened and is not written yet.
    pub(super) events: VecDeque<Event>,
    /// What it makes of the record, if that goes on meanwhile.
    pub(super) ahead: Option<Ahead>,
    /// What actions answered whose success is not written yet, by row; kept for later steps.
    results: BTreeMap<usize, Bytes>,
    /// What is being written.
    write: Option<Write>,
    /// What is being read for calls.
    pub(super) load: Option<Load>,
    /// What its client gave, if it is small and was read before.
    pub(super) content: Option<Arc<Content>>,
    /// When to look at it again, by group time.
    pub(super) wake_ms: Option<u64>,
    /// No write before this.
    pub(super) paused_until: Option<Duration>,
}

#[derive(Debug)]
struct Write {
    /// Its proposal.
    id: TxnId,
    next: Record,
    /// The same as it will be applied.
    bytes: Bytes,
    /// How many of the events it contains.
    events: usize,
}

impl Active {
    pub(super) fn new(record: Record, revision: Revision) -> Self {
        Self {
            record,
            revision,
            busy: BTreeMap::new(),
            events: VecDeque::new(),
            ahead: None,
            results: BTreeMap::new(),
            write: None,
            load: None,
            content: None,
            wake_ms: None,
            paused_until: None,
        }
    }

    /// Whether a change is what is being written: its outcome says the rest.
    pub(super) fn is_own(&self, bytes: &Bytes) -> bool {
        self.write.as_ref().is_some_and(|write| write.bytes == bytes)
    }

    fn is_held(&self) -> bool {
        self.write.is_some() || self.load.is_some() || self.paused_until.is_some()
    }

    pub(super) fn invariants(&self, gid: &GlobalTxnId) {
        assert!(self.busy.len() <= MAX_CALLS_PER_TXN, "{gid}: too many calls");
        assert!(self.write.is_none() || self.load.is_none(), "{gid}: reads while it writes");
        assert!(self.write.as_ref().is_none_or(|w| w.events <= self.events.len()));
        assert!(self.ahead.is_none() || !self.events.is_empty(), "{gid}: ahead of nothing");
        let rests = self.busy.is_empty() && self.wake_ms.is_none() && !self.is_held();
        assert!(!rests, "{gid} is active, but nothing will advance it");
    }
}

impl Driver {
    /// Does what is to be done about a transaction now.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, gid: &GlobalTxnId) -> Result<(), Halt> {
        while let Some(active) = self.active.get_mut(gid) {
            if active.is_held() {
                return Ok(());
            }
            if !active.goes_ahead(cx.config, cx.now) && self.write_events(cx, gid) {
                return Ok(());
            }
            let active = self.active.get_mut(gid).expect("it is active");
            let busy: BTreeSet<Target> = active.busy.keys().copied().collect();
            match kind::plan(cx.config, active.latest(), cx.now.group_ms, &busy) {
                Plan::Nothing => self.drop_active(cx, gid),
                Plan::TimeOut if cx.config.is_planted(Bug::CallBeforeApplied) => {
                    let next = transition(cx.config, &active.record, &Event::TimeOut, cx.stamp());
                    active.record = next.expect("a timeout is never refused");
                }
                Plan::TimeOut => active.events.push_back(Event::TimeOut),
                Plan::Skip(target) => {
                    let skipped = Event::Answered { target, answer: None, took: None };
                    active.events.push_back(skipped);
                }
                Plan::Call(mut targets) => {
                    targets.truncate(MAX_CALLS_PER_TXN.saturating_sub(busy.len()));
                    if targets.is_empty() {
                        return Ok(());
                    }
                    return self.load(cx, gid, targets);
                }
                Plan::Wait(until_ms) => {
                    self.rest(cx, gid, until_ms);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes what has happened down, if it changes anything.
    fn write_events(&mut self, cx: &mut Context<'_>, gid: &GlobalTxnId) -> bool {
        let Some(epoch) = self.epoch() else { return true };
        let active = self.active.get_mut(gid).expect("it is active");
        active.ahead = None;
        if active.events.is_empty() {
            return false;
        }
        let mut next = active.record.clone();
        let mut timeline = Vec::new();
        for event in &active.events {
            let changed = transition(cx.config, &next, event, cx.stamp());
            let changed = changed.expect("what the driver sees is never refused");
            if changed.calls > next.calls {
                let entry = entry(&next, event, cx.now.wall_ms);
                timeline.push(write::put(keys::call(gid, next.calls), entry.encode()));
            }
            next = changed;
        }
        if next == active.record {
            active.events.clear();
            return false;
        }
        let mut txn = write::on(gid, active.revision);
        if cx.config.is_planted(Bug::NoComparison) {
            txn.compare.clear();
        }
        if !cx.config.is_planted(Bug::EpochNotCompared) {
            txn.compare.push(write::stands_at(keys::own(), epoch));
        }
        let bytes = next.encode();
        txn.success = write::replace(gid, Some(&active.record), &next, bytes.clone());
        txn.success.extend(timeline);
        txn.success.extend(results(gid, &active.results, &active.record, &next));
        txn.failure.push(Op::Range(write::get(keys::own())));
        let id = cx.txn(txn);
        active.write = Some(Write { id, next, bytes, events: active.events.len() });
        self.txns.insert(id, Proposed::Change(gid.clone()));
        true
    }

    /// Whether this write is the one that is waited for: a record may have been forgotten and made anew.
    pub(super) fn is_writing(&self, gid: &GlobalTxnId, id: TxnId) -> bool {
        let write = self.active.get(gid).and_then(|active| active.write.as_ref());
        write.is_some_and(|write| write.id == id)
    }

    /// The write was applied, or its comparison failed.
    pub(super) fn written(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        result: &TxnResult,
    ) -> Result<(), Halt> {
        if result.succeeded {
            let revision = written_at(result);
            return self.settled(cx, gid, revision);
        }
        if Some(revision_in(result, 1)?) != self.epoch() {
            self.depose(cx);
            return Ok(());
        }
        let Found { record, revision } = Found::of(write::pairs(result, 0)?)?;
        if let Some(active) = self.active.get_mut(gid) {
            active.write = None;
        }
        self.refresh(cx, gid, record, revision)?;
        self.advance(cx, gid)
    }

    /// The write stands.
    fn settled(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        revision: Revision,
    ) -> Result<(), Halt> {
        let Some(active) = self.active.get_mut(gid) else { return Ok(()) };
        let write = active.write.take().expect("a write is under way");
        active.ahead = None;
        active.events.drain(..write.events);
        match write.next.status {
            Status::Succeed => self.figures.succeeded += 1,
            Status::Failed => self.figures.failed += 1,
            _ => {}
        }
        let worst = write.next.rows.iter().map(|row| row.tries.errors).max();
        let errors = worst.unwrap_or(0).max(write.next.callback.errors);
        if write.next.status.is_final() {
            self.stuck.remove(gid);
        } else if errors >= cx.config.alert_after && self.stuck.len() < MAX_STUCK {
            self.stuck.insert(gid.clone());
        }
        self.refresh(cx, gid, Some(write.next), revision)?;
        self.advance(cx, gid)
    }

    /// The write was refused; it is tried again.
    pub(super) fn not_written(&mut self, cx: &mut Context<'_>, gid: &GlobalTxnId, pause_ms: u64) {
        let until = cx.now.mono + cx.jittered(pause_ms);
        if let Some(active) = self.active.get_mut(gid) {
            active.write = None;
            active.paused_until = Some(until);
            self.pauses.insert((until, gid.clone()));
        }
    }

    /// After a write of unknown outcome: it stands, or something else does. If nothing has changed so far it may
    /// yet be applied; both compare the same revision, so that one of the two writes will fail.
    pub(super) fn read_again(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        found: Found,
    ) -> Result<(), Halt> {
        let Some(active) = self.active.get_mut(gid) else { return Ok(()) };
        let Some(write) = &active.write else { return Ok(()) };
        if found.revision > active.revision && found.record.as_ref() == Some(&write.next) {
            return self.settled(cx, gid, found.revision);
        }
        self.not_written(cx, gid, REJECTED_PAUSE_MS);
        self.refresh(cx, gid, found.record, found.revision)
    }

    /// This is how the record stands; older news is ignored.
    pub(super) fn refresh(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        record: Option<Record>,
        revision: Revision,
    ) -> Result<(), Halt> {
        let Some(active) = self.active.get_mut(gid) else { return Ok(()) };
        let Some(record) = record else {
            self.drop_active(cx, gid);
            return Ok(());
        };
        if revision <= active.revision {
            return Ok(());
        }
        active.record = record;
        active.revision = revision;
        active.ahead = None;
        if !active.is_held() {
            active.goes_ahead(cx.config, cx.now);
        }
        let rows = &active.record.rows;
        active.results.retain(|row, _| rows[*row].status == RowStatus::Prepared);
        self.cancel_useless(cx, gid);
        Ok(())
    }

    /// Calls that the record does not ask for any more.
    fn cancel_useless(&mut self, cx: &mut Context<'_>, gid: &GlobalTxnId) {
        let active = self.active.get_mut(gid).expect("it is active");
        let callable = kind::callable(cx.config, active.latest());
        let is_useful = |target: Target| {
            callable.iter().any(|call| call.target == target)
                || kind::late_answer(active.latest(), target)
        };
        let useless: Vec<Target> =
            active.busy.keys().copied().filter(|target| !is_useful(*target)).collect();
        for target in useless {
            let id = active.busy.remove(&target).expect("it was there");
            self.calls.remove(&id);
            cx.cancel(id);
        }
    }

    /// A call has ended.
    pub(crate) fn called(
        &mut self,
        cx: &mut Context<'_>,
        id: CallId,
        result: &CallResult,
    ) -> Result<(), Halt> {
        let Some(call) = self.calls.remove(&id) else { return Ok(()) };
        let active = self.active.get_mut(&call.gid).expect("calls are of active ones");
        active.busy.remove(&call.target);
        if let Some(event) = not_called(call.target, result) {
            self.count_not_called(cx, &call, &event);
            let active = self.active.get_mut(&call.gid).expect("calls are of active ones");
            active.events.push_back(event);
            return self.advance(cx, &call.gid);
        }
        let strict = active.record.options.strict || cx.config.strict;
        let answer = answer::classify(call.wire, strict, result);
        let answer = answer.or_else(|| keep_result(active, call.target, result));
        let may_fail = kind::may_fail(&active.record, call.target);
        match &answer {
            None => self.figures.calls_succeeded += 1,
            Some(answer) => {
                self.figures.calls_failed += 1;
                let is_fault = answer.class == Class::Failure && !may_fail;
                self.figures.must_succeed_failures += u64::from(is_fault);
            }
        }
        let class = answer.as_ref().map(|answer| answer.class);
        self.tally.answered(&active.record, call.target, class);
        let answer = answer.map(|answer| told(answer, &call.url, may_fail));
        if let Some(answer) = &answer {
            alert::report(cx, &call.gid, &active.record, call.target, &call.url, answer);
        }
        let took = Some(took(result));
        active.events.push_back(Event::Answered { target: call.target, answer, took });
        self.advance(cx, &call.gid)
    }

    /// One that its transaction does not wait out is an error like any other.
    fn count_not_called(&mut self, cx: &mut Context<'_>, call: &Calling, event: &Event) {
        let Event::NotCalled { target, retry_in_ms, answer } = event else { return };
        let active = self.active.get(&call.gid).expect("calls are of active ones");
        if !waits_out(cx.config, &active.record, *retry_in_ms) {
            self.figures.calls_failed += 1;
            alert::report(cx, &call.gid, &active.record, *target, &call.url, answer);
        }
    }

    /// Nothing to do now.
    fn rest(&mut self, cx: &mut Context<'_>, gid: &GlobalTxnId, until_ms: u64) {
        let active = self.active.get_mut(gid).expect("it is active");
        if active.busy.is_empty() {
            let due = active.record.due_ms;
            self.drop_active(cx, gid);
            if let Some(due) = due {
                self.agenda.note(gid, due);
            }
            return;
        }
        let until_ms = active.ahead.as_ref().map_or(until_ms, |ahead| until_ms.min(ahead.until_ms));
        if let Some(old) = active.wake_ms.replace(until_ms) {
            self.wakes.remove(&(old, gid.clone()));
        }
        self.wakes.insert((until_ms, gid.clone()));
    }

    pub(super) fn drop_active(&mut self, cx: &mut Context<'_>, gid: &GlobalTxnId) {
        let Some(active) = self.active.remove(gid) else { return };
        if active.record.status.is_final() {
            self.stuck.remove(gid);
        }
        for id in active.busy.into_values() {
            self.calls.remove(&id);
            cx.cancel(id);
        }
        if let Some(ms) = active.wake_ms {
            self.wakes.remove(&(ms, gid.clone()));
        }
        if let Some(until) = active.paused_until {
            self.pauses.remove(&(until, gid.clone()));
        }
    }
}

/// Keeps what a saga's action answered, if it is passed on. What is too long for that counts as a refusal: the
/// steps behind it cannot do without.
fn keep_result(active: &mut Active, target: Target, result: &CallResult) -> Option<Answer> {
    let (Target::Row(row), CallResult::Answered { body, .. }) = (target, result) else {
        return None;
    };
    if !active.record.is_passed_on(target) {
        return None;
    }
    if body.len() > MAX_PASSED {
        let text = format!("an answer of {} bytes cannot be passed on", body.len());
        return Some(Answer { class: Class::Failure, text });
    }
    active.results.insert(row, body.clone());
    None
}

/// What goes beside a record whose rows succeed.
fn results(
    gid: &GlobalTxnId,
    results: &BTreeMap<usize, Bytes>,
    before: &Record,
    next: &Record,
) -> Vec<Op> {
    let mut puts = Vec::new();
    for (row, body) in results {
        let (before, next) = (&before.rows[*row], &next.rows[*row]);
        let succeeds = before.status != next.status && next.status == RowStatus::Succeed;
        if let (true, Source::Step(step)) = (succeeds, next.source) {
            puts.push(write::put(keys::result(gid, step), StepResult(body.clone()).encode()));
        }
    }
    puts
}

/// What a call that never left is.
fn not_called(target: Target, result: &CallResult) -> Option<Event> {
    let CallResult::Failed { why, attempts: 0, .. } = result else { return None };
    let retry_in_ms = match why {
        CallFailure::Suspended { retry_in } => Some(u64::try_from(retry_in.as_millis()).ok()?),
        CallFailure::NoTurn | CallFailure::Overloaded => None,
        _ => return None,
    };
    let answer = Answer { class: Class::Error, text: why.to_string() };
    Some(Event::NotCalled { target, retry_in_ms, answer })
}

fn took(result: &CallResult) -> Took {
    let (CallResult::Answered { latency, attempts, .. }
    | CallResult::Failed { latency, attempts, .. }) = result;
    let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    Took { latency_us, attempts: *attempts }
}

/// An answered call as the timeline keeps it.
fn entry(record: &Record, event: &Event, wall_ms: u64) -> CallEntry {
    let Event::Answered { target, answer, took: Some(took) } = event else {
        unreachable!("only calls are counted");
    };
    let (branch_id, op) = match target {
        Target::Row(row) => (record.rows[*row].branch_id.as_str(), record.rows[*row].op.name()),
        Target::Callback if record.kind == Kind::Msg => (OWN_BRANCH, RowOp::CheckBack.name()),
        Target::Callback => (OWN_BRANCH, "callback"),
    };
    CallEntry {
        wall_ms,
        branch_id: branch_id.to_owned(),
        op: op.to_owned(),
        class: answer.as_ref().map(|answer| answer.class),
        latency_us: took.latency_us,
        attempts: took.attempts,
        text: answer.as_ref().map_or_else(String::new, |answer| cut(&answer.text)),
    }
}

/// A refusal in DTM's words.
fn told(answer: Answer, url: &str, may_fail: bool) -> Answer {
    if answer.class != Class::Failure || !may_fail {
        return answer;
    }
    let text = format!("url:{url} return failed: {} FAILURE", answer.text);
    Answer { text, ..answer }
}
