//! The in-memory engine: serves the simulator and every test, and models checkpoints.
//!
//! Each state that matters is one [`Treap`], and copying one costs a reference count: the live state,
//! the published one, each sealed one, the durable one. So snapshots, publishing, sealing, completing
//! a checkpoint and crashing are all O(1), and a write costs O(log n) whatever is held on to.
//!
//! Invariants: `published` is the live state as of the last `publish` or `seal`; sealed states and
//! their applied indexes are in the order of sealing; `crash` returns the durable state, never more.

use std::collections::VecDeque;
use std::ops::Bound;

use bytes::Bytes;

use crate::treap::Treap;
use crate::{Direction, Engine, EngineError, MAX_KEY_BYTES, MAX_SEALED_TABLES, Pair, Read, Usage};

/// What an entry is counted as beyond its bytes, about what a real table spends on one.
const ENTRY_OVERHEAD: u64 = 48;

/// An engine in memory that loses in a crash exactly what a disk engine loses.
#[derive(Clone, Debug, Default)]
pub struct MemEngine {
    live: Treap,
    published: Treap,
    /// Something was written since the last `publish`.
    open_batch: bool,
    active_bytes: u64,
    /// Bytes of all pairs in `live`.
    live_bytes: u64,
    sealed: VecDeque<Checkpoint>,
    durable: Checkpoint,
}

#[derive(Clone, Debug, Default)]
struct Checkpoint {
    applied: u64,
    state: Treap,
    /// Bytes of all pairs.
    bytes: u64,
    /// Bytes of the table that made it, as they were counted while it was active.
    table_bytes: u64,
}

/// A view of a [`MemEngine`] at one batch boundary.
#[derive(Clone, Debug)]
pub struct MemSnapshot {
    state: Treap,
}

impl MemEngine {
    /// An empty engine, as on a fresh disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine whose durable checkpoint holds these pairs: what an installed snapshot leaves behind.
    #[must_use]
    pub fn with_checkpoint(applied: u64, pairs: impl IntoIterator<Item = Pair>) -> Self {
        let mut durable = Checkpoint { applied, ..Checkpoint::default() };
        for (key, value) in pairs {
            durable.bytes += pair_bytes(&key, &value);
            if let Some(old) = durable.state.insert(key.clone(), value) {
                durable.bytes -= pair_bytes(&key, &old);
            }
        }
        Self::from_checkpoint(durable)
    }

    fn from_checkpoint(durable: Checkpoint) -> Self {
        Self {
            live: durable.state.clone(),
            published: durable.state.clone(),
            open_batch: false,
            active_bytes: 0,
            live_bytes: durable.bytes,
            sealed: VecDeque::new(),
            durable,
        }
    }

    /// Makes the oldest sealed table durable and returns its applied index; `None` if none is sealed.
    pub fn complete_checkpoint(&mut self) -> Option<u64> {
        self.durable = self.sealed.pop_front()?;
        Some(self.durable.applied)
    }

    /// The applied index of the last completed checkpoint; 0 before the first.
    #[must_use]
    pub fn durable_applied(&self) -> u64 {
        self.durable.applied
    }

    /// Checks what the module promises about sealed states; for tests and the simulator.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn invariants(&self) {
        let sealed: Vec<u64> = self.sealed.iter().map(|sealed| sealed.applied).collect();
        assert!(sealed.is_sorted_by(|a, b| a < b), "sealed tables out of order: {sealed:?}");
        assert!(sealed.len() <= MAX_SEALED_TABLES, "{} sealed tables", sealed.len());
        assert!(
            sealed.first().is_none_or(|first| *first > self.durable.applied),
            "a sealed table is older than the durable state"
        );
    }

    /// What is left after losing power: exactly the last completed checkpoint.
    #[must_use]
    pub fn crash(self) -> Self {
        Self::from_checkpoint(self.durable)
    }
}

fn check_key(key: &[u8]) {
    let fits = !key.is_empty() && key.len() <= MAX_KEY_BYTES;
    assert!(fits, "a key of {} bytes reached the engine", key.len());
}

fn pair_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY_OVERHEAD
}

impl Read for MemEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.live.get(key).cloned())
    }

    fn scan<'a>(
        &'a self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a> {
        Box::new(self.live.scan(range, direction).map(Ok))
    }
}

impl Read for MemSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.state.get(key).cloned())
    }

    fn scan<'a>(
        &'a self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a> {
        Box::new(self.state.scan(range, direction).map(Ok))
    }
}

impl Engine for MemEngine {
    type Snapshot = MemSnapshot;

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        check_key(key);
        let bytes = pair_bytes(key, value);
        let old = self.live.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.live_bytes += bytes;
        self.live_bytes -= old.map_or(0, |old| pair_bytes(key, &old));
        self.active_bytes += bytes;
        self.open_batch = true;
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), EngineError> {
        check_key(key);
        let old = self.live.remove(key);
        self.live_bytes -= old.map_or(0, |old| pair_bytes(key, &old));
        self.active_bytes += pair_bytes(key, &[]);
        self.open_batch = true;
        Ok(())
    }

    fn publish(&mut self) {
        if self.open_batch {
            self.published = self.live.clone();
            self.open_batch = false;
        }
    }

    fn snapshot(&mut self) -> MemSnapshot {
        MemSnapshot { state: self.published.clone() }
    }

    fn usage(&self) -> Usage {
        Usage {
            active_bytes: self.active_bytes,
            sealed_tables: self.sealed.len(),
            sealed_bytes: self.sealed.iter().map(|sealed| sealed.table_bytes).sum(),
            disk_bytes: self.durable.bytes,
            dead_bytes: 0,
        }
    }

    fn seal(&mut self, applied: u64) -> Result<(), EngineError> {
        self.publish();
        if self.active_bytes == 0 || self.sealed.len() >= MAX_SEALED_TABLES {
            return Ok(());
        }
        let newest = self.sealed.back().unwrap_or(&self.durable);
        assert!(applied > newest.applied, "sealed {applied} after {}", newest.applied);
        self.sealed.push_back(Checkpoint {
            applied,
            state: self.live.clone(),
            bytes: self.live_bytes,
            table_bytes: self.active_bytes,
        });
        self.active_bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
