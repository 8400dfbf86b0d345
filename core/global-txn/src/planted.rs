//! Bugs on purpose, for the checkers of this crate's tests and of the simulator to find.
//!
//! Outside of this crate's tests they need the feature `planted`, which `xtask tidy` allows to `sim` alone, *and*
//! debug assertions, and somebody who sets [`Config::planted`]. A release build has no such code: every
//! question below is a constant there.

use crate::api::Config;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A second submit finds nothing left to do and ends the transaction (the spec's 1.6 b).
    ResubmitEnds,
    /// A second submit begins with fresh rows (the spec's 1.6 a).
    ResubmitForgetsRows,
    /// The driver writes without comparing the record's revision.
    NoComparison,
    /// There is no ownership: a driver neither hears that it is deposed nor compares its epoch.
    EpochNotCompared,
    /// A driver that is deposed and hears of it goes on, until a write of its own fails.
    GoesOnDeposed,
    /// A timeout is acted upon before it has been applied.
    CallBeforeApplied,
    /// Only actions that are known to have succeeded are compensated.
    CompensateOnlyKnown,
    /// The first branch that has confirmed stands for all.
    FirstConfirmEnds,
    /// A new driver waits for news instead of reading the index.
    IndexNotRead,
    /// A check-back that did not come through counts as "committed".
    SilenceIsConsent,
    /// A timeout that lost a race against a decision is carried out all the same.
    StaleTimeout,
    /// A branch may join what has been decided.
    JoinAfterDecision,
    /// The next action of a saga is called before the success of the last one has been applied.
    CallAheadUndecided,
}

impl Config {
    pub(crate) fn is_planted(&self, bug: Bug) -> bool {
        cfg!(any(test, all(feature = "planted", debug_assertions))) && self.planted == Some(bug)
    }
}

#[cfg(test)]
impl Config {
    /// The bound, or one that tests reach.
    pub(crate) fn bound(&self, bound: usize, tiny: usize) -> usize {
        if self.is_tiny { tiny } else { bound }
    }
}

#[cfg(not(test))]
impl Config {
    /// The bound.
    #[expect(clippy::unused_self, reason = "the tests' one looks")]
    pub(crate) fn bound(&self, bound: usize, _: usize) -> usize {
        bound
    }
}
