//! `sim`: runs seeds and says what they met.

use clap::Parser;
use quorate_sim::check::Property;
use quorate_sim::isolation::{Anomaly, Discipline};
use quorate_sim::options::{Profile, Settings};
use quorate_sim::planted::Planted;

/// Deterministic simulation of whole clusters, one seed a run.
#[derive(Parser, Debug)]
#[command(name = "sim")]
struct Arguments {
    /// The seed to run.
    #[arg(long)]
    seed: Option<u64>,
    /// Seeds `A..B`, B left out.
    #[arg(long)]
    seeds: Option<String>,
    /// Servers: 1, 3 or 5 (default: the seed chooses).
    #[arg(long)]
    nodes: Option<usize>,
    /// power-loss, raft or all.
    #[arg(long, default_value = "all")]
    profile: Profile,
    /// Plant a bug, for testing the checkers.
    #[arg(long)]
    plant: Option<Planted>,
    /// Check one property alone.
    #[arg(long)]
    only: Option<Property>,
    /// Print everything that happens (one seed).
    #[arg(long)]
    trace: bool,
    /// Print a line for each seed: what it took and what it met.
    #[arg(long)]
    each: bool,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stop at the first failing seed.
    #[arg(long)]
    first: bool,
    /// For each planted bug, find the first seed in which its checker alone catches it, and print what
    /// belongs into `CAUGHT` of `sim/tests/it.rs`.
    #[arg(long)]
    recatch: bool,
    /// Play the scenarios of isolation whose names (`KIND/ANOMALY`) hold this, and print what happens.
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    isolation: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.recatch {
        return recatch(&arguments);
    }
    if let Some(wanted) = &arguments.isolation {
        isolation(wanted);
        return Ok(());
    }
    let settings = Settings {
        seed: 0,
        nodes: arguments.nodes,
        profile: arguments.profile,
        planted: arguments.plant,
        only: arguments.only,
        trace: arguments.trace,
    };
    let seeds = match (&arguments.seeds, arguments.seed) {
        (Some(range), _) => quorate_sim::hunt::parse_seeds(range)?,
        (None, seed) => {
            let seed = seed.unwrap_or(0);
            seed..seed + 1
        }
    };
    let mut report = quorate_sim::report::Report::default();
    quorate_sim::hunt::hunt(&settings, seeds, arguments.threads, arguments.first, |outcome| {
        if arguments.trace {
            print!("{}", outcome.trace);
        }
        if let Some(violation) = &outcome.violation {
            println!("seed {} ({} nodes): {violation}", outcome.seed, outcome.nodes);
        }
        if arguments.each {
            println!("{}", outcome.line());
        }
        report.add(&outcome);
    });
    println!("{report}");
    if report.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// Schedules and what came of them (`docs/guarantees.md`).
fn isolation(wanted: &str) {
    for discipline in Discipline::ALL {
        for anomaly in Anomaly::ALL {
            let scenario = quorate_sim::isolation::play(discipline, anomaly);
            if scenario.name.contains(wanted) {
                println!("{}\n{}", scenario.name, scenario.transcript);
            }
        }
    }
}

/// Seeds within which each planted bug must be caught.
const ENOUGH_SEEDS: std::ops::Range<u64> = 0..1_000;

fn recatch(arguments: &Arguments) -> anyhow::Result<()> {
    let seeds = match &arguments.seeds {
        Some(range) => quorate_sim::hunt::parse_seeds(range)?,
        None => ENOUGH_SEEDS,
    };
    let wanted = |planted: &Planted| arguments.plant.is_none_or(|only| only == *planted);
    let mut missed = Vec::new();
    for planted in Planted::ALL.iter().filter(|planted| wanted(planted)) {
        let only = Some(planted.checker());
        let settings = Settings { planted: Some(*planted), only, ..Settings::default() };
        let mut caught = None;
        quorate_sim::hunt::hunt(&settings, seeds.clone(), arguments.threads, true, |outcome| {
            caught = caught.or_else(|| outcome.violation.is_some().then_some(outcome.seed));
        });
        match caught {
            Some(seed) => println!("    (Planted::{planted:?}, {seed}),"),
            None => missed.push(planted),
        }
    }
    for planted in &missed {
        println!("{planted}: {} does not catch it in seeds {seeds:?}", planted.checker());
    }
    if !missed.is_empty() {
        std::process::exit(1);
    }
    Ok(())
}
