//! What is counted by more than one label: answered calls by kind, branch and operation, and how long transactions
//! took. Apart from [`Figures`](crate::Figures), which are copied often and are small.
//!
//! Labels that clients choose are bounded: a branch counts by its number if that is two digits, else under
//! [`BranchLabel::Other`], and a workflow's operations under one name.

use std::collections::BTreeMap;

use crate::call::OWN_BRANCH;
use crate::kind::Target;
use crate::record::{Class, Kind, Op, Record};

/// Upper bounds of the buckets of [`Durations`], in ms, inclusive; what took longer falls into a last one.
pub const DURATION_BOUNDS_MS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// Which branch, as far as it is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BranchLabel {
    /// `00` to `99`.
    Number(u8),
    /// Any other name.
    Other,
}

impl BranchLabel {
    fn of(branch_id: &str) -> Self {
        let number = branch_id.parse().ok().filter(|number| *number < 100);
        let is_plain = branch_id.len() == 2 && branch_id.bytes().all(|byte| byte.is_ascii_digit());
        number.filter(|_| is_plain).map_or(Self::Other, Self::Number)
    }
}

/// What a call is counted under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallLabel {
    /// Its transaction's kind.
    pub kind: Kind,
    /// Its branch.
    pub branch: BranchLabel,
    /// The operation; a named one is `callback`.
    pub op: Op,
}

/// How calls were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCount {
    /// Success.
    pub succeeded: u64,
    /// "Not yet".
    pub ongoing: u64,
    /// Refusals, and everything else.
    pub failed: u64,
}

/// How long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many fell into each bucket, not cumulative.
    pub counts: [u64; DURATION_BOUNDS_MS.len() + 1],
    /// All of them together, in ms.
    pub sum_ms: u64,
}

impl Durations {
    fn add(&mut self, ms: u64) {
        let bucket = DURATION_BOUNDS_MS.iter().position(|bound| ms <= *bound);
        self.counts[bucket.unwrap_or(DURATION_BOUNDS_MS.len())] += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }
}

/// See the module. Counts what this node saw while it drove, since its process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered calls.
    pub calls: BTreeMap<CallLabel, CallCount>,
    /// From creation to end, by group time: of each kind, in the order of `Kind::ALL`.
    pub handled: [Durations; Kind::ALL.len()],
}

impl Tally {
    /// A call has been answered; `None` is success.
    pub(crate) fn answered(&mut self, record: &Record, target: Target, class: Option<Class>) {
        let (branch_id, op) = match target {
            Target::Row(row) => (record.rows[row].branch_id.as_str(), record.rows[row].op.clone()),
            Target::Callback if record.kind == Kind::Msg => (OWN_BRANCH, Op::CheckBack),
            Target::Callback => (OWN_BRANCH, Op::Named(String::new())),
        };
        self.called(record.kind, branch_id, op, class);
    }

    fn called(&mut self, kind: Kind, branch_id: &str, op: Op, class: Option<Class>) {
        let op = if matches!(op, Op::Named(_)) { Op::Named("callback".to_owned()) } else { op };
        let label = CallLabel { kind, branch: BranchLabel::of(branch_id), op };
        let count = self.calls.entry(label).or_default();
        *match class {
            None => &mut count.succeeded,
            Some(Class::Ongoing) => &mut count.ongoing,
            Some(Class::Failure | Class::Error) => &mut count.failed,
        } += 1;
    }

    /// A transaction has ended.
    pub(crate) fn ended(&mut self, record: &Record) {
        let place = Kind::ALL.iter().position(|kind| *kind == record.kind);
        let place = place.expect("each kind is one of all");
        self.handled[place].add(record.changed_ms.saturating_sub(record.created_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.called(Kind::Msg, &format!("{number:02}"), Op::Action, None);
            tally.called(Kind::Msg, &format!("01-{number:02}"), Op::Action, Some(Class::Ongoing));
            let name = Op::Named(format!("flow {number}"));
            tally.called(Kind::Workflow, "00", name, Some(Class::Error));
        }
        assert_eq!(tally.calls.len(), 100 + 1 + 1);
        let label = |branch, op| CallLabel { kind: Kind::Msg, branch, op };
        let first = tally.calls[&label(BranchLabel::Number(1), Op::Action)];
        assert_eq!((first.succeeded, first.ongoing, first.failed), (1, 0, 0));
        let other = tally.calls[&label(BranchLabel::Other, Op::Action)];
        assert_eq!((other.succeeded, other.ongoing), (900, 1000));
        assert_eq!(BranchLabel::of("+1"), BranchLabel::Other);
    }

    #[test]
    fn durations_fall_into_their_buckets() {
        let mut durations = Durations::default();
        [0, 5, 6, 300_000, 300_001].into_iter().for_each(|ms| durations.add(ms));
        assert_eq!(durations.counts[..2], [2, 1]);
        assert_eq!(durations.counts[13..], [1, 1]);
        assert_eq!(durations.sum_ms, 600_012);
    }
}
