//! The low-priority thread of an engine: checkpoints first, then compaction.
//!
//! One table is flushed at a time, oldest first, so each checkpoint is exactly the state at one seal. The
//! applied index is reported after the version of the tree that contains the table has been fsynced and
//! renamed into place, and never before. An error is reported once and ends the thread: no retry, since
//! what a failed fsync left behind is unknown.
//!
//! Level 0 is bounded: past `MAX_L0_RUNS` runs, compaction goes before flushes; then sealed tables pile up
//! and at their bound the node refuses proposals.
//!
//! Left out: interrupting a compaction. Stopping waits for the step under way, seconds at worst.

mod paced;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lsm_tree::compaction::Leveled;
use lsm_tree::{AbstractTree, SeqNo, Tree};
use quorate_engine::EngineError;

use crate::directory::free_space;
use crate::engine::{
    DiskEngine, L0_RUNS_TO_MERGE, MAX_L0_RUNS, MERGE_RESERVE_BYTES, Sealed, Shared,
    TABLE_FILE_BYTES, Work, failure,
};

use paced::Paced;

/// Below the other threads, but not starved.
const NICE: i32 = 10;

/// Up to where the tree may forget overwritten values and versions: everything. Who reads an older version
/// holds its files (`engine/files.rs`).
const NOTHING_OLD: SeqNo = SeqNo::MAX;

/// What the thread tells the node.
#[derive(Debug)]
pub enum EngineEvent {
    /// The state as of this applied index is on disk, whatever happens.
    Durable {
        /// As it was given to `seal`.
        applied: u64,
    },
    /// All files have been merged, after a call of [`EngineThread::merge_all`] and after every checkpoint
    /// that was reported before. Not, if the disk has no room for it.
    Merged,
    /// Flushing or compacting failed; the node must halt. Nothing follows.
    Failed(EngineError),
}

/// The running thread, and the one that sorts for it. Dropping it stops and joins both.
pub struct EngineThread {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

impl EngineThread {
    /// Starts the thread of `engine`, which has none yet. `notify` is called on the thread; it must not
    /// block for long, since flushes wait for it.
    ///
    /// # Errors
    /// `Io` if the system has no thread to give.
    pub fn start(
        engine: &DiskEngine,
        notify: impl Fn(EngineEvent) + Send + 'static,
    ) -> Result<Self, EngineError> {
        let shared = Arc::clone(engine.shared());
        let worker = Worker { shared: Arc::clone(&shared), strategy: strategy() };
        // Whatever was started is stopped when this is dropped.
        let mut thread = Self { shared: Arc::clone(&shared), handles: Vec::new() };
        thread.spawn("engine", move || worker.run(notify))?;
        thread.spawn("engine-order", move || {
            be_polite();
            shared.ahead.run();
        })?;
        Ok(thread)
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), EngineError> {
        let failed = |error| EngineError::Io(format!("starting the thread {name}: {error}"));
        let builder = std::thread::Builder::new().name(name.to_owned());
        self.handles.push(builder.spawn(run).map_err(failed)?);
        Ok(())
    }

    /// Writes out everything that is sealed, then merges all files into the last level, which leaves
    /// nothing dead behind except what open snapshots see. Reported as [`EngineEvent::Merged`]; several
    /// calls may be answered by one. Nothing is flushed while it merges, and the files need their size
    /// again: where that is not free, nothing is merged.
    pub fn merge_all(&self) {
        self.shared.merge_all();
    }

    /// Stops after the step under way. Tables that are sealed and not flushed stay in the log alone.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.shared.stop();
        self.shared.ahead.stop();
        for handle in self.handles.drain(..) {
            // A panic was caught inside and reported, or of the one that sorts: then who scans sorts.
            let _ = handle.join();
        }
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.join();
    }
}

fn strategy() -> Arc<Leveled> {
    let strategy = Leveled::default()
        .with_l0_threshold(L0_RUNS_TO_MERGE)
        .with_table_target_size(TABLE_FILE_BYTES);
    Arc::new(strategy)
}

/// On Linux a nice value belongs to a thread. Without it a thread of the engine is only less polite.
fn be_polite() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread of the engine keeps its priority");
    }
}

struct Worker {
    shared: Arc<Shared>,
    strategy: Arc<Leveled>,
}

impl Worker {
    fn run(&self, notify: impl Fn(EngineEvent)) {
        be_polite();
        // The table layer asserts some of what it reads from disk; that must not die silently.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work(&notify)))
            .unwrap_or_else(|_| Err(EngineError::Corrupt("the engine thread panicked".into())));
        if let Err(error) = outcome {
            tracing::error!(%error, "engine failed");
            notify(EngineEvent::Failed(error));
        }
    }

    fn work(&self, notify: &impl Fn(EngineEvent)) -> Result<(), EngineError> {
        let mut compact = true;
        loop {
            let full = self.shared.figures.l0_runs.load(Ordering::Relaxed) >= MAX_L0_RUNS;
            match self.shared.next_work(compact, full) {
                Work::Stop => return Ok(()),
                Work::Compact => compact = self.compact()?,
                Work::MergeAll => {
                    self.merge_all()?;
                    notify(EngineEvent::Merged);
                    compact = true;
                }
                Work::Flush(sealed) => {
                    self.flush(&sealed)?;
                    notify(EngineEvent::Durable { applied: sealed.applied });
                    compact = true;
                }
            }
        }
    }

    /// Writes one table out; returns when the checkpoint is durable.
    fn flush(&self, sealed: &Sealed) -> Result<(), EngineError> {
        let begin = Instant::now();
        let tree = &self.shared.tree;
        let before = tree.current_version().id();
        let lock = tree.get_flush_lock();
        // Higher than that of any file, and one for all items: of each key there is one.
        let seqno = self.shared.seqno.next();
        let items = sealed.table.sorted().map(|item| item.to_internal(seqno));
        let written = tree.flush_to_tables(Paced::new(tree, items)).map_err(failure)?;
        let Some((tables, blobs)) = written else {
            return Err(EngineError::Corrupt("a sealed table turned out to be empty".into()));
        };
        tree.register_tables(&tables, blobs.as_deref(), None, &[], NOTHING_OLD).map_err(failure)?;
        drop(lock);
        // It may decline without an error; then nothing would be durable.
        assert!(tree.current_version().id() > before, "the flushed table was not registered");
        self.shared.install(Some(sealed));
        self.shared.pop_sealed(sealed.applied);
        self.shared.figures.flushes.fetch_add(1, Ordering::Relaxed);
        self.shared.checkpoints.record(begin.elapsed());
        self.shared.figures.flush_ns.fetch_add(nanos(begin.elapsed()), Ordering::Relaxed);
        Ok(())
    }

    /// One step of compaction; whether it changed anything, so that another may follow.
    fn compact(&self) -> Result<bool, EngineError> {
        self.rewrite(|tree, watermark| {
            tree.compact(Arc::<Leveled>::clone(&self.strategy), watermark)
        })
    }

    /// Merges everything, if there is room for a second copy.
    fn merge_all(&self) -> Result<(), EngineError> {
        let tree = &self.shared.tree;
        let needed = self.shared.figures.disk_bytes.load(Ordering::Relaxed);
        let free = free_space(&tree.tree_config().path)
            .map_err(|error| EngineError::Io(format!("free space: {error}")))?;
        if needed == 0 {
            return Ok(());
        }
        if free < needed.saturating_add(MERGE_RESERVE_BYTES) {
            tracing::warn!(free, needed, "not merged: the disk has no room for a second copy");
            return Ok(());
        }
        self.rewrite(|tree, watermark| tree.major_compact(TABLE_FILE_BYTES, watermark))?;
        Ok(())
    }

    /// Lets the tree replace files; whether it did.
    fn rewrite(
        &self,
        replace: impl FnOnce(&Tree, SeqNo) -> lsm_tree::Result<()>,
    ) -> Result<bool, EngineError> {
        let begin = Instant::now();
        let tree = &self.shared.tree;
        let before = tree.current_version().id();
        replace(tree, NOTHING_OLD).map_err(failure)?;
        if tree.current_version().id() == before {
            return Ok(false);
        }
        self.shared.install(None);
        self.shared.figures.compactions.fetch_add(1, Ordering::Relaxed);
        self.shared.figures.compaction_ns.fetch_add(nanos(begin.elapsed()), Ordering::Relaxed);
        Ok(true)
    }
}

/// Flushes and compacts on the calling thread until there is nothing to do: for tests, which want to say
/// when it happens. Returns what would have been reported.
#[cfg(test)]
pub(crate) fn settle(engine: &DiskEngine) -> Result<Vec<u64>, EngineError> {
    let mut durable = Vec::new();
    while let Some(applied) = settle_one(engine)? {
        durable.push(applied);
    }
    let worker = Worker { shared: Arc::clone(engine.shared()), strategy: strategy() };
    while worker.compact()? {}
    Ok(durable)
}

/// Flushes the oldest sealed table on the calling thread.
#[cfg(test)]
pub(crate) fn settle_one(engine: &DiskEngine) -> Result<Option<u64>, EngineError> {
    let worker = Worker { shared: Arc::clone(engine.shared()), strategy: strategy() };
    if worker.shared.sealed_tables() == 0 {
        return Ok(None);
    }
    let Work::Flush(sealed) = worker.shared.next_work(false, false) else { return Ok(None) };
    worker.flush(&sealed)?;
    Ok(Some(sealed.applied))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
