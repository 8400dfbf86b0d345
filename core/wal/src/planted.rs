//! Bugs on purpose, for the simulator's checkers to find.
//!
//! They need the feature `planted`, which `xtask tidy` allows to `sim` alone, *and* debug assertions, and
//! must be asked for. A release build has no such code, even one that is built together with `sim`: every
//! question below is a constant there.

/// A rule of the log that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted"), allow(unreachable_pub))]
pub enum PlantedBug {
    /// Recovery reads behind the end that a segment's successor names.
    ReadBehindEnd,
    /// A segment opens without the vote: it goes with the segment that it stands in.
    ForgetVoteWithSegment,
}

impl PlantedBug {
    pub(crate) fn is(self, planted: Option<Self>) -> bool {
        cfg!(all(feature = "planted", debug_assertions)) && planted == Some(self)
    }
}
