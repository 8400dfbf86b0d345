//! The table: one line a row, the sides beside each other, the ratio, and what was asked for.

use crate::rows::compaction::Compaction;
use crate::rows::growth::{AXES, Axis, Growth};
use crate::rows::store::{Large, Restart};
use crate::rows::{Row, Target};
use crate::sample::Sample;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::Path;

/// What one side showed in one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// The median run.
    Run(Sample),
    /// Memory and restart.
    Restart(Restart),
    /// The large store.
    Large(Large),
    /// A compaction under load.
    Compaction(Compaction),
    /// Growth of the cost, an entry an axis.
    Growth(Vec<Growth>),
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Line {
    row: Row,
    nodes: usize,
    ours: Option<Cell>,
    peer: Option<Cell>,
    bare: Option<Cell>,
    failure: Option<String>,
}

impl Line {
    /// An empty line.
    pub fn new(row: Row, nodes: usize) -> Self {
        Self { row, nodes, ours: None, peer: None, bare: None, failure: None }
    }

    /// Fills in one side.
    pub fn set(&mut self, side: &str, cell: Cell) {
        match side {
            "quorate" => self.ours = Some(cell),
            "etcd" => self.peer = Some(cell),
            _ => self.bare = Some(cell),
        }
    }

    /// Says why there are no figures.
    pub fn fail(&mut self, error: &anyhow::Error) {
        self.failure = Some(format!("{error:#}"));
    }

    fn verdict(&self) -> String {
        match (&self.ours, &self.peer) {
            (Some(Cell::Run(ours)), Some(Cell::Run(peer))) => {
                let bare = match &self.bare {
                    Some(Cell::Run(bare)) => Some(bare),
                    _ => None,
                };
                run_verdict(ours, peer, bare, self.row.target(self.nodes))
            }
            (Some(Cell::Restart(ours)), Some(Cell::Restart(peer))) => restart_verdict(ours, peer),
            (Some(Cell::Large(ours)), _) => large_verdict(ours),
            (Some(Cell::Compaction(ours)), peer) => {
                let peer = match peer {
                    Some(Cell::Compaction(peer)) => Some(peer),
                    _ => None,
                };
                compaction_verdict(ours, peer)
            }
            (Some(Cell::Growth(ours)), Some(Cell::Growth(peer))) => growth_verdict(ours, peer),
            _ => String::new(),
        }
    }
}

/// Lines for one number of nodes.
#[derive(Debug, Clone)]
pub struct Table {
    nodes: usize,
    about: String,
    lines: Vec<Line>,
}

impl Table {
    /// An empty table. `about` tells the machine and the runs.
    pub fn new(nodes: usize, about: String) -> Self {
        Self { nodes, about, lines: Vec::new() }
    }

    /// Adds a line.
    pub fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// What stands above the lines.
    pub fn head(&self) -> String {
        format!(
            "{}\n\nA cell is operations a second · p50/p99 ms · server CPU µs/op (generator µs/op).\n\n\
             | row | quorate | etcd | bare gRPC | ratio, and what is asked |\n|---|---|---|---|---|",
            self.about
        )
    }

    /// One line of Markdown.
    pub fn format(&self, line: &Line) -> String {
        if let Some(why) = &line.failure {
            return format!("| {} | failed: {} | | | |", line.row.name, one_line(why));
        }
        let cell = |c: &Option<Cell>| c.as_ref().map_or_else(|| "–".to_owned(), format_cell);
        let (ours, peer, bare) = (cell(&line.ours), cell(&line.peer), cell(&line.bare));
        format!("| {} | {ours} | {peer} | {bare} | {} |", line.row.name, line.verdict())
    }

    /// Names of the rows that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.lines.iter().filter(|l| l.failure.is_some()).map(|l| l.row.name).collect()
    }

    fn markdown(&self) -> String {
        let lines = self.lines.iter().map(|l| self.format(l)).collect::<Vec<_>>();
        format!("{}\n{}", self.head(), lines.join("\n"))
    }
}

/// The first and the last line: what happened, and the last words of the server.
pub fn one_line(text: &str) -> String {
    let mut lines = text.lines().filter(|l| !l.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let last = lines.next_back().map(|l| format!(" {l}")).unwrap_or_default();
    format!("{first}{last}").replace('|', "/")
}

fn format_cell(cell: &Cell) -> String {
    match cell {
        Cell::Run(s) => format_run(s),
        Cell::Restart(r) => format!(
            "fill {:.1} s · {} resident · {} on disk · kill -9 to serving {:.2} s",
            r.fill.as_secs_f64(),
            mib(r.rss),
            mib(r.disk),
            r.restart.as_secs_f64(),
        ),
        Cell::Large(l) => format!(
            "{} over a small store · {} over {} keys · fill {:.1} s · {} resident, at most {} · {} on disk",
            format_run(&l.small),
            format_run(&l.large),
            grouped(l.keys as f64),
            l.fill.as_secs_f64(),
            mib(l.rss.0),
            mib(l.rss.1),
            mib(l.disk),
        ),
        Cell::Compaction(c) => format!(
            "{} revisions in {:.1} s · before: {} · during: {}",
            grouped(c.revisions as f64),
            c.took.as_secs_f64(),
            format_run(&c.before),
            format_run(&c.during),
        ),
        Cell::Growth(axes) => {
            let axis = |(axis, growth): (&Axis, &Growth)| {
                let (small, large) = growth.cpu_us;
                format!("{} {small:.1} → {large:.1} µs ({:.2}×)", axis.name, growth.factor())
            };
            AXES.iter().zip(axes).map(axis).collect::<Vec<_>>().join(" · ")
        }
    }
}

/// One run as a cell.
pub fn format_run(s: &Sample) -> String {
    let mut out = format!(
        "{} · {:.2}/{:.2} · {:.1} µs ({:.1})",
        grouped(s.rate),
        s.p50_ms,
        s.p99_ms,
        s.cpu_us,
        s.generator_us
    );
    if s.worst_second_ms > 0.0 {
        let tail = (s.p999_ms, s.worst_second_ms, s.missed);
        // Writing to a String cannot fail.
        let _ =
            write!(out, " · p99.9 {:.2}, worst second {:.2}, missed {}", tail.0, tail.1, tail.2);
    }
    out
}

fn run_verdict(
    ours: &Sample,
    peer: &Sample,
    bare: Option<&Sample>,
    target: Option<Target>,
) -> String {
    if ours.worst_second_ms > 0.0 {
        let (resolve, goal) = (ours.p99_ms <= peer.p99_ms, ours.p999_ms <= peer.p99_ms);
        return format!("p99 ≤ etcd's: {}; p99.9 ≤ etcd's p99: {}", pass(resolve), pass(goal));
    }
    let (ratio, cpu) = (ours.rate / peer.rate, ours.cpu_us / peer.cpu_us);
    let mut out = format!("{ratio:.2}×, CPU {cpu:.2}×");
    if let Some(bare) = bare {
        let _ = write!(out, ", {:.0} % of bare", 100.0 * ours.rate / bare.rate);
    }
    if let Some(t) = target {
        let resolve = ratio >= t.rate.0 && cpu <= t.cpu.0;
        let goal = ratio >= t.rate.1 && cpu <= t.cpu.1;
        let _ = write!(out, "; ≥ {}×: {}", t.rate.0, pass(resolve));
        let _ = write!(out, "; goal ≥ {}×: {}", t.rate.1, pass(goal));
        if t.cpu.0.is_finite() {
            let _ = write!(out, " (with CPU ≤ {}× and {}×)", t.cpu.0, t.cpu.1);
        }
    }
    out
}

fn restart_verdict(ours: &Restart, peer: &Restart) -> String {
    let (memory, secs) = (ours.rss as f64 / peer.rss as f64, ours.restart.as_secs_f64());
    format!(
        "memory {memory:.2}×; ≤ ½ and ≤ 3 s: {}; goal ≤ ⅓ and ≤ 1 s: {}",
        pass(memory <= 0.5 && secs <= 3.0),
        pass(memory <= 1.0 / 3.0 && secs <= 1.0)
    )
}

/// The configured cache and 512 MiB: what the large store may take.
const LARGE_MEMORY_BYTES: u64 = (128 + 512) << 20;

fn large_verdict(ours: &Large) -> String {
    let (kept, fits) = (ours.large.rate / ours.small.rate, ours.rss.1 <= LARGE_MEMORY_BYTES);
    let (resolve, goal) = (pass(kept >= 0.5), pass(kept >= 0.75));
    format!(
        "{:.0} % of the small store's rate; ≥ 50 %: {resolve}; goal ≥ 75 %: {goal}; memory ≤ {} (cache + \
         512 MiB): {}",
        kept * 100.0,
        mib(LARGE_MEMORY_BYTES),
        pass(fits)
    )
}

fn compaction_verdict(ours: &Compaction, peer: Option<&Compaction>) -> String {
    let ratio = ours.ratio();
    let (resolve, goal) = (pass(ratio < 3.0), pass(ratio < 1.5));
    let peer = peer.map(|peer| format!(" (etcd {:.2}×)", peer.ratio())).unwrap_or_default();
    format!("p99.9 during {ratio:.2}× of before{peer}; < 3×: {resolve}; goal < 1.5×: {goal}")
}

/// What may grow by noise alone.
const GROWTH_NOISE: f64 = 1.1;

/// Nothing is written of how much is fine, so the peer says it: ours may grow as etcd's does.
fn growth_verdict(ours: &[Growth], peer: &[Growth]) -> String {
    let axis = |(axis, (ours, peer)): (&Axis, (&Growth, &Growth))| {
        let met = ours.factor() <= peer.factor().max(1.0) * GROWTH_NOISE;
        format!("{} {:.2}× to {:.2}×: {}", axis.name, ours.factor(), peer.factor(), pass(met))
    };
    let verdicts = AXES.iter().zip(ours.iter().zip(peer)).map(axis).collect::<Vec<_>>();
    format!("ours grows no faster than etcd's: {}", verdicts.join("; "))
}

/// Whether what was asked for is there.
pub fn pass(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

/// Bytes in MiB.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", grouped(bytes as f64 / f64::from(1 << 20)))
}

/// A whole number with its thousands apart.
pub fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What the document opens with.
const TITLE: &str = "# Benchmarks\n\nWritten by `cargo xtask bench kv` and `cargo xtask bench txn`; not edited by hand. What \
is asked for is a ratio against the peer of the same run, never an absolute number.\n";

/// Puts the table into the document at `path`, in the place of the one for as many nodes.
pub fn update(path: &Path, table: &Table) -> Result<()> {
    update_section(path, &format!("Nodes: {}", table.nodes), &table.markdown())
}

/// Puts a section into the document at `path`, in the place of the one with the same heading.
pub fn update_section(path: &Path, heading: &str, text: &str) -> Result<()> {
    let old = if path.exists() { std::fs::read_to_string(path)? } else { String::new() };
    std::fs::write(path, replaced(&old, heading, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(old: &str, heading: &str, text: &str) -> String {
    let same = format!("{heading}\n");
    let sections = old.split("\n## ").skip(1);
    let others = sections.filter(|s| !s.starts_with(&same)).map(|s| format!("## {}", s.trim_end()));
    let new = format!("## {heading}\n\n{}", text.trim_end());
    let mut all: Vec<String> = others.chain([new]).collect();
    all.sort();
    format!("{TITLE}\n{}\n", all.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    fn line(name: &str, nodes: usize) -> Line {
        Line::new(*ROWS.iter().find(|r| r.name == name).unwrap(), nodes)
    }

    fn run(rate: f64, cpu_us: f64) -> Cell {
        Cell::Run(Sample { rate, cpu_us, ..Sample::default() })
    }

    #[test]
    fn a_target_is_met_only_with_its_cpu() {
        let mut l = line("watch-64-64", 1);
        l.set("etcd", run(100.0, 4.0));
        l.set("quorate", run(160.0, 3.0));
        assert!(l.verdict().contains("≥ 1.5×: **missed**"), "{}", l.verdict());
        l.set("quorate", run(160.0, 2.5));
        assert!(l.verdict().contains("≥ 1.5×: met; goal ≥ 2×: **missed**"), "{}", l.verdict());
    }

    #[test]
    fn a_compaction_is_judged_against_its_own_server() {
        let cell = |before: f64, during: f64| {
            Cell::Compaction(Compaction {
                before: Sample { p999_ms: before, ..Sample::default() },
                during: Sample { p999_ms: during, ..Sample::default() },
                took: std::time::Duration::from_secs(2),
                revisions: 1_000_000,
            })
        };
        let mut l = line("compaction", 1);
        l.set("quorate", cell(10.0, 20.0));
        let alone = l.verdict();
        assert!(alone.contains("2.00×") && alone.contains("< 3×: met; goal < 1.5×: **missed**"));
        l.set("etcd", cell(10.0, 45.0));
        assert!(l.verdict().contains("(etcd 4.50×)"), "{}", l.verdict());
    }

    #[test]
    fn growth_is_judged_by_the_peers() {
        let cell = |large: f64| {
            Cell::Growth(AXES.iter().map(|_| Growth { cpu_us: (10.0, large) }).collect())
        };
        let mut l = line("growth", 1);
        l.set("quorate", cell(14.0));
        l.set("etcd", cell(13.0));
        assert_eq!(l.verdict().matches(": met").count(), AXES.len(), "{}", l.verdict());
        l.set("etcd", cell(12.0));
        assert_eq!(l.verdict().matches("**missed**").count(), AXES.len(), "{}", l.verdict());
    }

    #[test]
    fn the_large_store_must_fit_into_memory_too() {
        let run = |rate| Sample { rate, ..Sample::default() };
        let large = |peak_mib: u64| {
            Cell::Large(Large {
                small: run(100.0),
                large: run(60.0),
                keys: 10,
                fill: std::time::Duration::ZERO,
                rss: (0, peak_mib << 20),
                disk: 0,
            })
        };
        let mut l = line("put-10m", 1);
        l.set("quorate", large(640));
        assert!(l.verdict().contains("≥ 50 %: met") && l.verdict().ends_with("MiB): met"));
        l.set("quorate", large(641));
        assert!(l.verdict().ends_with("**missed**"), "{}", l.verdict());
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!((grouped(1_234_567.4), grouped(999.0)), ("1,234,567".into(), "999".into()));
    }

    #[test]
    fn a_new_table_takes_the_place_of_the_old_one() {
        let table = |about: &str| Table::new(1, about.to_owned()).markdown();
        let doc = replaced("", "Nodes: 3", &table("three"));
        let doc = replaced(&doc, "Nodes: 1", &table("first"));
        let doc = replaced(&doc, "Global transactions", "sagas");
        let doc = replaced(&doc, "Nodes: 1", &table("second"));
        assert!(!doc.contains("first") && doc.contains("second") && doc.contains("three"));
        assert!(doc.contains("## Global transactions\n\nsagas\n\n## Nodes: 1\n\nsecond"));
        assert!(doc.find("## Nodes: 1") < doc.find("## Nodes: 3"), "{doc}");
        assert_eq!(doc.matches("# Benchmarks").count(), 1);
    }

    #[test]
    fn a_failure_stands_in_its_place() {
        let mut l = line("put-1", 1);
        l.fail(&anyhow::anyhow!("no | luck\nmiddle\nlast"));
        let mut table = Table::new(1, String::new());
        assert_eq!(table.format(&l), "| put-1 | failed: no / luck last | | | |");
        table.push(l);
        assert_eq!(table.failed(), ["put-1"]);
    }
}
