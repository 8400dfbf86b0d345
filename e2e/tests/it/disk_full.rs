//! A full disk: writes are refused with NOSPACE, reads go on, and writing resumes by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::Client;
use quorate_e2e::history::{Outcome, check};
use quorate_e2e::limits::{POLL, RECOVERY};
use quorate_e2e::load::{Load, put_until_acknowledged, read_events};
use quorate_e2e::mount::Mount;
use quorate_e2e::server::{Plan, Server};
use quorate_e2e::tools::{skip, skip_for_etcd};
use tonic::Code;

use crate::status;

/// Room for the ballast, log segments and checkpoints with plenty to spare; sparse.
const DISK_BYTES: u64 = 2 << 30;
/// Below every watermark, above what the process needs to go on.
const NEARLY_FULL: u64 = 200 << 20;

/// The server is last, so that it is dropped first.
fn start(suite: &str) -> Result<Option<(Mount, Server)>> {
    if skip_for_etcd(suite, "which stops when its disk is full")? {
        return Ok(None);
    }
    let mount = match Mount::new(DISK_BYTES) {
        Ok(mount) => mount,
        Err(error) => {
            skip(suite, format!("{error:#}"));
            return Ok(None);
        }
    };
    let mut server = Plan::new(mount.path().join("data"))?.spawn()?;
    server.wait_ready()?;
    Ok(Some((mount, server)))
}

/// Waits until a put is refused; gives what it said.
async fn refusal(client: &mut Client) -> Result<(Code, String)> {
    let start = Instant::now();
    while start.elapsed() < RECOVERY {
        if let Err(error) = client.put("probe", "v", None).await {
            return Ok(status(error));
        }
        tokio::time::sleep(POLL).await;
    }
    anyhow::bail!("writes went on for {RECOVERY:?} on a full disk")
}

#[tokio::test]
async fn writes_are_refused_and_resume_by_themselves() -> Result<()> {
    let Some((mount, mut server)) = start("disk_full")? else { return Ok(()) };
    let mut client = server.client_within(Duration::from_secs(5)).await?;
    client.put("kept", "v", None).await?;
    let load = Load::start(&[server.client_url()], 4, "w").await?;
    load.progress(100).await?;
    mount.fill(NEARLY_FULL)?;
    let text = "etcdserver: mvcc: database space exceeded".to_owned();
    assert_eq!(refusal(&mut client).await?, (Code::ResourceExhausted, text));
    assert_eq!(client.get("kept", None).await?.kvs().len(), 1, "reads go on");
    client.delete("kept", None).await.context("deletes make room and are allowed")?;
    mount.release()?;
    put_until_acknowledged(&mut client, "resumed").await?;
    load.progress(100).await?;
    let history = load.finish().await?;
    let refused = history.writes.iter().filter(|write| write.outcome == Outcome::Refused).count();
    assert!(refused > 0, "the load was refused at least once");
    check(&history, &read_events(&mut client, "w").await?)?;
    server.kill9()?;
    server.restart()?;
    check(&history, &read_events(&mut server.client().await?, "w").await?)
}

/// No time for a watermark: the last byte is gone from one moment to the next. Refusing or stopping
/// are both fine; losing an acknowledged write is not, nor is a start that fails when space is back.
#[tokio::test]
async fn a_disk_full_to_the_last_byte_loses_nothing() -> Result<()> {
    let Some((mount, mut server)) = start("disk_full: last byte")? else { return Ok(()) };
    let load = Load::start(&[server.client_url()], 4, "w").await?;
    load.progress(100).await?;
    mount.fill(0)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let history = load.finish().await?;
    server.kill9()?;
    mount.release()?;
    server.restart()?;
    let mut client = server.client().await?;
    put_until_acknowledged(&mut client, "resumed").await?;
    check(&history, &read_events(&mut client, "w").await?)
}

#[tokio::test]
async fn a_start_on_a_full_disk_serves_reads() -> Result<()> {
    let Some((mount, mut server)) = start("disk_full: start")? else { return Ok(()) };
    server.client().await?.put("kept", "v", None).await?;
    server.kill9()?;
    mount.fill(NEARLY_FULL)?;
    server.restart()?;
    let mut client = server.client_within(Duration::from_secs(5)).await?;
    assert_eq!(client.get("kept", None).await?.kvs().len(), 1);
    assert_eq!(refusal(&mut client).await?.0, Code::ResourceExhausted);
    mount.release()?;
    put_until_acknowledged(&mut client, "resumed").await?;
    Ok(())
}
