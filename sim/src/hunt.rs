//! Many seeds over several threads; each seed is a world of its own, so only the order of the reports
//! depends on the threads, and that is put right.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::options::Settings;
use crate::run::{Outcome, run};

/// Outcomes that may wait for their turn to be told.
const WAITING: usize = 64;

/// Reads `A..B`.
///
/// # Errors
/// It is not of that form.
pub fn parse_seeds(text: &str) -> anyhow::Result<Range<u64>> {
    let (from, until) =
        text.split_once("..").ok_or_else(|| anyhow::anyhow!("seeds are written A..B"))?;
    Ok(from.parse()?..until.parse()?)
}

/// Runs all seeds, or until the first that fails, and tells the outcomes in the order of seeds.
/// Panics of the code under test are caught and told, not printed.
pub fn hunt(
    settings: &Settings,
    seeds: Range<u64>,
    threads: usize,
    first: bool,
    mut tell: impl FnMut(Timed),
) {
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::sync_channel::<Timed>(WAITING);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (sender, next, stop, end) = (sender.clone(), &next, &stop, seeds.end);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let begin = cpu_time();
                    let outcome = run(&Settings { seed, ..settings.clone() });
                    let took = cpu_time() - begin;
                    if sender.send(Timed { outcome, took }).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        tell_in_order(receiver, seeds.start, first, &stop, &mut tell);
    });
    drop(std::panic::take_hook());
}

fn tell_in_order(
    receiver: mpsc::Receiver<Timed>,
    start: u64,
    first: bool,
    stop: &AtomicBool,
    tell: &mut impl FnMut(Timed),
) {
    let mut early = BTreeMap::new();
    let mut due = start;
    for timed in receiver {
        early.insert(timed.outcome.seed, timed);
        while let Some(timed) = early.remove(&due) {
            due += 1;
            let failed = timed.outcome.violation.is_some();
            tell(timed);
            if failed && first {
                stop.store(true, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// An outcome with the CPU time that it took.
#[derive(Clone, Debug)]
pub struct Timed {
    /// The outcome.
    pub outcome: Outcome,
    /// CPU time of its thread.
    pub took: Duration,
}

impl Timed {
    /// A seed in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let (Outcome { seed, nodes, tally, .. }, ms) = (&self.outcome, self.took.as_millis());
        format!(
            "seed {seed}: {ms} ms, {nodes} nodes, {} s, {} acknowledged, {} messages, {} bursts, \
             {} watch events, {} starts, {} elections, {} entries, {} guesses",
            tally.simulated_ms / 1_000,
            tally.acknowledged,
            tally.messages,
            tally.bursts,
            tally.watch_events,
            tally.starts,
            tally.elections,
            tally.entries,
            tally.guesses,
        )
    }
}

impl std::ops::Deref for Timed {
    type Target = Outcome;

    fn deref(&self) -> &Outcome {
        &self.outcome
    }
}
