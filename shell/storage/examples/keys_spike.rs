//! The spike "Keys" of the architecture: how should MVCC lie in the engine?
//!
//! - **Layout A:** `h/<key>` holds the newest version with its value; an overwrite moves the previous one to
//!   `v/<key>/<revision, descending>`; `r/<revision>` names the key.
//! - **Layout B:** only `v/<key>/<revision, descending>` and `r/<revision>`; the newest version of a key is
//!   the first one behind its prefix.
//!
//! Runs both over the disk engine with its thread, as the node thread would: one batch a put, seal at
//! 32 MiB. Prints a table; its figures are in `docs/decisions/0004-key-layout.md`.
//!
//! `cargo run --release -p quorate-storage --example keys_spike [DIR] [KEYS]`

#![allow(clippy::unwrap_used)]

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use quorate_consensus::GroupId;
use quorate_engine::{ACTIVE_TABLE_BYTES, Direction, Engine, MAX_SEALED_TABLES, Pair, Read, keys};
use quorate_storage::{DiskEngine, EngineEvent, EngineOptions, EngineThread};

const OVERWRITES: u64 = 500_000;
const GETS: u64 = 300_000;
const RANGES: u64 = 5_000;
const RANGE_KEYS: usize = 100;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir =
        arguments.next().map_or_else(|| std::env::temp_dir().join("keys-spike"), PathBuf::from);
    let count: u64 = arguments.next().map_or(1_000_000, |n| n.parse().unwrap());
    println!("{count} keys, values of 256 B; times in µs: CPU mean / wall p50 / p99 / p99.9 / max");
    for layout in [Layout::A, Layout::B] {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Spike::new(layout, &dir, count).run();
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Time that this thread has been on a processor (Linux): the machine is shared, and other people's
/// compilers must not count.
fn cpu_time_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse().unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Layout {
    A,
    B,
}

struct Spike {
    layout: Layout,
    count: u64,
    engine: DiskEngine,
    events: Receiver<EngineEvent>,
    _thread: EngineThread,
    revision: u64,
    waited: Duration,
    random: u64,
    /// Time that puts spent on finding the version before.
    reading: Duration,
}

/// A 40-byte header (create and mod revision, version, lease) and the value.
fn record(revision: u64) -> Vec<u8> {
    let mut record = revision.to_be_bytes().repeat(5);
    record.resize(40 + 256, revision as u8);
    record
}

fn user_key(n: u64) -> [u8; 20] {
    let mut key = *b"registry/pods/      ";
    key[12..].copy_from_slice(format!("{n:08}").as_bytes());
    key
}

fn head(n: u64) -> Vec<u8> {
    let mut key = vec![b'h', 0, 0, 0, 0];
    keys::put_user_key(&mut key, &user_key(n));
    key
}

fn versions(n: u64) -> Vec<u8> {
    let mut key = vec![b'v', 0, 0, 0, 0];
    keys::put_user_key(&mut key, &user_key(n));
    key
}

fn version(n: u64, revision: u64) -> Vec<u8> {
    let mut key = versions(n);
    keys::put_u64_desc(&mut key, revision);
    keys::put_u32_desc(&mut key, 0);
    key
}

fn by_revision(revision: u64) -> Vec<u8> {
    let mut key = vec![b'r', 0, 0, 0, 0];
    keys::put_u64(&mut key, revision);
    keys::put_u32(&mut key, 0);
    key
}

impl Spike {
    fn new(layout: Layout, dir: &Path, count: u64) -> Self {
        let engine = DiskEngine::open(dir, GroupId(1), 1, true, &EngineOptions::default()).unwrap();
        let (tell, events) = channel();
        let thread = EngineThread::start(&engine, move |event| drop(tell.send(event))).unwrap();
        Self {
            layout,
            count,
            engine,
            events,
            _thread: thread,
            revision: 1,
            waited: Duration::ZERO,
            random: 1,
            reading: Duration::ZERO,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    fn run(mut self) {
        let count = self.count;
        // A permutation of all keys: 7,919 is prime and does not divide the counts that are used.
        self.time("new keys", count, |spike, i| spike.put(i.wrapping_mul(7_919) % spike.count));
        self.time("overwrites", OVERWRITES, |spike, _| {
            let n = spike.below(spike.count);
            spike.put(n);
        });
        self.settle();
        self.time("get", GETS, |spike, _| {
            let n = spike.below(spike.count);
            assert!(spike.newest(n).is_some());
        });
        self.time("miss", GETS, |spike, _| {
            let n = spike.count + spike.below(spike.count);
            assert!(spike.newest(n).is_none());
        });
        self.time("range of 100", RANGES, |spike, _| {
            let n = spike.below(spike.count - RANGE_KEYS as u64);
            assert_eq!(spike.range(n), RANGE_KEYS);
        });
        let figures = self.engine.figures();
        println!("  {:?} waited for flushes; {figures:?}", self.waited);
    }

    /// Waits until the thread has been idle for a second: reads are to be measured on a still tree.
    fn settle(&mut self) {
        let mut before = self.engine.figures();
        loop {
            std::thread::sleep(Duration::from_secs(1));
            self.engine.publish();
            let now = self.engine.figures();
            if now.sealed_tables == 0 && now == before && now.l0_runs < 4 {
                return;
            }
            before = now;
        }
    }

    fn time(&mut self, what: &str, times: u64, mut operation: impl FnMut(&mut Self, u64)) {
        let mut all = Vec::with_capacity(times as usize);
        let cpu = cpu_time_ns();
        self.reading = Duration::ZERO;
        let begin = Instant::now();
        for i in 0..times {
            let begin = Instant::now();
            operation(self, i);
            all.push(begin.elapsed().as_nanos() as u64);
            self.keep_up();
        }
        let whole = begin.elapsed();
        let mean = (cpu_time_ns() - cpu) as f64 / 1e3 / times as f64;
        all.sort_unstable();
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize] as f64 / 1e3;
        println!(
            "{:?} {what:13} {mean:8.2} / {:.2} / {:.2} / {:.1} / {:.0}   ({whole:.1?}, reading {:.2})",
            self.layout,
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            self.reading.as_secs_f64() * 1e6 / times as f64
        );
    }

    /// Seals full tables; waits where the node would refuse proposals.
    fn keep_up(&mut self) {
        let usage = self.engine.usage();
        if usage.active_bytes < ACTIVE_TABLE_BYTES {
            return;
        }
        let begin = Instant::now();
        while self.engine.usage().sealed_tables >= MAX_SEALED_TABLES {
            if let EngineEvent::Failed(error) = self.events.recv().unwrap() {
                panic!("{error}");
            }
        }
        self.waited += begin.elapsed();
        self.engine.seal(self.revision).unwrap();
    }

    fn put(&mut self, n: u64) {
        self.revision += 1;
        let revision = self.revision;
        match self.layout {
            Layout::A => {
                let head = head(n);
                let begin = Instant::now();
                let old = self.engine.get(&head).unwrap();
                self.reading += begin.elapsed();
                if let Some(old) = old {
                    let old_revision = u64::from_be_bytes(old[..8].try_into().unwrap());
                    self.engine.insert(&version(n, old_revision), &old).unwrap();
                }
                self.engine.insert(&head, &record(revision)).unwrap();
            }
            Layout::B => {
                // The new record needs the old one's create revision and version.
                let begin = Instant::now();
                let _ = self.newest(n);
                self.reading += begin.elapsed();
                self.engine.insert(&version(n, revision), &record(revision)).unwrap();
            }
        }
        self.engine.insert(&by_revision(revision), &user_key(n)).unwrap();
        self.engine.publish();
    }

    fn newest(&self, n: u64) -> Option<bytes::Bytes> {
        match self.layout {
            Layout::A => self.engine.get(&head(n)).unwrap(),
            Layout::B => {
                let range = keys::prefix_range(&versions(n));
                let first = self.engine.scan(keys::as_range(&range), Direction::Forward).next();
                first.map(|pair| pair.unwrap().1)
            }
        }
    }

    fn range(&self, n: u64) -> usize {
        let from = match self.layout {
            Layout::A => head(n),
            Layout::B => versions(n),
        };
        let end = keys::prefix_end(&from[..5]).unwrap();
        let range = (Bound::Included(&from[..]), Bound::Excluded(&end[..]));
        let pairs = self.engine.scan(range, Direction::Forward).map(Result::unwrap);
        match self.layout {
            Layout::A => pairs.take(RANGE_KEYS).count(),
            Layout::B => newest_of_each(pairs),
        }
    }
}

/// Walks over versions until `RANGE_KEYS` different keys have been seen.
fn newest_of_each(pairs: impl Iterator<Item = Pair>) -> usize {
    let mut last = bytes::Bytes::new();
    let mut seen = 0;
    for (key, _) in pairs {
        let prefix = key.slice(..key.len() - 12);
        if prefix != last {
            last = prefix;
            seen += 1;
            if seen == RANGE_KEYS {
                break;
            }
        }
    }
    seen
}
