//! Deterministic simulation of whole clusters (chapter below, being written).

pub mod check;
pub mod disk;
pub mod faults;
pub mod history;
pub mod model;
pub mod network;
pub mod options;
pub mod planted;
pub mod queue;
pub mod rng;
pub mod trace;

#[cfg(test)]
mod wal_power_loss;
