//! `kv`: runs the rows on every side, prints the table, and puts it into the document.

use crate::limits::{KEYS, QUIET_LOAD};
use crate::proc::{load_average, machine};
use crate::report::{Cell, Line, Table, update};
use crate::rows::{Load, ROWS, Row, When, capacity, compaction, growth, store};
use crate::sample::{Sample, median};
use crate::servers::{Cluster, Program};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// What to run.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Our release binary; without it our side is skipped.
    #[arg(long)]
    pub quorate: Option<PathBuf>,
    /// etcd's binary; without it its side is skipped.
    #[arg(long)]
    pub etcd: Option<PathBuf>,
    /// Leave the bare gRPC server out.
    #[arg(long)]
    pub no_bare: bool,
    /// Nodes of a cluster: 1 or 3.
    #[arg(long, default_value_t = 1)]
    pub nodes: usize,
    /// Three runs of 3 s instead of five of 5 s.
    #[arg(long)]
    pub quick: bool,
    /// Only this row; may be given several times.
    #[arg(long)]
    pub only: Vec<String>,
    /// Other size than usual of rows about size, to try them out: keys of put-10m, revisions of compaction, the
    /// large number of keys of growth. The table names what it was.
    #[arg(long)]
    pub size: Option<u64>,
    /// Put the table into this Markdown file, in the place of the last one for as many nodes.
    #[arg(long)]
    pub write: Option<PathBuf>,
}

impl Options {
    fn runs(&self) -> usize {
        if self.quick { 3 } else { 5 }
    }

    fn length(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 5 })
    }

    fn rows(&self) -> Result<Vec<Row>> {
        for name in &self.only {
            let names = || ROWS.map(|r| r.name).join(", ");
            ensure!(ROWS.iter().any(|r| r.name == name), "no row {name}; there are: {}", names());
        }
        let wanted = |r: &&Row| self.only.iter().any(|n| n == r.name);
        let unnamed = |r: &&Row| match r.when {
            When::Always => true,
            When::Full => !self.quick,
            When::Named => false,
        };
        let all = self.only.is_empty();
        Ok(ROWS.iter().filter(|r| if all { unnamed(r) } else { wanted(r) }).copied().collect())
    }
}

/// One side of the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Side {
    name: &'static str,
    program: Program,
}

const OURS: &str = "quorate";
const PEER: &str = "etcd";
const BARE: &str = "bare";

fn sides(options: &Options) -> Vec<Side> {
    let side = |name, program| Side { name, program };
    let ours = options.quorate.clone().map(|p| side(OURS, Program::Quorate(p)));
    let peer = options.etcd.clone().map(|p| side(PEER, Program::Etcd(p)));
    let bare = (!options.no_bare).then(|| side(BARE, Program::Own(vec!["bare".to_owned()])));
    ours.into_iter().chain(peer).chain(bare).collect()
}

/// Runs everything. A row that fails is reported in its place, and the command fails at the end.
pub async fn run(options: &Options) -> Result<()> {
    ensure!(matches!(options.nodes, 1 | 3), "--nodes is 1 or 3");
    let sides = sides(options);
    ensure!(!sides.is_empty(), "no side to measure: name --quorate, --etcd or both");
    for name in [OURS, PEER].into_iter().filter(|n| !sides.iter().any(|s| s.name == *n)) {
        println!("skipped: {name} (no binary was named)");
    }
    let about = format!(
        "{}; generator and servers share it; {}; {} interleaved runs of {} s a side, medians; {} node(s).",
        machine(),
        quiet(load_average()),
        options.runs(),
        options.length().as_secs(),
        options.nodes,
    );
    let mut table = Table::new(options.nodes, about);
    println!("{}", table.head());
    for row in options.rows()? {
        let line = measure_row(&row, &sides, options).await;
        println!("{}", table.format(&line));
        table.push(line);
    }
    if let Some(path) = &options.write {
        update(path, &table)?;
    }
    let failed = table.failed();
    ensure!(failed.is_empty(), "rows that failed: {}", failed.join(", "));
    Ok(())
}

/// What else ran when the table was begun: nothing should.
pub fn quiet(load: Option<f64>) -> String {
    match load {
        None => "load average at the start unknown".to_owned(),
        Some(load) if load <= QUIET_LOAD => format!("load average at the start {load:.2}"),
        Some(load) => format!("load average at the start {load:.2}: **the machine was not quiet**"),
    }
}

async fn measure_row(row: &Row, sides: &[Side], options: &Options) -> Line {
    let mut line = Line::new(*row, options.nodes);
    let cells = match row.load {
        Load::Restart | Load::Large => store_row(row, sides, options).await,
        Load::Compaction => compaction_row(row, sides, options).await,
        Load::Growth => growth_row(sides, options).await,
        _ => interleaved(row, sides, options).await,
    };
    match cells {
        Ok(cells) => cells.into_iter().for_each(|(name, cell)| line.set(name, cell)),
        Err(error) => line.fail(&error),
    }
    line
}

type Cells = Vec<(&'static str, Cell)>;

/// All sides are started together and measured in turn, so that a slow minute of the machine hits
/// each of them. A server that is not its turn is idle.
async fn interleaved(row: &Row, sides: &[Side], options: &Options) -> Result<Cells> {
    let mut running = Vec::new();
    for side in sides.iter().filter(|s| s.name != BARE || row.on_bare()) {
        running.extend(Running::start(side, row, options.nodes).await.context(side.name)?);
    }
    let rate = match (row.load, running.first()) {
        (Load::Open, Some(first)) => capacity(&first.cluster, row).await? / 2.0,
        _ => 0.0,
    };
    for run in 0..options.runs() {
        for side in &mut running {
            let sample = row.measure(&side.cluster, run, rate, options.length()).await;
            let told = || format!("{}: {}", side.name, side.cluster.log_tail());
            let sample = sample.with_context(told)?;
            side.samples.push(sample);
        }
    }
    running.iter().map(|s| Ok((s.name, Cell::Run(median(&s.samples)?)))).collect()
}

/// A side that has been started for a row.
struct Running {
    name: &'static str,
    cluster: Cluster,
    samples: Vec<Sample>,
}

impl Running {
    /// Starts and prepares it; nothing if it does not have what the row needs.
    async fn start(side: &Side, row: &Row, nodes: usize) -> Result<Option<Self>> {
        let nodes = if side.name == BARE { 1 } else { nodes };
        let cluster = Cluster::start(&side.program, nodes)?;
        if side.name != BARE {
            if !row.is_served(&cluster).await? {
                return Ok(None);
            }
            row.prepare(&cluster).await?;
        }
        Ok(Some(Self { name: side.name, cluster, samples: Vec::new() }))
    }
}

/// Rows about the whole store: each side by itself, once.
async fn store_row(row: &Row, sides: &[Side], options: &Options) -> Result<Cells> {
    let mut cells = Vec::new();
    for side in sides.iter().filter(|s| s.name != BARE) {
        let mut cluster = Cluster::start(&side.program, options.nodes).context(side.name)?;
        let cell = match row.load {
            Load::Large => {
                let conns = row.conns(options.nodes);
                let keys = options.size.unwrap_or(store::LARGE);
                store::large(&cluster, row.clients, conns, keys).await.map(Cell::Large)
            }
            _ => store::restart(&mut cluster).await.map(Cell::Restart),
        };
        cells.push((side.name, cell.context(side.name)?));
    }
    Ok(cells)
}

/// Sends at half of what the slowest side can do, so that a compaction finds room on each.
async fn compaction_row(row: &Row, sides: &[Side], options: &Options) -> Result<Cells> {
    let revisions = options.size.unwrap_or(compaction::REVISIONS);
    let mut running = Vec::new();
    let mut rate = f64::INFINITY;
    for side in sides.iter().filter(|s| s.name != BARE) {
        let started = Running::start(side, row, options.nodes).await.context(side.name)?;
        let started = started.context("every side has puts")?;
        rate = rate.min(capacity(&started.cluster, row).await? / 2.0);
        running.push((started, Vec::new()));
    }
    for _ in 0..if options.quick { 1 } else { options.runs().div_ceil(2) } {
        for (side, found) in &mut running {
            let length = options.length();
            let run = compaction::measure(&side.cluster, row, rate, revisions, length).await;
            found.push(run.with_context(|| format!("{}: {}", side.name, side.cluster.log_tail()))?);
        }
    }
    let middle = |(side, found): (Running, Vec<_>)| {
        Ok((side.name, Cell::Compaction(compaction::middle(found)?)))
    };
    running.into_iter().map(middle).collect()
}

/// All axes on all sides in turn, small before large, those that need a fuller store last.
async fn growth_row(sides: &[Side], options: &Options) -> Result<Cells> {
    let keys = options.size.unwrap_or(10 * KEYS);
    let mut running = Vec::new();
    for side in sides.iter().filter(|s| s.name != BARE) {
        let cluster = Cluster::start(&side.program, options.nodes).context(side.name)?;
        running.push((side.name, growth::Side::new(cluster).await.context(side.name)?));
    }
    let axes = 0..growth::AXES.len();
    let (by_keys, others): (Vec<_>, Vec<_>) =
        axes.clone().partition(|axis| growth::grows_by_keys(*axis));
    along(&mut running, axes, false, keys, options).await?;
    along(&mut running, others.into_iter(), true, keys, options).await?;
    for (name, side) in &mut running {
        side.fill_up(keys).await.context(*name)?;
    }
    along(&mut running, by_keys.into_iter(), true, keys, options).await?;
    running.iter().map(|(name, side)| Ok((*name, Cell::Growth(side.growth()?)))).collect()
}

async fn along(
    running: &mut [(&'static str, growth::Side)],
    axes: impl Iterator<Item = usize>,
    large: bool,
    keys: u64,
    options: &Options,
) -> Result<()> {
    for axis in axes {
        for _ in 0..options.runs() {
            for (name, side) in running.iter_mut() {
                side.run(axis, large, keys, options.length()).await.context(*name)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches as _;

    fn options(words: &str) -> Options {
        let command = Options::augment_args(clap::Command::new("kv").no_binary_name(true));
        let matches = command.get_matches_from(words.split_whitespace());
        Options::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn only_picks_rows_and_refuses_unknown_ones() {
        let rows = options("--only put-10m --only get-64").rows().unwrap();
        assert_eq!(rows.iter().map(|r| r.name).collect::<Vec<_>>(), ["get-64", "put-10m"]);
        assert!(options("--only put").rows().is_err());
        let named = |words: &str, name: &str| {
            options(words).rows().unwrap().iter().any(|row| row.name == name)
        };
        assert!(named("", "growth") && named("", "lock-recipe") && !named("", "put-10m"));
        assert!(named("--quick", "put-1") && !named("--quick", "compaction"));
        assert!(named("--quick --only compaction --size 1000", "compaction"));
    }

    #[test]
    fn a_machine_that_is_not_quiet_is_told() {
        assert!(quiet(Some(3.2)).contains("3.20: **the machine was not quiet**"));
        assert_eq!(quiet(Some(0.1)), "load average at the start 0.10");
    }

    #[test]
    fn a_side_without_a_binary_is_left_out() {
        let names = |o: &Options| sides(o).iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(&options("--etcd e")), [PEER, BARE]);
        assert_eq!(names(&options("--quorate q --etcd e --no-bare")), [OURS, PEER]);
    }
}
