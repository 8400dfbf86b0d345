//! MVCC key-value state machine with etcd's semantics. (chapter to be written with the implementation)

#![forbid(unsafe_code)]

pub mod check;
pub mod codec;
mod error;
pub mod hub;
mod layout;
mod lease;
pub mod limits;
mod machine;
mod read;
mod record;
mod types;
mod view;

pub use error::{Halt, ReadError};
pub use machine::{Applied, At, Kv};
pub use types::*;
pub use view::{History, KvHash, View};
