//! `quorate demo`, small: kills among the orders and transfers, and sums that agree.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quorate_e2e::limits::POLL;
use quorate_e2e::process::Process;
use quorate_e2e::server::clean_environment;
use quorate_e2e::tools::{binary, skip_for_etcd};
use rustix::process::Signal;
use serde_json::Value;

/// A healthy machine needs a tenth.
const LIMIT: Duration = Duration::from_secs(180);

fn is_skipped() -> Result<bool> {
    skip_for_etcd("demo", "which has no global transactions")
}

fn start(args: &[&str]) -> Result<Process> {
    let mut command = Command::new(&binary()?.path);
    clean_environment(&mut command);
    command.arg("demo").args(args);
    Process::spawn("demo", command)
}

/// Runs to the end, which must be a good one.
fn result(args: &[&str]) -> Result<Value> {
    let mut demo = start(args)?;
    let status = demo.wait(LIMIT)?;
    ensure!(status.success(), "{}", demo.tail());
    serde_json::from_str(&demo.stdout()).with_context(|| demo.tail())
}

fn number(result: &Value, name: &str) -> Result<u64> {
    result[name].as_u64().with_context(|| format!("{name} in {result}"))
}

#[test]
fn orders_survive_kills() -> Result<()> {
    if is_skipped()? {
        return Ok(());
    }
    let result = result(&["order", "--orders=300", "--parallel=4", "--seed=7", "--json"])?;
    assert_eq!(number(&result, "orders")?, 300);
    assert!(number(&result, "committed")? > 100, "{result}");
    assert!(number(&result, "kills")? >= 1, "{result}");
    assert!(result["checks"].as_array().is_some_and(|checks| checks.len() >= 10), "{result}");
    let kinds = ["tcc", "saga", "msg", "workflow", "3pc"];
    for kind in kinds {
        assert!(number(&result["kinds"][kind], "committed")? > 0, "{kind}: {result}");
    }
    Ok(())
}

#[test]
fn transfers_survive_kills_in_a_cluster() -> Result<()> {
    if is_skipped()? {
        return Ok(());
    }
    let line = ["bank", "--transfers=300", "--nodes=3", "--parallel=4", "--seed=11", "--json"];
    let result = result(&line)?;
    assert!(number(&result, "committed")? > 150, "{result}");
    assert!(number(&result, "refused")? > 0, "{result}");
    assert!(number(&result, "server_kills")? >= 1, "{result}");
    let money = &result["checks"][0];
    assert_eq!((&money["is"], &money["ok"]), (&money["should_be"], &Value::Bool(true)));
    Ok(())
}

/// Numbers of processes whose command line names this directory.
fn processes_of(dir: &Path) -> Result<Vec<String>> {
    let dir = dir.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let line = std::fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        if name.bytes().all(|byte| byte.is_ascii_digit())
            && String::from_utf8_lossy(&line).contains(&dir)
        {
            found.push(name);
        }
    }
    Ok(found)
}

fn wait_until_gone(dir: &Path) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if processes_of(dir)?.is_empty() {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("left behind: {:?}", processes_of(dir)?)
}

/// A demo that has begun its deeds, in this directory.
fn started_in(dir: &Path) -> Result<Process> {
    let dir = dir.display().to_string();
    let mut demo = start(&["bank", "--seconds=600", "--parallel=2", "--dir", &dir])?;
    let begun = Instant::now();
    let entries = Path::new(&dir).join("west.sqlite-wal");
    while begun.elapsed() < LIMIT {
        if entries.metadata().is_ok_and(|file| file.len() > 100_000) {
            return Ok(demo);
        }
        ensure!(demo.ended()?.is_none(), "{}", demo.tail());
        std::thread::sleep(POLL);
    }
    bail!("no transfer within {LIMIT:?}: {}", demo.tail())
}

#[test]
fn an_interrupt_ends_it_with_its_table() -> Result<()> {
    if is_skipped()? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("demo");
    let mut demo = started_in(&dir)?;
    demo.signal(Signal::INT)?;
    let status = demo.wait(LIMIT)?;
    ensure!(status.success(), "{}", demo.tail());
    let table = demo.stdout();
    assert!(table.contains("money, all of it") && !table.contains("WRONG"), "{table}");
    assert!(
        !table.contains('\x1b') && !demo.stderr().contains('\x1b'),
        "no control codes in a pipe"
    );
    wait_until_gone(&dir)
}

#[test]
fn nothing_outlives_a_demo_that_is_killed() -> Result<()> {
    if is_skipped()? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("demo");
    let mut demo = started_in(&dir)?;
    assert!(processes_of(&dir)?.len() > 2, "the demo, its server, its services");
    demo.kill9()?;
    wait_until_gone(&dir)
}

#[test]
fn a_wrong_line_is_refused_in_one_sentence() -> Result<()> {
    if is_skipped()? {
        return Ok(());
    }
    for (args, code, words) in [
        (&["order", "--orders=none"][..], 2, "--orders"),
        (&["orders"], 2, "order and bank"),
        (&["bank", "--kinds=xa"], 2, "prepared transactions"),
        (&["bank", "--dir=/proc/nobody/here"], 1, "/proc/nobody/here"),
        (&["bank", "--dir=/etc"], 2, "not empty"),
    ] {
        let output = Command::new(&binary()?.path).arg("demo").args(args).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{args:?}: {said}");
    }
    Ok(())
}
