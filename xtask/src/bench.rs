//! `bench`: builds what is measured and the generator, both optimised, and runs a comparison.
//!
//! A full run rewrites the table of `docs/benchmarks.md`. A quick one, or one of single rows, only
//! prints (as does one of another size), so that the document never mixes figures of different sittings.

use crate::peers::Peers;
use crate::sh;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// `bench kv …`, `bench txn …` or `bench spike …`; the rest goes to the generator.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some((what, rest)) = arguments.split_first() else {
        bail!("bench what? kv, txn or spike");
    };
    match what.as_str() {
        "kv" => kv(rest),
        "txn" => txn(rest),
        "spike" => {
            sh::run(&mut build("quorate-bench"))?;
            sh::run(generator().arg("spike").args(rest))
        }
        other => bail!("no benchmark {other}: kv, txn or spike"),
    }
}

fn kv(arguments: &[String]) -> Result<()> {
    table("kv", arguments, &[("etcd", Peers::etcd)])
}

fn txn(arguments: &[String]) -> Result<()> {
    table("txn", arguments, &[("dtm", Peers::dtm), ("redis", Peers::redis)])
}

type Get = fn(&Peers) -> Result<PathBuf>;

/// Builds both binaries, gets the peers, and runs the table `name`.
fn table(name: &str, arguments: &[String], peers: &[(&str, Get)]) -> Result<()> {
    sh::run(build("quorate-server").args(["--package", "quorate-bench"]))?;
    let mut command = generator();
    command.arg(name).arg("--quorate").arg(sh::target_dir().join("release/quorate"));
    let in_tree = Peers::in_tree();
    for (peer, get) in peers {
        match get(&in_tree) {
            Ok(path) => drop(command.arg(format!("--{peer}")).arg(path)),
            Err(why) => println!("skipped: {peer} ({why:#})"),
        }
    }
    if writes(arguments) {
        command.arg("--write").arg(sh::root().join("docs/benchmarks.md"));
    }
    sh::run(command.args(arguments)).context("the benchmark failed")
}

/// Whether these arguments make a full run.
fn writes(arguments: &[String]) -> bool {
    let partial = |a: &String| {
        ["--quick", "--write", "--help"].contains(&a.as_str())
            || a.starts_with("--only")
            || a.starts_with("--size")
    };
    !arguments.iter().any(partial)
}

fn build(package: &str) -> Command {
    sh::cargo(&["build", "--release", "--package", package])
}

fn generator() -> Command {
    let mut command = Command::new(sh::target_dir().join("release/quorate-bench"));
    command.current_dir(sh::root());
    command
}

#[cfg(test)]
mod tests {

    #[test]
    fn only_a_full_run_writes_the_document() {
        let writes = |words: &str| {
            super::writes(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        assert!(writes("") && writes("--nodes 3"));
        assert!(
            !writes("--size 1000")
                && !writes("--quick")
                && !writes("--only put-1")
                && !writes("--only=put-1")
        );
    }
}
