//! The disk engine: `quorate_engine::Engine` over the table layer of an LSM tree (crate `lsm-tree`).
//!
//! Layout: `engine/<group>/<generation>/`, one tree each. The tree has no journal; ours is the WAL
//! (architecture, contract 5). Three parties use it:
//!
//! - **The owner**, the node thread, holds the [`DiskEngine`]. It alone inserts and seals, into memory tables
//!   of our own (`memory_table.rs`). It takes no lock of the tree: it holds the active table, the sealed ones
//!   and the *files* of one version (`files.rs`), and takes newer files over at the end of a batch.
//! - **The engine thread** ([`crate::EngineThread`]) writes the sealed tables out, oldest first, each as one
//!   atomic checkpoint, and compacts. It alone uses the tree. A second one puts what is scanned in order (`ahead.rs`).
//! - **Readers** on any thread hold a [`DiskSnapshot`].
//!
//! **What a snapshot shows** is what it holds: the active table up to the last published item, the sealed
//! tables, and the files. All three are the owner's at one moment, and files replace sealed tables in one
//! step: so whatever is flushed or compacted meanwhile, each write is in one of them. Old files live while a
//! snapshot holds them; the tree itself remembers no version but the newest.
//!
//! **Sequence numbers** are the tree's own and local: never a log index, never replicated. A table file gets
//! one, for all its items, when it is written: a table holds one item a key, and what is older is in files of
//! lower numbers. They come from the tree's counter, which stands behind the highest one in the files.
//!
//! Invariants ([`DiskEngine::invariants`]): what is published is in the active table; sealed tables ascend in
//! applied index; what the files do not contain is in one of the owner's tables.
//!
//! Left out: any retry. An error of a flush or a compaction ends the thread and the node.

mod ahead;
mod files;
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
use quorate_consensus::GroupId;
use quorate_engine::{
    Direction, Engine, EngineError, MAX_KEY_BYTES, MAX_SEALED_TABLES, Pair, Read, Usage,
};

use files::{Files, hash};
use limits::ORDER_STEP;
pub(crate) use limits::{L0_RUNS_TO_MERGE, MAX_L0_RUNS, MERGE_RESERVE_BYTES, TABLE_FILE_BYTES};
use memory_table::{Layer, MemoryTable};
pub use open::{EngineOptions, engine_dir, remove_generation, remove_other_generations};
pub use peek::Peek;
pub(crate) use read::failure;
pub use shared::EngineFigures;
pub(crate) use shared::{Sealed, Shared, Work};
pub use snapshot::DiskSnapshot;
use snapshot::View;

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
    /// Where inserts go.
    active: MemoryTable,
    /// Items of the active table that snapshots see.
    published: u32,
    /// Items of the active table that are in order, or are being put there.
    ordered: u32,
    /// Oldest first; a table leaves when files that contain it have been taken over.
    sealed: Vec<Layer>,
    files: Arc<Files>,
    /// Flushes that `files` contains.
    flushed: u64,
    /// Number of the version whose files they are.
    installed: u64,
    /// What snapshots show, if one was taken since something was published.
    view: Option<Arc<View>>,
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
        let (installed, flushed, files) = shared.newest_files();
        Ok(Self {
            active: MemoryTable::new(0),
            published: 0,
            ordered: 0,
            sealed: Vec::new(),
            files,
            flushed,
            installed,
            view: None,
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
        let (published, written) = (self.published, self.active.len());
        assert!(published <= written, "published {published} of {written}");
        let waiting = self.shared.sealed_applied();
        assert!(waiting.is_sorted_by(|a, b| a < b), "sealed tables out of order: {waiting:?}");
        // A table that was flushed stands in the files before it leaves the queue: this engine may have let go of
        // it in between.
        assert!(waiting.len() <= MAX_SEALED_TABLES, "too many sealed tables wait");
        assert!(waiting.len() <= self.sealed.len() + 1, "too few tables are held");
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn check_key(key: &[u8]) {
        let fits = !key.is_empty() && key.len() <= MAX_KEY_BYTES;
        assert!(fits, "a key of {} bytes reached the engine", key.len());
    }

    /// Takes over the newest files, and lets go of the sealed tables that they contain.
    fn follow_versions(&mut self) {
        if self.shared.installed.load(Ordering::Acquire) == self.installed {
            return;
        }
        let (installed, flushed, files) = self.shared.newest_files();
        let gone = usize::try_from(flushed - self.flushed).expect("a few tables at most");
        assert!(gone <= self.sealed.len(), "{gone} tables were flushed of {}", self.sealed.len());
        let tables: Vec<_> = self.sealed.drain(..gone).collect();
        let files = std::mem::replace(&mut self.files, files);
        (self.installed, self.flushed) = (installed, flushed);
        self.view = None;
        self.shared.discard((tables, files));
    }

    fn order_ahead(&mut self) {
        if self.published - self.ordered >= ORDER_STEP && self.active.layer().is_scanned() {
            self.ordered = self.published;
            self.shared.ahead.ask(self.active.layer_to(self.published));
        }
    }

    /// The owner's tables, newest first.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(self.active.layer()).chain(self.sealed.iter().rev())
    }

    /// What is published, of the owner's tables and files.
    fn new_view(&self) -> View {
        let active = self.active.layer_to(self.published);
        let layers = std::iter::once(active).chain(self.sealed.iter().rev().cloned()).collect();
        View::new(Arc::clone(&self.shared), layers, Arc::clone(&self.files), self.installed)
    }
}

impl std::fmt::Debug for DiskEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskEngine").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

impl Read for DiskEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        read::get(self.layers(), &self.files, key)
    }

    fn scan<'a>(
        &'a self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a> {
        read::scan(self.layers(), &self.files, range, direction)
    }
}

impl Engine for DiskEngine {
    type Snapshot = DiskSnapshot;

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        Self::check_key(key);
        self.active.insert(key, hash(key), Some(value));
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), EngineError> {
        Self::check_key(key);
        self.active.insert(key, hash(key), None);
        Ok(())
    }

    fn publish(&mut self) {
        if self.published != self.active.len() {
            self.published = self.active.len();
            self.view = None;
            self.order_ahead();
        }
        self.follow_versions();
    }

    fn snapshot(&mut self) -> DiskSnapshot {
        // Nothing new to see in newer files, but then old ones and flushed tables are let go.
        self.follow_versions();
        let view = match self.view.take() {
            Some(view) => view,
            None => Arc::new(self.new_view()),
        };
        self.view = Some(Arc::clone(&view));
        DiskSnapshot::new(view)
    }

    fn usage(&self) -> Usage {
        // First: then a table that becomes durable meanwhile is not counted twice.
        let disk_bytes = self.shared.figures.disk_bytes.load(Ordering::Acquire);
        Usage {
            active_bytes: self.active.bytes(),
            sealed_tables: self.shared.sealed_tables(),
            disk_bytes,
            sealed_bytes: self.shared.figures.sealed_bytes.load(Ordering::Relaxed),
            dead_bytes: disk_bytes
                .saturating_sub(self.shared.figures.live_bytes.load(Ordering::Relaxed)),
        }
    }

    fn seal(&mut self, applied: u64) -> Result<(), EngineError> {
        self.publish();
        if self.active.len() == 0 || self.shared.sealed_tables() >= MAX_SEALED_TABLES {
            return Ok(());
        }
        assert!(applied > self.last_sealed, "sealed {applied} after {}", self.last_sealed);
        // The next one will hold about as many keys.
        let next = MemoryTable::new(self.active.keys());
        next.layer().scanned_like(self.active.layer());
        let full = std::mem::replace(&mut self.active, next);
        (self.published, self.ordered, self.view, self.last_sealed) = (0, 0, None, applied);
        let table = full.layer().clone();
        self.sealed.push(table.clone());
        self.shared.push_sealed(Sealed { applied, table, bytes: full.bytes() });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
