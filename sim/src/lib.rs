//! Deterministic simulation of whole clusters, from one seed.
//!
//! A run builds a world: servers with the real `core/node` and the real `core/wal` over a simulated disk,
//! a network, a clock for each server, clients and watchers, all driven by one queue of events in
//! simulated time on one thread. Nothing in it reads a clock or a random number but the seed's own, so a
//! seed is a complete description of a run: the same seed gives the same bytes, on any machine.
//!
//! A run has three parts. Until second 46 things break, of the kinds that the seed has drawn
//! ([`options`], [`faults`]). Then everything is repaired, and work must go on: at least 60 s and 1,000
//! acknowledged operations. At last the clients stop, all servers must agree, and the whole history is
//! judged. Checkers ([`check`], one file a property) look on all the while; the first violation ends
//! the run with its evidence.
//!
//! What keeps the checkers honest: hand-made bad histories in their unit tests, a second, general
//! linearizability checker, and [`planted`] bugs in the driver, each with a seed that must fail.
//!
//! | file | what |
//! |---|---|
//! | `world` | state, events, the loop |
//! | `server`, `drive` | a machine, its clock, its process: bursts of inputs, outputs |
//! | `storage`, `disk`, `transfer` | the log's disk, starts and crashes; log reads and snapshots |
//! | `clients`, `workload`, `watchers`, `streams` | who uses it, and for what |
//! | `global/` | global transactions: applications, services, calls |
//! | `nemesis`, `network` | what breaks |
//! | `finale`, `check/`, `model` | what must hold |
//! | `run`, `hunt`, `report` | one seed; many; what they met |
//!
//! Left out: the shell (sockets, files, threads), which `e2e` runs for real; the disk engine, in whose
//! place stands the in-memory one with its checkpoints (both pass one contract suite).

#![forbid(unsafe_code)]

pub mod check;
mod clients;
pub mod disk;
mod drive;
pub mod faults;
mod finale;
mod global;
pub mod history;
pub mod hunt;
pub mod isolation;
pub mod model;
mod nemesis;
pub mod network;
pub mod options;
pub mod planted;
pub mod queue;
pub mod report;
pub mod rng;
mod run;
mod server;
mod spoil;
mod storage;
mod streams;
pub mod trace;
mod transfer;
mod watchers;
mod workload;
mod world;

pub use global::GlobalTally;
pub use run::{Outcome, run};
pub use world::Tally;

#[cfg(test)]
mod wal_power_loss;
