//! Tests of the key-value machine through its public face.
//!
//! - `scripts`: transcripts in `testscripts/`, one scenario a file, following etcd's golden transcript;
//! - `properties`: random entries against `model`, with crashes and physical compaction in between;
//! - `watch`: the nine watch properties over random histories, stalls and compactions;
//! - `encoding`, `checks`: the codec, and the duplicate check against all paths written out.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside #[test] functions")]

mod checks;
mod encoding;
mod generate;
mod harness;
mod model;
mod properties;
mod scripts;
mod watch;
