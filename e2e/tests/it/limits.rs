//! Sizes and the quota: what is refused, with which code, and that everything else goes on.

use anyhow::{Context, Result};
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, GetOptions, Txn, TxnOp,
};
use quorate_e2e::http1;
use quorate_e2e::limits::{MAX_MESSAGE, MAX_REQUEST};
use quorate_e2e::server::Server;
use quorate_e2e::tools::{Kind, binary};
use tonic::Code;

use crate::{refused, status};

/// Small enough to fill in a moment, large enough for an empty etcd: 8 MiB.
const QUOTA: &str = "--quota-backend-bytes=8388608";

#[tokio::test]
async fn requests_have_two_bounds() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let value = |length: usize| vec![b'v'; length];
    client.put("k", value(MAX_REQUEST - 200), None).await?;
    let text = "request is too large";
    refused(client.put("k", value(MAX_REQUEST), None).await, Code::InvalidArgument, text);
    refused(client.put("k", value(MAX_MESSAGE - 100), None).await, Code::InvalidArgument, text);
    let half = value(MAX_REQUEST / 2);
    let both = [TxnOp::put("a", half.clone(), None), TxnOp::put("b", half, None)];
    refused(client.txn(Txn::new().and_then(both)).await, Code::InvalidArgument, text);
    let (code, text) = status(client.put("k", value(MAX_MESSAGE), None).await.unwrap_err());
    assert_eq!(code, Code::ResourceExhausted);
    assert!(text.starts_with("grpc: received message larger than max ("), "{text}");
    assert!(text.ends_with(&format!(" vs. {MAX_MESSAGE})")), "{text}");
    let found = client.get("k", None).await?;
    assert_eq!(found.kvs()[0].version(), 1, "nothing of the refused ones is there");
    Ok(())
}

#[tokio::test]
async fn answers_have_no_bound() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    for index in 0..9 {
        client.put(format!("big/{index}"), vec![index; 1 << 20], None).await?;
    }
    let mut kv = client.kv_client().max_decoding_message_size(usize::MAX);
    let found = kv.get("big/", Some(GetOptions::new().with_prefix())).await?;
    assert_eq!(found.kvs().len(), 9);
    for (index, kv) in found.kvs().iter().enumerate() {
        assert!(kv.value().len() == 1 << 20 && kv.value().iter().all(|byte| *byte == index as u8));
    }
    Ok(())
}

#[tokio::test]
async fn keys_have_a_bound_of_their_own() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    // 0x00 and 0xff are what an order-preserving encoding has to escape.
    for byte in [0x00, b'k', 0xff] {
        let longest = vec![byte; 32 * 1024 - 1];
        client.put(longest.clone(), "v", None).await?;
        let found = client.get(longest.clone(), None).await?;
        assert_eq!(found.kvs()[0].key(), longest);
    }
    let longer = client.put(vec![b'k'; 32 * 1024], "v", None).await;
    match binary()?.kind {
        Kind::Etcd => drop(longer?), // etcd bounds the request alone
        Kind::Quorate => {
            let (code, text) = status(longer.unwrap_err());
            assert_eq!(code, Code::InvalidArgument, "{text}");
        }
    }
    Ok(())
}

/// Fills the store until it refuses; gives the number of 64 KiB puts that were acknowledged.
async fn fill(client: &mut Client) -> Result<usize> {
    for count in 0..2000 {
        match client.put(format!("fill/{count}"), vec![b'x'; 64 << 10], None).await {
            Ok(_) => {}
            Err(error) => {
                let text = "etcdserver: mvcc: database space exceeded".to_owned();
                assert_eq!(status(error), (Code::ResourceExhausted, text));
                return Ok(count);
            }
        }
    }
    panic!("the quota never struck")
}

async fn no_space_everywhere(client: &mut Client) {
    let text = "mvcc: database space exceeded";
    refused(client.put("k", "v", None).await, Code::ResourceExhausted, text);
    refused(client.lease_grant(60, None).await, Code::ResourceExhausted, text);
    let put = Txn::new().and_then([TxnOp::put("k", "v", None)]);
    refused(client.txn(put).await, Code::ResourceExhausted, text);
}

#[tokio::test]
async fn the_quota_raises_an_alarm_that_a_restart_keeps() -> Result<()> {
    let mut server = Server::start(&[QUOTA])?;
    let mut client = server.client().await?;
    let stored = fill(&mut client).await?;
    assert!(stored > 20, "8 MiB hold more than {stored} x 64 KiB");
    no_space_everywhere(&mut client).await;
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    assert_eq!(alarms.alarms().len(), 1);
    assert_eq!(alarms.alarms()[0].alarm(), AlarmType::Nospace);
    let health = http1::request(&server.endpoint(), "GET", "/health")?;
    let unhealthy = health.body.contains("\"health\":\"false\"");
    assert_eq!((health.status, unhealthy), (503, true), "{health:?}");
    let excused = http1::request(&server.endpoint(), "GET", "/health?exclude=NOSPACE")?;
    assert_eq!(excused.status, 200, "{excused:?}");
    server.kill9()?;
    server.restart()?;
    let mut client = server.client().await?;
    no_space_everywhere(&mut client).await;
    let all = GetOptions::new().with_prefix().with_count_only();
    assert_eq!(client.get("fill/", Some(all)).await?.count(), stored as i64, "reads go on");
    client.delete("fill/0", None).await.context("deletes go on")?;
    Ok(())
}

/// Delete, compact, defragment, disarm: etcd's manual promises that writing goes on then.
#[tokio::test]
async fn room_is_made_as_etcds_manual_says() -> Result<()> {
    let server = Server::start(&[QUOTA])?;
    let mut client = server.client().await?;
    let stored = fill(&mut client).await?;
    make_room(&mut client, stored).await?;
    no_space_everywhere(&mut client).await;
    let member = client.status().await?.leader();
    client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, of(member)).await?;
    client.put("k", "v", None).await.context("there is room again")?;
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    assert!(alarms.alarms().is_empty());
    Ok(())
}

/// etcd disarms the alarm of the member that is named.
fn of(member: u64) -> Option<AlarmOptions> {
    let mut options = AlarmOptions::new();
    options.with_member(member);
    Some(options)
}

/// Delete, which is allowed while alarmed; compact; defragment.
async fn make_room(client: &mut Client, stored: usize) -> Result<()> {
    for index in 0..stored {
        client.delete(format!("fill/{index}"), None).await?;
    }
    let deletes = Txn::new().and_then([TxnOp::delete("none", None), TxnOp::get("none", None)]);
    let revision = client.txn(deletes).await?.header().context("header")?.revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
    client.defragment().await?;
    Ok(())
}

#[tokio::test]
async fn an_alarm_can_be_raised_by_hand() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let member = client.status().await?.leader();
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, of(member)).await?;
    no_space_everywhere(&mut client).await;
    client.delete("k", None).await?;
    client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, of(member)).await?;
    client.put("k", "v", None).await?;
    Ok(())
}
