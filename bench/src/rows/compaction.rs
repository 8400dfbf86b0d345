//! What clients notice of a compaction: puts go on at a steady rate, a million revisions are put out of reach
//! and removed (etcd's physical compaction, which both sides answer when the removal is done), and the tail of
//! the latencies meanwhile is compared with that of the same server just before.

use crate::closed;
use crate::keys::{Rng, key, value};
use crate::limits::{COMPACTION_TIMEOUT, KEYS, SETTLE};
use crate::open;
use crate::rows::Row;
use crate::rows::kv::put;
use crate::sample::Sample;
use crate::servers::Cluster;
use crate::wire::Conn;
use anyhow::{Context, Result};
use quorate_wire::etcdserverpb as etcd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Revisions that are compacted, if nobody says otherwise.
pub const REVISIONS: u64 = 1_000_000;

/// What one run found.
#[derive(Debug, Clone, PartialEq)]
pub struct Compaction {
    /// The open loop before.
    pub before: Sample,
    /// The open loop while the compaction ran.
    pub during: Sample,
    /// How long it ran.
    pub took: Duration,
    /// Revisions that it put out of reach.
    pub revisions: u64,
}

impl Compaction {
    /// p99.9 during over before.
    pub fn ratio(&self) -> f64 {
        self.during.p999_ms / self.before.p999_ms.max(f64::MIN_POSITIVE)
    }
}

/// Makes `revisions` by overwriting, waits for what that leaves to do, and compacts them all.
pub async fn measure(
    cluster: &Cluster,
    row: &Row,
    rate: f64,
    revisions: u64,
    length: Duration,
) -> Result<Compaction> {
    let addresses = cluster.addresses();
    let (conns, pids) =
        (Conn::open_many(&addresses, row.conns(addresses.len())).await?, cluster.pids());
    let from = current(&conns[0]).await?;
    overwrite(&conns, row.clients, revisions).await?;
    tokio::time::sleep(SETTLE).await;
    let to = current(&conns[0]).await?;
    let before = open::run(&conns, &pids, rate, length).await?;
    let (during, took) = open::run_while(&conns, &pids, rate, compact(&conns[0], to)).await?;
    Ok(Compaction { before, during, took, revisions: u64::try_from(to - from)? })
}

/// The run in the middle, by its ratio.
pub fn middle(mut runs: Vec<Compaction>) -> Result<Compaction> {
    runs.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    let middle = runs.len() / 2;
    runs.into_iter().nth(middle).context("no run to take the middle of")
}

async fn current(conn: &Conn) -> Result<i64> {
    let range = etcd::RangeRequest { key: key(0), count_only: true, ..Default::default() };
    let answer = conn.kv().range(range).await?.into_inner();
    Ok(answer.header.context("a response without a header")?.revision)
}

async fn compact(conn: &Conn, revision: i64) -> Result<Duration> {
    let begun = Instant::now();
    let request = etcd::CompactionRequest { revision, physical: true };
    let mut kv = conn.kv();
    let done = tokio::time::timeout(COMPACTION_TIMEOUT, kv.compact(request)).await;
    done.context("the compaction was not answered in time")??;
    Ok(begun.elapsed())
}

/// Puts one key after the other, in `clients` tasks, until all together have made `revisions`.
async fn overwrite(conns: &[Conn], clients: usize, revisions: u64) -> Result<()> {
    let left = Arc::new(AtomicU64::new(revisions));
    let mut tasks = JoinSet::new();
    for i in 0..clients {
        let (mut kv, left) = (conns[i % conns.len()].kv(), Arc::clone(&left));
        let (mut rng, value) = (Rng::new(i as u64), value(i as u64));
        let take = |left: u64| left.checked_sub(1);
        tasks.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                kv.put(put(key(rng.below(KEYS)), &value)).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    closed::all(tasks).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_chosen_by_the_ratio() {
        let run = |before: f64, during: f64| Compaction {
            before: Sample { p999_ms: before, ..Sample::default() },
            during: Sample { p999_ms: during, ..Sample::default() },
            took: Duration::ZERO,
            revisions: 1,
        };
        let runs = vec![run(1.0, 9.0), run(10.0, 20.0), run(2.0, 2.0)];
        assert_eq!(middle(runs).unwrap().ratio(), 2.0);
        assert!(middle(vec![]).is_err());
    }
}
