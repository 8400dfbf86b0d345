//! Branches over real databases, killed and raced: PostgreSQL, MariaDB, SQLite and Redis, with crate
//! `quorate-client` as its users use it.

mod bank;
mod barrier;
mod money;
mod redis;
mod xa;
mod xa_edges;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quorate_client::Coordinator;
use quorate_e2e::ports;
use quorate_e2e::server::Server;
use quorate_e2e::tools::skip_for_etcd;
use tokio::time::Instant;

/// How long a transaction may take to end after the last fault.
const END: Duration = Duration::from_secs(40);

/// A server, where it speaks DTM's protocol, and its client; `None` if the server is etcd.
fn coordinator(suite: &str) -> Result<Option<(Server, String, Coordinator)>> {
    if skip_for_etcd(suite, "which has no global transactions")? {
        return Ok(None);
    }
    let endpoint = format!("127.0.0.1:{}", ports::free()?);
    let server = Server::start(&[&format!("--listen-dtm-urls=http://{endpoint}")])?;
    let coordinator = Coordinator::new(&format!("http://{endpoint}/api/dtmsvr"));
    Ok(Some((server, endpoint, coordinator)))
}

/// Waits until the transaction has ended; whether it succeeded. `None` if the coordinator has never heard of it.
async fn outcome(coordinator: &Coordinator, gid: &str) -> Result<Option<bool>> {
    let begun = Instant::now();
    loop {
        match coordinator.status(gid).await?.as_deref() {
            None => return Ok(None),
            Some("succeed") => return Ok(Some(true)),
            Some("failed") => return Ok(Some(false)),
            Some(status) if begun.elapsed() > END => {
                let found = coordinator.query(gid).await?;
                ensure!(begun.elapsed() < END, "{gid} is still {status}: {found}");
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(30)).await,
        }
    }
}

/// Numbers without a library: the same each time for the same seed.
struct Dice(u64);

impl Dice {
    /// One of `0..sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Serves branches; the address, without a slash at the end.
async fn serve(router: axum::Router) -> Result<String> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let base = format!("http://{}", listener.local_addr().context("bound")?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(base)
}
