//! Deterministic simulation of whole clusters (chapter below, being written).

pub mod check;
mod clients;
pub mod disk;
mod drive;
pub mod faults;
mod finale;
pub mod history;
pub mod hunt;
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
pub mod trace;
mod transfer;
mod watchers;
mod workload;
mod world;

pub use run::{Outcome, run};
pub use world::Tally;

#[cfg(test)]
mod wal_power_loss;
