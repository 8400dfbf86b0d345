//! Every bound of the load generators, by name.

use std::time::Duration;

/// Longest that a server may take until it serves.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two looks at a server that is starting.
pub const START_POLL: Duration = Duration::from_millis(5);
/// Attempts to find free ports and start a server on them.
pub const START_ATTEMPTS: usize = 3;
/// Lines of a server's standard error that are kept to explain a failure.
pub const LOG_TAIL_LINES: usize = 40;
/// Longest line of a server's standard error that is looked at, in bytes.
pub const LOG_LINE_BYTES: u64 = 64 * 1024;
/// HTTP/2 window of a stream and of a connection, in bytes: never what is measured.
pub const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Streams on one connection.
pub const MAX_STREAMS: u32 = 16 * 1024;
/// Longest time a single call may take before a run counts as failed.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time that a compaction may take while puts go on.
pub const COMPACTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Time for background work after a fill, before anything is read off.
pub const SETTLE: Duration = Duration::from_secs(3);
/// Load average at the start above which a table says that the machine was not quiet.
pub const QUIET_LOAD: f64 = 0.5;
/// Calls in flight in an open loop; what would come on top is counted as missed.
pub const OPEN_LOOP_IN_FLIGHT: usize = 20_000;
/// Interval at which an open loop sends what is due.
pub const OPEN_LOOP_TICK: Duration = Duration::from_millis(1);
/// Unrecorded load before each window.
pub const WARM_UP: Duration = Duration::from_millis(500);
/// Longest latency that a histogram tells apart, in microseconds.
pub const MAX_LATENCY_US: u64 = 60_000_000;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 256;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Keys of the rows that do not say otherwise.
pub const KEYS: u64 = 100_000;
/// Puts in one transaction while filling a store (etcd allows 128).
pub const FILL_BATCH: u64 = 100;
/// Fill transactions in flight.
pub const FILL_CLIENTS: u64 = 16;
