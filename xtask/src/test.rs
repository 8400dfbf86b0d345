//! `test`: the inner loop. Without the load generator and the real servers; arguments go to
//! `cargo test`.

use crate::sh;
use anyhow::Result;

/// What the inner loop does without.
const LEFT_OUT: [&str; 4] = ["--exclude", "quorate-bench", "--exclude", "quorate-e2e"];

/// Runs the tests.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let test = &mut sh::cargo(&["test", "--quiet", "--workspace"]);
    sh::run(test.args(LEFT_OUT).args(arguments))
}
