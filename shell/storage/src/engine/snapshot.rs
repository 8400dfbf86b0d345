//! A view of everything published, for any thread.
//!
//! It holds what it shows: layers of memory tables, and the table files under them. So it is to be held for
//! a bounded time (contract 10). It outlives the engine's owner and thread.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use quorate_engine::{Direction, EngineError, Pair, Read};

use super::files::Files;
use super::memory_table::Layer;
use super::{Shared, read};

/// See the module. Copies are cheap.
#[derive(Clone)]
pub struct DiskSnapshot(Arc<Held>);

/// Counts the snapshots that are held.
struct Held(Arc<View>);

/// What snapshots show between which nothing was published.
pub(super) struct View {
    shared: Arc<Shared>,
    /// Newest first.
    layers: Vec<Layer>,
    files: Arc<Files>,
    /// Number of the version that has these files.
    installed: u64,
}

impl View {
    pub(super) fn new(
        shared: Arc<Shared>,
        layers: Vec<Layer>,
        files: Arc<Files>,
        installed: u64,
    ) -> Self {
        Self { shared, layers, files, installed }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // The owner has let go of old tables and files, so these may be the last to hold them.
        if self.installed != self.shared.installed.load(Ordering::Acquire) {
            let layers = std::mem::take(&mut self.layers);
            self.shared.discard((layers, Arc::clone(&self.files)));
        }
    }
}

impl DiskSnapshot {
    pub(super) fn new(view: Arc<View>) -> Self {
        view.shared.open_snapshots.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Held(view)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.shared.open_snapshots.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Read for DiskSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let view = &*self.0.0;
        read::get(view.layers.iter(), &view.files, key)
    }

    fn scan<'a>(
        &'a self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a> {
        let view = &*self.0.0;
        read::scan(view.layers.iter(), &view.files, range, direction)
    }
}
