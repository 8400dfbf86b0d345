//! A whole server as one value that is stepped.
//!
//! A [`Node`] owns the log's machine (`quorate-consensus`), the key-value machine (`quorate-kv`) and the
//! engine, and routes between them and whoever waits. It touches no clock, file, socket or thread: time
//! and results come in as [`Input`], everything durable or visible goes out as [`Output`]. The real
//! server and the simulator drive the same value.
//!
//! A put, from request to reply:
//!
//! 1. `requests`: the command is checked, admitted (quota, disk, tables, bounds) and encoded; its waiter
//!    goes into `pending` under a sequence number that the entry carries as its origin.
//! 2. `flush`: at the end of the burst consensus hands all new entries to the disk (and to the peers).
//! 3. `raft`: `Persisted` comes back; consensus finds the entries committed and hands them over.
//! 4. `apply`: the key-value machine applies each; events go out first, then the replies of the entries
//!    whose origin is this node and this boot.
//!
//! A linearizable read joins its burst's barrier (`reads`), waits until the state has caught up, and is
//! answered with a view that any thread may scan.
//!
//! Global transactions (`layers`) are a machine of their own that is stepped beside the key-value machine: it
//! writes through the log like a client, reads what is applied, and has calls made (contract 13).
//!
//! Left out until there is more than one group: routing by keyspace. Left out altogether: leases of
//! leadership (reads always take a barrier).
#![forbid(unsafe_code)]

mod api;
mod apply;
mod autocompact;
mod defragment;
mod envelope;
mod flush;
mod install;
mod layers;
mod leases;
pub mod limits;
mod members;
mod node;
mod outbox;
mod pending;
mod raft;
mod reads;
mod requests;
mod timers;
mod wire;

pub use api::*;
pub use members::{infos, initial_membership, to_info, to_member};
pub use node::{Halt, Node};

#[cfg(test)]
mod tests;
