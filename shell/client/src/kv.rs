//! Keys, watches and leases: etcd's API of Quorate, as a library. (Feature `kv`.)
//!
//! A [`Client`] knows all members, asks one of them and goes to the next when that one does not answer. What is safe is
//! asked again by itself: reads always, writes only if the last attempt certainly did nothing. A write
//! whose outcome nobody knows is [`Error::Unknown`], and never repeated.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use quorate_client::kv::*;
//! # async fn example() -> Result<(), Error> {
//! let client = Client::connect(&["http://10.0.0.1:2379", "http://10.0.0.2:2379", "http://10.0.0.3:2379"])?;
//! client.put(Put::new("colour", "red")).await?;
//! let pair = client.get("colour").await?.expect("it was put just now");
//!
//! // Only if nobody else has changed it since.
//! let unchanged = Compare::mod_revision("colour", Is::Equal, pair.mod_revision);
//! let txn = Txn::when([unchanged]).then([Op::put(Put::new("colour", "green"))]);
//! let done = client.txn(txn).await?.succeeded;
//! println!("{}", if done { "green" } else { "somebody else was faster" });
//!
//! // Everything from now on, through restarts and changes of leaders, each once and in order.
//! let mut watch = client.watch(Range::prefix("service/")).await?;
//!
//! // Here as long as this process lives, and ten seconds longer.
//! let lease = client.lease(Duration::from_secs(10)).await?;
//! client.put(Put::new("service/me", "10.0.0.9:80").lease(lease.id())).await?;
//! tokio::select! {
//!     batch = watch.next() => println!("{:?}", batch?.events),
//!     why = lease.lost() => println!("nobody may think that this process is alive: {why}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Left out: passwords, TLS, locks as such. (A lock is a key that a transaction makes if it is missing, with a
//! lease; its create revision is the fencing token.)

mod call;
mod error;
mod lease;
mod request;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_wire::etcdserverpb as pb;
use quorate_wire::etcdserverpb::kv_client::KvClient;
use quorate_wire::mvccpb;

pub use error::Error;
pub use lease::{Lease, Lost};
pub use request::{Compare, Is, Op, Put, Range, Txn};
pub use watch::{Batch, Event, Watch};

use call::{Members, Repeat};

/// How long an operation may take if nothing else is said, with all its attempts. Servers give up after 7 s.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest message that is read, in bytes.
const MAX_MESSAGE: usize = 64 << 20;

/// A store's logical time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A lease's name; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// One version of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// When the key last came into being.
    pub create_revision: Revision,
    /// When this version was written.
    pub mod_revision: Revision,
    /// Writes since the key came into being, this one included.
    pub version: i64,
    /// The lease that ends it; 0 = none.
    pub lease: LeaseId,
}

impl From<mvccpb::KeyValue> for KeyValue {
    fn from(kv: mvccpb::KeyValue) -> Self {
        Self {
            key: kv.key,
            value: kv.value,
            create_revision: Revision(kv.create_revision),
            mod_revision: Revision(kv.mod_revision),
            version: kv.version,
            lease: LeaseId(kv.lease),
        }
    }
}

/// What a range held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The store's revision when it was read; the page is from the revision that was asked for.
    pub revision: Revision,
    /// Pairs in the order of keys.
    pub pairs: Vec<KeyValue>,
    /// Whether the limit cut it.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: i64,
}

impl From<pb::RangeResponse> for Page {
    fn from(response: pb::RangeResponse) -> Self {
        Self {
            revision: revision_of(response.header.as_ref()),
            pairs: response.kvs.into_iter().map(KeyValue::from).collect(),
            more: response.more,
            count: response.count,
        }
    }
}

/// What a write did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The store's revision after it: the write's own, unless it changed nothing.
    pub revision: Revision,
    /// Keys that are deleted.
    pub deleted: i64,
    /// What was there before, if it was asked for.
    pub previous: Vec<KeyValue>,
}

impl From<pb::PutResponse> for Written {
    fn from(response: pb::PutResponse) -> Self {
        let revision = revision_of(response.header.as_ref());
        Self {
            revision,
            deleted: 0,
            previous: response.prev_kv.map(Into::into).into_iter().collect(),
        }
    }
}

impl From<pb::DeleteRangeResponse> for Written {
    fn from(response: pb::DeleteRangeResponse) -> Self {
        let previous = response.prev_kvs.into_iter().map(KeyValue::from).collect();
        let revision = revision_of(response.header.as_ref());
        Self { revision, deleted: response.deleted, previous }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The store's revision after it.
    pub revision: Revision,
    /// Whether all conditions held.
    pub succeeded: bool,
    /// What became of each operation of the list that ran.
    pub results: Vec<OpResult>,
}

/// What became of one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// Of a get.
    Page(Page),
    /// Of a put or a delete.
    Written(Written),
}

/// A cluster's members. Cheap to clone; clones share connections, and go on together when a member fails.
#[derive(Clone, Debug)]
pub struct Client {
    members: Arc<Members>,
    timeout: Duration,
}

impl Client {
    /// A client of these members, such as `http://127.0.0.1:2379`. It connects with its first request, so this works while
    /// they are down. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// `Malformed` for an address that is none, or without any.
    pub fn connect(endpoints: &[impl AsRef<str>]) -> Result<Self, Error> {
        let members = Members::new(endpoints.iter().map(AsRef::as_ref))?;
        Ok(Self { members: Arc::new(members), timeout: TIMEOUT })
    }

    /// With another limit for each operation, its attempts included.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The newest version of a key; linearizable.
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, Error> {
        Ok(self.range(Range::key(key)).await?.pairs.into_iter().next())
    }

    /// The pairs of a range.
    ///
    /// # Errors
    /// `Compacted` for a revision that is forgotten; `Unavailable`, `Refused`.
    pub async fn range(&self, range: Range) -> Result<Page, Error> {
        let request = range.into_request();
        let response = self.call(Repeat::Freely, |to| {
            let request = to.request(request.clone());
            async move { kv(to.channel).range(request).await }
        });
        Ok(response.await?.into())
    }

    /// Writes a key.
    ///
    /// # Errors
    /// `Unknown`: it may have happened, or may yet. After `Unavailable` and `Refused` it has not happened and will
    /// not.
    pub async fn put(&self, put: Put) -> Result<Written, Error> {
        let request = put.into_request();
        let response = self.call(Repeat::IfNothingWasDone, |to| {
            let request = to.request(request.clone());
            async move { kv(to.channel).put(request).await }
        });
        Ok(response.await?.into())
    }

    /// Deletes the keys of a range. Only key and end of the range count.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn delete(&self, range: Range) -> Result<Written, Error> {
        let request = range.into_delete();
        let response = self.call(Repeat::IfNothingWasDone, |to| {
            let request = to.request(request.clone());
            async move { kv(to.channel).delete_range(request).await }
        });
        Ok(response.await?.into())
    }

    /// Carries out one list of operations if all conditions hold, else the other, at one revision.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn txn(&self, txn: Txn) -> Result<Outcome, Error> {
        let request = txn.into_request();
        let response = self.call(Repeat::IfNothingWasDone, |to| {
            let request = to.request(request.clone());
            async move { kv(to.channel).txn(request).await }
        });
        Ok(request::outcome(response.await?))
    }

    /// Forgets versions that no read at or above this revision needs.
    ///
    /// # Errors
    /// `Compacted` if that was done before; as [`Self::put`].
    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let request = pb::CompactionRequest { revision: revision.0, physical: false };
        let response = self.call(Repeat::IfNothingWasDone, |to| {
            let request = to.request(request);
            async move { kv(to.channel).compact(request).await }
        });
        response.await.map(drop)
    }

    /// Watches a range from now on: every change that is written after this returns is seen.
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    pub async fn watch(&self, range: Range) -> Result<Watch, Error> {
        Watch::start(self, range, None).await
    }

    /// Watches a range from this revision on, it included: [`Page::revision`] plus one goes on where a range ended, [`Batch::next`]
    /// where another watch did.
    ///
    /// # Errors
    /// As [`Self::watch`]; `Compacted` comes from [`Watch::next`].
    pub async fn watch_from(&self, range: Range, revision: Revision) -> Result<Watch, Error> {
        Watch::start(self, range, Some(revision)).await
    }

    /// A lease of at least this long (whole seconds; the server may make it longer), which is renewed in the
    /// background until it is dropped.
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    pub async fn lease(&self, ttl: Duration) -> Result<Lease, Error> {
        Lease::grant(self, ttl).await
    }
}

fn kv(channel: tonic::transport::Channel) -> KvClient<tonic::transport::Channel> {
    KvClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

fn revision_of(header: Option<&pb::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision))
}
