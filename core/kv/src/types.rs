//! Requests, results and events of the key-value machine: etcd's model without etcd's wire.
//!
//! A rim (the etcd API, a recipe, a coordinator) turns its own requests into these, and these back into
//! its replies. Everything here is plain data; byte strings are shared, never copied.

use std::sync::Arc;

use bytes::Bytes;

/// A keyspace: its own revisions, compaction and quota (contract 17). 0 is what etcd clients see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceId(pub u32);

impl KeyspaceId {
    /// The keyspace of etcd clients.
    pub const ETCD: Self = Self(0);

    /// Whether older versions of its keys are kept until a compaction, so that it can be read and watched at
    /// earlier revisions. The keyspaces 256 to 511 belong to the server's own machines, which want the present
    /// alone: each change is compacted as it is made, and nothing of it is left behind.
    #[must_use]
    pub const fn keeps_history(self) -> bool {
        self.0 < 256 || self.0 > 511
    }
}

/// A keyspace's logical time: 1 when empty, plus one for each entry that changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of a keyspace nobody has written to.
    pub const FIRST: Self = Self(1);

    /// The following revision.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A lease. 0 means "none"; negative ids are legal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// No lease.
    pub const NONE: Self = Self(0);

    /// `None` for 0.
    #[must_use]
    pub fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// A key at one revision. A tombstone has `version` 0, `create_revision` 0, no value and no lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Revision of the first put of this life of the key.
    pub create_revision: Revision,
    /// Revision of this version.
    pub mod_revision: Revision,
    /// Puts since creation, this one included.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease it is attached to, or none.
    pub lease: LeaseId,
}

/// A set of keys as etcd writes it: `range_end` empty = the single key; `\0` = everything from `key`
/// on; otherwise `[key, range_end)`. Empty `key` with `\0` as end is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub key: Bytes,
    /// See above.
    pub range_end: Bytes,
}

impl KeyRange {
    /// Just this key.
    #[must_use]
    pub fn single(key: Bytes) -> Self {
        Self { key, range_end: Bytes::new() }
    }

    /// Whether it names one key.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.range_end.is_empty()
    }

    /// Whether it has no upper bound.
    #[must_use]
    pub fn is_open_ended(&self) -> bool {
        self.range_end.as_ref() == b"\0"
    }

    /// Whether `key` is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_single() {
            return key == self.key.as_ref();
        }
        key >= self.key.as_ref() && (self.is_open_ended() || key < self.range_end.as_ref())
    }
}

/// What to sort a range by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// Bytes of the key.
    #[default]
    Key,
    /// Version.
    Version,
    /// Create revision.
    Create,
    /// Mod revision.
    Mod,
    /// Bytes of the value.
    Value,
}

/// Sort order. `None` with a target other than the key is ascending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// Not given.
    #[default]
    None,
    /// Ascending.
    Ascend,
    /// Descending.
    Descend,
}

/// Bounds on revisions, inclusive; 0 = unset. Applied before `limit`, invisible to `count`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionFilter {
    /// Least mod revision.
    pub min_mod: i64,
    /// Greatest mod revision.
    pub max_mod: i64,
    /// Least create revision.
    pub min_create: i64,
    /// Greatest create revision.
    pub max_create: i64,
}

/// A read of a range of keys at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// At most this many pairs; <= 0: all.
    pub limit: i64,
    /// At this revision; <= 0: the latest.
    pub revision: i64,
    /// Sort order.
    pub order: SortOrder,
    /// Sort target.
    pub target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Revision bounds.
    pub filter: RevisionFilter,
}

/// Result of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// The keyspace's revision when it was read (not the revision asked for).
    pub revision: Revision,
    /// The pairs.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut some off.
    pub more: bool,
    /// Keys in the range at that revision, whatever limit and filters say.
    pub count: i64,
}

/// A put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Attach to this lease; none detaches.
    pub lease: LeaseId,
    /// Answer with the pair before.
    pub prev_kv: bool,
    /// Keep the current value (the key must exist).
    pub ignore_value: bool,
    /// Keep the current lease (the key must exist).
    pub ignore_lease: bool,
}

/// Result of a put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResult {
    /// Its revision.
    pub revision: Revision,
    /// The pair before, if asked for and there was one.
    pub prev_kv: Option<KeyValue>,
}

/// A delete of a range of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Answer with the pairs before.
    pub prev_kv: bool,
}

/// Result of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteResult {
    /// The revision after it: unchanged if nothing was deleted.
    pub revision: Revision,
    /// How many keys it deleted.
    pub deleted: i64,
    /// The pairs before, in key order, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// What a comparison looks at, with the value to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// Version.
    Version(i64),
    /// Create revision.
    Create(i64),
    /// Mod revision.
    Mod(i64),
    /// Value, bytewise; always false on a missing key.
    Value(Bytes),
    /// Lease.
    Lease(i64),
}

/// How a comparison compares: stored value first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// Equal.
    Equal,
    /// Stored is greater.
    Greater,
    /// Stored is less.
    Less,
    /// Not equal.
    NotEqual,
}

/// A condition on every key of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which keys.
    pub range: KeyRange,
    /// Which field, and against what.
    pub target: CompareTarget,
    /// How.
    pub result: CompareResult,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read.
    Range(RangeRequest),
    /// Put.
    Put(PutRequest),
    /// Delete.
    Delete(DeleteRequest),
    /// Nested transaction.
    Txn(TxnRequest),
}

/// If all of `compare` hold, `success`, else `failure`; as one atomic step at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    /// Conditions; none = true.
    pub compare: Vec<Compare>,
    /// Operations when all hold.
    pub success: Vec<Op>,
    /// Operations when one does not.
    pub failure: Vec<Op>,
}

/// Result of one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// Of a read.
    Range(RangeResult),
    /// Of a put.
    Put(PutResult),
    /// Of a delete.
    Delete(DeleteResult),
    /// Of a nested transaction.
    Txn(TxnResult),
}

/// Result of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResult {
    /// The revision after it.
    pub revision: Revision,
    /// Whether the conditions held.
    pub succeeded: bool,
    /// One result an operation of the branch taken.
    pub responses: Vec<OpResult>,
}

/// An alarm that stands in the replicated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// The quota is exceeded: puts and grants are refused.
    NoSpace,
    /// Members disagree: nearly everything is refused.
    Corrupt,
}

/// A member's alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The member that raised it.
    pub member: u64,
    /// Which.
    pub kind: AlarmKind,
}

/// What an entry of the log tells the machine to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Put.
    Put(PutRequest),
    /// Delete.
    Delete(DeleteRequest),
    /// Transaction.
    Txn(TxnRequest),
    /// Forget history before this revision.
    Compact {
        /// The oldest revision that stays readable.
        revision: i64,
    },
    /// Create a lease. The id is chosen, and the TTL raised to the minimum, before proposing.
    LeaseGrant {
        /// Its id, not 0.
        id: LeaseId,
        /// Time to live, in seconds, >= 1.
        ttl_s: i64,
    },
    /// Remove a lease and its keys, in one revision.
    LeaseRevoke {
        /// Which.
        id: LeaseId,
    },
    /// Extend these leases to their full TTL from the entry's group time.
    LeaseRenew {
        /// Which; unknown ones are reported with TTL 0.
        ids: Vec<LeaseId>,
    },
    /// Revoke a lease if its deadline is still the one the leader saw (contract 11).
    LeaseExpire {
        /// Which.
        id: LeaseId,
        /// The deadline that had passed, in ms of group time.
        deadline_ms: u64,
    },
    /// Raise an alarm.
    AlarmRaise(Alarm),
    /// Clear a member's alarm; `member` 0: everybody's of that kind.
    AlarmClear(Alarm),
}

/// Reply to a command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `Put`.
    Put(PutResult),
    /// To `Delete`.
    Delete(DeleteResult),
    /// To `Txn`.
    Txn(TxnResult),
    /// To `Compact`.
    Compact {
        /// The keyspace's current revision.
        revision: Revision,
    },
    /// To `LeaseGrant`.
    LeaseGrant {
        /// The keyspace's current revision.
        revision: Revision,
        /// The id.
        id: LeaseId,
        /// The TTL, in seconds.
        ttl_s: i64,
    },
    /// To `LeaseRevoke` and `LeaseExpire`.
    LeaseRevoke {
        /// The revision after it.
        revision: Revision,
    },
    /// To `LeaseRenew`: the TTL of each, in seconds, 0 for an unknown one.
    LeaseRenew {
        /// The keyspace's current revision.
        revision: Revision,
        /// In the order asked.
        ttls_s: Vec<i64>,
    },
    /// To `AlarmRaise` and `AlarmClear`: what was raised or cleared.
    Alarm {
        /// The keyspace's current revision.
        revision: Revision,
        /// The alarms that changed.
        alarms: Vec<Alarm>,
    },
}

/// Why a request was refused. A result, the same on every member; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Empty key.
    #[error("key is not provided")]
    EmptyKey,
    /// `ignore_*` on a missing key, or an operation without content.
    #[error("key not found")]
    KeyNotFound,
    /// `ignore_value` with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// More operations than allowed.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// A key put twice, or put and deleted, in one transaction.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// Key longer than `MAX_KEY`, or the request larger than allowed.
    #[error("request is too large")]
    TooLarge,
    /// The revision asked for is gone.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision asked for is not there yet.
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    /// No such lease.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// A lease of that id exists.
    #[error("lease already exists")]
    LeaseExists,
    /// TTL above 9,000,000,000 s.
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// NOSPACE alarm.
    #[error("mvcc: database space exceeded")]
    NoSpace,
    /// CORRUPT alarm.
    #[error("corrupt cluster")]
    Corrupt,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was put.
    Put,
    /// It was deleted.
    Delete,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Put or delete.
    pub kind: EventKind,
    /// The pair after; for a delete only key and mod revision.
    pub kv: KeyValue,
    /// The pair before, if the key existed.
    pub prev_kv: Option<KeyValue>,
}

impl Event {
    /// Bytes it is counted as against bounds: keys, values, and a share for the rest.
    #[must_use]
    pub fn size(&self) -> usize {
        let pair = |kv: &KeyValue| kv.key.len() + kv.value.len() + 32;
        pair(&self.kv) + self.prev_kv.as_ref().map_or(0, pair)
    }
}

/// All changes of one revision, in the order of operations; shared by everybody who needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// Of which keyspace.
    pub keyspace: KeyspaceId,
    /// The revision.
    pub revision: Revision,
    /// At least one.
    pub events: Arc<[Event]>,
}

/// A lease as its table shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Its id.
    pub id: LeaseId,
    /// Granted TTL, in seconds.
    pub ttl_s: i64,
    /// Deadline, in ms of group time.
    pub deadline_ms: u64,
}
