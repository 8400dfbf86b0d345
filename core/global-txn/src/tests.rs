//! Behaviour in transcripts (`testscripts/<kind>/<scenario>`), failures in a simulation; both over the same
//! cluster in memory: real key-value machines behind one log, real machines of this crate, and participants
//! that keep barriers.

mod agent;
mod cluster;
mod participants;
mod script;
mod simulation;
mod split;
