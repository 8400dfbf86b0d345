//! Bugs on purpose, for the simulator's checkers to find.
//!
//! They need the feature `planted`, which `xtask tidy` allows to `sim` alone, *and* debug assertions, and a
//! call of [`Raft::plant`]. A release build has no such code, even one that is built together with `sim`:
//! every question below is a constant there.

use super::Raft;

/// A rule of Raft that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted"), allow(unreachable_pub))]
pub enum PlantedBug {
    /// A leader commits entries of earlier terms by counting (5.4.2, figure 8).
    CountOldTerm,
    /// A follower takes entries whatever the term of the entry before them (5.3).
    SkipPredecessor,
}

impl Raft {
    /// Breaks a rule from now on.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, bug: PlantedBug) {
        self.planted = Some(bug);
    }

    pub(super) fn is_planted(&self, bug: PlantedBug) -> bool {
        cfg!(all(feature = "planted", debug_assertions)) && self.planted == Some(bug)
    }
}
