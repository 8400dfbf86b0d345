//! What a transaction's kind makes of its record: what may be called now, and what follows from what was
//! answered.
//!
//! Each kind is one file of pure functions over a record:
//!
//! - `callable`: which calls the present status asks for, and before when none of them is to be made. Rows
//!   whose turn has not come (order, prerequisites) are not in it.
//! - `deadline`: at which time something changes without a call.
//! - `settle`: whether the status has been worked off, and which one follows.
//! - `may_fail`: which operations may answer FAILURE; all others must succeed in the end, are tried again for
//!   ever, and a FAILURE of theirs is a programming error that is shown.
//!
//! [`plan`] makes one answer of these. What is *busy*, called and not yet answered, is known to the
//! driver alone and no part of the record, since after a crash nobody knows it.

use std::collections::BTreeSet;

use crate::api::Config;
use crate::planted::Bug;
use crate::record::{Class, Kind, Op, Record, Row, RowStatus, Status, Tries};

mod msg;
mod saga;
mod second_phase;
mod three_phase;
mod workflow;

pub(crate) use saga::{check_orders, inputs, late_answer};

/// What is called: a row, or the URL of the transaction itself (`query_prepared`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// This row.
    Row(usize),
    /// The check-back of a message, the callback of a workflow.
    Callback,
}

/// What is to be done about a transaction now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Make these calls.
    Call(Vec<Target>),
    /// This target has no URL and succeeds by itself.
    Skip(Target),
    /// Its time is over.
    TimeOut,
    /// Nothing before this group time, in ms, unless a call that is under way ends.
    Wait(u64),
    /// Nothing at all: it is final.
    Nothing,
}

/// A call that may be made, and not before when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Callable {
    pub(crate) target: Target,
    pub(crate) from_ms: u64,
}

/// What is to be done about a transaction, given what has been called and not yet answered.
#[must_use]
pub fn plan(config: &Config, record: &Record, now_ms: u64, busy: &BTreeSet<Target>) -> Plan {
    if record.status.is_final() {
        return Plan::Nothing;
    }
    if deadline(config, record).is_some_and(|deadline| now_ms >= deadline) {
        return Plan::TimeOut;
    }
    let mut free = callable(config, record);
    free.retain(|call| {
        !busy.contains(&call.target) && !saga::is_blocked(record, call.target, busy)
    });
    let ready = free.iter().filter(|call| call.from_ms <= now_ms);
    let ready: Vec<Target> = ready.map(|call| call.target).collect();
    if let Some(skipped) = ready.iter().find(|target| !record.has_url(**target)) {
        return Plan::Skip(*skipped);
    }
    if ready.is_empty() {
        return Plan::Wait(earliest(&free, deadline(config, record)));
    }
    Plan::Call(ready)
}

/// What is waited for: the targets that the present status asks to be called, whether or not their time has come.
#[must_use]
pub fn waited_for(config: &Config, record: &Record) -> Vec<Target> {
    callable(config, record).into_iter().map(|call| call.target).collect()
}

/// Under which time the transaction belongs into the due index. Work that can be done at once is due since
/// the status began, so that the entry need not move while the work goes on.
pub(crate) fn due(config: &Config, record: &Record) -> Option<u64> {
    let callable = callable(config, record);
    (!record.status.is_final()).then(|| earliest(&callable, deadline(config, record)))
}

/// With nothing to call and no deadline it waits for a call that is under way.
fn earliest(calls: &[Callable], deadline: Option<u64>) -> u64 {
    calls.iter().map(|call| call.from_ms).chain(deadline).min().unwrap_or(u64::MAX)
}

/// Why the calls so far did not bring the transaction to its end, if it now only waits.
pub(crate) fn pause(config: &Config, record: &Record) -> Option<Pause> {
    let due = record.due_ms?;
    if due <= record.changed_ms || record.status == Status::Prepared {
        return None;
    }
    let callable = callable(config, record);
    let first = callable.iter().min_by_key(|call| call.from_ms)?;
    let tries = record.tries(first.target);
    match &tries.last {
        Some(_) if record.retries_soon(first.target) => None,
        Some(last) => Some(Pause::Answer { class: last.class, text: last.text.clone() }),
        None => Some(Pause::Delayed),
    }
}

/// Why a pass over the branches ended before the transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// A call did not succeed and is tried again later.
    Answer { class: Class, text: String },
    /// A message is not to be delivered yet.
    Delayed,
}

pub(crate) fn callable(config: &Config, record: &Record) -> Vec<Callable> {
    match record.kind {
        Kind::Tcc | Kind::Xa => second_phase::callable(record),
        Kind::Saga => saga::callable(record),
        Kind::Msg => msg::callable(config, record),
        Kind::Workflow => workflow::callable(record),
        Kind::ThreePhase => three_phase::callable(record),
    }
}

/// When the transaction's time is over, in its present status.
pub(crate) fn deadline(config: &Config, record: &Record) -> Option<u64> {
    match record.kind {
        Kind::Tcc | Kind::Xa => second_phase::deadline(config, record),
        Kind::Saga => saga::deadline(config, record),
        Kind::Workflow => workflow::deadline(config, record),
        Kind::Msg => None,
        Kind::ThreePhase => three_phase::deadline(config, record),
    }
}

/// The status that follows when the present one has been worked off, with the reason if that is a rollback.
pub(crate) fn settle(config: &Config, record: &Record) -> Option<(Status, String)> {
    let confirmed = |row: &Row| row.op == Op::Confirm && row.status == RowStatus::Succeed;
    if config.is_planted(Bug::FirstConfirmEnds)
        && record.status == Status::Submitted
        && record.rows.iter().any(confirmed)
    {
        return Some((Status::Succeed, String::new()));
    }
    match record.kind {
        Kind::Tcc | Kind::Xa => second_phase::settle(record),
        Kind::Saga => saga::settle(record),
        Kind::Msg => msg::settle(record),
        Kind::Workflow => None,
        Kind::ThreePhase => three_phase::settle(record),
    }
}

/// Whether this operation may answer FAILURE and be done with it.
pub(crate) fn may_fail(record: &Record, target: Target) -> bool {
    match (record.kind, target) {
        (Kind::Msg, Target::Callback) => true,
        (Kind::Saga, Target::Row(row)) => record.rows[row].op == Op::Action,
        (Kind::ThreePhase, Target::Row(row)) => record.rows[row].op == Op::CanCommit,
        _ => false,
    }
}

/// Whether everything that the present status asks for is justified by what led to it, and must succeed in the end. Then
/// the next call does not depend on the last one's answer but for its turn.
pub(crate) fn is_decided(record: &Record) -> bool {
    match (record.kind, record.status) {
        (Kind::Workflow, _) => false,
        (_, Status::Aborting) | (Kind::Tcc | Kind::Xa | Kind::Msg, Status::Submitted) => true,
        (Kind::ThreePhase, Status::Submitted) => three_phase::is_decided(record),
        _ => false,
    }
}

/// What a rollback needs is fixed when it begins.
pub(crate) fn begin_rollback(config: &Config, record: &mut Record) {
    if record.kind == Kind::Saga {
        saga::begin_rollback(config, record);
    }
}

/// When what was begun, and is not heard of any more, is given up: nothing of it has been called yet.
fn given_up_at(config: &Config, record: &Record) -> u64 {
    record.created_ms.saturating_add(config.retention_ms)
}

/// The default timeout, or the transaction's own, counted from its creation.
fn timeout_at(config: &Config, record: &Record) -> u64 {
    record.created_ms.saturating_add(timeout_ms(config, record))
}

/// In ms.
pub(crate) fn timeout_ms(config: &Config, record: &Record) -> u64 {
    match record.options.timeout_ms {
        0 => config.timeout_ms,
        own => own,
    }
}

impl Record {
    /// The tries of a target.
    #[must_use]
    pub fn tries(&self, target: Target) -> &Tries {
        match target {
            Target::Row(row) => &self.rows[row].tries,
            Target::Callback => &self.callback,
        }
    }

    pub(crate) fn tries_mut(&mut self, target: Target) -> &mut Tries {
        match target {
            Target::Row(row) => &mut self.rows[row].tries,
            Target::Callback => &mut self.callback,
        }
    }

    /// Whether there is something to call.
    #[must_use]
    pub fn has_url(&self, target: Target) -> bool {
        match target {
            Target::Row(row) => self.rows[row].has_url,
            Target::Callback => self.has_query,
        }
    }

    /// Whether a call that failed is tried again within the same pass: a saga with a limit of retries spends them
    /// soon, one after the other.
    pub(crate) fn retries_soon(&self, target: Target) -> bool {
        self.kind == Kind::Saga && self.options.retry_limit > 0 && may_fail(self, target)
    }

    /// Whether what this call answers is kept for later steps.
    pub(crate) fn is_passed_on(&self, target: Target) -> bool {
        self.kind == Kind::Saga && self.options.pass_results && may_fail(self, target)
    }

    /// From when on this target may be called.
    fn callable_from(&self, target: Target) -> u64 {
        self.tries(target).next_ms.max(self.since_ms)
    }

    fn ready(&self, target: Target) -> Callable {
        Callable { target, from_ms: self.callable_from(target) }
    }

    /// Rows of this operation that have not ended, in order.
    fn open(&self, op: &Op) -> impl DoubleEndedIterator<Item = usize> {
        let open =
            move |(_, row): &(usize, &Row)| row.op == *op && row.status == RowStatus::Prepared;
        self.rows.iter().enumerate().filter(open).map(|(at, _)| at).collect::<Vec<_>>().into_iter()
    }
}
