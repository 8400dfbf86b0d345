//! Three-phase commit (Skeen 1981): ask, announce, do.
//!
//! | status | phase | a branch that refuses | the timeout passes |
//! |---|---|---|---|
//! | submitted | `can_commit`, all at once | aborting | aborting |
//! | submitted | `pre_commit`, all at once | asked again | aborting |
//! | submitted | `do_commit`, all at once | told again | – : it was decided |
//! | aborting | `abort`, all at once | told again | – |
//!
//! The decision is the acknowledgement of the last `pre_commit`. Before it participants that hear nothing more drop
//! what they hold, after it they commit by themselves. That rule is the kind's known flaw: a partition during the second
//! phase lets some commit and others abort. TCC and XA have no such rule and no such flaw; they block instead.
//!
//! The timeout counts from the submission (in status prepared: from the creation).

use crate::api::Config;
use crate::record::{Op, Record, Status};

use super::{Callable, Target, timeout_at, timeout_ms};

const PHASES: [Op; 3] = [Op::CanCommit, Op::PreCommit, Op::DoCommit];

/// What branches are told now; `None`: nothing.
fn op(record: &Record) -> Option<Op> {
    match record.status {
        Status::Submitted => PHASES.into_iter().find(|op| record.open(op).next().is_some()),
        Status::Aborting => Some(Op::Abort),
        _ => None,
    }
}

pub(super) fn callable(record: &Record) -> Vec<Callable> {
    let Some(op) = op(record) else { return Vec::new() };
    record.open(&op).map(|row| record.ready(Target::Row(row))).collect()
}

pub(super) fn deadline(config: &Config, record: &Record) -> Option<u64> {
    match record.status {
        Status::Prepared => Some(timeout_at(config, record)),
        Status::Submitted if op(record) != Some(Op::DoCommit) => {
            Some(record.since_ms.saturating_add(timeout_ms(config, record)))
        }
        _ => None,
    }
}

/// Whether all branches have acknowledged `pre_commit`.
pub(super) fn is_decided(record: &Record) -> bool {
    op(record) == Some(Op::DoCommit)
}

pub(super) fn settle(record: &Record) -> Option<(Status, String)> {
    let refused = record.rows.iter().find(|row| row.status == crate::record::RowStatus::Failed);
    match (record.status, refused, op(record)) {
        (Status::Submitted, Some(row), _) => {
            let why = row.tries.last.as_ref().map_or_else(String::new, |a| a.text.clone());
            Some((Status::Aborting, why))
        }
        (Status::Submitted, None, None) => Some((Status::Succeed, String::new())),
        (Status::Aborting, _, Some(op)) if record.open(&op).next().is_none() => {
            Some((Status::Failed, String::new()))
        }
        _ => None,
    }
}
