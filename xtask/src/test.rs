//! `test`: the inner loop. Default members only, so that neither tonic's clients nor real servers
//! are in the way; arguments go to `cargo test`.

use crate::sh;
use anyhow::Result;

/// Runs the tests.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    sh::run(sh::cargo(&["test", "--quiet"]).args(arguments))
}
