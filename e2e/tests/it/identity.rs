//! Who has lost what it promised is refused by those who saw it, with one sentence that says who, why and
//! what to do; the others go on (contract 8).

use std::path::Path;

use anyhow::{Context, Result, ensure};
use etcd_client::MemberAddOptions;
use quorate_e2e::cluster::Cluster;
use quorate_e2e::limits::{COMMAND, POLL, RECOVERY, REFUSAL};
use quorate_e2e::load::put_until_acknowledged;
use quorate_e2e::server::{Plan, READY_LINE};
use quorate_e2e::tools::{run, skip_for_etcd};

use crate::three_nodes_allowed;

const REFUSED: i32 = 3;

fn skipped(name: &str) -> Result<bool> {
    let etcd = "which finds out later, and differently";
    Ok(!three_nodes_allowed(name) || skip_for_etcd(name, etcd)?)
}

/// Three members with some keys on all of them.
async fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(3)?;
    write(&cluster, &[0, 1, 2], "first").await?;
    Ok(cluster)
}

/// Writes until each of `members` has everything.
async fn write(cluster: &Cluster, members: &[usize], prefix: &str) -> Result<()> {
    let mut client = cluster.members[members[0]].client_within(COMMAND).await?;
    put_until_acknowledged(&mut client, prefix).await?;
    for number in 0..50 {
        client.put(format!("{prefix}{number}"), "v".repeat(200), None).await?;
    }
    cluster.converge(members).await?;
    Ok(())
}

async fn id(cluster: &Cluster, member: usize) -> Result<u64> {
    let status = cluster.members[member].client_within(COMMAND).await?.status().await?;
    Ok(status.header().context("header")?.member_id())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.to_str().context("UTF-8")?, to.to_str().context("UTF-8")?);
    run("cp", &["-a", from, to]).map(drop)
}

/// Puts `from` in the place of what a stopped member has.
fn replace(cluster: &Cluster, member: usize, from: &Path) -> Result<()> {
    let data = cluster.members[member].data();
    std::fs::remove_dir_all(data)?;
    copy(from, data)
}

/// A member that was started ends by itself; its one sentence.
fn refusal(cluster: &mut Cluster, member: usize) -> Result<String> {
    let process = cluster.members[member].process();
    let ended = process.wait(REFUSAL)?;
    let stderr = process.stderr();
    assert_eq!(ended.code(), Some(REFUSED), "{ended}: {stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains(READY_LINE), "{stderr}");
    let said: Vec<&str> = stderr.lines().filter(|line| line.starts_with("quorate: ")).collect();
    assert_eq!(said.len(), 1, "one sentence: {stderr}");
    Ok(said[0].to_owned())
}

/// Who: the refused and one that refuses it. What to do: remove, add as a learner.
#[track_caller]
fn names(sentence: &str, refused: u64, others: &[usize]) {
    let who = others.iter().any(|other| sentence.contains(&format!("member 'm{}'", other + 1)));
    let cure = format!("member remove {refused:x}");
    assert!(who && sentence.contains(&cure) && sentence.contains("as a learner"), "{sentence}");
}

fn others(member: usize) -> [usize; 2] {
    [(member + 1) % 3, (member + 2) % 3]
}

#[tokio::test]
async fn a_wiped_member_cannot_come_back_under_its_old_name() -> Result<()> {
    if skipped("identity: wiped")? {
        return Ok(());
    }
    let mut cluster = cluster().await?;
    let victim = (cluster.leader(&[0, 1, 2]).await? + 1) % 3;
    let (lost, others) = (id(&cluster, victim).await?, others(victim));
    cluster.members[victim].kill9()?;
    for attempt in 0..2 {
        std::fs::remove_dir_all(cluster.members[victim].data())?;
        cluster.members[victim].respawn()?;
        let sentence = refusal(&mut cluster, victim)?;
        names(&sentence, lost, &others);
        assert!(sentence.contains("another data directory"), "{sentence}");
        write(&cluster, &others, &format!("after{attempt}")).await?;
    }

    // What the sentence says to do.
    let mut client = cluster.members[others[0]].client_within(COMMAND).await?;
    insist("remove", async || client.member_remove(lost).await.map(drop)).await?;
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new(folder.path().join("m4"))?.with(&["--initial-cluster-state=existing"]);
    plan.name = "m4".into();
    let url = plan.peer_url();
    let mut added = 0;
    insist("add", async || {
        let learner = Some(MemberAddOptions::new().with_is_learner());
        let answer = client.member_add([url.clone()], learner).await?;
        added = answer.member().map_or(0, |member| member.id());
        Ok(())
    })
    .await?;
    let first: Vec<String> = others
        .iter()
        .map(|&at| format!("m{}={}", at + 1, cluster.members[at].plan().peer_url()))
        .collect();
    plan.cluster = Some(format!("{},m4={url}", first.join(",")));
    let mut fourth = plan.spawn()?;
    fourth.wait_ready()?;
    insist("promote", async || client.member_promote(added).await.map(drop)).await?;
    let mut own = fourth.client_within(COMMAND).await?;
    insist("a write by the new member", async || own.put("k", "by m4", None).await.map(drop)).await
}

#[tokio::test]
async fn an_old_copy_of_a_data_directory_is_refused() -> Result<()> {
    if skipped("identity: old copy")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (old, right) = (folder.path().join("old"), folder.path().join("right"));
    let mut cluster = cluster().await?;
    let victim = (cluster.leader(&[0, 1, 2]).await? + 1) % 3;
    let (lost, others) = (id(&cluster, victim).await?, others(victim));
    cluster.members[victim].stop()?;
    copy(cluster.members[victim].data(), &old)?;
    cluster.members[victim].restart()?;
    write(&cluster, &[0, 1, 2], "second").await?;
    cluster.members[victim].stop()?;
    copy(cluster.members[victim].data(), &right)?;

    replace(&cluster, victim, &old)?;
    cluster.members[victim].respawn()?;
    let sentence = refusal(&mut cluster, victim)?;
    names(&sentence, lost, &others);
    assert!(sentence.contains("old copy") && sentence.contains("entry "), "{sentence}");
    write(&cluster, &others, "third").await?;

    // The others remember it across their own restarts, even if all start at once.
    for other in others {
        cluster.members[other].stop()?;
    }
    replace(&cluster, victim, &old)?;
    for member in 0..3 {
        cluster.members[member].respawn()?;
    }
    names(&refusal(&mut cluster, victim)?, lost, &others);
    for other in others {
        cluster.members[other].wait_ready()?;
    }
    write(&cluster, &others, "fourth").await?;

    // The right directory is welcome, although it lacks what was written meanwhile.
    replace(&cluster, victim, &right)?;
    cluster.members[victim].restart()?;
    write(&cluster, &[0, 1, 2], "fifth").await
}

/// A leader acknowledges its own entries to nobody, but all have heard it lead.
#[tokio::test]
async fn a_leader_from_before_its_election_is_refused() -> Result<()> {
    if skipped("identity: old leader")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let old = folder.path().join("old");
    let mut cluster = cluster().await?;
    let first = cluster.leader(&[0, 1, 2]).await?;
    let victim = (first + 1) % 3;
    let (lost, others) = (id(&cluster, victim).await?, others(victim));
    cluster.members[victim].stop()?;
    copy(cluster.members[victim].data(), &old)?;
    cluster.members[victim].restart()?;
    let mut client = cluster.members[first].client_within(COMMAND).await?;
    insist("hand over", async || client.move_leader(lost).await.map(drop)).await?;
    write(&cluster, &[0, 1, 2], "second").await?;
    ensure!(cluster.leader(&[0, 1, 2]).await? == victim, "leadership moved on by itself");
    cluster.members[victim].kill9()?;
    replace(&cluster, victim, &old)?;
    cluster.members[victim].respawn()?;
    names(&refusal(&mut cluster, victim)?, lost, &others);
    write(&cluster, &others, "third").await
}

/// Tries until it works: membership changes want a settled cluster.
async fn insist<F>(what: &str, mut attempt: F) -> Result<()>
where
    F: AsyncFnMut() -> Result<(), etcd_client::Error>,
{
    let start = std::time::Instant::now();
    while let Err(error) = attempt().await {
        if start.elapsed() > RECOVERY {
            return Err(error).context(what.to_owned());
        }
        tokio::time::sleep(POLL * 5).await;
    }
    Ok(())
}
