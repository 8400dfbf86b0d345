//! The disk engine: `quorate_engine::Engine` over the table layer of an LSM tree (crate `lsm-tree`).
//!
//! Layout: `engine/<group>/<generation>/`, one tree each. The tree has no journal; ours is the WAL
//! (architecture, contract 5). Three parties use it:
//!
//! - **The owner**, the node thread, holds the [`DiskEngine`]. It alone inserts and seals. Its inserts
//!   and gets take no lock that a flush or a compaction holds across an fsync: it keeps the active table,
//!   the sealed ones and a *lookup* into the files, and takes a newer lookup over at the end of a batch.
//! - **The engine thread** ([`crate::EngineThread`]) writes the sealed tables out, oldest first, each as one
//!   atomic checkpoint, and compacts.
//! - **Readers** on any thread hold a [`DiskSnapshot`].
//!
//! **Sequence numbers** are the tree's own and local: never a log index, never replicated. One a batch,
//! from the tree's counter, which flushes and compactions advance too. A read at boundary `s` sees exactly
//! the writes below `s`, through the newest version of the tree that is older than `s`. So a version that is
//! installed later, in which a flush or a compaction has dropped overwritten values, is never read at an
//! older boundary; it is enough that no version which an open snapshot may need is forgotten (`boundary.rs`).
//!
//! Invariants ([`DiskEngine::invariants`]): the published boundary is above every published sequence
//! number, and never above that of the open batch; sealed tables ascend in applied index; what the lookup
//! does not contain is in one of the owner's tables.
//!
//! Left out: any retry. An error of a flush or a compaction ends the thread and the node.

mod boundary;
mod ingest;
mod limits;
mod memory_table;
mod open;
mod peek;
mod read;
mod shared;
mod snapshot;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use lsm_tree::{AbstractTree, InternalValue, SeqNo, ValueType};
use quorate_consensus::GroupId;
use quorate_engine::{
    Direction, Engine, EngineError, MAX_KEY_BYTES, MAX_SEALED_TABLES, Pair, Read, Usage,
};

pub(crate) use limits::{L0_RUNS_TO_MERGE, MAX_L0_RUNS, MERGE_RESERVE_BYTES, TABLE_FILE_BYTES};
use memory_table::MemoryTable;
pub use open::{EngineOptions, engine_dir, remove_generation, remove_other_generations};
pub use peek::Peek;
use read::Lookup;
pub(crate) use read::failure;
pub use shared::EngineFigures;
use shared::Garbage;
pub(crate) use shared::{Sealed, Shared, Work};
pub use snapshot::DiskSnapshot;

/// Whether an engine, its thread or a snapshot of it is left: until then its directory must stay.
#[derive(Clone)]
pub struct EngineUse(std::sync::Weak<Shared>);

impl EngineUse {
    /// See the type.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// The engine of one group, as its owner, the node thread, holds it.
pub struct DiskEngine {
    shared: Arc<Shared>,
    /// Where inserts go; held, so that an insert takes no lock.
    active: MemoryTable,
    /// Oldest first; a table leaves when a lookup that contains it has been taken over.
    sealed: Vec<MemoryTable>,
    lookup: Lookup,
    /// Flushes that `lookup` contains.
    flushed: u64,
    /// Number of the taken-over lookup.
    installed: u64,
    /// Sequence number of the batch under way.
    batch: Option<SeqNo>,
    last_sealed: u64,
}

impl DiskEngine {
    /// Opens the tree of `group` and `generation` below `root`, the node's data directory, whose lock the
    /// caller holds. Creates it if it does not exist and `may_create` says that the log knows nothing of
    /// data in it. No engine, thread or snapshot of an earlier open of it may be left: files that they still
    /// hold are deleted when they go, and this open may give their numbers to new ones.
    ///
    /// # Errors
    /// `Corrupt` if it should exist and does not, or if its files are not what was written; `Io`.
    pub fn open(
        root: &Path,
        group: GroupId,
        generation: u64,
        may_create: bool,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let tree = open::open_tree(&engine_dir(root, group, generation), may_create, options)?;
        let shared = Arc::new(Shared::new(tree, options));
        let (installed, flushed, lookup) = shared.newest_lookup();
        Ok(Self {
            active: MemoryTable::new(shared.tree.active_memtable()),
            sealed: Vec::new(),
            lookup,
            flushed,
            installed,
            batch: None,
            last_sealed: 0,
            shared,
        })
    }

    /// Tells, also after the engine is gone, whether anything still reads its files.
    #[must_use]
    pub fn in_use(&self) -> EngineUse {
        EngineUse(Arc::downgrade(&self.shared))
    }

    /// Figures for operators; takes no lock that a flush holds.
    #[must_use]
    pub fn figures(&self) -> EngineFigures {
        self.shared.figures()
    }

    /// Checks what the module promises; for tests, and cheap enough for debug builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn invariants(&self) {
        let next = self.shared.seqno.get();
        let published = self.shared.boundary.published();
        assert!(published >= 1 && published <= next, "published {published}, next {next}");
        assert!(self.batch.is_none_or(|batch| published <= batch), "half a batch is published");
        let waiting = self.shared.sealed_applied();
        assert!(waiting.is_sorted_by(|a, b| a < b), "sealed tables out of order: {waiting:?}");
        assert!(
            waiting.len() <= MAX_SEALED_TABLES.min(self.sealed.len()),
            "too few tables are held"
        );
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The sequence number of the batch under way, which this starts if there is none.
    fn batch(&mut self) -> SeqNo {
        *self.batch.get_or_insert_with(|| self.shared.seqno.next())
    }

    fn check_key(key: &[u8]) {
        let fits = !key.is_empty() && key.len() <= MAX_KEY_BYTES;
        assert!(fits, "a key of {} bytes reached the engine", key.len());
    }

    /// Takes over the newest lookup, and lets go of the sealed tables that it contains.
    fn follow_versions(&mut self) {
        if self.shared.installed.load(Ordering::Acquire) == self.installed {
            return;
        }
        let (installed, flushed, lookup) = self.shared.newest_lookup();
        let gone = usize::try_from(flushed - self.flushed).expect("a few tables at most");
        assert!(gone <= self.sealed.len(), "{gone} tables were flushed of {}", self.sealed.len());
        let tables = self.sealed.drain(..gone).map(|sealed| sealed.table).collect();
        let lookup = std::mem::replace(&mut self.lookup, lookup);
        (self.installed, self.flushed) = (installed, flushed);
        self.shared.discard(Garbage { tables, lookup });
    }
}

impl std::fmt::Debug for DiskEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskEngine").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

impl Read for DiskEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if key.len() > MAX_KEY_BYTES {
            return Ok(None);
        }
        let hash = read::hash(key);
        for table in std::iter::once(&self.active).chain(self.sealed.iter().rev()) {
            if let Some(item) = table.get(key, hash) {
                return Ok(read::live_value(item));
            }
        }
        Ok((self.lookup)(key, hash).map_err(failure)?.and_then(read::live_value))
    }

    fn scan<'a>(
        &'a self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a> {
        read::scan(&self.shared.tree, range, direction, SeqNo::MAX)
    }
}

impl Engine for DiskEngine {
    type Snapshot = DiskSnapshot;

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        Self::check_key(key);
        let seqno = self.batch();
        let item = InternalValue::from_components(key, value, seqno, ValueType::Value);
        self.active.insert(item, read::hash(key));
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), EngineError> {
        Self::check_key(key);
        let seqno = self.batch();
        self.active.insert(InternalValue::new_tombstone(key, seqno), read::hash(key));
        Ok(())
    }

    fn publish(&mut self) {
        if self.batch.take().is_some() {
            self.shared.boundary.publish(self.shared.seqno.get());
        }
        self.follow_versions();
    }

    fn snapshot(&mut self) -> DiskSnapshot {
        if self.batch.is_none() {
            // Nothing new to see, but newer versions: tables that were flushed since are let go.
            self.shared.boundary.publish(self.shared.seqno.get());
        }
        DiskSnapshot::new(Arc::clone(&self.shared))
    }

    fn usage(&self) -> Usage {
        // First: then a table that becomes durable meanwhile is not counted twice.
        let disk_bytes = self.shared.figures.disk_bytes.load(Ordering::Acquire);
        Usage {
            active_bytes: self.active.table.size(),
            sealed_tables: self.shared.sealed_tables(),
            disk_bytes,
            sealed_bytes: self.shared.figures.sealed_bytes.load(Ordering::Relaxed),
            dead_bytes: disk_bytes
                .saturating_sub(self.shared.figures.live_bytes.load(Ordering::Relaxed)),
        }
    }

    fn seal(&mut self, applied: u64) -> Result<(), EngineError> {
        self.publish();
        if self.active.table.is_empty() || self.shared.sealed_tables() >= MAX_SEALED_TABLES {
            return Ok(());
        }
        assert!(applied > self.last_sealed, "sealed {applied} after {}", self.last_sealed);
        let table = self.shared.tree.rotate_memtable();
        let table = table.expect("only the owner rotates, and it saw that the table is not empty");
        assert_eq!(
            table.id(),
            self.active.table.id(),
            "another table was active than the one held"
        );
        let next = MemoryTable::new(self.shared.tree.active_memtable());
        self.sealed.push(std::mem::replace(&mut self.active, next));
        self.last_sealed = applied;
        self.shared.push_sealed(Sealed { applied, table });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
