//! TCC and XA: the first phase is the application's, the second one is driven from here.
//!
//! The application calls *try* (TCC) or does its work inside an XA transaction, branch by branch, each registered
//! before. Then it submits or aborts, or is not heard of until the timeout, which aborts. From there on there is no way
//! back: each branch is told the decision, one after the other, until it has acknowledged it. TCC goes from the
//! last registered to the first, so that a nested branch hears before its parent; XA in order.
//!
//! | | submitted | aborting |
//! |---|---|---|
//! | tcc | `confirm`, last first | `cancel`, last first |
//! | xa | `commit`, first first | `rollback`, first first |
//!
//! Left out: calling *try*. So a participant that fails in the first phase is the application's matter.

use crate::api::Config;
use crate::record::{Kind, Op, Record, Status};

use super::{Callable, Target, timeout_at};

/// What the present status tells branches; `None`: nothing.
fn op(record: &Record) -> Option<Op> {
    match (record.kind, record.status) {
        (Kind::Tcc, Status::Submitted) => Some(Op::Confirm),
        (Kind::Tcc, Status::Aborting) => Some(Op::Cancel),
        (Kind::Xa, Status::Submitted) => Some(Op::Commit),
        (Kind::Xa, Status::Aborting) => Some(Op::Rollback),
        _ => None,
    }
}

pub(super) fn callable(record: &Record) -> Vec<Callable> {
    let Some(op) = op(record) else { return Vec::new() };
    let mut open = record.open(&op);
    let next = if record.kind == Kind::Tcc { open.next_back() } else { open.next() };
    next.map(|row| record.ready(Target::Row(row))).into_iter().collect()
}

pub(super) fn deadline(config: &Config, record: &Record) -> Option<u64> {
    (record.status == Status::Prepared).then(|| timeout_at(config, record))
}

pub(super) fn settle(record: &Record) -> Option<(Status, String)> {
    let is_through = record.open(&op(record)?).next().is_none();
    let end = if record.status == Status::Submitted { Status::Succeed } else { Status::Failed };
    is_through.then(|| (end, String::new()))
}
