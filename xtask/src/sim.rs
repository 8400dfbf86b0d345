//! `sim`: the simulator in its own profile, which is optimised and keeps every assertion.

use crate::sh;
use anyhow::Result;
use std::process::Command;

/// The simulator with these arguments, ready to run.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command =
        sh::cargo(&["run", "--quiet", "--profile", "sim", "--package", "quorate-sim"]);
    command.arg("--").args(arguments);
    command
}

/// Runs it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    sh::run(&mut command(&arguments))
}
