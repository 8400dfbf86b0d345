//! Why a machine refuses to go on.

use crate::{LogIndex, NodeId, Seq, Term};

/// A broken invariant or corrupt input. No output of the step that met it is valid, no later step does
/// anything, and the process stops (contract 1). Never retried; nothing durable has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// What recovery found contradicts itself.
    #[error("recovered log is inconsistent: {0}")]
    Recovery(&'static str),
    /// The configuration cannot work.
    #[error("invalid configuration: {0}")]
    Config(&'static str),
    /// A leader asks to replace a committed entry: some member lost or forged data.
    #[error("entry {index} is committed, but leader {leader} of term {term} has another")]
    CommittedConflict {
        /// The entry.
        index: LogIndex,
        /// The leader.
        leader: NodeId,
        /// Its term.
        term: Term,
    },
    /// Election safety (section 5.2) is broken.
    #[error("term {term} has two leaders, {one} and {other}")]
    TwoLeaders {
        /// The term.
        term: Term,
        /// The leader known so far.
        one: NodeId,
        /// The other.
        other: NodeId,
    },
    /// The leader saw entries here that are gone: this disk lost acknowledged data.
    #[error("the leader saw this log reach {seen}, but it ends at {last}")]
    LostLog {
        /// What the leader knows of.
        seen: LogIndex,
        /// Where the log ends.
        last: LogIndex,
    },
    /// The log on disk returned something else than was written.
    #[error("entry {index} read from disk is not the one that was written")]
    CorruptLog {
        /// The entry.
        index: LogIndex,
    },
    /// The driver confirmed what was never handed to it.
    #[error("seq {seq} was confirmed, but only {handed} were handed out")]
    UnknownSeq {
        /// What it said.
        seq: Seq,
        /// What there is.
        handed: Seq,
    },
    /// The driver spoke of a position that it cannot have reached.
    #[error("position {index} reported, but only {bound} can be")]
    ImpossibleIndex {
        /// What it said.
        index: LogIndex,
        /// The highest, or lowest, that is possible.
        bound: LogIndex,
    },
}
