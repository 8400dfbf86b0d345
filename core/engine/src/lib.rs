//! An ordered store of byte keys, as the state machines see it.
//!
//! The engine has **no journal of its own**: the log is its journal (architecture, contract 5). Writes
//! go into an active table, readable at once and lost in a crash. When the active table is large
//! enough, its owner *seals* it together with the applied index; sealed tables become durable in
//! order, each as one atomic checkpoint. After a crash the engine is exactly some completed
//! checkpoint, never older than the last one reported.
//!
//! What it leaves out: transactions, sequence numbers, deletion by range, any notion of revisions.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod keys;
mod limits;
mod memory;
mod treap;

use std::ops::Bound;

use bytes::Bytes;

pub use limits::{
    ACTIVE_TABLE_BYTES, MAX_KEY_BYTES, MAX_KEY_DECORATION_BYTES, MAX_SEALED_TABLES,
    MAX_USER_KEY_BYTES,
};
pub use memory::{MemEngine, MemSnapshot};

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// Why the engine failed. None of these is ever retried: the owner halts, and what the engine holds
/// after the restart is a completed checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file could not be read or written.
    #[error("engine: {0}")]
    Io(String),
    /// Stored bytes are not what was written.
    #[error("engine: corrupt: {0}")]
    Corrupt(String),
}

/// Direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// Reading, from the engine itself (latest writes) or from a snapshot.
pub trait Read {
    /// The value of `key`, or `None`.
    ///
    /// # Errors
    /// `Io` or `Corrupt`; the caller halts.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Pairs with keys inside the bounds, in key order or its reverse; lazily, so a caller that stops
    /// early pays only for what it saw. Empty or reversed bounds yield nothing.
    fn scan<'a>(
        &'a self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a>;
}

/// The store as its owner, the node thread, holds it.
pub trait Engine: Read {
    /// A consistent view of everything written so far; cheap, and readable from other threads.
    type Snapshot: Read + Clone + Send + Sync + 'static;

    /// Inserts or overwrites. Visible to `self` at once, to snapshots taken after `publish`. Keys have 1
    /// to [`MAX_KEY_BYTES`] bytes; another length is a bug of the caller, and panics.
    ///
    /// # Errors
    /// Any error is final (see [`EngineError`]).
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError>;

    /// Removes; removing what is absent is allowed.
    ///
    /// # Errors
    /// Any error is final.
    fn remove(&mut self, key: &[u8]) -> Result<(), EngineError>;

    /// Ends a batch (one applied entry): snapshots taken from now on see it whole.
    fn publish(&mut self);

    /// A view of everything published.
    fn snapshot(&mut self) -> Self::Snapshot;

    /// How full the volatile part is.
    fn usage(&self) -> Usage;

    /// Seals the active table if it holds anything and fewer than [`MAX_SEALED_TABLES`] wait (else it
    /// goes on growing, and the owner, who refuses proposals meanwhile, seals later); it becomes durable later, as one checkpoint, and
    /// the engine's owner is then told `applied`. The caller has just written the same number into
    /// the table as its last write, so that the state says of itself how far it goes. Ends the batch
    /// as `publish` does, so that a checkpoint never holds half of one. `applied` exceeds that of the
    /// seal before.
    ///
    /// # Errors
    /// Any error is final.
    fn seal(&mut self, applied: u64) -> Result<(), EngineError>;
}

/// How full an engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in the active table.
    pub active_bytes: u64,
    /// Sealed tables that are not durable yet.
    pub sealed_tables: usize,
    /// Bytes in them.
    pub sealed_bytes: u64,
    /// Bytes of the durable part on disk, dead ones included.
    pub disk_bytes: u64,
    /// Those of them that merging all files would give back, as an estimate.
    pub dead_bytes: u64,
}

impl Usage {
    /// Bytes in memory tables and on disk together: what a quota is compared with.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.active_bytes + self.sealed_bytes + self.disk_bytes
    }

    /// The same without what is dead on disk. What is dead in memory tables counts: nobody knows it.
    #[must_use]
    pub fn in_use_bytes(&self) -> u64 {
        self.total_bytes() - self.dead_bytes.min(self.disk_bytes)
    }
}
