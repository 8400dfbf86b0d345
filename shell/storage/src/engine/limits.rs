//! Bounds of the disk engine. Those that its owner must know are in `quorate_engine`.

/// Runs in level 0 at which the engine thread compacts before it flushes more: then sealed tables pile
/// up, and at their bound the node refuses proposals. (The table layer itself never stalls writers.)
pub(crate) const MAX_L0_RUNS: usize = 16;

/// Runs in level 0 at which they are merged into level 1.
pub(crate) const L0_RUNS_TO_MERGE: u8 = 8;

/// Size of a table file that a compaction writes, in bytes. It is also the step of a compaction, which
/// nothing interrupts, so it bounds how long a sealed table may have to wait.
pub(crate) const TABLE_FILE_BYTES: u64 = 32 << 20;

/// Free space that a merge of all files must leave beside its own output, in bytes: the log and the next
/// checkpoints go on meanwhile. More than what the server refuses writes at, so that no merge causes that.
pub(crate) const MERGE_RESERVE_BYTES: u64 = 512 << 20;

/// Open table files.
pub(crate) const OPEN_FILES: usize = 256;

/// Values up to this length are copied when they are read, in bytes. A longer one shares its block of the
/// cache: the copy would cost more than what the rest of the block wastes while the value is held. In memory
/// tables longer records have an allocation of their own, so that sharing them wastes nothing.
pub(crate) const COPIED_VALUE_BYTES: usize = 2 << 10;

/// Most bytes of a manifest that are read for its check.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// Size of the pieces in which memory tables allocate, in bytes: small records share one.
pub(crate) const ARENA_BYTES: usize = 64 << 10;

/// A record must fit into a piece.
const _: () = assert!(COPIED_VALUE_BYTES <= ARENA_BYTES / 16);

/// Items of a table that is scanned after which they are put in order beside, so that whoever scans next has at most about as
/// many to sort: under a millisecond's work.
pub(crate) const ORDER_STEP: u32 = 2048;
