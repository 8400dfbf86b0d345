//! Locks, in two ways. [`Caller`] asks the server's lock service. [`Locker`] is the client recipe, over transactions, leases and watches alone, as etcd's own clients
//! do it: a key below the lock's name, bound to a lease; the lowest create revision owns the lock;
//! everybody else waits for the key just before its own to go. Both sides of a row are driven in the
//! same way, so that it compares servers and not recipes.

use crate::closed::Client;
use crate::wire::Conn;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use quorate_wire::etcdserverpb as etcd;
use quorate_wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_wire::etcdserverpb::kv_client::KvClient;
use quorate_wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_wire::etcdserverpb::request_op::Request;
use quorate_wire::etcdserverpb::watch_create_request::FilterType;
use quorate_wire::etcdserverpb::watch_request::RequestUnion;
use quorate_wire::v3lockpb::lock_client::LockClient;
use quorate_wire::v3lockpb::{LockRequest, UnlockRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

/// Far longer than a run, so that no renewal is part of the measurement.
const LEASE_TTL_S: i64 = 600;
/// Requests of one client on its watch stream: a creation and a cancellation.
const WATCH_REQUESTS: usize = 4;

async fn lease(conn: &Conn) -> Result<i64> {
    let grant = etcd::LeaseGrantRequest { ttl: LEASE_TTL_S, id: 0 };
    Ok(conn.lease().lease_grant(grant).await?.into_inner().id)
}

/// One contender that asks the lock service: locks, then unlocks.
pub struct Caller {
    lock: LockClient<Conn>,
    request: LockRequest,
}

impl Caller {
    /// A contender for the lock `name`.
    pub async fn new(conn: &Conn, name: &str) -> Result<Self> {
        let request = LockRequest { name: name.to_owned().into(), lease: lease(conn).await? };
        Ok(Self { lock: conn.lock(), request })
    }

    /// Whether the server has the service at all.
    pub async fn is_served(conn: &Conn) -> bool {
        let answer = conn.lock().unlock(UnlockRequest { key: Bytes::from_static(b"none") }).await;
        !answer.is_err_and(|status| status.code() == Code::Unimplemented)
    }
}

impl Client for Caller {
    async fn once(&mut self) -> Result<()> {
        let key = self.lock.lock(self.request.clone()).await?.into_inner().key;
        self.lock.unlock(UnlockRequest { key }).await?;
        Ok(())
    }
}

/// One contender that follows the recipe: locks, then unlocks.
pub struct Locker {
    kv: KvClient<Conn>,
    prefix: String,
    key: Bytes,
    lease: i64,
    watch: Watch,
}

impl Locker {
    /// A contender for the lock `name`; `i` tells the contenders apart.
    pub async fn new(conn: &Conn, name: &str, i: usize) -> Result<Self> {
        let lease = lease(conn).await?;
        let prefix = format!("{name}/");
        let key = format!("{prefix}{i:08}").into();
        let watch = Watch { conn: conn.clone(), stream: None, last_id: 0 };
        Ok(Self { kv: conn.kv(), prefix, key, lease, watch })
    }

    /// Creates the own key. Returns its revision.
    async fn enter(&mut self) -> Result<i64> {
        let absent = etcd::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: self.key.clone(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Default::default()
        };
        let put =
            etcd::PutRequest { key: self.key.clone(), lease: self.lease, ..Default::default() };
        let success = vec![super::kv::op(Request::RequestPut(put))];
        let txn = etcd::TxnRequest { compare: vec![absent], success, failure: vec![] };
        let answer = self.kv.txn(txn).await?.into_inner();
        ensure!(answer.succeeded, "the contender's key was still there");
        Ok(answer.header.context("a response without a header")?.revision)
    }

    /// The key just before `mine`, and the revision at which it was seen.
    async fn predecessor(&mut self, mine: i64) -> Result<Option<(Bytes, i64)>> {
        let range = etcd::RangeRequest {
            key: self.prefix.clone().into(),
            range_end: prefix_end(&self.prefix),
            max_create_revision: mine - 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            limit: 1,
            ..Default::default()
        };
        let found = self.kv.range(range).await?.into_inner();
        let revision = found.header.context("a response without a header")?.revision;
        Ok(found.kvs.into_iter().next().map(|kv| (kv.key, revision)))
    }
}

impl Client for Locker {
    async fn once(&mut self) -> Result<()> {
        let mine = self.enter().await?;
        while let Some((key, seen)) = self.predecessor(mine).await? {
            self.watch.until_deleted(key, seen + 1).await?;
        }
        let delete = etcd::DeleteRangeRequest { key: self.key.clone(), ..Default::default() };
        let answer = self.kv.delete_range(delete).await?.into_inner();
        ensure!(answer.deleted == 1, "the lock's key had vanished while it was held");
        Ok(())
    }
}

/// The first key behind all that start with `prefix`, which ends in a slash.
fn prefix_end(prefix: &str) -> Bytes {
    let stem = prefix.strip_suffix('/').expect("a lock's prefix ends in a slash");
    format!("{stem}0").into()
}

/// One watch stream, opened when it is first needed.
struct Watch {
    conn: Conn,
    stream: Option<(mpsc::Sender<etcd::WatchRequest>, Streaming<etcd::WatchResponse>)>,
    last_id: i64,
}

impl Watch {
    async fn until_deleted(&mut self, key: Bytes, from: i64) -> Result<()> {
        self.last_id += 1;
        let create = etcd::WatchCreateRequest {
            key,
            start_revision: from,
            filters: vec![FilterType::Noput.into()],
            watch_id: self.last_id,
            ..Default::default()
        };
        self.send(RequestUnion::CreateRequest(create)).await?;
        let (_, responses) = self.stream.as_mut().context("opened by the creation")?;
        loop {
            let response = responses.message().await?.context("the watch stream ended")?;
            if response.watch_id != self.last_id {
                continue;
            }
            if response.canceled {
                bail!("a watcher was cancelled: {}", response.cancel_reason);
            }
            if !response.events.is_empty() {
                break;
            }
        }
        let cancel = etcd::WatchCancelRequest { watch_id: self.last_id };
        self.send(RequestUnion::CancelRequest(cancel)).await
    }

    async fn send(&mut self, request: RequestUnion) -> Result<()> {
        let request = etcd::WatchRequest { request_union: Some(request) };
        if let Some((requests, _)) = &self.stream {
            return requests.send(request).await.context("the watch stream ended");
        }
        let (requests, receiver) = mpsc::channel(WATCH_REQUESTS);
        requests.send(request).await.context("the receiver is held here")?;
        let answer = self.conn.watch().watch(ReceiverStream::new(receiver)).await?;
        self.stream = Some((requests, answer.into_inner()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_character() {
        assert_eq!(prefix_end("lock/"), Bytes::from_static(b"lock0"));
        assert!(b"lock/zzz".as_slice() < &prefix_end("lock/")[..]);
    }
}
