//! A replicated log as a value.

pub mod limits;
mod api;
mod message;
pub mod quorum;
mod raft;
mod types;

pub use api::*;
pub use message::*;
pub use raft::{Config, Flow, Halt, Progress, Raft};
pub use types::*;
