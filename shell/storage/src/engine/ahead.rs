//! Putting memory tables in order before anybody asks.
//!
//! A scan sorts what was written since the last one. If that is the owner's, all writes wait meanwhile: 40 ms after
//! ten seconds of many small writes. So where a table is scanned at all, a thread of its own sorts each piece as it
//! is written. What nobody scans is sorted once, when it is flushed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::memory_table::Layer;

/// What is to be put in order next: the newest alone, since it contains the ones before.
#[derive(Default)]
pub(crate) struct Ahead {
    next: Mutex<Next>,
    wake: Condvar,
}

#[derive(Default)]
struct Next {
    layer: Option<Layer>,
    stop: bool,
}

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, Next> {
        // Who panicked with it has only moved a pointer.
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the order of a table up to some item.
    pub(super) fn ask(&self, layer: Layer) {
        let replaced = self.lock().layer.replace(layer);
        self.wake.notify_one();
        drop(replaced);
    }

    /// Sorts what is asked for until [`Self::stop`]. A table is freed here if it is gone everywhere else.
    pub(crate) fn run(&self) {
        while let Some(layer) = self.wait() {
            layer.put_in_order();
        }
    }

    fn wait(&self) -> Option<Layer> {
        let mut next = self.lock();
        loop {
            if next.stop {
                return None;
            }
            if let Some(layer) = next.layer.take() {
                return Some(layer);
            }
            next = self.wake.wait(next).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends [`Self::run`] after what it is sorting.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }
}
