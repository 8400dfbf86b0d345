//! Leases through the crate etcd-client: never early, not much too late, and across a crash.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{
    Client, Error, EventType, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions,
};
use quorate_e2e::limits::COMMAND;
use quorate_e2e::server::Server;
use tonic::Code;

use crate::refused;

/// The shortest TTL there is, seconds.
const SHORTEST: i64 = 2;
/// How much later than its TTL a lease may end when nothing is wrong.
const LATE: Duration = Duration::from_millis(2500);
/// A restarted server may give a full TTL and an election timeout again.
const LATE_AFTER_CRASH: Duration = Duration::from_secs(6);

async fn grant(client: &mut Client, ttl: i64, key: &str) -> Result<(i64, Instant)> {
    let asked = Instant::now();
    let lease = client.lease_grant(ttl, None).await?;
    client.put(key, "v", Some(PutOptions::new().with_lease(lease.id()))).await?;
    Ok((lease.id(), asked))
}

/// Waits for the delete of `key`; gives when it was seen.
async fn deleted(client: &mut Client, key: &str) -> Result<Instant> {
    let from_start = WatchOptions::new().with_start_revision(1);
    let mut stream = client.watch(key, Some(from_start)).await?;
    loop {
        let message = tokio::time::timeout(COMMAND, stream.message()).await;
        let response = message.context("no delete")??.context("the watch ended")?;
        if response.events().iter().any(|event| event.event_type() == EventType::Delete) {
            return Ok(Instant::now());
        }
    }
}

#[tokio::test]
async fn expiry_is_never_early_and_soon_after() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let (short, asked) = grant(&mut client, SHORTEST, "short").await?;
    let (_, also_asked) = grant(&mut client, 3, "longer").await?;
    let gone = deleted(&mut client, "short").await?.duration_since(asked);
    let ttl = Duration::from_secs(SHORTEST as u64);
    assert!(gone >= ttl && gone < ttl + LATE, "a TTL of {ttl:?} took {gone:?}");
    let gone = deleted(&mut client, "longer").await?.duration_since(also_asked);
    let ttl = Duration::from_secs(3);
    assert!(gone >= ttl && gone < ttl + LATE, "a TTL of {ttl:?} took {gone:?}");
    assert_eq!(client.lease_time_to_live(short, None).await?.ttl(), -1);
    refused(client.lease_revoke(short).await, Code::NotFound, "requested lease not found");
    let late = client.put("k", "v", Some(PutOptions::new().with_lease(short))).await;
    refused(late, Code::NotFound, "requested lease not found");
    Ok(())
}

#[tokio::test]
async fn keep_alive_keeps_and_its_end_lets_go() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let (id, _) = grant(&mut client, SHORTEST, "kept").await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(id).await?;
    let mut renewed = Instant::now();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        renewed = Instant::now();
        keeper.keep_alive().await?;
        let answer = answers.message().await?.context("the stream ended")?;
        assert_eq!((answer.id(), answer.ttl()), (id, SHORTEST));
    }
    assert_eq!(client.get("kept", None).await?.kvs().len(), 1, "4.8 s on a TTL of 2 s");
    let gone = deleted(&mut client, "kept").await?.duration_since(renewed);
    let ttl = Duration::from_secs(SHORTEST as u64);
    assert!(gone >= ttl && gone < ttl + LATE, "{gone:?} after the last renewal");
    keeper.keep_alive().await?;
    let answer = answers.message().await?.context("the stream ended")?;
    assert_eq!((answer.id(), answer.ttl()), (id, 0), "gone, and the stream stays open");
    let unknown = client.lease_keep_alive(4242).await;
    assert!(matches!(unknown, Err(Error::LeaseKeepAliveError(_))));
    Ok(())
}

#[tokio::test]
async fn a_crash_neither_ends_a_lease_nor_forgets_it() -> Result<()> {
    let mut server = Server::start(&[])?;
    let mut client = server.client().await?;
    let (id, asked) = grant(&mut client, 4, "leased").await?;
    client.put("free", "v", None).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.kill9()?;
    server.restart()?;
    let restarted = Instant::now();
    let mut client = server.client().await?;
    let keys = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(id, Some(keys)).await?;
    assert_eq!((left.granted_ttl(), left.keys()), (4, &[b"leased".to_vec()][..]));
    assert_eq!(client.get("leased", None).await?.kvs().len(), 1);
    let gone = deleted(&mut client, "leased").await?;
    let since = (gone.duration_since(asked), gone.duration_since(restarted));
    assert!(since.0 >= Duration::from_secs(4), "early: {since:?}");
    assert!(since.1 < Duration::from_secs(4) + LATE_AFTER_CRASH, "late: {since:?}");
    assert_eq!(client.get("free", None).await?.kvs().len(), 1);
    Ok(())
}

#[tokio::test]
async fn revoking_deletes_all_keys_at_one_revision() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let (id, _) = grant(&mut client, 60, "r/b").await?;
    let leased = || Some(PutOptions::new().with_lease(id));
    client.put("r/a", "v", leased()).await?;
    client.put("r/moved", "v", leased()).await?;
    let last = client.put("r/moved", "v", None).await?; // detaches it
    let before = last.header().context("header")?.revision();
    let options = WatchOptions::new().with_prefix().with_start_revision(before + 1);
    let mut stream = client.watch("r/", Some(options)).await?;
    assert!(stream.message().await?.context("created")?.created());
    client.lease_revoke(id).await?;
    let response = stream.message().await?.context("the deletes")?;
    let deletes: Vec<(&[u8], i64)> = response
        .events()
        .iter()
        .filter_map(|event| event.kv())
        .map(|kv| (kv.key(), kv.mod_revision()))
        .collect();
    assert_eq!(deletes, [(&b"r/a"[..], before + 1), (&b"r/b"[..], before + 1)]);
    assert_eq!(client.get("r/moved", None).await?.kvs().len(), 1);
    Ok(())
}

#[tokio::test]
async fn ids_are_the_clients_or_the_servers() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let chosen = |id| Some(LeaseGrantOptions::new().with_id(id));
    for id in [7, -7, i64::MAX, i64::MIN] {
        assert_eq!(client.lease_grant(60, chosen(id)).await?.id(), id);
        let again = client.lease_grant(60, chosen(id)).await;
        refused(again, Code::FailedPrecondition, "lease already exists");
    }
    let free = client.lease_grant(60, None).await?;
    assert!(free.id() > 0);
    assert_eq!(client.leases().await?.leases().len(), 5);
    client.lease_revoke(7).await?;
    assert_eq!(client.lease_grant(60, chosen(7)).await?.id(), 7, "free again");
    refused(client.lease_grant(9_000_000_001, None).await, Code::OutOfRange, "too large lease TTL");
    Ok(())
}
