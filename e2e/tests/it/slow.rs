//! Clients that are slow: a request that does not come is not waited for, a stream that is silent is.

use std::convert::Infallible;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_client::WatchStream;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use quorate_e2e::limits::COMMAND;
use quorate_e2e::server::Server;
use quorate_e2e::tools::skip_for_etcd;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

const PUT: &str = "/etcdserverpb.KV/Put";
/// How long the server waits for a request: no less, and not much more.
const WAITS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(50));
/// gRPC's DEADLINE_EXCEEDED.
const TOO_LATE: &str = "4";

/// A put as it goes over the wire.
fn put(key: &str) -> Vec<u8> {
    let len = u8::try_from(key.len()).expect("short");
    let message = [&[0x0a, len], key.as_bytes(), &[0x12, 1, b'v']].concat();
    let size = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0], &size[..], &message].concat()
}

/// Calls and says this, and then neither more nor that this was all.
async fn stuck(mut channel: Channel, said: Vec<u8>) -> Result<Response<Body>> {
    let said = stream::iter([Ok::<_, Infallible>(Bytes::from(said))]).chain(stream::pending());
    let request = Request::post(PUT)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(axum::body::Body::from_stream(said)))?;
    poll_fn(|context| channel.poll_ready(context)).await?;
    Ok(channel.call(request).await?)
}

/// The key of the next event; that the watch was made is none.
async fn event(watch: &mut WatchStream) -> Result<String> {
    loop {
        let response =
            tokio::time::timeout(COMMAND, watch.message()).await.context("no event")??;
        let response = response.context("the watch ended")?;
        if let Some(kv) = response.events().first().and_then(|event| event.kv()) {
            return Ok(kv.key_str()?.to_owned());
        }
    }
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() -> Result<()> {
    if skip_for_etcd("slow", "which waits for ever")? {
        return Ok(());
    }
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let mut watch =
        client.watch("slow-", Some(etcd_client::WatchOptions::new().with_prefix())).await?;
    let lease = client.lease_grant(300, None).await?.id();
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await?;
    let channel = Endpoint::from_shared(server.client_url())?.connect().await?;
    let begun = Instant::now();
    let mut half = put("slow-half");
    half.truncate(half.len() - 1);
    let half = tokio::spawn(stuck(channel.clone(), half));
    let endless = tokio::spawn(stuck(channel.clone(), put("slow-endless")));
    // All of its message is there, so it is carried out at once.
    assert_eq!(event(&mut watch).await?, "slow-endless");
    assert!(begun.elapsed() < WAITS.0);
    let status = |response: &Response<Body>| {
        let status = response.headers().get("grpc-status").and_then(|code| code.to_str().ok());
        status.map(str::to_owned)
    };
    assert_eq!(status(&half.await??).as_deref(), Some(TOO_LATE));
    let took = begun.elapsed();
    assert!((WAITS.0..WAITS.1).contains(&took), "{took:?}");
    assert_eq!(status(&endless.await??), None, "it is answered with a message, its status behind");
    assert!(begun.elapsed() < WAITS.1);
    // Streams that were silent meanwhile go on, and so does the connection.
    assert_eq!(client.get("slow-half", None).await?.count(), 0);
    client.put("slow-after", "v", None).await?;
    assert_eq!(event(&mut watch).await?, "slow-after");
    keeper.keep_alive().await?;
    let answer = tokio::time::timeout(COMMAND, kept.message()).await.context("no answer")??;
    assert_eq!(answer.context("the keep-alive ended")?.id(), lease);
    let mut kv = quorate_wire::etcdserverpb::kv_client::KvClient::new(channel);
    let wanted = quorate_wire::etcdserverpb::RangeRequest {
        key: Bytes::from_static(b"slow-after"),
        ..Default::default()
    };
    assert_eq!(kv.range(wanted).await?.into_inner().count, 1);
    Ok(())
}
