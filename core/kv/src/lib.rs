//! MVCC key-value state machine with etcd's semantics. (chapter to be written with the implementation)

mod types;

pub use types::*;
