//! The combinations that the spike measures, and its table.

use crate::closed;
use crate::limits::KEYS;
use crate::rows::kv::{KvLoad, Work};
use crate::sample::{Sample, median};
use crate::servers::{Cluster, Program};
use crate::wire::Conn;
use anyhow::Result;
use clap::Args;
use std::time::Duration;

/// Clients and the connections that they share.
const LOADS: [(usize, usize); 4] = [(1, 1), (64, 4), (256, 4), (1000, 16)];

/// What to compare.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Arguments of one server, as one word each set; repeat it for each variant.
    #[arg(long = "variant", allow_hyphen_values = true, default_values_t = default_variants())]
    pub variants: Vec<String>,
    /// Runs of each load; they are interleaved over the variants.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Length of a run, in seconds.
    #[arg(long, default_value_t = 2)]
    pub secs: u64,
    /// Only this number of clients.
    #[arg(long)]
    pub clients: Option<usize>,
}

fn default_variants() -> Vec<String> {
    let variants = [
        "--layout direct --stack tonic",
        "--layout direct --stack hyper",
        "--layout direct --stack raw",
        "--layout direct --stack h2",
        "--layout node --stack hyper",
        "--layout node --stack hyper --reply oneshot",
        "--layout node --stack hyper --runtimes 2",
        "--layout inside --stack hyper",
        "--layout node --stack hyper --wal thread",
        "--layout node --stack hyper --wal inline",
        "--layout node --stack hyper --wal adaptive",
        "--layout node --stack hyper --wal adaptive --runtimes 2",
        "--layout inside --stack hyper --wal thread",
    ];
    variants.map(str::to_owned).to_vec()
}

/// Measures all variants and prints a Markdown table.
pub async fn run(options: &Options) -> Result<()> {
    let clusters = options.variants.iter().map(|v| start(v)).collect::<Result<Vec<_>>>()?;
    println!("| variant | clients | rps | p50 ms | p99 ms | server µs/op | generator µs/op |");
    println!("|---|---|---|---|---|---|---|");
    for (clients, conns) in LOADS {
        if options.clients.is_some_and(|only| only != clients) {
            continue;
        }
        let mut samples = vec![Vec::new(); clusters.len()];
        for _ in 0..options.runs {
            for (cluster, samples) in clusters.iter().zip(&mut samples) {
                samples.push(measure(cluster, clients, conns, options.secs).await?);
            }
        }
        for (variant, samples) in options.variants.iter().zip(&samples) {
            let s = median(samples)?;
            println!(
                "| {} | {clients} | {:.0} | {:.2} | {:.2} | {:.1} | {:.1} |",
                short(variant),
                s.rate,
                s.p50_ms,
                s.p99_ms,
                s.cpu_us,
                s.generator_us,
            );
        }
    }
    Ok(())
}

fn start(variant: &str) -> Result<Cluster> {
    let args = ["spike-server"].into_iter().chain(variant.split_whitespace());
    Cluster::start(&Program::Own(args.map(str::to_owned).collect()), 1)
}

fn short(variant: &str) -> String {
    variant.split_whitespace().filter(|w| !w.starts_with("--")).collect::<Vec<_>>().join(" ")
}

async fn measure(cluster: &Cluster, clients: usize, conns: usize, secs: u64) -> Result<Sample> {
    let conns = Conn::open_many(&cluster.addresses(), conns).await?;
    let clients = KvLoad::many(&conns, Work::Put, clients, KEYS);
    closed::run(clients, &cluster.pids(), Duration::from_secs(secs)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{key, value};

    #[test]
    fn every_variant_is_understood_by_the_server() {
        use crate::spike_threads::server;
        use clap::{Args as _, FromArgMatches as _};
        for variant in default_variants() {
            let words = format!("x --listen 127.0.0.1:1 {variant}");
            let command = server::Options::augment_args(clap::Command::new("x"));
            let matches = command.try_get_matches_from(words.split_whitespace()).unwrap();
            server::Options::from_arg_matches(&matches).unwrap();
        }
        assert_eq!((key(1).len(), value(1).len()), (32, 256));
    }
}
