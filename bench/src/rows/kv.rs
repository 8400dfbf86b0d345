//! Clients of the key-value rows: put, get, transaction, and a mixture.

use crate::closed::Client;
use crate::keys::{Rng, key, value};
use crate::wire::Conn;
use anyhow::Result;
use bytes::Bytes;
use quorate_wire::etcdserverpb as etcd;
use quorate_wire::etcdserverpb::kv_client::KvClient;

/// Puts random keys.
pub struct Put {
    kv: KvClient<Conn>,
    rng: Rng,
    keys: u64,
    value: Bytes,
}

impl Put {
    /// A client that draws from `keys` keys.
    pub fn new(conn: &Conn, seed: u64, keys: u64) -> Self {
        Self { kv: conn.kv(), rng: Rng::new(seed), keys, value: value(seed) }
    }
}

impl Client for Put {
    async fn once(&mut self) -> Result<()> {
        let key = key(self.rng.below(self.keys));
        self.kv.put(put(key, &self.value)).await?;
        Ok(())
    }
}

/// A put of one key.
pub fn put(key: Bytes, value: &Bytes) -> etcd::PutRequest {
    etcd::PutRequest { key, value: value.clone(), ..Default::default() }
}
