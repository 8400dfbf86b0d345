//! Bugs on purpose, for the simulation's checkers to find. They exist in this crate's tests alone: elsewhere
//! every question below is a constant.

use crate::api::Config;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "nobody plants one"))]
pub(crate) enum Bug {
    /// A second submit finds nothing left to do and ends the transaction (the spec's 1.6 b).
    ResubmitEnds,
    /// A second submit begins with fresh rows (the spec's 1.6 a).
    ResubmitForgetsRows,
    /// The driver writes without comparing the record's revision.
    NoComparison,
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
}

impl Config {
    #[cfg(test)]
    pub(crate) fn is_planted(&self, bug: Bug) -> bool {
        self.planted == Some(bug)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the tests' one looks")]
    pub(crate) fn is_planted(&self, _: Bug) -> bool {
        false
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
