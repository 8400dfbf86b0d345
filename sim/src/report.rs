//! What many seeds met together: a simulation that never met a fault has shown nothing about it.

use std::fmt;
use std::time::Duration;

use crate::check::Property;
use crate::faults::FaultKind;
use crate::global::GlobalTally;
use crate::hunt::Timed;

/// Sums over seeds.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Seeds without a violation.
    pub passed: usize,
    /// Seeds with one.
    pub failed: usize,
    violations: Vec<(Property, u64)>,
    seeds_with: Vec<usize>,
    hits: Vec<u64>,
    acknowledged: Vec<usize>,
    recovery_ms: Vec<u64>,
    /// With the seed.
    cpu: Vec<(Duration, u64)>,
    unknown: usize,
    refused: usize,
    elections: usize,
    starts: u64,
    snapshots: u64,
    watch_events: u64,
    messages: u64,
    holes: usize,
    simulated_ms: u64,
    global: GlobalTally,
}

impl Report {
    /// One more seed.
    pub fn add(&mut self, timed: &Timed) {
        let tally = &timed.outcome.tally;
        match &timed.outcome.violation {
            None => self.passed += 1,
            Some(violation) => {
                self.failed += 1;
                self.violations.push((violation.property, timed.outcome.seed));
            }
        }
        self.seeds_with.resize(FaultKind::ALL.len(), 0);
        self.hits.resize(FaultKind::ALL.len(), 0);
        for (at, kind) in FaultKind::ALL.iter().enumerate() {
            let hits = tally.faults.of(*kind);
            self.hits[at] += hits;
            self.seeds_with[at] += usize::from(hits > 0);
        }
        self.acknowledged.push(tally.acknowledged);
        self.recovery_ms.push(tally.recovery_ms);
        self.cpu.push((timed.took, timed.outcome.seed));
        self.unknown += tally.unknown;
        self.refused += tally.refused;
        self.elections += tally.elections;
        self.starts += tally.starts;
        self.snapshots += tally.snapshots;
        self.watch_events += tally.watch_events;
        self.messages += tally.messages;
        self.holes += tally.holes;
        self.simulated_ms += tally.simulated_ms;
        self.global.add(&tally.global);
    }

    /// The distribution tells more than its middle: the longest seeds are what a hunt waits for.
    fn write_cpu(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpu = self.cpu.clone();
        cpu.sort_unstable();
        let at = |percent: usize| cpu.get((cpu.len() * percent / 100).min(cpu.len().max(1) - 1));
        let ms = |percent| at(percent).map_or(0, |(time, _)| time.as_millis());
        let seed = cpu.last().map_or(0, |(_, seed)| *seed);
        let (median, most, nearly_all, longest) = (ms(50), ms(90), ms(99), ms(100));
        writeln!(
            f,
            "CPU time of a seed         median {median} ms, 90 % {most} ms, 99 % {nearly_all} ms, \
             longest {longest} ms (seed {seed})"
        )
    }

    fn seeds(&self) -> usize {
        self.passed + self.failed
    }
}

/// The median and the greatest of some numbers.
fn middle_and_most<T: Copy + Ord + Default>(numbers: &[T]) -> (T, T) {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    (middle, sorted.last().copied().unwrap_or_default())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.seeds().max(1);
        writeln!(f, "{:<26} {:>14} {:>12}", "fault", "% of seeds", "times")?;
        for (at, kind) in FaultKind::ALL.iter().enumerate() {
            let (with, hits) = (
                self.seeds_with.get(at).copied().unwrap_or(0),
                self.hits.get(at).copied().unwrap_or(0),
            );
            let rare = if with * 20 < seeds { "  < 5 %" } else { "" };
            writeln!(f, "{kind:<26} {:>14} {hits:>12}{rare}", with * 100 / seeds)?;
        }
        let (acknowledged, _) = middle_and_most(&self.acknowledged);
        let least = self.acknowledged.iter().min().copied().unwrap_or(0);
        let (recovery, slowest) = middle_and_most(&self.recovery_ms);
        writeln!(f, "operations acknowledged    median {acknowledged}, least {least} a seed")?;
        writeln!(f, "outcomes unknown           {} a seed", self.unknown / seeds)?;
        writeln!(f, "refused before the log     {} a seed", self.refused / seeds)?;
        writeln!(f, "revisions nobody claimed   {} a seed", self.holes / seeds)?;
        writeln!(f, "elections                  {} a seed", self.elections / seeds)?;
        writeln!(f, "starts of processes        {} a seed", self.starts as usize / seeds)?;
        writeln!(f, "snapshots installed        {} in all", self.snapshots)?;
        writeln!(f, "messages                   {} a seed", self.messages as usize / seeds)?;
        writeln!(f, "watch events               {} a seed", self.watch_events as usize / seeds)?;
        writeln!(
            f,
            "simulated time             {} s a seed",
            self.simulated_ms as usize / seeds / 1_000
        )?;
        writeln!(f, "first write after healing  median {recovery} ms, longest {slowest} ms")?;
        writeln!(f, "global transactions        {}", self.global)?;
        self.write_cpu(f)?;
        for property in Property::ALL {
            let found = self.violations.iter().filter(|(other, _)| other == property);
            let seeds: Vec<String> = found.map(|(_, seed)| seed.to_string()).collect();
            if !seeds.is_empty() {
                let shown = seeds[..seeds.len().min(10)].join(" ");
                writeln!(f, "{property} violated by {} seeds: {shown}", seeds.len())?;
            }
        }
        write!(f, "sim: {} seeds passed, {} failed", self.passed, self.failed)
    }
}
