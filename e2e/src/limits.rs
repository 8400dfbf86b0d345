//! How long the suites wait, and how much they write. All waits are upper bounds: a healthy machine
//! needs a fraction.

use std::time::Duration;

/// From starting a process to its line "ready to serve client requests".
pub const READY: Duration = Duration::from_secs(20);
/// From SIGTERM to the end of the process.
pub const STOP: Duration = Duration::from_secs(15);
/// From starting a process that must refuse to its exit.
pub const REFUSAL: Duration = Duration::from_secs(10);
/// One command of a tool, such as etcdctl.
pub const COMMAND: Duration = Duration::from_secs(30);
/// From a fault's end, or from the loss of a leader, to the next acknowledged write.
pub const RECOVERY: Duration = Duration::from_secs(20);
/// One request of a load writer; after it the outcome is unknown.
pub const REQUEST: Duration = Duration::from_secs(2);
/// Silence after which a test concludes that a server will not send.
pub const SILENCE: Duration = Duration::from_millis(400);
/// One step of waiting for something that has no signal.
pub const POLL: Duration = Duration::from_millis(20);
/// Kept of a process's output, bytes; the rest is counted and dropped.
pub const LOG_BYTES: usize = 4 << 20;
/// etcd's bound of one request as encoded, bytes.
pub const MAX_REQUEST: usize = 1_572_864;
/// etcd's bound of one received message, bytes.
pub const MAX_MESSAGE: usize = 2_097_152;
