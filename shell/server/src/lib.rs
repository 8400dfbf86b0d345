//! The server: sockets, threads and files around a `quorate_node::Node`.
//!
//! A put, from socket to disk and back:
//!
//! 1. `serve` accepts the connection and hands it to a runtime; hyper speaks HTTP/2; `grpc` takes the
//!    message out of the stream; `api::etcd` finds the method's line and decodes.
//! 2. `api/etcd/kv.rs` turns it into a command; `handle` takes a slot to wait in and pushes the request
//!    into the `inbox`.
//! 3. `node_thread` drains the inbox, steps the node with each request, and ends the burst. The node
//!    asks for records to be made durable: the node thread writes and syncs them itself if nothing else
//!    is going on, else the WAL thread does.
//! 4. The node is told that they are durable, applies the entries, and says what happened: events for
//!    the watch hubs and replies, in this order, as one vector for each runtime (`mailbox`).
//! 5. The `runtime` hands events to its watch hub (`watch`) and replies to the slots; the handler wakes,
//!    and `grpc` encodes its answer.
//!
//! Around it: `config` and `cli` (what users write), `run` (starting and stopping), `data_dir` (opening
//! and refusing data), `peer` (other nodes), `outcall` (calls to participants), `http` and `metrics`, `disk_space`
//! (the watermark).

pub mod api;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod disk_space;
pub mod exit;
pub mod grpc;
pub mod handle;
pub mod http;
pub mod identity;
pub mod inbox;
pub mod limits;
pub mod mailbox;
pub mod metrics;
pub mod node_thread;
pub mod outcall;
pub mod peer;
pub mod run;
pub mod runtime;
pub mod serve;
pub mod terminal;
pub mod watch;

use quorate_consensus::GroupId;

/// What etcd's clients are told that they talk to: they derive features from it.
pub const VERSION_TOLD: &str = "3.5.21";

/// The one group of consensus that there is until placement is built.
pub const GROUP: GroupId = GroupId(1);

/// A view of the engine at one moment.
pub type Snapshot = quorate_storage::DiskSnapshot;
