//! Behaviour in scripts, failures in a small simulation; both over the same in-memory cluster.

mod checks;
mod cluster;
mod halts;
mod print;
mod script;
mod simulation;
mod witness;
