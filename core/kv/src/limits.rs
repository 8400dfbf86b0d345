//! Every bound of this crate, by name (house rule 10).
//!
//! Bounds that change what an entry does are part of the format and never configurable (contract 3);
//! bounds that a node checks before it proposes are in [`TxnLimits`]; the watch hub's are in
//! [`HubLimits`], since they change no result, only when a watcher has to read history.

/// Longest key, in bytes (contract 20). With its prefix it stays far below what the engine takes.
pub const MAX_KEY: usize = 32 * 1024 - 1;

/// Longest bound of a range, in bytes: clients that page through a keyspace go on at the last key
/// followed by a zero byte.
pub const MAX_BOUND: usize = MAX_KEY + 1;

/// Deepest nesting of transactions, the outermost one counted. Bounds the recursion of every
/// walk over a transaction, the decoder's first of all.
pub const MAX_TXN_DEPTH: usize = 64;

/// Longest time to live of a lease, in seconds; etcd's own bound.
pub const MAX_LEASE_TTL_S: i64 = 9_000_000_000;

/// Records that one call of `View::history` looks at before it returns with what it has.
pub const HISTORY_SCAN_RECORDS: usize = 16 * 1024;

/// Bytes of lately written heads kept in memory, per keyspace.
pub const HEAD_CACHE_BYTES: usize = 48 << 20;

/// Slots of that cache.
pub const HEAD_CACHE_SLOTS: usize = 1 << 18;

/// Parts of that cache that grow one by one; few slots of each are moved at a time.
pub const HEAD_CACHE_SHARDS: usize = 256;

/// Largest head that is cached, its key included, in bytes.
pub const MAX_CACHED_HEAD: usize = 4 << 10;

/// What a node checks of a transaction before it proposes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnLimits {
    /// Most conditions, and most operations in either branch, of a transaction together with the
    /// level above it (etcd's `--max-txn-ops`).
    pub max_ops: usize,
}

impl Default for TxnLimits {
    fn default() -> Self {
        Self { max_ops: 128 }
    }
}

/// Bounds of one watch hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubLimits {
    /// Bytes of recent events kept, per keyspace. A watcher that is not further behind reads no
    /// history.
    pub ring_bytes: usize,
    /// Bytes handed to one stream's connection and not yet drained, above which it gets no more.
    pub stream_bytes: usize,
    /// Bytes of events gathered into one response. A single revision may exceed it, since it is never
    /// split unless the watcher asked for fragments. Clients commonly take 4 MiB.
    pub response_bytes: usize,
    /// The same for a watcher that takes fragments.
    pub fragmented_bytes: usize,
    /// Bytes of events in one fragment: etcd's largest request and its allowance for gRPC.
    pub fragment_bytes: usize,
    /// Reads of history under way at a time.
    pub history_reads: usize,
    /// Watchers of one stream.
    pub watchers_per_stream: usize,
    /// Turns that watchers which are behind get in one step. A turn looks at no more than
    /// `ring_batches` revisions.
    pub turns: usize,
    /// Revisions of the ring that one turn looks at.
    pub ring_batches: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            ring_bytes: 64 << 20,
            stream_bytes: 4 << 20,
            response_bytes: 1 << 20,
            fragmented_bytes: 8 << 20,
            fragment_bytes: 2 << 20,
            history_reads: 16,
            watchers_per_stream: 100_000,
            turns: 64,
            ring_batches: 4096,
        }
    }
}
