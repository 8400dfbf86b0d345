//! Every bound of this crate, by name (house rule 10).
//!
//! What an operator or a test may tune is a field of [`Limits`]; what is part of the format or of the
//! protocol is a constant.

/// Most members, learners included, that a group may have.
pub const MAX_MEMBERS: usize = 64;

/// Most removed ids that a membership remembers; one more removal is refused.
pub const MAX_REMOVED: usize = 65_536;

/// Longest context of a member, in bytes.
pub const MAX_CONTEXT_BYTES: usize = 65_536;

/// Most (node, boot) pairs whose forwards a leader remembers within one term; forwards of further
/// pairs are refused as overload.
pub const MAX_FORWARD_ORIGINS: usize = 4_096;

/// Tunable bounds of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the log's tail kept in memory. Entries that are not yet applied or not yet durable
    /// stay whatever this says; they are bounded by the leader's `uncommitted_bytes` and window.
    pub log_cache_bytes: usize,
    /// Bytes appended by the leader and not committed; above it proposals are `Overloaded`.
    pub uncommitted_bytes: usize,
    /// Bytes of entries in one append; a larger entry travels alone.
    pub append_bytes: usize,
    /// Entries in one append.
    pub append_entries: usize,
    /// Appends under way to one peer.
    pub inflight_messages: usize,
    /// Bytes of entries under way to one peer.
    pub inflight_bytes: usize,
    /// Reads waiting for their barrier, forwarded ones included.
    pub pending_reads: usize,
    /// Confirmation rounds of reads under way; further reads gather for the next.
    pub read_rounds: usize,
    /// Bytes of proposals gathered for one forward; above it proposals are `Overloaded`.
    pub forward_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            log_cache_bytes: 64 * MIB,
            uncommitted_bytes: 64 * MIB,
            append_bytes: MIB,
            append_entries: 4_096,
            inflight_messages: 256,
            inflight_bytes: 16 * MIB,
            pending_reads: 65_536,
            read_rounds: 16,
            forward_bytes: 16 * MIB,
        }
    }
}
