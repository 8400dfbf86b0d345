//! kill -9 under load, again and again: what was acknowledged is there, at its revision.
//!
//! Shows recovery from a crash of the process. Loss of power, where the page cache goes too, is shown
//! by `durability` (the order of system calls) and by the simulator's disk.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::Client;
use quorate_e2e::cluster::Cluster;
use quorate_e2e::history::{History, check};
use quorate_e2e::load::{Load, read_events};
use quorate_e2e::server::Server;

use crate::three_nodes_allowed;

const CLIENTS: usize = 6;
const ROUNDS: usize = 8;

async fn revision(client: &mut Client) -> Result<i64> {
    Ok(client.get("anything", None).await?.header().context("header")?.revision())
}

/// Moments of the kill, milliseconds of load: from the first writes to a filled log.
fn load_time(round: usize) -> Duration {
    Duration::from_millis([40, 900, 300, 1500, 120, 700, 60, 1200][round % 8])
}

#[tokio::test]
async fn one_node_killed_under_load_loses_nothing() -> Result<()> {
    let mut server = Server::start(&[])?;
    let urls = [server.client_url()];
    let mut history = History::default();
    for round in 0..ROUNDS {
        let load = Load::start(&urls, CLIENTS, &format!("w/{round}")).await?;
        load.progress(1).await?;
        tokio::time::sleep(load_time(round)).await;
        server.kill9()?;
        history.extend(load.finish().await?);
        if round % 3 == 1 {
            // Die once more while starting.
            server.respawn()?;
            tokio::time::sleep(Duration::from_millis(15 * round as u64)).await;
        }
        server.restart()?;
        let mut client = server.client().await?;
        let now = revision(&mut client).await?;
        assert!(now >= history.newest(), "revision {now} < {} acknowledged", history.newest());
        check(&history, &read_events(&mut client, "w/").await?)?;
    }
    assert!(history.acknowledged() > ROUNDS * CLIENTS, "{} writes", history.acknowledged());
    Ok(())
}

/// No crash at all: many clients at once, so that the node's thread and the log's take turns in many
/// orders, and nothing may stop.
#[tokio::test]
async fn fifty_clients_at_once_stop_nothing() -> Result<()> {
    let mut server = Server::start(&[])?;
    let load = Load::start(&[server.client_url()], 50, "w").await?;
    for _ in 0..8 {
        load.progress(500).await?;
    }
    let history = load.finish().await?;
    assert_eq!(server.process().ended()?, None);
    assert_eq!(history.acknowledged(), history.writes.len(), "every write was acknowledged");
    check(&history, &read_events(&mut server.client().await?, "w").await?)
}

/// SIGTERM in the middle of a load: everything is answered or left open, and the end is orderly.
#[tokio::test]
async fn one_node_stopped_under_load_loses_nothing() -> Result<()> {
    let mut server = Server::start(&[])?;
    let load = Load::start(&[server.client_url()], CLIENTS, "w").await?;
    load.progress(50).await?;
    let asked = Instant::now();
    server.stop()?;
    let took = asked.elapsed();
    let history = load.finish().await?;
    server.restart()?;
    check(&history, &read_events(&mut server.client().await?, "w").await?)?;
    assert!(took < Duration::from_secs(10), "an orderly stop took {took:?}");
    Ok(())
}

/// Large values, so that the log rolls to new segments while it is killed.
#[tokio::test]
async fn large_values_survive_too() -> Result<()> {
    let mut server = Server::start(&[])?;
    let mut written = Vec::new();
    for round in 0..3_u8 {
        let mut client = server.client().await?;
        for index in 0..25_u8 {
            let key = format!("large/{round}/{index}");
            let value = vec![round * 25 + index; 1_000_000];
            client.put(key.as_str(), value.clone(), None).await?;
            written.push((key, value[0]));
        }
        server.kill9()?;
        server.restart()?;
    }
    let mut client = server.client().await?;
    for (key, byte) in written {
        let found = client.get(key.as_str(), None).await?;
        let kv = found.kvs().first().with_context(|| format!("{key} is lost"))?;
        assert!(
            kv.value().len() == 1_000_000 && kv.value().iter().all(|one| *one == byte),
            "{key}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn any_one_of_three_killed_under_load_loses_nothing() -> Result<()> {
    if !three_nodes_allowed("crash: three nodes") {
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    let load = Load::start(&cluster.urls(), CLIENTS, "w").await?;
    load.progress(50).await?;
    for round in 0..4 {
        // Twice the leader, and each member at least once.
        let leader = cluster.leader(&[0, 1, 2]).await?;
        let victim = if round % 2 == 0 { leader } else { (leader + round) % 3 };
        cluster.members[victim].kill9()?;
        load.progress(30)
            .await
            .with_context(|| format!("round {round}: without m{}", victim + 1))?;
        cluster.members[victim].restart()?;
        load.progress(30).await?;
    }
    let history = load.finish().await?;
    cluster.converge(&[0, 1, 2]).await?;
    for member in &cluster.members {
        check(&history, &read_events(&mut member.client().await?, "w").await?)?;
    }
    Ok(())
}

/// All three at once: the power of a whole rack.
#[tokio::test]
async fn all_three_killed_at_once_lose_nothing() -> Result<()> {
    if !three_nodes_allowed("crash: all three nodes") {
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    let load = Load::start(&cluster.urls(), CLIENTS, "w").await?;
    load.progress(100).await?;
    for member in &mut cluster.members {
        member.kill9()?;
    }
    let history = load.finish().await?;
    for member in &mut cluster.members {
        member.respawn()?;
    }
    for member in &mut cluster.members {
        member.wait_ready()?;
    }
    cluster.converge(&[0, 1, 2]).await?;
    for member in &cluster.members {
        check(&history, &read_events(&mut member.client().await?, "w").await?)?;
    }
    Ok(())
}
