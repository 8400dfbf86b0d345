//! The log on disk: every durable fact about every group of consensus, in one file after another.
//!
//! What Raft calls persistent state (its figure 2: term, vote, log), and what snapshots and the engine's
//! checkpoints add to it, goes through here; the engine has no journal of its own. The bytes are
//! specified in `docs/internals/wal-format.md`.
//!
//! # Writing
//!
//! [`Writer`] is a machine: batches of [`Record`]s go in, operations of a disk come out. It writes one
//! *sync group* at a time: a header, records, zeros up to the next page, then one fdatasync. What is
//! appended meanwhile becomes the next group, so a busy log needs no timer to gather work, and everything
//! below the last group is durable for certain. A record's payload is copied once, into the group.
//!
//! ```text
//!  append 1 ─► [group 5: 1    ] sync ········ Persisted 1
//!  append 2 ─► waits
//!  append 3 ─► waits           [group 6: 2 3] sync ······ Persisted 3
//! ```
//!
//! Segments hold sync groups. The next one is created ahead of time. Each opens with a checkpoint of
//! every group of consensus, so an old one can go as soon as no entry in it is needed.
//!
//! # Recovery
//!
//! [`recover`] first reads (`survey`), then makes durable what it is about to promise. Its one hard
//! question is where the log ends. A bad group *at* the end is a torn write, which was never
//! acknowledged: it is cut at its first bad record. A bad group *before* a good one cannot be torn, since
//! the good one was written after a sync: that is corruption, and the log is refused as a whole. Between
//! the two lies what cannot be told apart, rot in the very last group.
//!
//! What survived of the last group may exist in the page cache only (the process died, the machine did
//! not). Before anything is promised, it is copied to a new segment and synced. A crash in between
//! changes nothing: a segment counts only if the group that opens it is whole.
//!
//! # Invariants
//!
//! 1. Group *k* + 1 is written after the sync of *k*; `Persisted` comes after the sync.
//! 2. A segment is deleted after the record that released its entries is durable.
//! 3. A log never goes back: no entry replaces a committed one, no commit index runs ahead of the
//!    entries, terms grow, votes stay. The writer refuses to write such a record; recovery refuses to read it.
//! 4. After a [`Halt`] nothing is written.
//!
//! # Left out
//!
//! Compression and encryption; skipping over damage; several logs in one directory; deciding when
//! entries may go (`core/node`); threads and files (`quorate-storage`). A log whose newest segment was
//! taken away by hand looks like an older log: peers notice (contract 8), this crate cannot.

#![forbid(unsafe_code)]

mod codec;
mod disk;
mod execute;
mod frame;
mod group_log;
mod inspect;
pub mod limits;
mod planted;
mod read;
mod record;
mod recovery;
mod replay;
mod survey;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

pub use disk::{Disk, DiskError, SegmentId};
pub use execute::{drive, perform, persisted};
pub use inspect::{GroupReport, Inspection, SegmentReport, inspect};
#[cfg(feature = "planted")]
pub use planted::PlantedBug;
pub use read::{ReadError, ReadPlan, read_entries};
pub use record::{Checkpoint, ClusterId, Generation, Identity, Opening, Predecessor, Record};
#[cfg(feature = "planted")]
pub use recovery::recover_planted;
pub use recovery::{Cut, Recovery, RecoveryError, create, recover};
pub use replay::RecoveredGroup;
pub use writer::{Config, Halt, Input, Output, Writer};

/// The version of the format that this code writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = frame::VERSION;
