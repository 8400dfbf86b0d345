//! The WAL thread: it owns the log's operations on the disk, so that the node thread never waits for
//! a sync it did not ask for.
//!
//! - Batches are handed over through one locked vector, with one wake for as many as have gathered.
//!   Whatever arrived during a sync is the next sync group; no timer batches anything.
//! - When nothing is under way the node thread may write and sync itself ([`WalHandle::append_inline`])
//!   and save two wakes. The two never write at the same time: `busy` in [`Queue`] says whose turn it is.
//! - A second thread creates and deletes segments beside, since writing 64 MiB of zeros takes longer
//!   than any sync may.
//! - The first failure ends everything: `WalEvent::Failed`, and every later append is refused.
//!
//! Locks are held for stepping the writer and for moving vectors, never for an operation of the disk.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use quorate_consensus::{GroupId, LogIndex, Seq};
use quorate_wal::limits::MAX_PENDING_BYTES;
use quorate_wal::{Disk, Input, Output, ReadPlan, Record, Writer, perform};

use crate::latency::LatencyHistogram;

/// Operations on files that may wait for their thread: one `Create`, and `Delete`s, which the
/// writer's thread waits for if there are more.
const FILE_OPERATIONS: usize = 64;

/// A disk that threads share.
pub type SharedDisk = Arc<dyn Disk + Send + Sync>;

/// What the log tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalEvent {
    /// Every batch up to this one is durable.
    Persisted {
        /// Its number.
        seq: Seq,
    },
    /// There is no space for the next segment: refuse proposals. What was appended is safe or waits.
    NoSpace,
    /// There is again.
    SpaceFound,
    /// The disk failed, or the log was handed something wrong. The process must stop.
    Failed {
        /// What happened.
        error: String,
    },
}

/// The log has failed or was shut down; the batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log has stopped: {0}")]
pub struct WalStopped(pub String);

/// Hand-off to the thread.
#[derive(Debug, Default)]
struct Queue {
    inputs: Vec<Input>,
    /// Bytes of the records in `inputs`.
    bytes: usize,
    /// Someone carries operations out.
    busy: bool,
    stop: bool,
    stopped: Option<String>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    writer: Mutex<Writer>,
    disk: SharedDisk,
    syncs: LatencyHistogram,
    files: Mutex<Option<SyncSender<Output>>>,
}

/// A thread that panicked poisons its locks; what they guard is then only read to say so.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How to use the log; cheap to clone.
#[derive(Clone)]
pub struct WalHandle {
    shared: Arc<Shared>,
}

/// The running threads; ended by [`WalThread::shutdown`].
pub struct WalThread {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts the threads. `on_event` runs on the WAL thread and must not block.
///
/// # Errors
/// The system's, if a thread cannot be started.
pub fn start_wal(
    writer: Writer,
    disk: SharedDisk,
    on_event: impl FnMut(WalEvent) + Send + 'static,
) -> std::io::Result<(WalHandle, WalThread)> {
    let (files, orders) = sync_channel(FILE_OPERATIONS);
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        wake: Condvar::new(),
        writer: Mutex::new(writer),
        disk,
        syncs: LatencyHistogram::default(),
        files: Mutex::new(Some(files)),
    });
    let (for_log, for_files) = (Arc::clone(&shared), Arc::clone(&shared));
    let mut thread = WalThread { shared: Arc::clone(&shared), threads: Vec::new() };
    let files = Builder::new().name("wal-files".to_owned());
    thread.threads.push(files.spawn(move || run_files(&for_files, &orders))?);
    let log = Builder::new().name("wal".to_owned());
    thread.threads.push(log.spawn(move || run_log(&for_log, on_event))?);
    Ok((WalHandle { shared }, thread))
}

impl WalHandle {
    /// Hands a batch over: `WalEvent::Persisted` with at least `seq` will follow. Never blocks; ask
    /// [`Self::has_room`] before taking work that ends here.
    ///
    /// # Errors
    /// `WalStopped` after a failure or the shutdown.
    pub fn append(&self, seq: Seq, records: Vec<Record>) -> Result<(), WalStopped> {
        let bytes = records.iter().map(Record::size).sum::<usize>();
        let mut queue = lock(&self.shared.queue);
        self.shared.check(&queue)?;
        queue.bytes += bytes;
        self.shared.push(queue, Input::Append { seq, records });
        Ok(())
    }

    /// Writes and syncs the batch on this thread if nothing is under way: then everything up to the
    /// returned number is durable, and no `Persisted` event tells so. Otherwise `None`, and the
    /// batch was handed over as by `append`.
    ///
    /// # Errors
    /// `WalStopped` if the log had stopped, or has failed now: then stop the process.
    pub fn append_inline(
        &self,
        seq: Seq,
        records: Vec<Record>,
    ) -> Result<Option<Seq>, WalStopped> {
        let mut queue = lock(&self.shared.queue);
        self.shared.check(&queue)?;
        let free = !queue.busy && queue.inputs.is_empty() && lock(&self.shared.writer).is_idle();
        if !free {
            queue.bytes += records.iter().map(Record::size).sum::<usize>();
            self.shared.push(queue, Input::Append { seq, records });
            return Ok(None);
        }
        queue.busy = true;
        drop(queue);
        let result = self.shared.carry_out(Input::Append { seq, records }, &mut |event| event);
        let mut queue = lock(&self.shared.queue);
        queue.busy = false;
        if let Err(error) = &result {
            queue.stopped = Some(error.clone());
        }
        if !queue.inputs.is_empty() || queue.stopped.is_some() {
            self.shared.wake.notify_one();
        }
        drop(queue);
        result.map_err(WalStopped)?;
        // Without space for a segment the batch waits in the writer; its event comes later.
        let persisted = lock(&self.shared.writer).persisted();
        Ok((persisted >= seq).then_some(persisted))
    }

    /// Whether less than `MAX_PENDING_BYTES` waits to be written.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let waits = lock(&self.shared.queue).bytes;
        waits < MAX_PENDING_BYTES && !lock(&self.shared.writer).is_full()
    }

    /// Asks again for the space of the next segment, after `NoSpace`.
    pub fn retry_space(&self) {
        self.shared.push(lock(&self.shared.queue), Input::Retry);
    }

    /// How to read durable entries back (see [`Writer::plan_read`]); read them with
    /// `quorate_wal::read_entries` and [`Self::disk`].
    #[must_use]
    pub fn plan_read(&self, group: GroupId, from: LogIndex, until: LogIndex) -> Option<ReadPlan> {
        lock(&self.shared.writer).plan_read(group, from, until)
    }

    /// The disk, for reading.
    #[must_use]
    pub fn disk(&self) -> &(dyn Disk + Send + Sync) {
        &*self.shared.disk
    }

    /// Segments that the log consists of now.
    #[must_use]
    pub fn segments(&self) -> usize {
        lock(&self.shared.writer).segments().len()
    }

    /// How long the syncs of the log took.
    #[must_use]
    pub fn syncs(&self) -> &LatencyHistogram {
        &self.shared.syncs
    }
}

impl WalThread {
    /// Writes what was handed over, then ends the threads. What waits for space is not written; it
    /// was never reported durable.
    ///
    /// # Errors
    /// `WalStopped` if a thread panicked or the log had failed.
    pub fn shutdown(mut self) -> Result<(), WalStopped> {
        self.stop();
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| WalStopped("a thread of the log panicked".to_owned()))?;
        }
        let queue = lock(&self.shared.queue);
        match &queue.stopped {
            Some(error) if error != SHUT_DOWN => Err(WalStopped(error.clone())),
            _ => Ok(()),
        }
    }

    fn stop(&self) {
        lock(&self.shared.queue).stop = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for WalThread {
    fn drop(&mut self) {
        self.stop();
    }
}

const SHUT_DOWN: &str = "shut down";

impl Shared {
    fn check(&self, queue: &Queue) -> Result<(), WalStopped> {
        match &queue.stopped {
            Some(error) => Err(WalStopped(error.clone())),
            None if queue.stop => Err(WalStopped(SHUT_DOWN.to_owned())),
            None => Ok(()),
        }
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, input: Input) {
        let first = queue.inputs.is_empty();
        queue.inputs.push(input);
        let sleeps = first && !queue.busy;
        drop(queue);
        if sleeps {
            self.wake.notify_one();
        }
    }

    /// Steps the writer with `input` and carries out what follows on this thread, until it waits.
    fn carry_out(
        &self,
        input: Input,
        on_event: &mut impl FnMut(WalEvent) -> WalEvent,
    ) -> Result<(), String> {
        let mut outputs = Vec::new();
        self.step(input, &mut outputs)?;
        while !outputs.is_empty() {
            for output in std::mem::take(&mut outputs) {
                self.carry_out_one(output, &mut outputs, on_event)?;
            }
        }
        Ok(())
    }

    fn carry_out_one(
        &self,
        output: Output,
        outputs: &mut Vec<Output>,
        on_event: &mut impl FnMut(WalEvent) -> WalEvent,
    ) -> Result<(), String> {
        let answer = match output {
            Output::Write { .. } => perform(&*self.disk, &output),
            Output::Sync { .. } => {
                let begun = Instant::now();
                let answer = perform(&*self.disk, &output);
                self.syncs.record(begun.elapsed());
                // What arrived meanwhile is the next sync group: the writer learns of it first.
                self.take_inputs(outputs)?;
                answer
            }
            Output::Create { .. } | Output::Delete { .. } => {
                let files = lock(&self.files).clone();
                files.ok_or("the log's files are closed")?.send(output).map_err(|e| e.to_string())?;
                None
            }
            Output::Persisted { seq } => {
                on_event(WalEvent::Persisted { seq });
                None
            }
            Output::NoSpace => {
                on_event(WalEvent::NoSpace);
                None
            }
            Output::SpaceFound => {
                on_event(WalEvent::SpaceFound);
                None
            }
        };
        answer.map_or(Ok(()), |input| self.step(input, outputs))
    }

    fn step(&self, input: Input, outputs: &mut Vec<Output>) -> Result<(), String> {
        lock(&self.writer).step(input, outputs).map_err(|halt| halt.to_string())
    }

    fn take_inputs(&self, outputs: &mut Vec<Output>) -> Result<(), String> {
        let inputs = {
            let mut queue = lock(&self.queue);
            queue.bytes = 0;
            std::mem::take(&mut queue.inputs)
        };
        inputs.into_iter().try_for_each(|input| self.step(input, outputs))
    }
}
