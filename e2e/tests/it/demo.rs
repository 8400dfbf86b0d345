//! `quorate demo order`, small: kills among the orders, and sums that agree.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use quorate_e2e::process::Process;
use quorate_e2e::server::clean_environment;
use quorate_e2e::tools::{binary, skip_for_etcd};
use serde_json::Value;

/// A healthy machine needs a tenth.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn orders_survive_kills() -> Result<()> {
    if skip_for_etcd("demo", "which has no global transactions")? {
        return Ok(());
    }
    let mut command = Command::new(&binary()?.path);
    clean_environment(&mut command);
    command.args(["demo", "order", "--orders=300", "--parallel=4", "--seed=7", "--json"]);
    let mut demo = Process::spawn("demo", command)?;
    let status = demo.wait(LIMIT)?;
    assert!(status.success(), "{}", demo.tail());
    let result: Value = serde_json::from_str(&demo.stdout())?;
    let number = |name: &str| result[name].as_u64().with_context(|| format!("{name} in {result}"));
    assert_eq!(number("orders")?, 300);
    assert!(number("committed")? > 100, "{result}");
    assert!(number("kills")? >= 1, "{result}");
    assert!(result["checks"].as_array().is_some_and(|checks| checks.len() >= 10), "{result}");
    Ok(())
}

#[test]
fn a_wrong_line_is_refused() -> Result<()> {
    if skip_for_etcd("demo", "which has no global transactions")? {
        return Ok(());
    }
    let output = Command::new(&binary()?.path).args(["demo", "order", "--orders=none"]).output()?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--orders"));
    Ok(())
}
