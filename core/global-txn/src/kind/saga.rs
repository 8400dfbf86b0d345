//! Saga: actions forward; when one is refused, compensations backward (Garcia-Molina and Salem 1987).
//!
//! Step *i* has two rows, compensation `2i` and action `2i + 1`. Forward a step may run when its
//! predecessor (sequential) and all prerequisites that `orders` names have succeeded. Backward the steps go
//! in strict reverse (sequential), or each one once all that depend on it are undone (concurrent).
//!
//! *What is compensated* is fixed when the rollback begins: every step whose action ended either way (one that
//! was refused may have done half of its work), and every step whose action may have been called without
//! anybody knowing, which are those that could have run. A compensation therefore meets branches that never
//! saw their action; the participant's barrier makes that a no-op.
//!
//! An action that is still being called when the rollback begins is waited for before its step is
//! compensated, as far as this driver knows of it.

use std::collections::BTreeSet;

use crate::api::{Config, Refused};
use crate::planted::Bug;
use crate::record::{Op, Record, RowStatus, Status};

use super::{Callable, Target, given_up_at};

fn compensation(step: usize) -> usize {
    2 * step
}

fn action(step: usize) -> usize {
    2 * step + 1
}

fn steps(record: &Record) -> std::ops::Range<usize> {
    0..record.rows.len() / 2
}

pub(super) fn callable(record: &Record) -> Vec<Callable> {
    let rows: Vec<usize> = match record.status {
        Status::Submitted => {
            let forward = steps(record).filter(|step| {
                record.rows[action(*step)].status == RowStatus::Prepared && can_run(record, *step)
            });
            forward.map(action).collect()
        }
        Status::Aborting => {
            let mut back = steps(record).rev().filter(|step| !is_undone(record, *step));
            if record.options.concurrent {
                back.filter(|step| can_undo(record, *step)).map(compensation).collect()
            } else {
                back.next().map(compensation).into_iter().collect()
            }
        }
        _ => Vec::new(),
    };
    rows.into_iter().map(|row| record.ready(Target::Row(row))).collect()
}

/// Once it is submitted only if its client gave a timeout.
pub(super) fn deadline(config: &Config, record: &Record) -> Option<u64> {
    match (record.status, record.options.timeout_ms) {
        (Status::Prepared, _) => Some(given_up_at(config, record)),
        (Status::Submitted, timeout @ 1..) => Some(record.created_ms.saturating_add(timeout)),
        _ => None,
    }
}

pub(super) fn settle(record: &Record) -> Option<(Status, String)> {
    let actions = || steps(record).map(|step| &record.rows[action(step)]);
    match record.status {
        Status::Submitted => {
            if let Some(failed) = actions().find(|row| row.status == RowStatus::Failed) {
                let why = failed.tries.last.as_ref();
                return Some((Status::Aborting, why.map_or_else(String::new, |a| a.text.clone())));
            }
            let is_through = actions().all(|row| row.status == RowStatus::Succeed);
            is_through.then(|| (Status::Succeed, String::new()))
        }
        Status::Aborting => {
            let is_through = steps(record).all(|step| is_undone(record, step));
            is_through.then(|| (Status::Failed, String::new()))
        }
        _ => None,
    }
}

/// Marks the compensations that are needed.
pub(super) fn begin_rollback(config: &Config, record: &mut Record) {
    for step in steps(record) {
        let status = record.rows[action(step)].status;
        let may_have_run = match config.is_planted(Bug::CompensateOnlyKnown) {
            true => status == RowStatus::Succeed,
            false => status != RowStatus::Prepared || can_run(record, step),
        };
        record.rows[compensation(step)].is_needed = may_have_run;
    }
}

/// Whether a step's prerequisites have succeeded.
fn can_run(record: &Record, step: usize) -> bool {
    let has_succeeded = |step: usize| record.rows[action(step)].status == RowStatus::Succeed;
    let in_turn = record.options.concurrent || step == 0 || has_succeeded(step - 1);
    in_turn && prerequisites(record, step).all(has_succeeded)
}

fn prerequisites(record: &Record, step: usize) -> impl Iterator<Item = usize> + '_ {
    record.options.orders.get(step).into_iter().flatten().map(|before| *before as usize)
}

fn is_undone(record: &Record, step: usize) -> bool {
    let row = &record.rows[compensation(step)];
    !row.is_needed || row.status == RowStatus::Succeed
}

fn can_undo(record: &Record, step: usize) -> bool {
    let mut dependents =
        steps(record).filter(|later| prerequisites(record, *later).any(|before| before == step));
    dependents.all(|later| is_undone(record, later))
}

/// The steps whose answers a call of this row is given: those that had to succeed before its action, the same
/// at each try; and for a compensation what its own action answered, if it did.
pub(crate) fn inputs(record: &Record, row: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = vec![row / 2];
    while let Some(step) = open.pop() {
        let before = if record.options.concurrent { 0..0 } else { 0..step };
        let before = before.chain(prerequisites(record, step));
        open.extend(before.filter(|step| found.insert(*step)));
    }
    if record.rows[row].op == Op::Compensate {
        found.insert(row / 2);
    }
    found.retain(|step| record.rows[action(*step)].status == RowStatus::Succeed);
    found
}

/// Whether a compensation has to wait for the answer of its own action.
pub(super) fn is_blocked(record: &Record, target: Target, busy: &BTreeSet<Target>) -> bool {
    let Target::Row(row) = target else { return false };
    record.rows[row].op == Op::Compensate && busy.contains(&Target::Row(row + 1))
}

/// Whether an answer for this target still counts although the rollback has begun: it tells what its action did.
pub(crate) fn late_answer(record: &Record, target: Target) -> bool {
    let Target::Row(row) = target else { return false };
    record.status == Status::Aborting
        && record.rows[row].op == Op::Action
        && record.rows[row].status == RowStatus::Prepared
}

/// Refuses orders that name steps that do not exist, or that wait for each other.
pub(crate) fn check_orders(orders: &[Vec<u32>], steps: usize) -> Result<(), Refused> {
    let named = orders.iter().flatten().map(|before| *before as usize);
    if orders.len() > steps || named.into_iter().any(|before| before >= steps) {
        return Err(Refused::error(format!(
            "orders name a step that does not exist: {steps} steps"
        )));
    }
    let mut done = vec![false; steps];
    loop {
        let waits =
            |step: usize| !orders.get(step).into_iter().flatten().all(|b| done[*b as usize]);
        let free: Vec<usize> = (0..steps).filter(|step| !done[*step] && !waits(*step)).collect();
        if free.is_empty() {
            break;
        }
        free.into_iter().for_each(|step| done[step] = true);
    }
    match done.iter().position(|done| !done) {
        Some(step) => {
            Err(Refused::error(format!("orders are cyclic: step {step} waits for itself")))
        }
        None => Ok(()),
    }
}
