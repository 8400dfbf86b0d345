//! The key-value state machine: etcd's data model, apart from etcd's wire and apart from consensus.
//!
//! # The model
//!
//! A *keyspace* (contract 17) is a map from keys to pairs together with its whole past. Its time is its
//! *revision*: 1 when empty, one more with each entry of the log that changes anything. A put makes a new
//! *version* of a key, a delete a *tombstone*; versions carry the revision that made them
//! (`mod_revision`), the one that began their key's present life (`create_revision`), and their place in
//! that life (`version`). All changes of one entry share one revision; their order within it is `sub`.
//!
//! ```text
//! revision      2        3        4        5        6
//! key a         put 1             del               put 3      version 1, then 1 again
//! key b                  put 2             put 4               versions 1 and 2
//!                                 ▲ read at 4: b=2 only        ▲ head of a    (b's head: 5)
//! ```
//!
//! Any revision not below the *compact revision* can be read, watched from, and hashed.
//!
//! # The parts
//!
//! - [`Kv`] (`machine`): applies entries. A pure function of engine, machine and entry (contract 3); a
//!   refused command is a result and has changed nothing. Everything that grows with the data lives in the
//!   engine; in memory are revisions, the lease table and alarms.
//! - [`View`]: reads at a moment, on any thread: ranges, read-only transactions, history, hashes, keys of a
//!   lease. The same code (`read`) serves reads inside transactions.
//! - [`check`]: what a node checks of a request before it proposes it.
//! - [`codec`]: commands as bytes of the log.
//! - [`hub`]: watch streams, fed with events, off the node's thread (contract 12).
//!
//! # On the engine
//!
//! The newest version of each key stands under `h/`, one point read away; on overwrite the old one moves to
//! `v/`, newest first; `r/` lists all changes in order, for history and compaction; `l/` and `a/` are
//! leases and attachments; `m` is the meta record. `docs/internals/kv-format.md` gives every byte.
//!
//! The engine has no journal. `checkpoint` writes the meta record right before the engine is sealed; after a
//! crash [`Kv::open`] finds one such checkpoint, and the log replays what came after.
//!
//! # Compaction
//!
//! `Compact` moves the compact revision, on every member at the same entry. Physical removal
//! ([`Kv::compact_step`]) is local, bounded and resumable, and no reply, event or hash shows how far it is
//! (contract 18; `machine::compact`).
//!
//! # What differs from etcd, and what is left out
//!
//! - Keys are at most [`limits::MAX_KEY`] long; transactions nest at most [`limits::MAX_TXN_DEPTH`] deep.
//! - A put followed by a delete of its key in a later nested transaction is refused as a duplicate; etcd
//!   finds only the opposite order.
//! - Renewals are entries (contract 11), deadlines count group time, and a failover extends nothing.
//! - `count` costs a walk over the range, with or without a limit.
//! - A range's result is gathered in memory, however large. So are the events of one revision.
//! - Auth, quotas (the node raises the alarm), and timers belong to others.

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
