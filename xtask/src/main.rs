//! The tasks of this workspace: `cargo xtask COMMAND`.
//!
//! One file a command. They call cargo and the project's own binaries, and keep no state but
//! `e2e/.peers`, the test peers that `peers` gets once.

mod bench;
mod ci;
mod fix;
mod peers;
mod sh;
mod sim;
mod test;
mod tidy;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  ci            everything that must pass; edits nothing
  fix           formats and applies what the lints suggest
  test [ARGS]   the inner loop: all tests but those of real servers
  tidy          the rules of the house that are code
  bench kv [ARGS]  the table beside etcd, into docs/benchmarks.md (--quick, --only ROW, --nodes 3)
  bench txn [ARGS] the table of global transactions, beside DTM (--quick, --only ROW)
  bench spike [ARGS]  the spike of docs/decisions/0001-threads.md
  sim [ARGS]    the simulator, optimised, with assertions
  peers         gets what the tests need into e2e/.peers: etcd, etcdctl, databases, Python";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    match command.as_str() {
        // Its exit code is its own, since its last line must be the counts.
        "ci" => return ci::run(),
        "fix" => fix::run()?,
        "test" => test::run(rest)?,
        "tidy" => tidy::run()?,
        "bench" => bench::run(rest)?,
        "sim" => sim::run(rest)?,
        "peers" => peers::run()?,
        "help" | "--help" | "-h" => println!("{USAGE}"),
        other => bail!("no command {other}\n\n{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}
