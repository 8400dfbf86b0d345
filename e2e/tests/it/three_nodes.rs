//! Three servers on loopback: any of them serves, any of them may go, members come and leave.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{Client, ConnectOptions, Error, GetOptions, MemberAddOptions, PutOptions};
use quorate_e2e::cluster::Cluster;
use quorate_e2e::history::{History, Outcome, check};
use quorate_e2e::limits::{COMMAND, POLL, READY, RECOVERY, STOP};
use quorate_e2e::load::{Load, put_until_acknowledged, read_events};
use quorate_e2e::netns::Lab;
use quorate_e2e::process::Process;
use quorate_e2e::server::{Plan, READY_LINE};
use quorate_e2e::tools::{self, skip, skip_for_etcd};
use rustix::process::Signal;
use tonic::Code;

use crate::{refused, status, three_nodes_allowed};

async fn each(cluster: &Cluster) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for member in &cluster.members {
        clients.push(member.client_within(COMMAND).await?);
    }
    Ok(clients)
}

#[tokio::test]
async fn every_member_serves_everything() -> Result<()> {
    if !three_nodes_allowed("three_nodes") {
        return Ok(());
    }
    let cluster = Cluster::start(3)?;
    let mut clients = each(&cluster).await?;
    for writer in 0..3 {
        let value = format!("by {writer}");
        let lease = clients[writer].lease_grant(60, None).await?.id();
        let leased = PutOptions::new().with_lease(lease);
        clients[writer].put("k", value.as_str(), Some(leased)).await?;
        for client in &mut clients {
            let found = client.get("k", None).await?;
            assert_eq!(found.kvs()[0].value(), value.as_bytes(), "linearizable on every member");
            let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
            keeper.keep_alive().await?;
            assert_eq!(answers.message().await?.context("an answer")?.ttl(), 60);
            assert_eq!(client.lease_time_to_live(lease, None).await?.granted_ttl(), 60);
        }
    }
    cluster.converge(&[0, 1, 2]).await?;
    let mut hashes = Vec::new();
    for client in &mut clients {
        let answer = client.hash_kv(0).await?;
        hashes.push(answer.hash());
        assert_eq!(client.member_list().await?.members().len(), 3);
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    Ok(())
}

#[tokio::test]
async fn leadership_moves_where_it_is_told() -> Result<()> {
    if !three_nodes_allowed("three_nodes: move leader") {
        return Ok(());
    }
    let cluster = Cluster::start(3)?;
    let mut clients = each(&cluster).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let target = (leader + 1) % 3;
    let id = clients[target].status().await?.header().context("header")?.member_id();
    let by_follower = clients[target].move_leader(id).await;
    refused(by_follower, Code::FailedPrecondition, "not leader");
    refused(
        clients[leader].move_leader(5).await,
        Code::FailedPrecondition,
        "bad leader transferee",
    );
    clients[leader].move_leader(id).await?;
    let started = Instant::now();
    while cluster.leader(&[0, 1, 2]).await? != target {
        assert!(started.elapsed() < RECOVERY, "m{} did not become leader", target + 1);
        tokio::time::sleep(POLL).await;
    }
    clients[leader].put("k", "after", None).await?;
    Ok(())
}

#[tokio::test]
async fn one_of_three_refuses_to_write_and_says_so() -> Result<()> {
    if !three_nodes_allowed("three_nodes: minority") {
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    cluster.client().await?.put("k", "before", None).await?;
    cluster.converge(&[0, 1, 2]).await?;
    cluster.members[1].kill9()?;
    cluster.members[2].kill9()?;
    let alone = &cluster.members[0];
    let serializable = Some(GetOptions::new().with_serializable());
    let mut client = alone.client_within(Duration::from_secs(3)).await?;
    assert!(client.put("k", "alone", None).await.is_err(), "no quorum, no acknowledgement");
    assert!(client.get("k", None).await.is_err(), "no quorum, no linearizable read");
    assert_eq!(client.get("k", serializable.clone()).await?.kvs()[0].value(), b"before");
    let strict = ConnectOptions::new().with_require_leader(true).with_timeout(COMMAND);
    let mut strict = alone.client_with(strict).await?;
    let said = status_of(strict.get("k", serializable).await);
    assert_eq!(said, (Code::Unavailable, "etcdserver: no leader".to_owned()));
    cluster.members[1].restart()?;
    put_until_acknowledged(&mut cluster.members[0].client_within(COMMAND).await?, "k").await?;
    Ok(())
}

fn status_of<T: std::fmt::Debug>(answer: Result<T, Error>) -> (Code, String) {
    status(answer.expect_err("refused"))
}

/// Waits until a request succeeds; membership changes want a settled cluster.
async fn insist<T, F>(what: &str, mut attempt: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T, Error>,
{
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if start.elapsed() > RECOVERY => return Err(error).context(what.to_owned()),
            Err(_) => tokio::time::sleep(POLL * 5).await,
        }
    }
}

#[tokio::test]
async fn a_fourth_member_learns_votes_and_leaves() -> Result<()> {
    if !three_nodes_allowed("three_nodes: membership") {
        return Ok(());
    }
    let cluster = Cluster::start(3)?;
    let mut client = cluster.client().await?;
    for round in 0..100 {
        client.put("k", format!("{round}"), None).await?;
    }
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new(folder.path().join("m4"))?.with(&["--initial-cluster-state=existing"]);
    plan.name = "m4".into();
    let url = plan.peer_url();
    let learner = MemberAddOptions::new().with_is_learner();
    let added = insist("add a learner", async || {
        client.member_add([url.clone()], Some(learner.clone())).await
    });
    let id = added.await?.member().context("the member")?.id();
    let all = format!("{},m4={url}", cluster.members[0].plan().cluster.clone().context("cluster")?);
    plan.cluster = Some(all);
    let mut fourth = plan.spawn()?;
    fourth.wait_ready()?;
    let mut own = fourth.client_within(COMMAND).await?;
    let not_yet = own.put("k", "by a learner", None).await;
    assert!(not_yet.is_err(), "a learner takes no writes");
    insist("promote", async || client.member_promote(id).await).await?;
    insist("a write by the new member", async || own.put("k", "by m4", None).await).await?;
    let hash = own.hash_kv(0).await?;
    let revision = hash.header().context("header")?.revision();
    let mut first = cluster.members[0].client().await?;
    let others = insist("the same revision", async || first.hash_kv(revision).await).await?;
    assert_eq!(hash.hash(), others.hash(), "the learner has caught up completely");
    insist("remove", async || client.member_remove(id).await).await?;
    // The list is the asked member's own, and the next one that is asked may not have heard of it yet.
    let started = Instant::now();
    while client.member_list().await?.members().len() != 3 {
        assert!(started.elapsed() < RECOVERY, "the removed member is still listed");
        tokio::time::sleep(POLL).await;
    }
    client.put("k", "after", None).await?;
    refused(client.member_remove(id).await, Code::NotFound, "member not found");
    Ok(())
}

/// The longest time between two acknowledgements.
fn longest_gap(history: &History) -> Duration {
    let known = |write: &&quorate_e2e::history::Write| write.outcome != Outcome::Unknown;
    let mut ends: Vec<Instant> = history.writes.iter().filter(known).map(|w| w.ended).collect();
    ends.sort();
    ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// A stopping leader hands over: writes go on in less than the second after which anybody would
/// have called an election.
#[tokio::test]
async fn a_stopping_leader_hands_over() -> Result<()> {
    let name = "three_nodes: hand over";
    let etcd = "which forgets what others forwarded to the old leader";
    if !three_nodes_allowed(name) || skip_for_etcd(name, etcd)? {
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    let mut gaps = Vec::new();
    for round in 0..3 {
        let leader = cluster.leader(&[0, 1, 2]).await?;
        let mut urls = cluster.urls();
        urls.remove(leader);
        let load = Load::start(&urls, 3, &format!("h{round}")).await?;
        load.progress(20).await?;
        cluster.members[leader].stop()?;
        load.progress(20).await?;
        let history = load.finish().await?;
        cluster.members[leader].restart()?;
        let mut client = cluster.client().await?;
        check(&history, &read_events(&mut client, &format!("h{round}/")).await?)?;
        gaps.push(longest_gap(&history));
        if gaps[round] < Duration::from_millis(900) {
            return Ok(());
        }
    }
    panic!("after each of three stops of the leader writes paused: {gaps:?}");
}

/// `serve --nodes 3`: real processes on the ports that the manual names, in a namespace of their own.
#[test]
fn serve_nodes_3_runs_three_for_trying_out() -> Result<()> {
    let name = "three_nodes: serve --nodes 3";
    if !three_nodes_allowed(name) || skip_for_etcd(name, "it has no such flag")? {
        return Ok(());
    }
    let lab = match Lab::new(1) {
        Ok(lab) => lab,
        Err(error) => {
            skip(name, format!("{error:#}"));
            return Ok(());
        }
    };
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new("")?;
    plan.prefix = lab.prefix(0);
    let mut command = plan.program()?;
    command.arg("--nodes=3").current_dir(folder.path());
    let mut nodes = Process::spawn("serve --nodes 3", command)?;
    nodes.wait_for_stderr(READY_LINE, READY)?;
    if let Some(etcdctl) = tools::etcdctl() {
        let etcdctl = etcdctl.to_str().context("UTF-8")?;
        let urls = "127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379";
        let prefix = lab.prefix(0);
        let ask = ["endpoint", "health", "--endpoints", urls];
        let arguments: Vec<&str> =
            prefix[1..].iter().map(String::as_str).chain([etcdctl]).chain(ask).collect();
        let started = Instant::now();
        while let Err(error) = tools::run("ip", &arguments) {
            assert!(started.elapsed() < READY, "{error:#}");
            std::thread::sleep(POLL * 5);
        }
    }
    nodes.signal(Signal::INT)?;
    let ended = nodes.wait(STOP)?;
    assert!(ended.success(), "{ended}");
    Ok(())
}
