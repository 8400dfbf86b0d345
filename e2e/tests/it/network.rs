//! Three machines and a bad network: partitions, one-way cuts, loss, a leader that stands still.
//!
//! Each test keeps clients writing and reading, breaks something, demands progress where a quorum is
//! left and none where there is not, heals, and checks the whole history on every member.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::GetOptions;
use quorate_e2e::cluster::Cluster;
use quorate_e2e::history::check;
use quorate_e2e::load::{Load, read_events};
use quorate_e2e::netns::Lab;
use quorate_e2e::tools::skip;

use crate::three_nodes_allowed;

const CLIENTS: usize = 4;

/// Three members in namespaces of their own; `None`, and says so, if that cannot be.
fn start(suite: &str) -> Result<Option<(Lab, Cluster)>> {
    if !three_nodes_allowed(suite) {
        return Ok(None);
    }
    match Lab::new(3) {
        Ok(lab) => {
            let cluster = Cluster::start_in(&lab)?;
            Ok(Some((lab, cluster)))
        }
        Err(error) => {
            skip(suite, format!("{error:#}"));
            Ok(None)
        }
    }
}

fn others(index: usize) -> [usize; 2] {
    [(index + 1) % 3, (index + 2) % 3]
}

/// Everything agrees, on every member, and nothing that was acknowledged is missing.
async fn finish(cluster: &Cluster, load: Load) -> Result<()> {
    let history = load.finish().await?;
    cluster.converge(&[0, 1, 2]).await?;
    for member in &cluster.members {
        check(&history, &read_events(&mut member.client().await?, "w").await?)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_leader_cut_off_from_both_others() -> Result<()> {
    let Some((lab, cluster)) = start("network: partition")? else { return Ok(()) };
    let load = Load::start(&cluster.urls(), CLIENTS, "w").await?;
    load.progress(30).await?;
    let old = cluster.leader(&[0, 1, 2]).await?;
    lab.isolate(old)?;
    // Clients still reach it. It must not acknowledge, nor claim to know what is newest.
    let mut alone = cluster.members[old].client_within(Duration::from_secs(4)).await?;
    assert!(alone.put("aside", "alone", None).await.is_err(), "a minority acknowledged a write");
    let new = cluster.leader(&others(old)).await.context("the majority elects")?;
    assert_ne!(new, old);
    load.progress(10).await.context("the majority goes on")?;
    assert!(alone.get("w/0", None).await.is_err(), "a minority answered a linearizable read");
    let local = GetOptions::new().with_serializable();
    alone.get("w/0", Some(local)).await.context("a serializable read is local")?;
    lab.heal()?;
    load.progress(30).await?;
    finish(&cluster, load).await
}

#[tokio::test]
async fn a_leader_that_is_heard_but_does_not_hear() -> Result<()> {
    let Some((lab, cluster)) = start("network: one-way cut")? else { return Ok(()) };
    let load = Load::start(&cluster.urls(), CLIENTS, "w").await?;
    load.progress(30).await?;
    let deaf = cluster.leader(&[0, 1, 2]).await?;
    for other in others(deaf) {
        lab.cut(other, deaf)?;
    }
    load.progress(10).await.context("somebody who hears takes over")?;
    lab.heal()?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let [mute, _] = others(leader);
    lab.cut(mute, leader)?;
    load.progress(10).await.context("a mute follower stops nobody")?;
    lab.heal()?;
    load.progress(30).await?;
    finish(&cluster, load).await
}

#[tokio::test]
async fn one_packet_in_eight_is_lost() -> Result<()> {
    let Some((lab, cluster)) = start("network: loss")? else { return Ok(()) };
    let load = Load::start(&cluster.urls(), CLIENTS, "w").await?;
    load.progress(30).await?;
    if let Err(error) = lab.lose() {
        skip("network: loss", format!("{error:#}"));
        return finish(&cluster, load).await;
    }
    for _ in 0..3 {
        load.progress(10).await.context("slower, but on")?;
    }
    lab.repair()?;
    load.progress(30).await?;
    finish(&cluster, load).await
}

#[tokio::test]
async fn a_leader_that_stands_still_and_comes_back() -> Result<()> {
    let Some((_lab, mut cluster)) = start("network: SIGSTOP")? else { return Ok(()) };
    let load = Load::start(&cluster.urls(), CLIENTS, "w").await?;
    load.progress(30).await?;
    for _ in 0..2 {
        let old = cluster.leader(&[0, 1, 2]).await?;
        cluster.members[old].pause()?;
        cluster.leader(&others(old)).await.context("the others elect")?;
        load.progress(10).await.context("the others go on")?;
        // It wakes up believing that it leads; what its clients read then is checked at the end.
        cluster.members[old].resume()?;
        load.progress(30).await?;
    }
    finish(&cluster, load).await
}
