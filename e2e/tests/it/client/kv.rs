//! Keys, watches and leases through kills.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quorate_client::kv::{
    Batch, Client, Compare, Error, Event, Is, Lost, Op, OpResult, Put, Range, Revision, Txn, Watch,
};
use quorate_e2e::cluster::Cluster;
use quorate_e2e::limits::RECOVERY;
use quorate_e2e::server::Server;
use tokio::time::timeout;

use crate::three_nodes_allowed;

fn client_of(server: &Server) -> Result<Client> {
    Ok(Client::connect(&[server.client_url()])?)
}

/// Revision, key and value of each event.
fn seen(batch: &Batch) -> Vec<(i64, String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let read = |event: &Event| match event {
        Event::Put { pair, .. } => (event.revision().0, text(&pair.key), text(&pair.value)),
        Event::Delete { key, revision, .. } => (revision.0, text(key), "deleted".to_owned()),
    };
    batch.events.iter().map(read).collect()
}

/// Events until this revision has been delivered.
async fn until(watch: &mut Watch, revision: Revision) -> Result<Vec<(i64, String, String)>> {
    let mut all = Vec::new();
    let begun = Instant::now();
    while watch.position() <= revision {
        ensure!(begun.elapsed() < 2 * RECOVERY, "{revision} was not seen: {all:?}");
        watch.request_progress();
        if let Ok(batch) = timeout(Duration::from_millis(500), watch.next()).await {
            all.extend(seen(&batch?));
        }
    }
    Ok(all)
}

/// Writes `count` values one after the other, each until it is acknowledged. A value whose outcome is unknown is
/// followed by another one, never repeated. Returns the revisions of those that were acknowledged.
async fn write(client: &Client, count: usize) -> Result<Vec<(i64, String)>> {
    let mut acknowledged = Vec::new();
    let (begun, mut number) = (Instant::now(), 0);
    while acknowledged.len() < count {
        ensure!(begun.elapsed() < 2 * RECOVERY, "only {} writes", acknowledged.len());
        let value = format!("v{number}");
        number += 1;
        match client.put(Put::new("w/key", value.clone())).await {
            Ok(written) => acknowledged.push((written.revision.0, value)),
            Err(Error::Unknown(_) | Error::Unavailable(_)) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(acknowledged)
}

/// What a watch saw is the whole history, once and in order, with all acknowledged writes in it.
async fn check(
    client: &Client,
    watch: &mut Watch,
    from: Revision,
    acknowledged: &[(i64, String)],
) -> Result<()> {
    let last = client.range(Range::key("w/key")).await?.revision;
    let seen = until(watch, last).await?;
    let mut whole = client.watch_from(Range::prefix("w/"), from).await?;
    assert_eq!(seen, until(&mut whole, last).await?);
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "{seen:?}");
    for (revision, value) in acknowledged {
        let there = seen.iter().any(|(at, _, what)| (at, what) == (revision, value));
        ensure!(there, "{value} at {revision} was acknowledged and not seen");
    }
    Ok(())
}

#[tokio::test]
async fn keys_are_read_and_written() -> Result<()> {
    let server = Server::start(&[])?;
    let client = client_of(&server)?;
    assert_eq!(client.get("a").await?, None);
    let first = client.put(Put::new("a", "1")).await?;
    let second = client.put(Put::new("a", "2").with_previous()).await?;
    assert_eq!(second.previous[0].mod_revision, first.revision);
    let pair = client.get("a").await?.context("it was put")?;
    assert_eq!(
        (pair.value.as_ref(), pair.version, pair.mod_revision),
        (&b"2"[..], 2, second.revision)
    );
    client.put(Put::new("ab", "3")).await?;
    let page = client.range(Range::prefix("a").limit(1)).await?;
    assert_eq!((page.pairs.len(), page.more, page.count), (1, true, 2));
    let old = client.range(Range::key("a").at(first.revision)).await?;
    assert_eq!(old.pairs[0].value, "1");

    let txn = |is| {
        Txn::when([Compare::mod_revision("a", is, second.revision), Compare::missing("b")])
            .then([Op::put(Put::new("b", "new")), Op::get(Range::prefix("b"))])
            .otherwise([Op::delete(Range::key("b").with_previous())])
    };
    let done = client.txn(txn(Is::Equal)).await?;
    ensure!(done.succeeded, "{done:?}");
    assert!(matches!(&done.results[1], OpResult::Page(page) if page.pairs[0].value == "new"));
    let refused = client.txn(txn(Is::Equal)).await?;
    assert!(!refused.succeeded);
    assert!(matches!(&refused.results[0], OpResult::Written(gone) if gone.deleted == 1));
    assert_eq!(client.delete(Range::all()).await?.deleted, 2);

    let empty = client.put(Put::new("", "x")).await;
    ensure!(matches!(empty, Err(Error::Refused { .. })), "{empty:?}");
    client.compact(client.range(Range::all()).await?.revision).await?;
    let forgotten = client.range(Range::key("a").at(first.revision)).await;
    ensure!(matches!(forgotten, Err(Error::Compacted { .. })), "{forgotten:?}");
    Ok(())
}

#[tokio::test]
async fn nobody_there_is_said_and_nothing_was_written() -> Result<()> {
    let mut server = Server::start(&[])?;
    let client = client_of(&server)?.with_timeout(Duration::from_millis(700));
    client.put(Put::new("a", "1")).await?;
    // The process stands still: the write has been sent, and nobody knows.
    server.pause()?;
    let unknown = client.put(Put::new("a", "2")).await;
    ensure!(matches!(unknown, Err(Error::Unknown(_))), "{unknown:?}");
    let unread = client.get("a").await;
    ensure!(matches!(unread, Err(Error::Unavailable(_))), "{unread:?}");
    server.resume()?;
    server.kill9()?;
    // Nobody listens: the first attempt may still go out on the old connection, the next one does not.
    let _ = client.put(Put::new("a", "3")).await;
    let refused = client.put(Put::new("a", "4")).await;
    ensure!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    server.restart()?;
    let value = client.with_timeout(RECOVERY).get("a").await?.context("it is there")?.value;
    assert_ne!(value, "4");
    Ok(())
}

#[tokio::test]
async fn watch_and_lease_outlive_a_kill() -> Result<()> {
    let mut server = Server::start(&[])?;
    let client = client_of(&server)?;
    let lease = client.lease(Duration::from_secs(15)).await?;
    client.put(Put::new("w/me", "here").lease(lease.id())).await?;
    let from = client.range(Range::all()).await?.revision.next();
    let mut watch = client.watch(Range::prefix("w/")).await?;
    let writer = tokio::spawn({
        let client = client.clone();
        async move { write(&client, 60).await }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.kill9()?;
        server.restart()?;
    }
    let acknowledged = writer.await??;
    check(&client, &mut watch, from, &acknowledged).await?;
    ensure!(watch.resumed() > 0, "nothing was cut");
    ensure!(lease.held_until().is_ok(), "{:?}", lease.held_until());
    assert!(client.get("w/me").await?.is_some());
    lease.revoke().await?;
    assert_eq!(client.get("w/me").await?, None);
    Ok(())
}

#[tokio::test]
async fn a_holder_hears_that_its_lease_is_lost() -> Result<()> {
    let mut server = Server::start(&[])?;
    let client = client_of(&server)?;
    let (ended, silent) =
        (client.lease(Duration::from_secs(3)).await?, client.lease(Duration::from_secs(3)).await?);
    // Longer than they live: they are renewed.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(ended.held_until().is_ok() && silent.held_until().is_ok());
    let mut other = server.client().await?;
    other.lease_revoke(ended.id().0).await?;
    assert_eq!(timeout(Duration::from_secs(4), ended.lost()).await?, Lost::Ended);
    server.kill9()?;
    let begun = Instant::now();
    assert_eq!(timeout(Duration::from_secs(5), silent.lost()).await?, Lost::Silence);
    ensure!(begun.elapsed() <= Duration::from_millis(3500), "{:?}", begun.elapsed());
    assert_eq!(silent.held_until(), Err(Lost::Silence));
    Ok(())
}

#[tokio::test]
async fn a_watch_that_was_overtaken_says_so() -> Result<()> {
    let mut server = Server::start(&[])?;
    let client = client_of(&server)?;
    let mut watch = client.watch(Range::prefix("w/")).await?;
    let cut = client.put(Put::new("w/key", "first")).await?.revision;
    assert_eq!(until(&mut watch, cut).await?.len(), 1);
    server.kill9()?;
    server.restart()?;
    // The watch is not asked meanwhile, so it goes on later.
    write(&client, 10).await?;
    let newest = client.range(Range::all()).await?.revision;
    client.compact(newest).await?;
    let mut other = client.watch_from(Range::prefix("w/"), cut.next()).await?;
    for watch in [&mut watch, &mut other] {
        let overtaken = timeout(RECOVERY, async {
            loop {
                match watch.next().await {
                    Ok(batch) => assert!(batch.events.is_empty(), "{batch:?}"),
                    Err(error) => return error,
                }
            }
        });
        assert_eq!(overtaken.await?, Error::Compacted { oldest: Some(newest) });
    }
    let mut again = client.watch_from(Range::prefix("w/"), newest).await?;
    assert_eq!(until(&mut again, newest).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn three_members_lose_their_leader_and_nobody_misses_anything() -> Result<()> {
    if !three_nodes_allowed("client") {
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    let all = [0, 1, 2];
    let leader = cluster.leader(&all).await?;
    // The leader is asked first, so that its loss is felt.
    let mut urls = cluster.urls();
    urls.swap(0, leader);
    let client = Client::connect(&urls)?;
    let lease = client.lease(Duration::from_secs(10)).await?;
    client.put(Put::new("w/me", "here").lease(lease.id())).await?;
    let from = client.range(Range::all()).await?.revision.next();
    let mut watch = client.watch(Range::prefix("w/")).await?;
    let writer = tokio::spawn({
        let client = client.clone();
        async move { write(&client, 100).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.members[leader].kill9()?;
    let acknowledged = writer.await??;
    check(&client, &mut watch, from, &acknowledged).await?;
    ensure!(watch.resumed() > 0, "the watch was not at the leader");
    ensure!(lease.held_until().is_ok(), "{:?}", lease.held_until());
    assert!(client.get("w/me").await?.is_some());

    // A member that stands still keeps its connections open: the watch leaves it all the same.
    cluster.members[leader].restart()?;
    let held = cluster.leader(&all).await?;
    let resumed = watch.resumed();
    cluster.members[held].pause()?;
    let written = write(&client, 5).await;
    let newest = client.range(Range::all()).await.map(|page| page.revision);
    let seen = match newest {
        Ok(newest) => until(&mut watch, newest).await,
        Err(error) => Err(error.into()),
    };
    cluster.members[held].resume()?;
    let (written, seen) = (written?, seen?);
    ensure!(written.iter().all(|(_, value)| seen.iter().any(|(_, _, what)| what == value)));
    println!("resumed {resumed} times, then {}", watch.resumed());
    Ok(())
}
