//! `txn`: the rows about global transactions, each beside what it is judged against.
//!
//! | module | what it is |
//! |---|---|
//! | `saga` | sagas over HTTP and gRPC, and the loop that does the same by hand |
//! | `tcc` | the latency of a TCC beside that of its calls |
//! | `kill` | the leader is killed with very many unfinished transactions |
//! | `unfinished` | what very many unfinished transactions cost |
//! | `participants`, `http` | the services that are called, and how the generator speaks HTTP/1.1 |
//! | `peer` | DTM's own server over Redis |
//! | `lines` | the table |
//!
//! Unlike in `kv`, no two rows are judged alike, so that each makes its own words.

mod http;
mod kill;
mod lines;
mod participants;
mod peer;
mod saga;
mod tcc;
mod unfinished;

use crate::proc::{load_average, machine};
use crate::report::update_section;
use crate::sample::{Sample, median};
use crate::servers::{Cluster, Program};
use crate::table::quiet;
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use lines::Line;
use participants::Participants;
use peer::Dtm;
use saga::{How, Place};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tcc::Tcc;

/// What to run.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Our release binary.
    #[arg(long)]
    pub quorate: PathBuf,
    /// DTM's server; without it (or without Redis) the rows beside it are skipped.
    #[arg(long)]
    pub dtm: Option<PathBuf>,
    /// Redis' server.
    #[arg(long)]
    pub redis: Option<PathBuf>,
    /// Three runs of 3 s instead of five of 5 s, and a tenth of the unfinished transactions.
    #[arg(long)]
    pub quick: bool,
    /// Only this row; may be given several times.
    #[arg(long)]
    pub only: Vec<String>,
    /// Other number of unfinished transactions than usual (of leader-kill, unfinished-1m, and the large number of
    /// growth). The table names what it was.
    #[arg(long)]
    pub size: Option<usize>,
    /// Put the table into this Markdown file, in the place of the last one.
    #[arg(long)]
    pub write: Option<PathBuf>,
}

/// Clients of the saga rows.
const CLIENTS: usize = 64;
/// Clients of the TCC rows.
const TCC_CLIENTS: usize = 8;

/// Names of the rows, in the order of the table.
pub const ROWS: [&str; 9] = [
    "saga-64",
    "saga-64-unawaited",
    "saga-64-grpc",
    "saga-dtm",
    "saga-dtm-unawaited",
    "tcc-p99",
    "leader-kill",
    "unfinished-1m",
    "growth-unfinished",
];

impl Options {
    fn runs(&self) -> usize {
        if self.quick { 3 } else { 5 }
    }

    fn length(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 5 })
    }

    /// How many unfinished transactions, if usually so many.
    fn size(&self, usual: usize) -> usize {
        self.size.unwrap_or(if self.quick { usual / 10 } else { usual })
    }

    fn rows(&self) -> Result<Vec<&'static str>> {
        for name in &self.only {
            ensure!(ROWS.contains(&name.as_str()), "no row {name}; there are: {}", ROWS.join(", "));
        }
        let wanted = |row: &&str| self.only.is_empty() || self.only.iter().any(|name| name == row);
        Ok(ROWS.into_iter().filter(wanted).collect())
    }
}

/// Runs everything. A row that fails is reported in its place, and the command fails at the end.
pub async fn run(options: &Options) -> Result<()> {
    let rows = options.rows()?;
    let about = format!(
        "{}; generator, participants and servers share it; {}; {} interleaved runs of {} s a side, medians.",
        machine(),
        quiet(load_average()),
        options.runs(),
        options.length().as_secs(),
    );
    let head = lines::head(&about);
    println!("{head}");
    let (mut all, mut failed) = (vec![head], Vec::new());
    for name in rows {
        let line = row(name, options).await.unwrap_or_else(|error| {
            failed.push(name);
            Line::failed(&error)
        });
        let line = line.markdown(name);
        println!("{line}");
        all.push(line);
    }
    if let Some(path) = &options.write {
        update_section(path, "Global transactions", &all.join("\n"))?;
    }
    ensure!(failed.is_empty(), "rows that failed: {}", failed.join(", "));
    Ok(())
}

async fn row(name: &'static str, options: &Options) -> Result<Line> {
    match name {
        "saga-64" => beside_hand(How::Waiting, options).await,
        "saga-64-unawaited" => beside_hand(How::Unawaited, options).await,
        "saga-64-grpc" => beside_hand(How::Grpc, options).await,
        "saga-dtm" => beside_dtm(How::Waiting, options).await,
        "saga-dtm-unawaited" => beside_dtm(How::Unawaited, options).await,
        "tcc-p99" => tcc_row(options).await,
        "leader-kill" => {
            let (mut cluster, participants) = (ours(options, 3)?, Participants::start()?);
            let found = kill::run(&mut cluster, &participants, options.size(100_000)).await;
            Ok(lines::kill(&found.with_context(|| cluster.log_tail())?))
        }
        "unfinished-1m" => {
            let (cluster, participants) = (ours(options, 1)?, Participants::start()?);
            let count = options.size(1_000_000);
            let found = unfinished::memory(&cluster, &participants, count).await;
            Ok(lines::memory(&found.with_context(|| cluster.log_tail())?))
        }
        _ => growth_row(options).await,
    }
}

fn ours(options: &Options, nodes: usize) -> Result<Cluster> {
    Cluster::start(&Program::QuorateDtm(options.quorate.clone()), nodes)
}

fn place(cluster: &Cluster) -> Place {
    Place { dtm: cluster.dtm_addresses(), kv: cluster.addresses(), pids: cluster.pids() }
}

/// Sagas and the same by hand, each on a server of its own, in turn.
async fn beside_hand(how: How, options: &Options) -> Result<Line> {
    let (sagas, puts, participants) =
        (ours(options, 1)?, ours(options, 1)?, Participants::start()?);
    let sides = [(place(&sagas), how), (place(&puts), How::ByHand)];
    let found = in_turn(&sides, &participants, options).await;
    let found = found.with_context(|| format!("{}\n{}", sagas.log_tail(), puts.log_tail()))?;
    Ok(lines::beside_hand(&found[0], &found[1]))
}

/// Sagas here and there, in turn.
async fn beside_dtm(how: How, options: &Options) -> Result<Line> {
    let (dtm, redis) = match (&options.dtm, &options.redis) {
        (Some(dtm), Some(redis)) => (dtm.as_path(), redis.as_path()),
        (None, _) => return Ok(Line::skipped("no binary of DTM was named (--dtm)")),
        (_, None) => return Ok(Line::skipped("no binary of Redis was named (--redis)")),
    };
    let (cluster, peer) = (ours(options, 1)?, start_dtm(dtm, redis).await?);
    let participants = Participants::start()?;
    let sides = [(place(&cluster), how), (peer.place(), how)];
    let found = in_turn(&sides, &participants, options).await;
    let found = found.with_context(|| format!("{}\n{}", cluster.log_tail(), peer.tail()))?;
    Ok(lines::beside_dtm(&found[0], &found[1]))
}

async fn start_dtm(dtm: &Path, redis: &Path) -> Result<Dtm> {
    Dtm::start(dtm, redis).await.context("the peer does not start")
}

/// Measures all sides in turn, so that a slow minute hits each of them; gives the medians.
async fn in_turn(
    sides: &[(Place, How)],
    participants: &Participants,
    options: &Options,
) -> Result<Vec<Sample>> {
    let mut samples = vec![Vec::new(); sides.len()];
    for run in 0..options.runs() {
        let name = format!("run{run}");
        for ((place, how), found) in sides.iter().zip(&mut samples) {
            let length = options.length();
            found.push(saga::measure(place, participants, *how, &name, CLIENTS, length).await?);
        }
    }
    samples.iter().map(|found| median(found)).collect()
}

/// A closed loop of few clients, and an open one at half of what many reach.
async fn tcc_row(options: &Options) -> Result<Line> {
    let (cluster, participants) = (ours(options, 1)?, Participants::start()?);
    let place = place(&cluster);
    let found = tcc_runs(&place, &participants, options).await;
    let (closed, open, rate) = found.with_context(|| cluster.log_tail())?;
    Ok(lines::tcc(TCC_CLIENTS, &closed, &open, rate))
}

async fn tcc_runs(
    place: &Place,
    participants: &Participants,
    options: &Options,
) -> Result<(Tcc, Tcc, f64)> {
    let length = options.length();
    let capacity = tcc::closed(place, participants, "capacity", CLIENTS, length).await?;
    let rate = capacity.whole.rate / 2.0;
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for run in 0..options.runs() {
        let (few, half) = (format!("few{run}"), format!("half{run}"));
        closed.push(tcc::closed(place, participants, &few, TCC_CLIENTS, length).await?);
        open.push(tcc::open(place, participants, &half, rate, length).await?);
    }
    Ok((middle(&closed)?, middle(&open)?, rate))
}

fn middle(runs: &[Tcc]) -> Result<Tcc> {
    let whole: Vec<Sample> = runs.iter().map(|run| run.whole.clone()).collect();
    let mut calls: Vec<f64> = runs.iter().map(|run| run.calls_p99_ms).collect();
    calls.sort_by(f64::total_cmp);
    let calls_p99_ms = *calls.get(calls.len() / 2).context("no run")?;
    Ok(Tcc { whole: median(&whole)?, calls_p99_ms })
}

async fn growth_row(options: &Options) -> Result<Line> {
    let (cluster, participants) = (ours(options, 1)?, Participants::start()?);
    let many = options.size(100_000);
    let (counts, runs, length) = ((many / 10, many), options.runs(), options.length());
    let place = place(&cluster);
    let found = unfinished::growth(&place, &participants, counts, runs, CLIENTS, length).await;
    Ok(lines::growth(&found.with_context(|| cluster.log_tail())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches as _;

    fn options(words: &str) -> Options {
        let command = Options::augment_args(clap::Command::new("txn").no_binary_name(true));
        let words = format!("--quorate q {words}");
        let matches = command.get_matches_from(words.split_whitespace());
        Options::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn only_picks_rows_and_refuses_unknown_ones() {
        assert_eq!(options("").rows().unwrap(), ROWS);
        let two = options("--only tcc-p99 --only saga-64");
        assert_eq!(two.rows().unwrap(), ["saga-64", "tcc-p99"]);
        assert!(options("--only saga").rows().is_err());
    }

    #[test]
    fn a_quick_run_is_smaller() {
        assert_eq!(options("").size(100), 100);
        assert_eq!(options("--quick").size(100), 10);
        assert_eq!(options("--quick --size 7").size(100), 7);
    }

    #[tokio::test]
    async fn without_the_peer_its_rows_say_so() {
        let line = beside_dtm(How::Waiting, &options("--dtm d")).await.unwrap();
        assert!(line.markdown("saga-dtm").contains("skipped: no binary of Redis"));
    }
}
