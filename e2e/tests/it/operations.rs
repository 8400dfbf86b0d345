//! What an operator runs: `quorate status` and `quorate inspect`, as text and as JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};
use quorate_e2e::cluster::Cluster;
use quorate_e2e::server::{Plan, Server, clean_environment};
use quorate_e2e::tools::{binary, skip_for_etcd};
use quorate_e2e::tree;
use serde_json::Value;

fn not_ours(name: &str) -> Result<bool> {
    skip_for_etcd(name, "which has other commands")
}

fn quorate(args: &[&str]) -> Result<Output> {
    let mut command = Command::new(&binary()?.path);
    clean_environment(&mut command);
    Ok(command.args(args).output()?)
}

/// Code, standard output, standard error.
fn said(args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = quorate(args)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

fn json(args: &[&str]) -> Result<(Option<i32>, Value)> {
    let (code, stdout, stderr) = said(args)?;
    let value = serde_json::from_str(&stdout).with_context(|| format!("{stdout}{stderr}"))?;
    Ok((code, value))
}

/// Runs it on `data` in both forms, and shows that nothing in the directory is another for it.
fn inspect(data: &Path) -> Result<(Option<i32>, String, Value)> {
    let before = tree::read(data)?;
    let path = data.to_str().context("UTF-8")?;
    let (code, text, stderr) = said(&["inspect", path])?;
    let (same, value) = json(&["inspect", path, "--json"])?;
    assert_eq!(code, same, "{text}{stderr}");
    let changes = tree::difference(&before, &tree::read(data)?);
    assert!(changes.is_empty(), "inspect changed {changes:?}");
    Ok((code, text + &stderr, value))
}

/// A stopped server's data, with checkpoints in it.
async fn data(folder: &Path) -> Result<PathBuf> {
    let plan = Plan::new(folder.join("data"))?.with(&["--engine-table-bytes=65536"]);
    let data = plan.data.clone();
    let mut server = plan.spawn()?;
    server.wait_ready()?;
    let mut client = server.client().await?;
    for index in 0..300 {
        client.put(format!("k{index}"), "v".repeat(1_000), None).await?;
    }
    client.defragment().await?;
    server.kill9()?;
    Ok(data)
}

/// The directory of the engine's files.
fn engine(data: &Path) -> Result<PathBuf> {
    let tree = tree::read(data)?;
    let current = tree.keys().find(|path| path.file_name().is_some_and(|name| name == "current"));
    Ok(data.join(current.and_then(|path| path.parent()).context("an engine")?))
}

#[tokio::test]
async fn inspect_says_what_is_there_and_changes_nothing() -> Result<()> {
    if not_ours("operations: inspect")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let data = data(folder.path()).await?;
    // What a crash leaves behind, and what a start would delete.
    let engine = engine(&data)?;
    for left in [".tmpleft", "v99999", "tables/99999"] {
        std::fs::write(engine.join(left), "left by a crash")?;
    }
    std::fs::create_dir_all(engine.with_file_name("77"))?;
    std::fs::write(engine.with_file_name("77").join("current"), "half a snapshot")?;
    let (code, text, value) = inspect(&data)?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("a start would accept it") && text.contains("log: "), "{text}");
    assert!(value["problem"].is_null(), "{value}");
    let (applied, last) = (&value["engines"][0]["applied"], &value["groups"][0]["last"]);
    assert!(applied.as_u64() > Some(300) && last.as_u64() >= applied.as_u64(), "{value}");
    assert!(value["engines"][0]["files"].as_u64() > Some(0), "{value}");
    // A copy without the lock file gets none.
    std::fs::remove_file(data.join("LOCK"))?;
    assert_eq!(inspect(&data)?.0, Some(0));

    let current = engine.join("current");
    std::fs::remove_file(&current)?;
    let (code, text, value) = inspect(&data)?;
    assert_eq!(code, Some(3), "{text}");
    let problem = value["engines"][0]["problem"].as_str().context("a problem")?.to_owned();
    assert!(problem.contains("`current` is missing"), "{problem}");
    assert!(problem.contains(&*std::fs::canonicalize(&engine)?.to_string_lossy()), "{problem}");
    Ok(())
}

#[tokio::test]
async fn inspect_leaves_a_running_server_alone() -> Result<()> {
    if not_ours("operations: inspect beside a server")? {
        return Ok(());
    }
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    client.put("k", "v", None).await?;
    let path = server.data().to_str().context("UTF-8")?;
    let (code, _, stderr) = said(&["inspect", path])?;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("in use"), "{stderr}");
    client.put("k", "still there", None).await?;
    let nowhere = server.data().join("nowhere");
    let (code, _, stderr) = said(&["inspect", nowhere.to_str().context("UTF-8")?])?;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(!nowhere.exists() && stderr.contains("nowhere"), "{stderr}");
    assert_eq!(said(&["inspect"])?.0, Some(2));
    Ok(())
}

#[tokio::test]
async fn status_finds_all_members_through_one() -> Result<()> {
    if not_ours("operations: status")? || !crate::three_nodes_allowed("operations: status") {
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    cluster.client().await?.put("k", "v", None).await?;
    let revision = cluster.converge(&[0, 1, 2]).await?;
    let one = cluster.members[1].client_url();
    let (code, value) = json(&["status", "--endpoints", &one, "--json"])?;
    assert_eq!(code, Some(0), "{value}");
    let members = value["members"].as_array().context("members")?;
    assert_eq!(members.len(), 3);
    let roles = |role: &str| members.iter().filter(|member| member["role"] == role).count();
    assert_eq!((roles("leader"), roles("follower")), (1, 2), "{value}");
    assert!(members.iter().all(|member| member["revision"].as_i64() == Some(revision)), "{value}");
    let (code, text, _) = said(&["status", "--endpoints", &one])?;
    assert_eq!((code, text.lines().count()), (Some(0), 3), "{text}");
    assert!(text.contains("m1, ") && text.contains("leader") && text.contains("KiB"), "{text}");

    cluster.members[2].kill9()?;
    let (code, text, stderr) = said(&["status", "--endpoints", &one])?;
    assert_eq!(code, Some(1), "{text}{stderr}");
    assert!(text.contains("no answer"), "{text}");
    let (_, value) = json(&["status", "--endpoints", &one, "--json"])?;
    let silent = value["members"].as_array().context("members")?;
    assert_eq!(silent.iter().filter(|member| !member["error"].is_null()).count(), 1, "{value}");
    Ok(())
}
