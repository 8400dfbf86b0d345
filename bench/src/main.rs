//! Load generators and side-by-side comparisons.

#![allow(unreachable_pub)]

mod bare;
mod closed;
mod handoff;
mod keys;
mod limits;
mod open;
mod proc;
mod report;
mod rows;
mod sample;
mod servers;
mod spike_threads;
mod table;
mod wire;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Quorate beside its peers.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The key-value table: ours, etcd and the bare gRPC server beside each other.
    Kv(table::Options),
    /// The bare gRPC server; runs until it is killed.
    Bare(bare::Options),
    /// The spike of docs/decisions/0001-threads.md.
    Spike(spike_threads::matrix::Options),
    /// One server of the spike; runs until it is killed.
    SpikeServer(spike_threads::server::Options),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Kv(options) => block_on(table::run(&options)),
        Command::Bare(options) => bare::run(&options),
        Command::SpikeServer(options) => spike_threads::server::run(&options),
        Command::Spike(options) => block_on(spike_threads::matrix::run(&options)),
    }
}

/// The generator is one thread, so that a server has a core for itself.
fn block_on<F: Future<Output = Result<()>>>(future: F) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
