//! Watch rows: writers put keys of one prefix, and each watcher, on a stream of its own, receives
//! every event. An event carries the time at which its put was sent. When the writers are done, a
//! last put marks the end, and every watcher must have counted exactly the acknowledged puts.

use crate::closed::{CpuMeter, Window};
use crate::keys::value;
use crate::limits::CALL_TIMEOUT;
use crate::proc::Pid;
use crate::sample::{Sample, latencies};
use crate::wire::Conn;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use quorate_wire::etcdserverpb as etcd;
use quorate_wire::etcdserverpb::watch_request::RequestUnion;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::Streaming;

/// First and last key of what is watched: `watch/` up to `watch0`.
const RANGE: (&[u8], &[u8]) = (b"watch/", b"watch0");
/// The put that ends a run.
const END_KEY: &[u8] = b"watch/end";

/// What a watcher has seen.
struct Seen {
    latencies_us: Vec<u32>,
    events: u64,
}

/// Runs `writers` against `watchers`. The rate and the CPU time are per delivered event.
pub async fn run(
    conns: &[Conn],
    servers: &[Pid],
    writers: usize,
    watchers: usize,
    length: Duration,
) -> Result<Sample> {
    let epoch = Instant::now();
    let mut streams = Vec::with_capacity(watchers);
    for i in 0..watchers {
        streams.push(open(&conns[i % conns.len()]).await?);
    }
    let window = Window::after_warm_up(length);
    let watching = streams.into_iter().map(|s| watch(s, epoch, window)).collect::<JoinSet<_>>();
    let writing = (0..writers).map(|i| write(conns[i % conns.len()].clone(), i, epoch, window));
    let writing = writing.collect::<JoinSet<_>>();
    let meter = CpuMeter::over(window, servers).await;
    let puts = writing.join_all().await.into_iter().sum::<Result<u64>>()?;
    end(&conns[0]).await?;
    let seen = tokio::time::timeout(CALL_TIMEOUT, watching.join_all()).await;
    let seen = seen.context("the watchers did not see the end of the run")?;
    let meter = meter?;
    let mut all = latencies();
    for seen in seen {
        let seen = seen?;
        ensure!(seen.events == puts, "a watcher saw {} of {puts} events", seen.events);
        seen.latencies_us.iter().for_each(|&us| all.saturating_record(us.into()));
    }
    Ok(meter.scale(Sample::new(&all, window.secs(), meter.server_us, meter.generator_us), window))
}

/// Opens one watcher and waits until the server has created it.
async fn open(conn: &Conn) -> Result<Streaming<etcd::WatchResponse>> {
    let create = etcd::WatchCreateRequest {
        key: Bytes::from_static(RANGE.0),
        range_end: Bytes::from_static(RANGE.1),
        ..Default::default()
    };
    let create = etcd::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // The request half stays open as long as the stream is read.
    let requests = tokio_stream::once(create).chain(tokio_stream::pending());
    let mut stream = conn.watch().watch(requests).await?.into_inner();
    let first = stream.message().await?.context("the watch stream ended")?;
    ensure!(first.created, "the first response was not the creation");
    Ok(stream)
}

async fn watch(
    mut stream: Streaming<etcd::WatchResponse>,
    epoch: Instant,
    window: Window,
) -> Result<Seen> {
    let mut seen = Seen { latencies_us: Vec::new(), events: 0 };
    loop {
        let response = stream.message().await?.context("the watch stream ended")?;
        if response.canceled {
            bail!("a watcher was cancelled: {}", response.cancel_reason);
        }
        let now = Instant::now();
        for event in response.events {
            let kv = event.kv.context("an event without its key")?;
            if kv.key == END_KEY {
                return Ok(seen);
            }
            seen.events += 1;
            if now >= window.start && now <= window.end {
                let sent = sent_us(&kv.value).context("an event without its time")?;
                let us = (now - epoch).as_micros() as u64 - sent;
                seen.latencies_us.push(us.try_into().unwrap_or(u32::MAX));
            }
        }
    }
}

/// Puts one key again and again until the window ends. Returns how often.
async fn write(conn: Conn, i: usize, epoch: Instant, window: Window) -> Result<u64> {
    let (mut kv, key, filler) = (conn.kv(), format!("watch/{i:08}"), value(i as u64));
    let mut puts = 0;
    while Instant::now() < window.end {
        let value = stamped(&filler, epoch.elapsed().as_micros() as u64);
        let put = etcd::PutRequest { key: key.clone().into(), value, ..Default::default() };
        kv.put(put).await?;
        puts += 1;
    }
    Ok(puts)
}

async fn end(conn: &Conn) -> Result<()> {
    let put = etcd::PutRequest { key: Bytes::from_static(END_KEY), ..Default::default() };
    conn.kv().put(put).await?;
    Ok(())
}

fn stamped(filler: &Bytes, us: u64) -> Bytes {
    let mut value = filler.to_vec();
    value[..8].copy_from_slice(&us.to_le_bytes());
    value.into()
}

fn sent_us(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(value.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_keeps_the_size() {
        let stamped = stamped(&value(1), 123_456);
        assert_eq!((stamped.len(), sent_us(&stamped)), (256, Some(123_456)));
        assert_eq!(sent_us(b"short"), None);
    }
}
