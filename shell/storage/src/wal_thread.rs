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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

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
    /// Orders to the other thread that are not answered.
    files: usize,
    stop: bool,
    stopped: Option<String>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    writer: Mutex<Writer>,
    disk: SharedDisk,
    syncs: LatencyHistogram,
    /// What the write of the group under way took, in microseconds. Written by whose turn it is.
    write_us: AtomicU64,
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
        write_us: AtomicU64::new(0),
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

    /// Writes and syncs the batch on this thread if nothing is under way, and returns what happened:
    /// these events are not told otherwise. `None`: something was under way, and the batch was
    /// handed over as by `append`. A batch that waits for a segment is not among the events; its
    /// `Persisted` comes to `on_event`. Worth it while [`LatencyHistogram::recent_us`] is short.
    ///
    /// # Errors
    /// `WalStopped` if the log had stopped, or has failed now: then stop the process.
    pub fn append_inline(
        &self,
        seq: Seq,
        records: Vec<Record>,
    ) -> Result<Option<Vec<WalEvent>>, WalStopped> {
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
        let mut events = Vec::new();
        let batch = vec![Input::Append { seq, records }];
        let result = self.shared.carry_out(batch, &mut |event| events.push(event));
        self.shared.end_turn(&result);
        result.map_err(WalStopped)?;
        Ok(Some(events))
    }

    /// Whether everything that was handed over is durable and nothing is under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let queue = lock(&self.shared.queue);
        !queue.busy && queue.inputs.is_empty() && lock(&self.shared.writer).is_idle()
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

    /// How long the sync groups of the log took, each with its write.
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

    /// Waits for work and takes the turn; `None`: the log ends.
    fn wait(&self) -> Option<Vec<Input>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.stopped.is_some() {
                return None;
            }
            if !queue.busy && !queue.inputs.is_empty() {
                queue.busy = true;
                queue.bytes = 0;
                return Some(std::mem::take(&mut queue.inputs));
            }
            if queue.stop && !queue.busy && queue.files == 0 {
                queue.stopped = Some(SHUT_DOWN.to_owned());
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives the turn back after carrying out.
    fn end_turn(&self, result: &Result<(), String>) {
        let mut queue = lock(&self.queue);
        queue.busy = false;
        if let Err(error) = result {
            queue.stopped.get_or_insert_with(|| error.clone());
        }
        if !queue.inputs.is_empty() || queue.stop || queue.stopped.is_some() {
            self.wake.notify_one();
        }
    }

    /// Steps the writer with each input and carries out what follows, until it waits.
    fn carry_out(
        &self,
        inputs: Vec<Input>,
        on_event: &mut impl FnMut(WalEvent),
    ) -> Result<(), String> {
        let mut outputs = Vec::new();
        inputs.into_iter().try_for_each(|input| self.step(input, &mut outputs))?;
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
        on_event: &mut impl FnMut(WalEvent),
    ) -> Result<(), String> {
        match output {
            Output::Write { .. } => self.write(&output, outputs),
            Output::Sync { .. } => self.sync(&output, outputs),
            Output::Create { .. } | Output::Delete { .. } => self.order(output),
            Output::Persisted { seq } => {
                on_event(WalEvent::Persisted { seq });
                Ok(())
            }
            Output::NoSpace => {
                on_event(WalEvent::NoSpace);
                Ok(())
            }
            Output::SpaceFound => {
                on_event(WalEvent::SpaceFound);
                Ok(())
            }
        }
    }

    fn write(&self, output: &Output, outputs: &mut Vec<Output>) -> Result<(), String> {
        let begun = Instant::now();
        let input = perform(&*self.disk, output).ok_or("an operation has an answer")?;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.write_us.store(took, Ordering::Relaxed);
        self.step(input, outputs)
    }

    fn sync(&self, output: &Output, outputs: &mut Vec<Output>) -> Result<(), String> {
        let begun = Instant::now();
        let input = perform(&*self.disk, output).ok_or("an operation has an answer")?;
        // A write past the page cache waits for the disk as well.
        let written = Duration::from_micros(self.write_us.load(Ordering::Relaxed));
        self.syncs.record(written + begun.elapsed());
        // What arrived meanwhile is the next sync group: the writer learns of it first.
        let arrived = {
            let mut queue = lock(&self.queue);
            queue.bytes = 0;
            std::mem::take(&mut queue.inputs)
        };
        arrived.into_iter().try_for_each(|input| self.step(input, outputs))?;
        self.step(input, outputs)
    }

    /// Hands a creation or deletion to the other thread.
    fn order(&self, output: Output) -> Result<(), String> {
        let files = lock(&self.files).clone().ok_or("the thread for files has ended")?;
        lock(&self.queue).files += 1;
        files.send(output).map_err(|_| "the thread for files has ended".to_owned())
    }

    fn step(&self, input: Input, outputs: &mut Vec<Output>) -> Result<(), String> {
        lock(&self.writer).step(input, outputs).map_err(|halt| halt.to_string())
    }
}

/// The WAL thread.
fn run_log(shared: &Shared, mut on_event: impl FnMut(WalEvent)) {
    let result = catch_unwind(AssertUnwindSafe(|| {
        while let Some(inputs) = shared.wait() {
            let result = shared.carry_out(inputs, &mut on_event);
            shared.end_turn(&result);
            result?;
        }
        Ok(())
    }));
    // The other thread ends when nobody can give it orders.
    lock(&shared.files).take();
    let error = match result {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => "the WAL thread panicked".to_owned(),
    };
    shared.end_turn(&Err(error.clone()));
    on_event(WalEvent::Failed { error });
}

/// The thread that creates and deletes segments.
fn run_files(shared: &Shared, orders: &Receiver<Output>) {
    for order in orders {
        let answer = catch_unwind(AssertUnwindSafe(|| perform(&*shared.disk, &order)));
        let panicked = || Input::Failed { what: "the thread for files panicked".to_owned() };
        let input = answer.ok().flatten().unwrap_or_else(panicked);
        let mut queue = lock(&shared.queue);
        queue.files -= 1;
        shared.push(queue, input);
    }
}

#[cfg(test)]
mod tests;
