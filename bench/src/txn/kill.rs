//! The leader is killed with very many unfinished transactions, all of which fall due when nobody leads.
//!
//! They are sagas whose second action was held. First a smaller number of them falls due while everybody lives: the rate at
//! which they are called again is the *steady rate*. Then the full number is prepared, and the leader is ended by SIGKILL
//! just before the moment at which all are due. Election is when another node says, by its status, that there is
//! another leader; the status is asked for every few milliseconds, so the first call may have been made a little before.

use crate::limits::{CALL_TIMEOUT, START_TIMEOUT};
use crate::servers::Cluster;
use crate::txn::participants::{Census, Participants};
use crate::txn::unfinished::{Due, Held, Population, fill};
use crate::wire::Conn;
use anyhow::{Context as _, Result, bail, ensure};
use quorate_wire::etcdserverpb::{StatusRequest, StatusResponse};
use std::time::{Duration, Instant};

/// The leader is killed so long before everything is due.
const KILLED_BEFORE: Duration = Duration::from_millis(200);
/// Pause between two looks at who leads.
const LOOK: Duration = Duration::from_millis(3);
/// Part of the population that tells how fast it is filled, and that falls due under a leader that lives.
const STEADY_PART: usize = 5;
/// Bytes of the payloads of one.
const PAYLOAD_BYTES: usize = 256;

/// What the row found.
#[derive(Debug, Clone, PartialEq)]
pub struct Kill {
    /// Unfinished transactions at the kill.
    pub count: usize,
    /// Calls again a second while everybody lived.
    pub steady: f64,
    /// The same after the kill.
    pub after: f64,
    /// From the kill to the election.
    pub elected: Duration,
    /// From the election to the first call.
    pub first: Duration,
    /// From the kill to the last first call.
    pub last: Duration,
    /// Calls that a transaction got twice.
    pub repeated: usize,
}

/// Runs it on a cluster of three.
pub async fn run(cluster: &mut Cluster, participants: &Participants, count: usize) -> Result<Kill> {
    let part = (count / STEADY_PART).max(1);
    // Nobody waits for these: they say how long a filling takes.
    let trial = fill_with(cluster, participants, "trial", part, Due::Never).await?;
    let due = Due::At(Instant::now() + trial * 3 / 2 + Duration::from_secs(3));
    let steady = redriven(cluster, participants, "steady", part, due).await?;
    let steady = steady.rate().context("nobody was called again")?;
    participants.release(false);

    let margin = Duration::from_secs(3);
    let at = Instant::now() + trial * (STEADY_PART as u32) * 3 / 2 + margin;
    fill_with(cluster, participants, "orphan", count, Due::At(at)).await?;
    let leader = leader(cluster, None).await?;
    participants.begin_census(count);
    tokio::time::sleep_until((at - KILLED_BEFORE).into()).await;
    ensure!(participants.counted() == 0, "calls were repeated before they were due");
    participants.release(true);
    let killed = Instant::now();
    cluster.kill_one(leader.node);
    leader_after(cluster, &leader).await?;
    let elected = Instant::now();
    let census = all_called(participants, count).await?;
    let first = census.first.context("nobody was called again")?;
    let last = census.last.context("nobody was called again")?;
    Ok(Kill {
        count,
        steady,
        after: census.rate().context("nobody was called again")?,
        elected: elected - killed,
        first: first.saturating_duration_since(elected),
        last: last - killed,
        repeated: census.calls - census.distinct,
    })
}

async fn fill_with(
    cluster: &Cluster,
    participants: &Participants,
    name: &str,
    count: usize,
    due: Due,
) -> Result<Duration> {
    let name = name.to_owned();
    let population =
        Population { name, count, payload_bytes: PAYLOAD_BYTES, held: Held::Second, due };
    fill(&cluster.dtm_addresses(), participants, &population).await
}

/// Fills, lets all of them succeed from their due time on, and waits until each has been called.
async fn redriven(
    cluster: &Cluster,
    participants: &Participants,
    name: &str,
    count: usize,
    due: Due,
) -> Result<Census> {
    fill_with(cluster, participants, name, count, due).await?;
    participants.begin_census(count);
    participants.release(true);
    all_called(participants, count).await
}

async fn all_called(participants: &Participants, count: usize) -> Result<Census> {
    let (mut before, mut since) = (participants.counted(), Instant::now());
    while participants.counted() < count {
        if participants.counted() > before {
            (before, since) = (participants.counted(), Instant::now());
        }
        ensure!(since.elapsed() < CALL_TIMEOUT, "only {before} of {count} were called again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    participants.census()
}

/// Who leads.
struct Leader {
    node: usize,
    term: u64,
}

/// Asks all nodes but one until somebody says that it leads itself.
async fn leader(cluster: &Cluster, except: Option<usize>) -> Result<Leader> {
    let begun = Instant::now();
    while begun.elapsed() < START_TIMEOUT {
        for (node, address) in cluster.addresses().into_iter().enumerate() {
            if Some(node) == except {
                continue;
            }
            let Ok(status) = status(address).await else { continue };
            if status.header.as_ref().is_some_and(|header| header.member_id == status.leader) {
                return Ok(Leader { node, term: status.raft_term });
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("nobody leads:\n{}", cluster.log_tail())
}

async fn leader_after(cluster: &Cluster, old: &Leader) -> Result<()> {
    let new = leader(cluster, Some(old.node)).await?;
    ensure!(new.term > old.term, "a leader of an old term");
    Ok(())
}

async fn status(address: std::net::SocketAddr) -> Result<StatusResponse> {
    let mut maintenance = Conn::open(address).await?.maintenance();
    Ok(maintenance.status(StatusRequest {}).await?.into_inner())
}
