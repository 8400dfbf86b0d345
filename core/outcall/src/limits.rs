//! Every bound of this crate, by name (house rule 10). None of them changes what is stored anywhere.

use std::time::Duration;

/// Longest URL, in bytes.
pub const MAX_URL: usize = 8 << 10;

/// Longest authority of a URL, in bytes: what a destination's name takes in memory and in metrics.
pub const MAX_AUTHORITY: usize = 1 << 10;

/// Ends of phases (time over, pause over) that one `Tick` looks at; the next deadline is then in the past, and the
/// next `Tick` goes on.
pub const TIMERS_PER_STEP: usize = 1_024;

/// What one machine bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attempts under way at a time, over all destinations: sockets and tasks of the host.
    pub attempts: usize,
    /// Attempts under way at a time to one destination. A small part of `attempts`, since that is what keeps
    /// a slow destination from taking everybody's.
    pub attempts_per_destination: usize,
    /// Calls that wait for their turn at one destination; more are refused.
    pub waiting_per_destination: usize,
    /// Calls that are not done, over all destinations; more are refused.
    pub calls: usize,
    /// Bytes of URLs, headers and bodies of these calls; more are refused.
    pub bytes: usize,
    /// Destinations that are remembered. The one that has been idle for longest is forgotten for a new one;
    /// if none is idle, the new one's calls are refused.
    pub destinations: usize,
    /// Failures in a row after which a destination is suspended.
    pub failures: u32,
    /// How long it is suspended at first; doubles with each probe that fails. Short, so that the restart of a
    /// service costs its callers little.
    pub suspension: Duration,
    /// Bound of the doubling.
    pub longest_suspension: Duration,
    /// Bound of `Call::timeout` and `RetryPolicy::within`; longer ones are cut to it.
    pub longest_call: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 4_096,
            attempts_per_destination: 128,
            waiting_per_destination: 16_384,
            calls: 65_536,
            bytes: 128 << 20,
            destinations: 4_096,
            failures: 8,
            suspension: Duration::from_millis(200),
            longest_suspension: Duration::from_secs(30),
            longest_call: Duration::from_secs(600),
        }
    }
}
