//! The lines of the table: figures, and what was asked for.

use super::kill::Kill;
use super::tcc::Tcc;
use super::unfinished::{Growth, Memory};
use crate::report::{format_run, grouped, mib, one_line, pass};
use crate::sample::Sample;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    ours: String,
    beside: String,
    verdict: String,
}

/// What stands above the lines.
pub fn head(about: &str) -> String {
    format!(
        "{about}\n\nA cell is transactions a second · p50/p99 ms · server CPU µs each (generator and participants µs), \
         unless it says otherwise.\n\n| row | quorate | beside it | ratio, and what is asked |\n|---|---|---|---|"
    )
}

impl Line {
    /// A row without a peer.
    pub fn skipped(why: &str) -> Self {
        Self { ours: format!("skipped: {why}"), beside: "–".into(), verdict: String::new() }
    }

    /// A row that failed.
    pub fn failed(error: &anyhow::Error) -> Self {
        let why = one_line(&format!("{error:#}"));
        Self { ours: format!("failed: {why}"), beside: String::new(), verdict: String::new() }
    }

    /// As it stands in the table.
    pub fn markdown(&self, name: &str) -> String {
        format!("| {name} | {} | {} | {} |", self.ours, self.beside, self.verdict)
    }
}

/// Sagas beside the loop that does the same by hand.
pub fn beside_hand(sagas: &Sample, by_hand: &Sample) -> Line {
    let part = sagas.rate / by_hand.rate;
    Line {
        ours: format_run(sagas),
        beside: format!("by hand: {}", format_run(by_hand)),
        verdict: format!(
            "{:.0} %; ≥ 50 %: {}; goal ≥ 70 %: {}",
            100.0 * part,
            pass(part >= 0.5),
            pass(part >= 0.7)
        ),
    }
}

/// Sagas beside DTM's.
pub fn beside_dtm(ours: &Sample, dtm: &Sample) -> Line {
    let (ratio, cpu) = (ours.rate / dtm.rate, ours.cpu_us / dtm.cpu_us);
    Line {
        ours: format_run(ours),
        beside: format!("DTM over Redis, always synced: {}", format_run(dtm)),
        verdict: format!(
            "{ratio:.2}×, CPU {cpu:.2}×; ≥ 1.5×: {}; goal ≥ 3×: {}",
            pass(ratio >= 1.5),
            pass(ratio >= 3.0)
        ),
    }
}

/// A TCC beside its calls, in both loops.
pub fn tcc(clients: usize, closed: &Tcc, open: &Tcc, rate: f64) -> Line {
    let allowed = |times, plus| (closed.allowed_ms(times, plus), open.allowed_ms(times, plus));
    let (resolve, goal) = (allowed(1.5, 5.0), allowed(1.2, 2.0));
    let is_within =
        |most: (f64, f64)| pass(closed.whole.p99_ms <= most.0 && open.whole.p99_ms <= most.1);
    Line {
        ours: format!(
            "{clients} clients: {} · open at {}/s: {}",
            format_run(&closed.whole),
            grouped(rate),
            format_run(&open.whole)
        ),
        beside: format!(
            "p99 of the four calls together {:.2} ms · {:.2} ms",
            closed.calls_p99_ms, open.calls_p99_ms
        ),
        verdict: format!(
            "p99 ≤ 1.5 × calls + 5 ms ({:.2} · {:.2}): {}; goal ≤ 1.2 × calls + 2 ms ({:.2} · {:.2}): {}",
            resolve.0,
            resolve.1,
            is_within(resolve),
            goal.0,
            goal.1,
            is_within(goal)
        ),
    }
}

/// The leader was killed.
pub fn kill(found: &Kill) -> Line {
    let (kept, first) = (found.after / found.steady, found.first.as_secs_f64());
    Line {
        ours: format!(
            "{} unfinished: elected {:.2} s after the kill, first call {first:.3} s after the election, all called \
             {:.2} s after the kill, {}/s; {} had been called before",
            grouped(found.count as f64),
            found.elected.as_secs_f64(),
            found.last.as_secs_f64(),
            grouped(found.after),
            grouped(found.repeated as f64)
        ),
        beside: format!("under a leader that lives: {}/s", grouped(found.steady)),
        verdict: format!(
            "{:.0} % of the steady rate; ≤ 2 s and ≥ 80 %: {}; goal ≤ 0.5 s: {}",
            100.0 * kept,
            pass(first <= 2.0 && kept >= 0.8),
            pass(first <= 0.5 && kept >= 0.8)
        ),
    }
}

/// The cache as it is configured when nobody says otherwise.
const CACHE_BYTES: u64 = 128 << 20;

/// Memory of unfinished transactions.
pub fn memory(found: &Memory) -> Line {
    let (before, after, peak) = found.rss;
    let (resolve, goal) = (CACHE_BYTES + (512 << 20), CACHE_BYTES + (256 << 20));
    Line {
        ours: format!(
            "{} unfinished with 2 KiB: fill {:.1} s · {} resident, at most {} · {} on disk",
            grouped(found.count as f64),
            found.fill.as_secs_f64(),
            mib(after),
            mib(peak),
            mib(found.disk)
        ),
        beside: format!("before: {} resident", mib(before)),
        verdict: format!(
            "at most ≤ {} (cache + 512 MiB): {}; goal ≤ {}: {}",
            mib(resolve),
            pass(peak <= resolve),
            mib(goal),
            pass(peak <= goal)
        ),
    }
}

/// New sagas beside few and many unfinished ones.
pub fn growth(found: &Growth) -> Line {
    let (few, many) = &found.sagas;
    Line {
        ours: format!("{} unfinished: {}", grouped(found.counts.1 as f64), format_run(many)),
        beside: format!("{} unfinished: {}", grouped(found.counts.0 as f64), format_run(few)),
        verdict: format!(
            "{:.2}× the rate, CPU {:.2}×; nothing is asked",
            many.rate / few.rate,
            many.cpu_us / few.cpu_us
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(rate: f64) -> Sample {
        Sample { rate, cpu_us: 1.0, ..Sample::default() }
    }

    #[test]
    fn parts_and_ratios_are_judged() {
        let line = beside_hand(&at(60.0), &at(100.0));
        assert_eq!(line.verdict, "60 %; ≥ 50 %: met; goal ≥ 70 %: **missed**");
        let line = beside_dtm(&at(200.0), &at(100.0));
        assert!(line.verdict.contains("≥ 1.5×: met; goal ≥ 3×: **missed**"), "{line:?}");
    }

    #[test]
    fn both_loops_of_a_tcc_have_to_be_quick_enough() {
        let run = |p99_ms, calls_p99_ms| Tcc {
            whole: Sample { p99_ms, ..Sample::default() },
            calls_p99_ms,
        };
        let line = tcc(8, &run(5.9, 1.0), &run(6.6, 1.0), 10.0);
        assert!(line.verdict.contains("5 ms (6.50 · 6.50): **missed**"), "{line:?}");
        let line = tcc(8, &run(3.1, 1.0), &run(6.4, 1.0), 10.0);
        assert!(line.verdict.contains("6.50): met; goal") && line.verdict.ends_with("**missed**"));
    }

    #[test]
    fn a_new_leader_has_to_begin_soon_and_go_on_fast() {
        let found = |first_ms, after| Kill {
            count: 10,
            steady: 100.0,
            after,
            elected: Duration::from_secs(1),
            first: Duration::from_millis(first_ms),
            last: Duration::from_secs(9),
            repeated: 0,
        };
        let verdict = |first_ms, after| kill(&found(first_ms, after)).verdict;
        assert!(verdict(400, 80.0).ends_with("≥ 80 %: met; goal ≤ 0.5 s: met"));
        assert!(verdict(400, 79.0).contains("≥ 80 %: **missed**"));
        assert!(verdict(900, 90.0).ends_with("met; goal ≤ 0.5 s: **missed**"));
    }

    #[test]
    fn the_highest_memory_counts() {
        let found = |peak: u64| Memory {
            count: 1_000_000,
            fill: Duration::from_secs(1),
            rss: (0, 0, peak << 20),
            disk: 0,
        };
        assert!(memory(&found(384)).verdict.ends_with("384 MiB: met"));
        assert!(memory(&found(641)).verdict.contains("512 MiB): **missed**"));
    }
}
