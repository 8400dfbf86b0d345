//! Clients of the key-value rows: put, get, transaction, and a mixture; and the filling of a store.

use std::time::Duration;

use crate::closed::Client;
use crate::keys::{Rng, key, value};
use crate::limits::{FILL_BATCH, FILL_CLIENTS};
use crate::wire::Conn;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use quorate_wire::etcdserverpb as etcd;
use quorate_wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_wire::etcdserverpb::kv_client::KvClient;
use quorate_wire::etcdserverpb::request_op::Request;
use tokio::task::JoinSet;

/// What a client of this file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Puts a random key.
    Put,
    /// Reads a random key; from the member's own state if serializable.
    Get {
        /// May be answered without asking the other members.
        serializable: bool,
    },
    /// Puts a random key if it exists.
    Txn,
    /// A put or a linearizable get, evenly.
    Mixed,
}

/// One client of a key-value row.
pub struct KvLoad {
    kv: KvClient<Conn>,
    work: Work,
    rng: Rng,
    keys: u64,
    value: Bytes,
}

impl KvLoad {
    /// A client that draws from the first `keys` keys.
    pub fn new(conn: &Conn, work: Work, seed: u64, keys: u64) -> Self {
        Self { kv: conn.kv(), work, rng: Rng::new(seed), keys, value: value(seed) }
    }

    /// One client for each of `count`, spread over the connections.
    pub fn many(conns: &[Conn], work: Work, count: usize, keys: u64) -> Vec<Self> {
        let of = |i: usize| Self::new(&conns[i % conns.len()], work, i as u64, keys);
        (0..count).map(of).collect()
    }

    async fn get(&mut self, key: Bytes, serializable: bool) -> Result<()> {
        let range = etcd::RangeRequest { key, serializable, ..Default::default() };
        let found = self.kv.range(range).await?.into_inner();
        ensure!(found.kvs.len() == 1, "a key that was filled in is missing");
        Ok(())
    }

    async fn txn(&mut self, key: Bytes) -> Result<()> {
        let compare = etcd::Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Version.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::Version(0)),
            ..Default::default()
        };
        let success = vec![op(Request::RequestPut(put(key, &self.value)))];
        let txn = etcd::TxnRequest { compare: vec![compare], success, failure: vec![] };
        let answer = self.kv.txn(txn).await?.into_inner();
        ensure!(answer.succeeded, "the compare of an existing key failed");
        Ok(())
    }
}

impl Client for KvLoad {
    async fn once(&mut self) -> Result<()> {
        let key = key(self.rng.below(self.keys));
        let work = match self.work {
            Work::Mixed if self.rng.below(2) == 0 => Work::Put,
            Work::Mixed => Work::Get { serializable: false },
            other => other,
        };
        match work {
            Work::Get { serializable } => self.get(key, serializable).await,
            Work::Txn => self.txn(key).await,
            Work::Put | Work::Mixed => {
                self.kv.put(put(key, &self.value)).await?;
                Ok(())
            }
        }
    }
}

/// A put of one key.
pub fn put(key: Bytes, value: &Bytes) -> etcd::PutRequest {
    etcd::PutRequest { key, value: value.clone(), ..Default::default() }
}

/// One operation of a transaction.
pub fn op(request: Request) -> etcd::RequestOp {
    etcd::RequestOp { request: Some(request) }
}

/// Pause of a filling client that is told to come back later.
const FILL_PAUSE: Duration = Duration::from_millis(20);

/// Writes the first `keys` keys once, in large transactions.
pub async fn fill(conn: &Conn, keys: u64) -> Result<()> {
    let mut tasks = JoinSet::new();
    for first in 0..FILL_CLIENTS {
        let mut kv = conn.kv();
        tasks.spawn(async move {
            let value = value(first);
            let mut from = first * FILL_BATCH;
            while from < keys {
                let batch = (from..keys.min(from + FILL_BATCH)).map(key);
                let success = batch.map(|k| op(Request::RequestPut(put(k, &value)))).collect();
                let txn = etcd::TxnRequest { success, ..Default::default() };
                while let Err(status) = kv.txn(txn.clone()).await {
                    // Filling is faster than files are merged: a server may say so, and is asked again.
                    if status.message() != "etcdserver: too many requests" {
                        return Err(status);
                    }
                    tokio::time::sleep(FILL_PAUSE).await;
                }
                from += FILL_CLIENTS * FILL_BATCH;
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a filling client panicked")?.context("filling the store failed")?;
    }
    Ok(())
}
