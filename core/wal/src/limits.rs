//! Named bounds of the log. Nothing in this crate grows past one of these.

/// Alignment of sync groups in a segment, in bytes: a page, so that two groups never share one.
pub const ALIGNMENT: u64 = 4096;

/// Default size of a segment, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// A sync group takes no further record once it holds this many bytes; the rest waits for the next.
pub const GROUP_BYTES: usize = 8 << 20;

/// Largest body of one record, in bytes. The node refuses larger commands before it proposes them.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// Largest body of a sync group: one that was just short of `GROUP_BYTES` and took the largest
/// record, and the checkpoints that open a segment. A length above this is damage, not data.
pub const MAX_GROUP_BYTES: usize = GROUP_BYTES + 2 * MAX_RECORD_BYTES;

/// Bytes that may wait in the writer before its owner must stop appending
/// (see [`crate::Writer::is_full`]).
pub const MAX_PENDING_BYTES: usize = 64 << 20;

/// The index for reading entries back gets a new point after this many bytes of a segment.
pub const INDEX_STRIDE: u64 = 64 << 10;

/// Once a segment is filled to 1/SPARE_AT of its size, the next one is asked for.
pub const SPARE_AT: u64 = 4;

/// Consensus groups that one log carries.
pub const MAX_GROUPS: usize = 4096;

/// Members of one consensus group, and ids remembered as removed.
pub const MAX_MEMBERS: usize = 65_535;

/// Bytes that recovery reads at a time.
pub const READ_AHEAD: usize = 1 << 20;

/// Spans that one plan for reading entries back covers: at least 16 MiB of the log, with the
/// default stride.
pub const MAX_READ_SPANS: usize = 256;
