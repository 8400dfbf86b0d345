//! Every bound of a node, by name.

use std::time::Duration;

/// Requests waiting for their command to be applied; more are refused as overload.
pub const MAX_PENDING: usize = 65_536;

/// Reads waiting for a barrier or for the state machine to catch up; more are refused as overload.
pub const MAX_WAITING_READS: usize = 65_536;

/// Messages held back until the disk has what they promise. A follower answers each append with at
/// most one message, and the leader's window bounds appends, so that only a bug reaches this.
pub const MAX_HELD_MESSAGES: usize = 65_536;

/// Sealed tables that are not durable yet; more, and commands are refused as overload.
pub const MAX_SEALED_TABLES: usize = 4;

/// Clients that wait for a defragmentation, and as many for a compaction; more are refused as overload.
pub const MAX_DEFRAGMENTS: usize = 64;

/// Leases whose expiry is proposed in one burst: a mass expiry spreads over several entries groups.
pub const MAX_EXPIRIES_PER_BURST: usize = 256;

/// Committed entries that are applied in one burst; the replies to them leave before the next ones.
pub const ENTRIES_PER_BURST: usize = 64;

/// Committed entries that wait to be applied; more, and commands are refused as overload.
pub const MAX_UNAPPLIED: usize = 65_536;

/// Keys that physical compaction looks at in one burst.
pub const COMPACTION_KEYS_PER_BURST: usize = 512;

/// Pause between two bursts of physical compaction when nothing else happens.
pub const COMPACTION_PAUSE: Duration = Duration::from_millis(1);

/// How soon physical compaction looks again when the engine's active table is full.
pub const COMPACTION_WAIT: Duration = Duration::from_millis(100);

/// While leases exist the leader writes the group time at least this often (contract 4).
pub const TIME_ENTRY_MS: u64 = 1_000;

/// The same while all that may wait are global transactions whose time is far off: what a failover may put
/// these off by.
pub const FAR_TIME_ENTRY_MS: u64 = 60_000;

/// Longest URL or name in a member's record, in bytes.
pub const MAX_MEMBER_TEXT: usize = 4_096;

/// Most URLs in a member's record.
pub const MAX_MEMBER_URLS: usize = 64;

/// Learners at a time (etcd's default).
pub const MAX_LEARNERS: usize = 1;

/// How often revision-based automatic compaction looks.
pub const AUTO_COMPACTION_CHECK: Duration = Duration::from_secs(300);

/// Longest interval between two time-based automatic compactions.
pub const AUTO_COMPACTION_MAX_INTERVAL: Duration = Duration::from_secs(3_600);
