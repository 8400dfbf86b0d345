//! The peer: DTM's own server over Redis that syncs each write (`appendfsync always`), as durable as ours.

use crate::limits::{START_POLL, START_TIMEOUT};
use crate::servers::{Process, command, free_ports};
use crate::txn::http::HttpConn;
use crate::txn::saga::Place;
use anyhow::{Result, bail};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;

/// Both processes; they end with the value.
#[derive(Debug)]
pub struct Dtm {
    // Ended first, so that it does not complain about the other.
    server: Process,
    redis: Process,
    address: SocketAddr,
    _dir: TempDir,
}

impl Dtm {
    /// Starts both on free ports and a fresh directory, and waits until they serve.
    pub async fn start(dtm: &Path, redis: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("quorate-bench-").tempdir()?;
        let ports = free_ports(4)?;
        let (store, http, grpc, rpc) = (ports[0], ports[1], ports[2], ports[3]);
        let mut started = command(redis, &redis_arguments(store), dir.path())?;
        started.env("LC_ALL", "C").env("LD_LIBRARY_PATH", libraries(redis));
        let mut redis = Process::spawn(started, "Ready to accept connections")?;
        redis.await_ready()?;
        let mut started = command(dtm, &[], dir.path())?;
        started.env("GIN_MODE", "release").env("LOG_LEVEL", "warn");
        started.env("STORE_DRIVER", "redis").env("STORE_HOST", "127.0.0.1");
        for (name, at) in [
            ("STORE_PORT", store),
            ("HTTP_PORT", http),
            ("GRPC_PORT", grpc),
            ("JSON_RPC_PORT", rpc),
        ] {
            started.env(name, at.port().to_string());
        }
        // It says nothing at this level when it is ready, so it is asked.
        let server = Process::spawn(started, "")?;
        let started = Self { server, redis, address: http, _dir: dir };
        started.answers().await?;
        Ok(started)
    }

    /// Where sagas go, and whose CPU time counts: that of both.
    pub fn place(&self) -> Place {
        Place { dtm: vec![self.address], kv: vec![], pids: vec![self.server.pid, self.redis.pid] }
    }

    /// The last words of both.
    pub fn tail(&self) -> String {
        format!("{}\n{}", self.redis.tail(), self.server.tail())
    }

    async fn answers(&self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START_TIMEOUT {
            if let Ok(mut conn) = HttpConn::open(self.address).await
                && conn.get("/api/dtmsvr/newGid").await.is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(START_POLL).await;
        }
        bail!("DTM did not serve within {START_TIMEOUT:?}:\n{}", self.tail())
    }
}

/// Where a program finds its libraries that lies in an unpacked tree instead of being installed: beside itself.
fn libraries(program: &Path) -> String {
    let Some(usr) = program.parent().and_then(Path::parent) else { return String::new() };
    let found = std::fs::read_dir(usr.join("lib")).into_iter().flatten().flatten();
    let folders = found.map(|entry| entry.path().display().to_string());
    folders.filter(|path| path.ends_with("-linux-gnu")).collect::<Vec<_>>().join(":")
}

fn redis_arguments(at: SocketAddr) -> Vec<OsString> {
    let port = at.port().to_string();
    let words = [
        "--bind",
        "127.0.0.1",
        "--port",
        &port,
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--logfile",
        "/dev/stderr",
    ];
    words.iter().map(OsString::from).collect()
}
