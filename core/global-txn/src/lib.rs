//! Global transactions: branches in other people's services that all happen, or all do not.
//!
//! # The idea
//!
//! A *global transaction* spans *branches*: operations of services that know nothing of each other and share
//! no database. Nothing can make them change at one moment. What can be had is that a durable *record* says
//! what shall come of them, and that whoever holds that record goes on calling until it has come to be (Gray
//! 1978; Garcia-Molina and Salem 1987 for sagas; Helland 2007 for why). This crate keeps such records in a
//! keyspace of `quorate-kv`, so that they are as durable as anything in the log, and drives them.
//!
//! Its kinds, statuses, texts and quirks are DTM's, whose clients exist in many languages; where DTM's
//! behaviour loses data it is not copied (`docs/guarantees.md` names each case).
//!
//! # Two halves
//!
//! ```text
//!   client ──► front (every node) ──Txn──► log ──► g/<gid> applied everywhere ──► driver (leader only)
//!                ▲                                                                  │ Call
//!                └── Reply when applied, or when waiters see the record change      ▼
//!                                                    log ◄──Txn── transition ◄── participants
//! ```
//!
//! - The **front** turns a request into one key-value transaction: read the record, decide what becomes of it,
//!   write it if nobody else has meanwhile. A lost race is decided again. A refusal is told only after the log has
//!   confirmed that the record on which it rests is the newest.
//! - The **driver** runs where the leader is. It learns from applied changes and from the index of due times what there
//!   is to do, calls participants, and writes down what they answered. It has no state that the keyspace does not
//!   have, so that a new leader just goes on.
//!
//! # Rules
//!
//! 1. One function changes records: `transition::transition`. One function a kind says what is next: `plan`.
//!    Both are pure. The diagram of statuses stands with the first.
//! 2. A call is made only when the record that justifies it has been applied (contract 14).
//! 3. Each write of the driver compares its *epoch* (the revision at which it took `own/0`) and the record's
//!    revision. A driver that was deposed writes nothing, whatever it still believes.
//! 4. Calls are made at least once, and one made by a deposed driver may arrive after its successor's. The
//!    participant's barrier absorbs that (`docs/internals/global-txn.md`).
//! 5. Everything waits in group time. Wall clocks are kept for people to look at.
//!
//! # What differs from DTM
//!
//! - Submitting twice does not call a finished branch again, and never skips the second phase.
//! - The pause between tries doubles up to a bound and is jittered; DTM's doubles for ever.
//! - Each branch has its own pause: one that fails does not hold up its siblings.
//! - A stored option is not lost when a later request does not repeat it.
//!
//! # What is left out
//!
//! Transport, JSON and the names of fields are the rim's; deadlines, limits and breakers of calls are
//! `quorate-outcall`'s; replication is the host's.

#![forbid(unsafe_code)]

mod agenda;
mod answer;
mod api;
mod call;
mod codec;
mod create;
mod decide;
mod driver;
mod front;
mod gid;
mod json;
pub mod keys;
mod kind;
pub mod limits;
mod machine;
mod planted;
mod record;
mod subject;
mod tally;
#[cfg(test)]
mod tests;
mod topics;
mod transition;
mod waiters;
mod write;

pub use api::*;
pub use gid::GlobalTxnId;
pub use kind::{Plan, Target, plan, waited_for};
pub use machine::GlobalTxn;
pub use record::*;
pub use tally::*;
pub use transition::{Event, NewRow, Stamp, Took, transition};
