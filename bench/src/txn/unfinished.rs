//! Rows with very many unfinished transactions: what they cost in memory, and what they cost new ones.
//!
//! *Unfinished* is a two-branch saga with an action that answered ONGOING and is not to be asked again for a week: its
//! record, steps and payloads are stored, and it stands in the due index.

use crate::limits::{CALL_TIMEOUT, SETTLE};
use crate::sample::{Sample, median};
use crate::servers::Cluster;
use crate::txn::http::HttpConn;
use crate::txn::participants::Participants;
use crate::txn::saga::{How, Place, SUBMIT, body, measure, steps};
use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Clients that submit what stays unfinished.
const FILL_CLIENTS: usize = 128;
/// A time that is not reached, in seconds.
pub const NEVER_S: f64 = 7.0 * 86_400.0;

/// What stays unfinished.
#[derive(Debug, Clone)]
pub struct Population {
    /// Names it among others; a number follows.
    pub name: String,
    /// How many.
    pub count: usize,
    /// Bytes of both payloads together.
    pub payload_bytes: usize,
    /// Whether the first action answers ONGOING, or the second after the first was done.
    pub held: Held,
    /// When the action is to be called again.
    pub due: Due,
}

/// Which action is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The first.
    First,
    /// The second.
    Second,
}

/// When an action is called again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not while this lasts.
    Never,
    /// All at this moment.
    At(Instant),
}

impl Due {
    /// Seconds from now.
    fn interval_s(self) -> f64 {
        match self {
            Self::Never => NEVER_S,
            // Asked again too early it would be held once more.
            Self::At(at) => at.saturating_duration_since(Instant::now()).as_secs_f64().max(1.0),
        }
    }
}

/// Submits the population and waits until each transaction has been held. Gives the time that it took.
pub async fn fill(
    servers: &[SocketAddr],
    participants: &Participants,
    population: &Population,
) -> Result<Duration> {
    let (begun, held) = (Instant::now(), participants.held());
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for client in 0..FILL_CLIENTS {
        let conn = HttpConn::open(servers[client % servers.len()]).await?;
        let steps = population.steps(participants);
        tasks.spawn(submit(conn, population.clone(), steps, Arc::clone(&next)));
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a filling client panicked")??;
    }
    let all = async {
        while participants.held() - held < population.count as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(CALL_TIMEOUT, all).await.context("not all actions were called")?;
    if let Due::At(at) = population.due {
        ensure!(Instant::now() < at, "the filling took longer than was reckoned");
    }
    Ok(begun.elapsed())
}

impl Population {
    fn steps(&self, participants: &Participants) -> String {
        let (first, last) = match self.held {
            Held::First => ("/hold", "/ok"),
            Held::Second => ("/ok", "/hold"),
        };
        steps(participants.addresses(), first, last)
    }
}

async fn submit(
    mut conn: HttpConn,
    population: Population,
    steps: String,
    next: Arc<AtomicUsize>,
) -> Result<()> {
    let filler = "x".repeat((population.payload_bytes / 2).saturating_sub(12));
    let payload = format!(r#"{{"filler":"{filler}"}}"#);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= population.count {
            return Ok(());
        }
        let gid = format!("{}-{number}", population.name);
        let interval = population.due.interval_s();
        let more = format!(r#","retry_interval":{interval:.3},"wait_result":true"#);
        let (status, answer) = conn.post(SUBMIT, body(&gid, &steps, &payload, &more)).await?;
        let answer = String::from_utf8_lossy(&answer);
        // It waits for its end no longer than until it only waits for another try, and says where it stands.
        let goes_on = status != StatusCode::OK && answer.contains(r#""status":"submitted""#);
        ensure!(goes_on, "{gid} is not unfinished: {status}: {answer}");
    }
}

/// What the row of memory found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Unfinished transactions.
    pub count: usize,
    /// Time of the fill.
    pub fill: Duration,
    /// Resident memory before the fill, after it, and the most that it ever was, in bytes.
    pub rss: (u64, u64, u64),
    /// Bytes in the data directory.
    pub disk: u64,
}

/// Bytes of a body in the row of memory.
const BODY_BYTES: usize = 2048;

/// Fills a server and looks at its memory.
pub async fn memory(
    cluster: &Cluster,
    participants: &Participants,
    count: usize,
) -> Result<Memory> {
    let before = cluster.rss()?;
    let population = Population {
        name: "kept".to_owned(),
        count,
        payload_bytes: BODY_BYTES,
        held: Held::First,
        due: Due::Never,
    };
    let fill = fill(&cluster.dtm_addresses(), participants, &population).await?;
    tokio::time::sleep(SETTLE).await;
    let rss = (before, cluster.rss()?, cluster.peak_rss()?);
    Ok(Memory { count, fill, rss, disk: cluster.disk()? })
}

/// New sagas beside few and beside many unfinished ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// How many.
    pub counts: (usize, usize),
    /// New sagas beside each.
    pub sagas: (Sample, Sample),
}

/// Measures beside `few`, then beside `many`.
pub async fn growth(
    place: &Place,
    participants: &Participants,
    counts: (usize, usize),
    runs: usize,
    clients: usize,
    length: Duration,
) -> Result<Growth> {
    let mut population = Population {
        name: "few".to_owned(),
        count: counts.0,
        payload_bytes: 256,
        held: Held::Second,
        due: Due::Never,
    };
    let mut samples = Vec::new();
    for (name, count) in [("few", counts.0), ("many", counts.1 - counts.0)] {
        (population.name, population.count) = (name.to_owned(), count);
        fill(&place.dtm, participants, &population).await?;
        let mut found = Vec::new();
        for run in 0..runs {
            let run = format!("{name}{run}");
            found.push(measure(place, participants, How::Waiting, &run, clients, length).await?);
        }
        samples.push(median(&found)?);
    }
    let many = samples.pop().context("two were measured")?;
    let few = samples.pop().context("two were measured")?;
    Ok(Growth { counts, sagas: (few, many) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_due_in_time() {
        assert!(Due::Never.interval_s() > 86_400.0);
        let at = Instant::now() + Duration::from_secs(9);
        assert!((8.5..=9.0).contains(&Due::At(at).interval_s()));
        assert!(Due::At(Instant::now()).interval_s() >= 1.0);
    }
}
