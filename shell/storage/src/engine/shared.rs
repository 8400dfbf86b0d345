//! What the owner, the engine thread and the readers share.
//!
//! The queue of sealed tables and the newest files are under locks that are held for a few instructions;
//! no lock here is ever held across a system call.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lsm_tree::{AbstractTree, Cache, SequenceNumberCounter, Tree};

use super::ahead::Ahead;
use super::files::Files;
use super::memory_table::Layer;
use super::{EngineOptions, open::OpenTree};
use crate::latency::LatencyHistogram;

/// A table that waits to become durable.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub(crate) applied: u64,
    pub(crate) table: Layer,
    pub(crate) bytes: u64,
}

/// What its holder has no more use for. Freeing a table of 32 MiB takes milliseconds, and the last holder of
/// a dead file deletes it: so neither is done by the owner or by a reader. It never holds what is shared, or
/// that would be there for ever.
type Garbage = Box<dyn Send>;

/// What the engine thread is to do next.
pub(crate) enum Work {
    Flush(Sealed),
    /// Everything, into the last level.
    MergeAll,
    Compact,
    Stop,
}

pub(crate) struct Shared {
    pub(crate) tree: Tree,
    /// The tree's own counter.
    pub(crate) seqno: SequenceNumberCounter,
    /// Snapshots that are held.
    pub(super) open_snapshots: AtomicUsize,
    pub(crate) figures: Counters,
    /// Number of the newest files; the owner compares it before it takes the lock.
    pub(crate) installed: AtomicU64,
    newest: Mutex<Newest>,
    queue: Mutex<Queue>,
    /// Length of the queue, the table being flushed included.
    waiting: AtomicUsize,
    wake: Condvar,
    cache: Arc<Cache>,
    /// Time that each checkpoint took.
    pub(crate) checkpoints: Arc<LatencyHistogram>,
    pub(crate) ahead: Ahead,
}

struct Newest {
    /// Tables flushed since the tree was opened.
    flushed: u64,
    files: Arc<Files>,
}

#[derive(Default)]
struct Queue {
    /// Oldest first. The one being flushed stays at the front until it is durable.
    sealed: VecDeque<Sealed>,
    stop: bool,
    /// All files are to be merged once no sealed table waits.
    merge_all: bool,
    /// At most one item for each change of the files, which the same thread makes, and one for each view of
    /// the files before.
    garbage: Vec<Garbage>,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) disk_bytes: AtomicU64,
    pub(crate) live_bytes: AtomicU64,
    pub(crate) sealed_bytes: AtomicU64,
    pub(crate) l0_runs: AtomicUsize,
    pub(crate) table_files: AtomicUsize,
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_ns: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compaction_ns: AtomicU64,
}

/// Figures of one engine, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineFigures {
    /// Bytes of table files, dead entries included.
    pub disk_bytes: u64,
    /// Estimate of the bytes that a full compaction would leave: those of the deepest level that holds
    /// any, to which everything above adds overwrites and new keys alike. Level 0 alone counts whole.
    pub live_bytes: u64,
    /// Runs in level 0: every get may have to look into each.
    pub l0_runs: usize,
    /// Table files.
    pub table_files: usize,
    /// Sealed tables that are not durable yet.
    pub sealed_tables: usize,
    /// Snapshots that are held.
    pub open_snapshots: usize,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Checkpoints written since the start.
    pub flushes: u64,
    /// Time spent on them.
    pub flush_time: Duration,
    /// Compactions that changed something since the start.
    pub compactions: u64,
    /// Time spent on them.
    pub compaction_time: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A holder that panicked is the owner or the engine thread, and either takes the process down.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(open: OpenTree, options: &EngineOptions) -> Self {
        let OpenTree { tree, seqno } = open;
        let newest = Newest { flushed: 0, files: Arc::new(Files::newest(&tree)) };
        let shared = Self {
            open_snapshots: AtomicUsize::new(0),
            figures: Counters::default(),
            installed: AtomicU64::new(0),
            newest: Mutex::new(newest),
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            wake: Condvar::new(),
            cache: Arc::clone(&options.cache),
            checkpoints: options.checkpoints(),
            ahead: Ahead::default(),
            tree,
            seqno,
        };
        shared.measure();
        shared
    }

    /// The number of the newest files, the flushes that they contain, and themselves.
    pub(super) fn newest_files(&self) -> (u64, u64, Arc<Files>) {
        let newest = lock(&self.newest);
        (self.installed.load(Ordering::Acquire), newest.flushed, Arc::clone(&newest.files))
    }

    /// After the files changed: gives them to the owner. If a table was flushed, it is in them.
    pub(crate) fn install(&self, flushed: Option<&Sealed>) {
        let files = Arc::new(Files::newest(&self.tree));
        let mut newest = lock(&self.newest);
        newest.flushed += u64::from(flushed.is_some());
        newest.files = files;
        self.installed.fetch_add(1, Ordering::AcqRel);
        drop(newest);
        let bytes = flushed.map_or(0, |sealed| sealed.bytes);
        self.figures.sealed_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.measure();
    }

    fn measure(&self) {
        let version = self.tree.current_version();
        let disk: u64 = version.iter_levels().map(|level| level.size()).sum();
        let deepest =
            version.iter_levels().map(|level| level.size()).filter(|size| *size > 0).last();
        let figures = &self.figures;
        figures.disk_bytes.store(disk, Ordering::Release);
        figures.live_bytes.store(deepest.unwrap_or(0), Ordering::Relaxed);
        figures.l0_runs.store(version.l0().run_count(), Ordering::Relaxed);
        figures.table_files.store(version.table_count(), Ordering::Relaxed);
    }

    pub(crate) fn figures(&self) -> EngineFigures {
        let figures = &self.figures;
        let time = |ns: &AtomicU64| Duration::from_nanos(ns.load(Ordering::Relaxed));
        EngineFigures {
            disk_bytes: figures.disk_bytes.load(Ordering::Relaxed),
            live_bytes: figures.live_bytes.load(Ordering::Relaxed),
            l0_runs: figures.l0_runs.load(Ordering::Relaxed),
            table_files: figures.table_files.load(Ordering::Relaxed),
            sealed_tables: self.sealed_tables(),
            open_snapshots: self.open_snapshots.load(Ordering::Relaxed),
            cache_bytes: self.cache.size(),
            flushes: figures.flushes.load(Ordering::Relaxed),
            flush_time: time(&figures.flush_ns),
            compactions: figures.compactions.load(Ordering::Relaxed),
            compaction_time: time(&figures.compaction_ns),
        }
    }

    pub(crate) fn sealed_tables(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Applied indexes of the tables that wait, oldest first.
    pub(super) fn sealed_applied(&self) -> Vec<u64> {
        lock(&self.queue).sealed.iter().map(|sealed| sealed.applied).collect()
    }

    pub(super) fn push_sealed(&self, sealed: Sealed) {
        self.figures.sealed_bytes.fetch_add(sealed.bytes, Ordering::Relaxed);
        let mut queue = lock(&self.queue);
        queue.sealed.push_back(sealed);
        self.waiting.store(queue.sealed.len(), Ordering::Release);
        self.wake.notify_one();
    }

    /// The table at the front is durable.
    pub(crate) fn pop_sealed(&self, applied: u64) {
        let mut queue = lock(&self.queue);
        let front = queue.sealed.pop_front();
        assert_eq!(front.map(|sealed| sealed.applied), Some(applied), "another table was flushed");
        self.waiting.store(queue.sealed.len(), Ordering::Release);
    }

    /// Waits for something to do: stop before flush, flush before a merge of everything, that before
    /// compaction, unless level 0 is so full (`compact_first`) that compaction comes before flushes.
    pub(crate) fn next_work(&self, compact: bool, compact_first: bool) -> Work {
        let mut queue = lock(&self.queue);
        loop {
            while !queue.garbage.is_empty() {
                let garbage = std::mem::take(&mut queue.garbage);
                drop(queue);
                drop(garbage);
                queue = lock(&self.queue);
            }
            if queue.stop {
                return Work::Stop;
            }
            match queue.sealed.front() {
                Some(sealed) if !(compact && compact_first) => return Work::Flush(sealed.clone()),
                _ if queue.merge_all && queue.sealed.is_empty() => {
                    queue.merge_all = false;
                    return Work::MergeAll;
                }
                _ if compact => return Work::Compact,
                _ => queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Leaves it to the engine thread to free this; to the caller, if that has been told to stop.
    pub(super) fn discard(&self, garbage: impl Send + 'static) {
        let mut queue = lock(&self.queue);
        if !queue.stop {
            queue.garbage.push(Box::new(garbage));
            self.wake.notify_one();
        }
    }

    /// Tells the engine thread to merge everything once what is sealed now has been written out.
    pub(crate) fn merge_all(&self) {
        lock(&self.queue).merge_all = true;
        self.wake.notify_one();
    }

    /// Tells the engine thread to end after what it is doing.
    pub(crate) fn stop(&self) {
        lock(&self.queue).stop = true;
        self.wake.notify_one();
    }
}
