//! The leader is killed while very many unfinished transactions are due.
//!
//! They are sagas whose second action was held, all due again at one moment. First a smaller number of them falls due
//! while everybody lives: the rate at which they are called again is the *steady rate*. Then the full number falls
//! due, and when the first of them have been called the leader is ended by SIGKILL: the others are as due as these.
//! (Killed just before the moment, the new leader would wait for it first: the group's time stands still while
//! nobody leads.)
//!
//! Election is when another node says, by its status, that there is another leader; the status is asked for every few
//! milliseconds, so the first call may have been made a little before.

use crate::limits::{CALL_TIMEOUT, START_TIMEOUT};
use crate::servers::Cluster;
use crate::txn::participants::{Census, Participants};
use crate::txn::unfinished::{Due, Held, Population, fill};
use crate::wire::Conn;
use anyhow::{Context as _, Result, bail, ensure};
use quorate_wire::etcdserverpb::{StatusRequest, StatusResponse};
use std::time::{Duration, Instant};

/// The leader is killed when this part of the population has been called.
const KILLED_AFTER_PART: usize = 100;
/// Calls of the dead leader may arrive so long after it was killed; no election is as quick.
const LAST_CALLS: Duration = Duration::from_millis(100);
/// Pause between two looks at who leads, and at how many have been called.
const LOOK: Duration = Duration::from_millis(3);
/// Part of the population that tells how fast it is filled.
const TRIAL_PART: usize = 10;
/// Part of the population that falls due under a leader that lives.
const STEADY_PART: usize = 2;
/// The filling may take so much longer than was reckoned.
const MARGIN: Duration = Duration::from_secs(3);
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
    /// Calls after the kill of transactions that had been called before.
    pub repeated: usize,
}

/// Runs it on a cluster of three.
pub async fn run(cluster: &mut Cluster, participants: &Participants, count: usize) -> Result<Kill> {
    let (trial, steady) = ((count / TRIAL_PART).max(1), (count / STEADY_PART).max(1));
    // Nobody waits for these: they say how long a filling takes.
    let took = fill_with(cluster, participants, "trial", trial, Due::Never).await?;
    let due = |part: usize| {
        let reckoned = took.mul_f64(1.5 * part as f64 / trial as f64);
        Due::At(Instant::now() + reckoned + MARGIN)
    };
    fill_with(cluster, participants, "steady", steady, due(steady)).await?;
    fall_due(participants, steady);
    let undisturbed = all_called(participants, steady).await?;
    participants.release(false);

    fill_with(cluster, participants, "orphan", count, due(count)).await?;
    fall_due(participants, count);
    let leader = leader(cluster, None).await?;
    while participants.counted() < count.div_ceil(KILLED_AFTER_PART) {
        tokio::time::sleep(LOOK).await;
    }
    let killed = Instant::now();
    cluster.kill_one(leader.node);
    tokio::time::sleep(LAST_CALLS).await;
    participants.mark();
    leader_after(cluster, &leader).await?;
    let elected = Instant::now();
    let census = all_called(participants, count).await?;
    found(count, &undisturbed, &census, killed, elected).context("nobody was called again")
}

/// From their due time on, those that were held succeed and are counted.
fn fall_due(participants: &Participants, count: usize) {
    participants.begin_census(count);
    participants.release(true);
}

fn found(
    count: usize,
    undisturbed: &Census,
    census: &Census,
    killed: Instant,
    elected: Instant,
) -> Option<Kill> {
    Some(Kill {
        count,
        steady: undisturbed.rate()?,
        after: census.rate()?,
        elected: elected - killed,
        first: census.first?.saturating_duration_since(elected),
        last: census.last? - killed,
        repeated: census.repeated,
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

/// Waits until each of them has been called.
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
