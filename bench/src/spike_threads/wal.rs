//! The log's stand-in: real appends and real fdatasyncs into preallocated space, no format.

use crate::handoff::Inbox;
use crate::spike_threads::node::Input;
use anyhow::Result;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Size of the file; the writer starts over at its end.
const SEGMENT_BYTES: usize = 64 * 1024 * 1024;
/// Unit of a write.
const BLOCK_BYTES: usize = 4096;
/// Largest write.
const MAX_WRITE_BYTES: usize = 1024 * 1024;
/// Longest sleep without work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of one step of the node, and the number under which they are reported durable.
#[derive(Debug)]
pub struct Persist {
    /// Reported back as durable.
    pub seq: u64,
    /// Bytes that the step's records would take.
    pub bytes: usize,
}

/// A preallocated file.
#[derive(Debug)]
pub struct Log {
    file: File,
    at: usize,
    zeros: Vec<u8>,
}

impl Log {
    /// Creates the file in `dir` and writes all of it once, so that later writes change no metadata.
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join("spike-wal");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        let zeros = vec![7; MAX_WRITE_BYTES];
        for at in (0..SEGMENT_BYTES).step_by(MAX_WRITE_BYTES) {
            file.write_all_at(&zeros, at as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0, zeros })
    }

    /// Appends `bytes`, rounded up to whole blocks, and returns when they are durable.
    pub fn append(&mut self, bytes: usize) -> Result<()> {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES).min(MAX_WRITE_BYTES);
        if self.at + bytes > SEGMENT_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(&self.zeros[..bytes], self.at as u64)?;
        self.file.sync_data()?;
        self.at += bytes;
        Ok(())
    }
}

/// The WAL thread: whatever came during the last fdatasync is the next group.
pub fn run(mut log: Log, from: &Inbox<Persist>, to: &Arc<dyn Fn(Input) + Send + Sync>) {
    let mut batch = Vec::new();
    loop {
        from.take(&mut batch, PATIENCE);
        let Some(last) = batch.last().map(|p| p.seq) else { continue };
        let bytes = batch.drain(..).map(|p| p.bytes).sum();
        log.append(bytes).expect("the spike's disk failed");
        to(Input::Persisted(last));
    }
}
