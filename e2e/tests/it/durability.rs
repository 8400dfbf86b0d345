//! Power-loss safety from outside: each acknowledgement leaves after the fdatasync that covers it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use quorate_e2e::limits::COMMAND;
use quorate_e2e::process::Process;
use quorate_e2e::server::Server;
use quorate_e2e::tools::{on_path, skip};
use quorate_e2e::trace::{CALLS, covered, parse};
use rustix::process::Signal;

const PUTS: usize = 60;

/// strace on a running server, writing to `output`; `None`, and says so, if it may not run.
fn attach(server: &mut Server, output: &std::path::Path) -> Result<Option<Process>> {
    let Some(strace) = on_path("strace") else {
        skip("durability", "no strace");
        return Ok(None);
    };
    let mut command = Command::new(strace);
    command.args(["-f", "-yy", "-xx", "-s", "1000000", "-e", &format!("trace={CALLS}"), "-o"]);
    command.arg(output).arg("-p").arg(server.process().pid().to_string());
    let mut strace = Process::spawn("strace", command)?;
    match strace.wait_for_stderr("attached", COMMAND) {
        Ok(()) => Ok(Some(strace)),
        Err(error) => {
            skip("durability", format!("strace may not trace here: {error}").replace('\n', " "));
            Ok(None)
        }
    }
}

#[tokio::test]
async fn every_acknowledgement_follows_its_sync() -> Result<()> {
    let mut server = Server::start(&[])?;
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("trace");
    let Some(mut strace) = attach(&mut server, &output)? else { return Ok(()) };
    // Threads that are just being attached to would be missing from the trace.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut client = server.client().await?;
    let mut markers = Vec::new();
    for index in 0..PUTS {
        let marker = format!("marker-{index:04}-{}", std::process::id());
        client.put("durable", format!("{marker}{}", "v".repeat(200)), None).await?;
        markers.push(marker);
    }
    strace.signal(Signal::INT)?;
    strace.wait(COMMAND)?;
    let trace = std::fs::read_to_string(&output).context("the trace")?;
    let port = server.plan().client_port;
    let verdict = parse(&trace).and_then(|calls| covered(&calls, port, &markers));
    if let (Err(_), Some(kept)) = (&verdict, std::env::var_os("QUORATE_E2E_KEEP")) {
        std::fs::copy(&output, kept)?;
    }
    verdict
}
