//! Calls to other people's services as a machine.
//!
//! A global transaction is as good as its calls to participants, and participants are what fails most: they are slow,
//! restart, answer half, answer twice. [`Outcalls`] decides when a call is attempted, at which address, for how long,
//! how often, and when a destination is left alone. It touches no socket and no clock: attempts go out as
//! [`Output::Attempt`] to an executor, their results come back as [`Input::AttemptDone`].
//!
//! # What it promises
//!
//! - Each `Start` is answered by exactly one `Done`, at the latest when `RetryPolicy::within` is over (and a `Tick` came).
//! - No attempt begins after a call's time is over, or after it was cancelled.
//! - At no moment are more attempts under way than `Limits` says, in all and to one destination.
//! - Calls to one destination begin in the order in which they came; a further attempt stands behind those that wait.
//! - **A slow destination does not delay another.** Its attempts fill its own share; everything else of it waits in its
//!   own queue, and when it keeps failing, its circuit breaker ([`BreakerState`]) answers its calls at once. It takes
//!   `attempts / attempts_per_destination` slow destinations at a time, none of them suspended, before others wait, and
//!   even then destinations take turns. `tests/avalanche.rs` plays it both ways.
//!
//! # What it does not promise
//!
//! A call without an answer may have been carried out; one with an answer may have been carried out more often than once.
//! Whoever starts calls must live with that (contract 14). Everything here is volatile: after a restart nothing is
//! suspended, and calls are started again by whoever has their record.
//!
//! # What counts against a destination
//!
//! No connection, a broken one, no answer in time, an answer that is none, HTTP 5xx and 429, and gRPC's
//! `DeadlineExceeded`, `ResourceExhausted`, `Internal` and `Unavailable`. An answer that says no is an answer: one with a
//! word of `Call::verdicts` in it speaks for the destination whatever its status.
//!
//! # The parts
//!
//! `destination` (what URLs have in common), `machine` (a call from start to end), `in_hand` (one call), `service`
//! (one destination: queue, share, whose turn), `breaker`, `answer` (what a result says), `figures`, [`limits`].
//!
//! Left out: health of single addresses (a bad one among good ones costs the retries that its share of calls takes),
//! priorities, and bounds of a destination that adapt to its latency.
#![forbid(unsafe_code)]

mod answer;
mod api;
mod backoff;
mod breaker;
mod destination;
mod figures;
mod in_hand;
pub mod limits;
mod machine;
mod service;

pub use api::*;
pub use breaker::BreakerState;
pub use destination::{Destination, Target};
pub use figures::{DestinationFigures, Figures};
pub use machine::Outcalls;

#[cfg(test)]
mod tests;
