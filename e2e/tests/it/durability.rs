//! Power-loss safety from outside: each acknowledgement leaves after the fdatasync that covers it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::Client;
use quorate_e2e::cluster::Cluster;
use quorate_e2e::limits::COMMAND;
use quorate_e2e::process::Process;
use quorate_e2e::server::Server;
use quorate_e2e::tools::{on_path, skip};
use quorate_e2e::trace::{CALLS, Call, covered, covered_by_quorum, parse};
use rustix::process::Signal;

const PUTS: usize = 60;

/// strace on running servers, writing to `output`; `None`, and says so, if it may not run.
fn attach(servers: &mut [Server], output: &Path) -> Result<Option<Process>> {
    let Some(strace) = on_path("strace") else {
        skip("durability", "no strace");
        return Ok(None);
    };
    let mut command = Command::new(strace);
    command.args(["-f", "-yy", "-xx", "-s", "1000000", "-e", &format!("trace={CALLS}"), "-o"]);
    command.arg(output);
    let pids: Vec<u32> = servers.iter_mut().map(|server| server.process().pid()).collect();
    for pid in &pids {
        command.arg("-p").arg(pid.to_string());
    }
    let mut strace = Process::spawn("strace", command)?;
    let attached = |pid: &u32| strace.wait_for_stderr(&format!("Process {pid} attached"), COMMAND);
    match pids.iter().try_for_each(attached) {
        Ok(()) => Ok(Some(strace)),
        Err(error) => {
            skip("durability", format!("strace may not trace here: {error}").replace('\n', " "));
            Ok(None)
        }
    }
}

/// Puts one after the other; gives what each value contains.
async fn puts(client: &mut Client) -> Result<Vec<String>> {
    let mut markers = Vec::new();
    for index in 0..PUTS {
        let marker = format!("marker-{index:04}-{}", std::process::id());
        client.put("durable", format!("{marker}{}", "v".repeat(200)), None).await?;
        markers.push(marker);
    }
    Ok(markers)
}

/// Ends the trace and looks at it; keeps it where `QUORATE_E2E_KEEP` says if the verdict is bad.
fn judge(
    mut strace: Process,
    output: &Path,
    verdict: impl FnOnce(&[Call]) -> Result<()>,
) -> Result<()> {
    strace.signal(Signal::INT)?;
    strace.wait(COMMAND)?;
    let trace = std::fs::read_to_string(output).context("the trace")?;
    let verdict = parse(&trace).and_then(|calls| verdict(&calls));
    if let (Err(_), Some(kept)) = (&verdict, std::env::var_os("QUORATE_E2E_KEEP")) {
        std::fs::copy(output, kept)?;
    }
    verdict
}

#[tokio::test]
async fn every_acknowledgement_follows_its_sync() -> Result<()> {
    let mut server = [Server::start(&[])?];
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("trace");
    let Some(strace) = attach(&mut server, &output)? else { return Ok(()) };
    // Threads that are just being attached to would be missing from the trace.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let markers = puts(&mut server[0].client().await?).await?;
    let port = server[0].plan().client_port;
    judge(strace, &output, |calls| covered(calls, port, &markers))
}

#[tokio::test]
async fn every_acknowledgement_of_three_nodes_follows_the_syncs_of_two() -> Result<()> {
    if !crate::three_nodes_allowed("durability: three nodes") {
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("trace");
    let Some(strace) = attach(&mut cluster.members, &output)? else { return Ok(()) };
    tokio::time::sleep(Duration::from_millis(300)).await;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let markers = puts(&mut cluster.members[leader].client().await?).await?;
    let port = cluster.members[leader].plan().client_port;
    let data = |member: &Server| std::fs::canonicalize(member.data());
    let folders = cluster.members.iter().map(data).collect::<Result<Vec<_>, _>>()?;
    judge(strace, &output, |calls| covered_by_quorum(calls, port, &markers, &folders, 2))
}
