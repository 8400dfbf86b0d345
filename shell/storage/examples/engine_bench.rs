//! What puts and reads cost in the engine alone: `cargo run --release -p quorate-storage --example engine_bench`.
//!
//! Three rows a put, as the key-value machine writes them, over 100,000 keys in random order; the engine
//! thread flushes and compacts beside. Times are those that the threads were on a CPU (Linux, `schedstat`),
//! so that a loaded machine blurs them less.

use std::error::Error;
use std::fs;
use std::ops::Bound;
use std::time::{Duration, Instant};

use quorate_consensus::GroupId;
use quorate_engine::{ACTIVE_TABLE_BYTES, Direction, Engine, MAX_SEALED_TABLES, Read};
use quorate_rng::Rng;
use quorate_storage::{DiskEngine, EngineOptions, EngineThread};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error>>;

const KEYS: u64 = 100_000;
const PUTS: u64 = 400_000;
const READS: u64 = 200_000;

struct Bench {
    engine: DiskEngine,
    random: Rng,
    revision: u64,
}

fn head(key: u64) -> Vec<u8> {
    format!("h\0\0\0\x01/registry/pods/default/pod-{key:013}").into_bytes()
}

fn version(key: u64, revision: u64) -> Vec<u8> {
    let mut row = format!("v\0\0\0\x01\0\x28/registry/pods/default/pod-{key:013}").into_bytes();
    row.extend_from_slice(&(!revision).to_be_bytes());
    row.extend_from_slice(&[0; 4]);
    row
}

fn change(revision: u64) -> Vec<u8> {
    let mut row = b"r\0\0\0\x01".to_vec();
    row.extend_from_slice(&revision.to_be_bytes());
    row.extend_from_slice(&[0; 4]);
    row
}

impl Bench {
    fn put(&mut self) -> Outcome<()> {
        let key = self.random.below(KEYS);
        self.revision += 1;
        let value = [self.revision as u8; 256 + 25];
        self.engine.insert(&version(key, self.revision), &value)?;
        self.engine.insert(&head(key), &value)?;
        self.engine.insert(&change(self.revision), &head(key)[3..])?;
        self.engine.publish();
        if self.engine.usage().active_bytes >= ACTIVE_TABLE_BYTES {
            while self.engine.usage().sealed_tables >= MAX_SEALED_TABLES {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.engine.seal(self.revision)?;
        }
        Ok(())
    }

    /// Runs `count` times; prints what one cost this thread, and the engine thread beside.
    fn run(
        &mut self,
        name: &str,
        count: u64,
        mut one: impl FnMut(&mut Self) -> Outcome<()>,
    ) -> Outcome<()> {
        let (begin, own, all) = (Instant::now(), on_cpu("thread-self")?, all_on_cpu()?);
        let mut longest = Duration::ZERO;
        for _ in 0..count {
            let begin = Instant::now();
            one(self)?;
            longest = longest.max(begin.elapsed());
        }
        let wall = begin.elapsed();
        let own = on_cpu("thread-self")? - own;
        let all = all_on_cpu()? - all;
        println!(
            "{name:34} {:>7} ns own, {:>7} ns beside, {:>7} ns wall; longest {longest:?}; resident {} MiB",
            own / count,
            all.saturating_sub(own) / count,
            wall.as_nanos() as u64 / count,
            resident()? >> 20,
        );
        Ok(())
    }

    /// Waits until everything that is sealed is on disk and compaction rests: the threads do nothing.
    fn rest(&mut self) -> Outcome<()> {
        let mut last = 0;
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = all_on_cpu()?;
            // Asking costs some too.
            if now - last < 1_000_000 && self.engine.figures().sealed_tables == 0 {
                self.engine.publish();
                return Ok(());
            }
            last = now;
        }
    }
}

fn on_cpu(task: &str) -> Outcome<u64> {
    let line = fs::read_to_string(format!("/proc/{task}/schedstat"))?;
    Ok(line.split_whitespace().next().ok_or("empty")?.parse()?)
}

fn all_on_cpu() -> Outcome<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        sum += on_cpu(&format!("self/task/{}", task?.file_name().to_string_lossy()))?;
    }
    Ok(sum)
}

fn resident() -> Outcome<u64> {
    let line = fs::read_to_string("/proc/self/statm")?;
    Ok(line.split_whitespace().nth(1).ok_or("short")?.parse::<u64>()? * 4096)
}

fn scan_of_10(snapshot: &impl Read, low: &[u8]) {
    let range = (Bound::Included(low), Bound::Unbounded);
    snapshot.scan(range, Direction::Forward).take(10).count();
}

fn puts(bench: &mut Bench) -> Outcome<()> {
    for name in ["put (3 rows), to the last flush", "put again, over the first"] {
        let last = bench.revision + PUTS;
        bench.run(name, PUTS, |bench| {
            bench.put()?;
            if bench.revision == last {
                bench.rest()?;
            }
            Ok(())
        })?;
    }
    println!("{:?}", bench.engine.figures());
    Ok(())
}

fn gets(bench: &mut Bench) -> Outcome<()> {
    let snapshot = bench.engine.snapshot();
    for (name, from) in [("get", 0), ("get of what is absent", KEYS)] {
        bench.run(&format!("owner: {name}"), READS, |bench| {
            let key = from + bench.random.below(KEYS);
            bench.engine.get(&head(key))?;
            Ok(())
        })?;
        bench.run(&format!("snapshot: {name}"), READS, |bench| {
            let key = from + bench.random.below(KEYS);
            snapshot.get(&head(key))?;
            Ok(())
        })?;
    }
    Ok(())
}

fn scans(bench: &mut Bench) -> Outcome<()> {
    let snapshot = bench.engine.snapshot();
    for (name, count) in [("snapshot: first scan of 10", 1), ("snapshot: scan of 10", READS / 10)] {
        bench.run(name, count, |bench| {
            scan_of_10(&snapshot, &head(bench.random.below(KEYS)));
            Ok(())
        })?;
    }
    bench.run("snapshot: scan of everything", 1, |_| {
        snapshot.scan((Bound::Unbounded, Bound::Unbounded), Direction::Forward).count();
        Ok(())
    })
}

fn snapshots(bench: &mut Bench) -> Outcome<()> {
    bench.run("snapshot with nothing new", READS, |bench| {
        drop(bench.engine.snapshot());
        Ok(())
    })?;
    bench.run("put, a snapshot every 64", PUTS / 4, |bench| {
        bench.put()?;
        if bench.revision.is_multiple_of(64) {
            drop(bench.engine.snapshot());
        }
        Ok(())
    })?;
    bench.run("put, a snapshot and a get each", PUTS / 4, |bench| {
        bench.put()?;
        let key = bench.random.below(KEYS);
        bench.engine.snapshot().get(&head(key))?;
        Ok(())
    })?;
    bench.run("put, snapshot and scan of 10 per 64", PUTS / 4, |bench| {
        bench.put()?;
        if bench.revision.is_multiple_of(64) {
            let low = head(bench.random.below(KEYS));
            scan_of_10(&bench.engine.snapshot(), &low);
        }
        Ok(())
    })
}

fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let options = EngineOptions::new(EngineOptions::CACHE_BYTES);
    let engine = DiskEngine::open(dir.path(), GroupId(1), 1, true, &options)?;
    let thread = EngineThread::start(&engine, |event| {
        if let quorate_storage::EngineEvent::Failed(error) = event {
            eprintln!("{error}");
        }
    })?;
    let mut bench = Bench { engine, random: Rng::new(1), revision: 0 };
    puts(&mut bench)?;
    // Something in the active table, which the reads then go through.
    for _ in 0..PUTS / 20 {
        bench.put()?;
    }
    gets(&mut bench)?;
    scans(&mut bench)?;
    snapshots(&mut bench)?;
    bench.rest()?;
    println!("resident at rest {} MiB", resident()? >> 20);
    drop(thread);
    Ok(())
}
