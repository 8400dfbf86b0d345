//! A replicated log as a value.

mod api;
pub mod codec;
pub mod limits;
mod message;
pub mod quorum;
mod raft;
mod types;

pub use api::*;
pub use message::*;
pub use raft::{Config, Flow, Halt, Progress, Raft};
pub use types::*;
