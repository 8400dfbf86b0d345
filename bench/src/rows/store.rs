//! Rows about the store as a whole: what a million keys cost in memory, how long a restart takes
//! after kill -9, and whether puts stay fast when the store is larger than the cache.

use crate::closed;
use crate::keys::key;
use crate::limits::{KEYS, SETTLE, START_POLL, START_TIMEOUT};
use crate::rows::kv::{KvLoad, Work, fill};
use crate::sample::{Sample, median};
use crate::servers::Cluster;
use crate::wire::Conn;
use anyhow::{Context, Result, bail, ensure};
use quorate_wire::etcdserverpb as etcd;
use std::time::{Duration, Instant};

/// Keys of the restart row.
const MILLION: u64 = 1_000_000;
/// Keys of the large row, if nobody says otherwise.
pub const LARGE: u64 = 10_000_000;
/// Length of a run of the large row, and their number.
const LARGE_RUN: (Duration, usize) = (Duration::from_secs(5), 3);

/// What the restart row found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restart {
    /// Time of the fill.
    pub fill: Duration,
    /// Resident memory after the fill, in bytes.
    pub rss: u64,
    /// Bytes in the data directories.
    pub disk: u64,
    /// From the new start after kill -9 to the first linearizable answer.
    pub restart: Duration,
}

/// What the large row found.
#[derive(Debug, Clone, PartialEq)]
pub struct Large {
    /// Puts over a small store, before the fill.
    pub small: Sample,
    /// Puts over all keys, after it.
    pub large: Sample,
    /// Keys in the large store.
    pub keys: u64,
    /// Time of the fill.
    pub fill: Duration,
    /// Resident memory at the end, in bytes, and the most that it ever was.
    pub rss: (u64, u64),
    /// Bytes in the data directories.
    pub disk: u64,
}

/// Fills, kills and starts again.
pub async fn restart(cluster: &mut Cluster) -> Result<Restart> {
    let address = cluster.addresses()[0];
    let begun = Instant::now();
    fill(&Conn::open(address).await?, MILLION).await?;
    let filled = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let (rss, disk) = (cluster.rss()?, cluster.disk()?);
    cluster.kill();
    let begun = Instant::now();
    cluster.respawn()?;
    while begun.elapsed() < START_TIMEOUT {
        // Refused connections and "no leader" are what is waited out here; a wrong answer is not.
        if let Ok(found) = get(address).await {
            ensure!(found == 1, "an acknowledged key was lost by kill -9");
            return Ok(Restart { fill: filled, rss, disk, restart: begun.elapsed() });
        }
        tokio::time::sleep(START_POLL).await;
    }
    bail!("no answer within {START_TIMEOUT:?} of the restart:\n{}", cluster.log_tail())
}

async fn get(address: std::net::SocketAddr) -> Result<usize> {
    let range = etcd::RangeRequest { key: key(MILLION - 1), ..Default::default() };
    let conn = Conn::open(address).await?;
    Ok(conn.kv().range(range).await?.into_inner().kvs.len())
}

/// Puts into a small store, fills it up to `keys`, puts into the large one.
pub async fn large(cluster: &Cluster, clients: usize, conns: usize, keys: u64) -> Result<Large> {
    let conns = Conn::open_many(&cluster.addresses(), conns).await?;
    let small = puts(cluster, &conns, clients, KEYS.min(keys)).await?;
    let begun = Instant::now();
    fill(conns.first().context("a row has connections")?, keys).await?;
    let fill = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let large = puts(cluster, &conns, clients, keys).await?;
    let rss = (cluster.rss()?, cluster.peak_rss()?);
    Ok(Large { small, large, keys, fill, rss, disk: cluster.disk()? })
}

async fn puts(cluster: &Cluster, conns: &[Conn], clients: usize, keys: u64) -> Result<Sample> {
    let mut runs = Vec::new();
    for _ in 0..LARGE_RUN.1 {
        let load = KvLoad::many(conns, Work::Put, clients, keys);
        runs.push(closed::run(load, &cluster.pids(), LARGE_RUN.0).await?);
    }
    median(&runs)
}
