//! Load generators and side-by-side comparisons.
//!
//! | module | what it is |
//! |---|---|
//! | `table`, `report` | the command `kv`: rows × sides, interleaved runs, medians, Markdown |
//! | `txn` | the command `txn`: global transactions beside calls and puts by hand, and beside DTM |
//! | `rows` | the rows as data, and the clients of each |
//! | `closed`, `open` | the two ways of loading a server |
//! | `servers`, `proc` | the measured processes: start, stop, CPU, memory |
//! | `wire`, `keys`, `sample`, `limits` | connections, keys and values, what a run measured, bounds |
//! | `bare` | the gRPC server that does nothing: the ceiling |
//! | `spike_threads`, `handoff` | docs/decisions/0001-threads.md |
//!
//! A generator and its servers share one machine, so every figure is a ratio's half: it means
//! something beside the figure of the other side in the same run, and nothing alone.

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
mod txn;
mod wire;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

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
    /// The table of global transactions: sagas, TCC, a killed leader, very many unfinished ones.
    Txn(txn::Options),
    /// The bare gRPC server; runs until it is killed.
    Bare(bare::Options),
    /// The spike of docs/decisions/0001-threads.md.
    Spike(spike_threads::matrix::Options),
    /// One server of the spike; runs until it is killed.
    SpikeServer(spike_threads::server::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Kv(options) => block_on(table::run(&options)),
        Command::Txn(options) => block_on(txn::run(&options)),
        Command::Bare(options) => bare::run(&options),
        Command::SpikeServer(options) => spike_threads::server::run(&options),
        Command::Spike(options) => block_on(spike_threads::matrix::run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The generator is one thread, so that a server has a core for itself. When it is told to end, the
/// future is dropped, and with it the servers that it started and their directories.
fn block_on<F: Future<Output = Result<()>>>(future: F) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = future => result,
            _ = terminate.recv() => bail!("ended by a signal"),
            _ = tokio::signal::ctrl_c() => bail!("ended by a signal"),
        }
    })
}
