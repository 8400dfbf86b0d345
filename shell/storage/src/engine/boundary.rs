//! Up to where readers see, and what open snapshots may still need.
//!
//! The *watermark* that flushes and compactions get is the least of the published boundary and all open
//! snapshots: versions of the tree which no reader can need are forgotten below it. A snapshot is
//! registered under the same lock under which the watermark is computed, so none can slip below one.
//! Neither is ever 0, which the tree takes for "forget nothing".

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lsm_tree::SeqNo;

/// The published boundary and the open snapshots.
pub(crate) struct Boundary(Mutex<State>);

struct State {
    published: SeqNo,
    /// Boundary → how many snapshots stand at it.
    open: BTreeMap<SeqNo, usize>,
}

impl Boundary {
    /// Publishes everything below `published`, at least 1.
    pub(crate) fn new(published: SeqNo) -> Self {
        assert!(published >= 1, "a boundary of 0 means something else to the tree");
        Self(Mutex::new(State { published, open: BTreeMap::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No method panics while it holds the lock, except where the process must stop anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn published(&self) -> SeqNo {
        self.lock().published
    }

    /// Moves the boundary on.
    pub(crate) fn publish(&self, boundary: SeqNo) {
        let mut state = self.lock();
        assert!(boundary >= state.published, "the published boundary went back");
        state.published = boundary;
    }

    /// Opens a snapshot at the published boundary.
    pub(crate) fn register(&self) -> SeqNo {
        let mut state = self.lock();
        let boundary = state.published;
        *state.open.entry(boundary).or_insert(0) += 1;
        boundary
    }

    /// Closes a snapshot.
    pub(crate) fn unregister(&self, boundary: SeqNo) {
        let mut state = self.lock();
        let count = state.open.get_mut(&boundary).expect("it was registered when it was made");
        *count -= 1;
        if *count == 0 {
            state.open.remove(&boundary);
        }
    }

    /// What readers may still need begins here.
    pub(crate) fn watermark(&self) -> SeqNo {
        let state = self.lock();
        let oldest = state.open.keys().next().copied();
        oldest.map_or(state.published, |oldest| oldest.min(state.published))
    }

    /// How many snapshots are open.
    pub(crate) fn open_snapshots(&self) -> usize {
        self.lock().open.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_follows_the_oldest_snapshot() {
        let boundary = Boundary::new(1);
        assert_eq!(boundary.watermark(), 1);
        let first = boundary.register();
        boundary.publish(5);
        let (second, again) = (boundary.register(), boundary.register());
        boundary.publish(9);
        assert_eq!((first, second, again, boundary.watermark()), (1, 5, 5, 1));
        boundary.unregister(first);
        boundary.unregister(second);
        assert_eq!((boundary.watermark(), boundary.open_snapshots()), (5, 1));
        boundary.unregister(again);
        assert_eq!((boundary.watermark(), boundary.published()), (9, 9));
    }

    #[test]
    #[should_panic(expected = "went back")]
    fn the_boundary_never_goes_back() {
        let boundary = Boundary::new(7);
        boundary.publish(6);
    }
}
