//! `fix`: formats everything and applies what the lints suggest. The one command that edits.

use crate::sh;
use anyhow::Result;

/// Lints first, since what they suggest may need formatting.
pub(crate) fn run() -> Result<()> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty"];
    sh::run(sh::cargo(&clippy).arg("--allow-staged"))?;
    sh::run(&mut sh::cargo(&["fmt", "--all"]))
}
