//! What can go wrong: a halt, which stops the process, and a read's error.
//!
//! A refusal is neither: it is a result (`Refusal`), the same on every member, and nothing changed.

use quorate_engine::EngineError;

use crate::codec::DecodeError;
use crate::types::Refusal;

/// Applying cannot go on. The process stops; the state after the restart is a completed checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The engine failed, or one of its records is not what was written. The entry may have been
    /// carried out in part, in volatile memory only.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A committed entry does not decode. Nothing was changed.
    #[error("entry {index}: {cause}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        cause: DecodeError,
    },
}

/// A read did not succeed. It changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The request is not acceptable; the same answer everywhere.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine failed; the caller halts.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A stored record that is not what this crate writes.
pub(crate) fn corrupt(what: &str) -> EngineError {
    EngineError::Corrupt(what.to_owned())
}
