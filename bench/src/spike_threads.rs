//! The spike "Threads": what a Put costs between the socket and the node, without consensus.
//!
//! One server process with a Put-like handler in several layouts, measured by the closed loop
//! from another process. Its figures and the decision are in `docs/decisions/0001-threads.md`;
//! it stays in the tree so that the decision can be measured again.
//!
//! - [`stacks`]: four ways from bytes to a handler: tonic's server, hyper with tonic's generated
//!   service, hyper alone, h2 alone.
//! - [`node`]: the node thread's stand-in; answers a batch at a time.
//! - [`wal`]: one append and fdatasync a batch, on a real file.
//! - [`server`]: puts them together in threads.
//! - [`matrix`]: the combinations that are measured.

pub mod matrix;
pub mod node;
pub mod server;
pub mod stacks;
pub mod wal;

use clap::ValueEnum;

/// Where a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// In the handler itself: the bare server.
    Direct,
    /// On a node thread.
    Node,
    /// On the runtime's own thread, by a task that handles what has come, a batch at a time.
    Inside,
}

/// How the server speaks HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stack {
    /// tonic's transport and router.
    Tonic,
    /// hyper's connection, tonic's generated service.
    Hyper,
    /// hyper's connection, messages decoded and encoded by us.
    Raw,
    /// The h2 crate's connection, messages decoded and encoded by us.
    H2,
}

/// How a reply finds the handler that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reply {
    /// A slot of its runtime, one wake of the runtime a step.
    Slot,
    /// One oneshot channel and one wake a request.
    Oneshot,
}

/// Where a batch is made durable before its replies leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wal {
    /// Nowhere.
    None,
    /// On a WAL thread; the node goes on meanwhile.
    Thread,
    /// On the node thread itself.
    Inline,
    /// Inline while the node is idle and the batch small, else on the WAL thread.
    Adaptive,
}
