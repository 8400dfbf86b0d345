//! Every bound of making attempts, by name. How many are made at a time is `quorate_outcall::limits`' matter.

use std::time::Duration;

/// Largest body of an answer, in bytes; a larger one is an error.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Largest head of an answer over HTTP/1.1, in bytes.
pub const MAX_HEAD_BYTES: usize = 64 << 10;

/// Largest list of header fields over HTTP/2, in bytes.
pub const MAX_HEADER_LIST_BYTES: u32 = 64 << 10;

/// Redirects that are followed (as Go's client does).
pub const MAX_REDIRECTS: usize = 10;

/// How long one address of several may take to accept a connection before the next is tried. The last one has what
/// is left of the attempt's time.
pub const CONNECT_TIME: Duration = Duration::from_secs(1);

/// Idle connections that are kept for one address.
pub const MAX_IDLE_PER_ADDRESS: usize = 1_024;

/// Idle connections that are kept in all, and as many shared ones.
pub const MAX_IDLE: usize = 4_096;

/// How long a connection is kept without use. Shorter than what servers commonly wait (60 s and more).
pub const IDLE_TIME: Duration = Duration::from_secs(30);

/// How long a connection may take to become idle after its answer: a server that answers before it has read all of
/// the request keeps it busy.
pub const SETTLE_TIME: Duration = Duration::from_millis(500);

/// How often a shared connection with calls under way is asked whether it lives, and how long the answer may take.
pub const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// How long the addresses of a name are believed.
pub const NAME_TIME: Duration = Duration::from_secs(5);

/// Names whose addresses are remembered.
pub const MAX_NAMES: usize = 4_096;

/// Names that are looked up at a time, each on a thread of its own since the system's lookup blocks.
pub const MAX_LOOKUPS: usize = 64;
