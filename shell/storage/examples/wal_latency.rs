//! Measures what a log's sync costs (decision 0003): `cargo run --release -p quorate-storage --example
//! wal_latency -- DIRECTORY`. The directory must lie on the disk in question, not on tmpfs.
//!
//! First raw files, prepared in each way; then the WAL thread over several segments, so that creating
//! them beside shows in the tail.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_consensus::{Entry, GroupId, GroupTime, LogIndex, NodeId, Origin, Payload, Seq, Term};
use quorate_storage::{FileDisk, SharedDisk, WalEvent, start_wal};
use quorate_wal::{ClusterId, Config, Identity, Record, create};
use rustix::fs::{FallocateFlags, OFlags, fallocate};

const SEGMENT: u64 = 64 << 20;

/// Any error ends the measurement.
type Outcome = Result<(), Box<dyn std::error::Error>>;

#[derive(Clone, Copy, Debug)]
enum Prepared {
    Empty,
    Reserved,
    Zeroed,
    /// Zeroed, and written past the page cache.
    Direct,
}

fn prepare(path: &Path, how: Prepared) -> std::io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    if !matches!(how, Prepared::Empty) {
        fallocate(&file, FallocateFlags::empty(), 0, SEGMENT)?;
    }
    if matches!(how, Prepared::Zeroed | Prepared::Direct) {
        let zeros = vec![0; 1 << 20];
        for at in 0..SEGMENT >> 20 {
            file.write_all_at(&zeros, at << 20)?;
        }
    }
    file.sync_all()?;
    let direct = if matches!(how, Prepared::Direct) { OFlags::DIRECT } else { OFlags::empty() };
    File::options().write(true).custom_flags(direct.bits().cast_signed()).open(path)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let us = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
    let (p50, p90, p99) = (us(0.5), us(0.9), us(0.99));
    println!("{what}: p50 {p50} µs, p90 {p90} µs, p99 {p99} µs, max {} µs", us(1.0));
}

fn raw(directory: &Path, how: Prepared, bytes: usize, writes: u64) -> std::io::Result<()> {
    let path = directory.join("raw");
    let file = prepare(&path, how)?;
    // The allocator would do so for these sizes, but does not promise it.
    let memory = vec![0xa5; bytes + 4096];
    let buffer = &memory[memory.as_ptr().align_offset(4096)..][..bytes];
    let mut times = Vec::new();
    for at in 0..writes {
        let begun = Instant::now();
        file.write_all_at(buffer, at * bytes as u64)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    report(&format!("{how:?}, {bytes} B"), times);
    fs::remove_file(path)
}

fn entry(index: u64, bytes: usize) -> Record {
    let payload = Payload::Command { origin: Origin::default(), data: Bytes::from(vec![1; bytes]) };
    let entry = Entry { term: Term(1), index: LogIndex(index), time: GroupTime(0), payload };
    Record::Entry { group: GroupId(1), entry }
}

/// One batch at a time through the WAL thread, inline where it can be.
fn thread(directory: &Path, inline: bool, bytes: usize, batches: u64) -> Outcome {
    let wal = directory.join("wal");
    let disk: SharedDisk = Arc::new(FileDisk::open(&wal)?);
    let identity = Identity { cluster: ClusterId(1), node: NodeId(1) };
    let writer = create(&*disk, identity, 1, Config::default())?;
    let (send, events) = std::sync::mpsc::channel();
    let (handle, threads) = start_wal(writer, disk, move |event| drop(send.send(event)))?;
    let mut times = Vec::new();
    for at in 1..=batches {
        let records = vec![entry(at, bytes)];
        let begun = Instant::now();
        let durable = WalEvent::Persisted { seq: Seq(at) };
        let told = if inline {
            handle.append_inline(Seq(at), records)?
        } else {
            handle.append(Seq(at), records)?;
            None
        };
        if !told.is_some_and(|told| told.contains(&durable)) {
            while events.recv()? != durable {}
        }
        times.push(begun.elapsed());
    }
    report(&format!("thread, inline {inline}, {bytes} B, {} segments", handle.segments()), times);
    threads.shutdown()?;
    fs::remove_dir_all(wal)?;
    Ok(())
}

fn main() -> Outcome {
    let directory = std::env::args().nth(1).ok_or("usage: wal_latency DIRECTORY")?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    for _ in 0..3 {
        for (bytes, writes) in [(4096, 1500), (256 << 10, 200)] {
            for how in [Prepared::Empty, Prepared::Reserved, Prepared::Zeroed, Prepared::Direct] {
                raw(directory, how, bytes, writes)?;
            }
        }
    }
    for inline in [false, true] {
        thread(directory, inline, 300, 3000)?;
        thread(directory, inline, 250 << 10, 1000)?;
    }
    Ok(())
}
