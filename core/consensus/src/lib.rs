//! A replicated log as a value: Raft (Ongaro and Ousterhout 2014; "section" means theirs, "thesis" means
//! Ongaro's of 2014) without threads, clocks, files or sockets.
//!
//! # What it is
//!
//! Some nodes keep the same list of entries. One of them, the *leader* of a *term*, appends; the others
//! copy. An entry is *committed* once a majority holds it durably, and from then on every node's list has
//! exactly that entry there, whatever crashes or is cut off. State machines that apply the committed
//! entries in order are equal; that is all that the rest of the system builds on.
//!
//! [`Raft`] is one node's part. It is stepped: [`Input`] in, [`Output`] out, nothing else (architecture,
//! contract 1). The driver writes what `Persist` says, sends what `Send` says once `after` is durable,
//! applies what `Apply` says, and calls again at `next_deadline`.
//!
//! # What it promises
//!
//! - **Election safety** (5.2): at most one leader a term. A vote, and a candidate's own, counts only
//!   when it can no longer be forgotten.
//! - **Leader append-only** (5.3): a leader never cuts or changes its own log.
//! - **Log matching** (5.3): if two logs have an entry of the same index and term, they are equal up to it.
//! - **Leader completeness** (5.4): a committed entry is in the log of every later leader. Entries of
//!   older terms are committed only along with one of the leader's own (5.4.2, figure 8).
//! - **State machine safety** (5.4.3): no two nodes are handed different entries for one index. A node is
//!   handed only what is also durable at itself.
//! - **Linearizable reads** (section 8, thesis 6.4): a barrier stands behind everything that was
//!   committed when it was asked for; it costs a round of heartbeats and no disk.
//! - **At most once**: a proposal, forwarded or not, is appended at most once by the leader it was meant
//!   for, and never after it was refused. It may be neither refused nor applied: then its outcome is
//!   unknown, and nobody proposes it again (contract 15).
//! - **Group time** (contract 4): stamps along the log never fall and never outrun the leaders' clocks.
//!
//! As long as a majority is up, connected and able to write, some leader emerges within a few election
//! timeouts and everything above makes progress. A majority that lost its disks is not a majority: what
//! recovery cannot account for is a [`Halt`], not a guess.
//!
//! # What it adds to the paper
//!
//! Pre-vote (thesis 9.6) and check-quorum (6.2), so that a node which was cut off neither disturbs the
//! others nor leads on alone; appends sent before the leader's own disk has them (10.2.1), several deep;
//! conflict hints that skip whole terms; leadership transfer (3.10); learners and single-member changes
//! (4.1–4.2); batched read barriers for followers, too; several disk writes under way at once; what members
//! have seen of each other's promises, so that one with an old disk is found out ([`Witness`]).
//!
//! # What is left out
//!
//! - Reads on a leader's lease: unsafe when a process is paused, and the batched barrier is fast enough.
//! - Joint consensus (section 6): it comes with placement. One member at a time covers the rest.
//! - Moving snapshots: this crate says when one is needed and takes note of it ([`Raft::wants_snapshot`],
//!   [`Input::SnapshotInstalled`], [`Input::SnapshotSent`]); the driver moves the bytes.
//! - Encryption, authentication, membership of strangers: who sends what is for the transport to prove.
//!
//! # Where to read
//!
//! [`Input`] and [`Output`] first, then `raft/mod.rs` for the table of its parts; `testscripts/` shows the
//! protocol happening, one file a scenario; [`codec`] has the bytes.

mod api;
pub mod codec;
pub mod limits;
mod message;
pub mod quorum;
mod raft;
mod types;

pub use api::*;
pub use message::*;
#[cfg(feature = "planted")]
pub use raft::PlantedBug;
pub use raft::{Config, Flow, Forgotten, Halt, Progress, Raft, Witness};
pub use types::*;
