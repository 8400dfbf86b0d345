//! Tests of the whole crate over a disk in memory: scripts for what recovery decides, units for what
//! scripts cannot say. Crashes are simulated in `sim/src/wal_power_loss.rs`.

mod disk;
mod script;
mod units;
