//! DTM's own Go client, unchanged, over HTTP, JSON-RPC and gRPC: the programs of `e2e/go`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use quorate_e2e::go::{Missing, dtm_client};
use quorate_e2e::limits::COMMAND;
use quorate_e2e::participant::Participant;
use quorate_e2e::ports;
use quorate_e2e::process::Process;
use quorate_e2e::tools::skip;
use serde_json::json;

use crate::dtm::Dtm;

/// `NAME: STATUS, what the client was told | calls of branches in their order`.
const EXPECTED: &str = "\
http saga: succeed | action/01 out, action/02 in
http saga refused: failed (sold out), told FAILURE | action/01 out, action/02 in-no, compensate/02 in-back, compensate/01 out-back
http saga answered late: succeed | action/01 out, action/02 in-later, action/02 in-later
http saga broken once: succeed | action/01 out, action/02 in-broken, action/02 in-broken
http saga concurrent: succeed, <nil> | action/01 out, action/02 in, action/03 notify
http tcc: succeed | try/01 out, try/02 in, confirm/02 in, confirm/01 out
http tcc refused: failed (sold out), told FAILURE | try/01 out, try/02 in-no, cancel/02 in, cancel/01 out
http tcc nested: succeed | try/0101 inner, try/01 nested, confirm/0101 inner, confirm/01 nested
http msg: succeed | action/01 in, action/02 notify
http msg do and submit: succeed | action/01 in, action/02 notify
http msg do and refuse: failed, told FAILURE | 
http msg do, unknown: succeed, told timeout | msg/00 check, action/01 in, action/02 notify
http msg forgotten: succeed | msg/00 check, action/01 in, action/02 notify
http msg forgotten, not committed: failed (sold out) | msg/00 check-no
http msg delayed: succeed | action/01 in, action/02 notify, late enough: true
http msg topic: succeed | action/01-01 in, action/01-02 notify
json-rpc saga: succeed | action/01 out, action/02 in
http workflow: 00ff6f6b, succeed | action/01 out, action/02 in
http workflow refused: 00ff6f6b, failed (sold out), told FAILURE | action/01 out, action/02 in-no, rollback/01 out-back
http workflow resumed: crashed, then 00ff6f6b, succeed | action/01 out, action/02 in
grpc saga: succeed | action/01 out, action/02 in
grpc saga refused: failed (sold out), told FAILURE | action/01 out, action/02 in-no, compensate/02 in-back, compensate/01 out-back
grpc saga answered late: succeed | action/01 out, action/02 in-later, action/02 in-later
grpc saga broken once: succeed | action/01 out, action/02 in-broken, action/02 in-broken
grpc saga concurrent: succeed | action/01 out, action/02 in
grpc tcc: succeed | try/01 out, try/02 in, confirm/02 in, confirm/01 out
grpc tcc refused: failed (sold out), told FAILURE | try/01 out, try/02 in-no, cancel/02 in, cancel/01 out
grpc tcc nested: succeed | try/0101 inner, try/01 nested, confirm/0101 inner, confirm/01 nested
grpc msg: succeed | action/01 in, action/02 notify
grpc msg do and submit: succeed | action/01 in, action/02 notify
grpc msg do and refuse: failed, told FAILURE | 
grpc msg do, unknown: succeed, told timeout | msg/00 check, action/01 in, action/02 notify
grpc msg forgotten: succeed | msg/00 check, action/01 in, action/02 notify
grpc msg forgotten, not committed: failed (sold out) | msg/00 check-no
grpc workflow: 00ff6f6b, succeed | action/01 out, action/02 in
grpc workflow refused: 00ff6f6b, failed (sold out), told FAILURE | action/01 out, action/02 in-no, rollback/01 out-back
grpc workflow resumed: crashed, then 00ff6f6b, succeed | action/01 out, action/02 in
";

/// How long all of it may take: the longest waits are of a second.
const ALL: Duration = Duration::from_secs(90);

/// The programs' command, against this server; `None`, and says so, if Go is not to be had.
fn command(dtm: &Dtm) -> Result<Option<Command>> {
    match dtm_client() {
        Ok(program) => {
            let mut command = Command::new(program);
            command.arg(dtm.url()).arg(dtm.endpoint());
            Ok(Some(command))
        }
        Err(Missing::Here(why)) => {
            skip("go client", format!("DTM's Go client cannot be built: {why}"));
            Ok(None)
        }
        Err(Missing::Broken(why)) => bail!("e2e/go: {why}"),
    }
}

#[test]
fn every_kind_works_through_the_go_client() -> Result<()> {
    let Some(dtm) = Dtm::start("go client")? else { return Ok(()) };
    let Some(command) = command(&dtm)? else { return Ok(()) };
    let mut process = Process::spawn("dtm-go", command)?;
    let ended = process.wait(ALL)?;
    assert!(ended.success(), "{}", process.tail());
    let printed = process.stdout();
    for (found, expected) in printed.lines().zip(EXPECTED.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(printed.lines().count(), EXPECTED.lines().count(), "{printed}");
    Ok(())
}

#[test]
fn a_workflow_goes_on_after_its_application_was_killed() -> Result<()> {
    let Some(dtm) = Dtm::start("go client")? else { return Ok(()) };
    let Some(mut begin) = command(&dtm)? else { return Ok(()) };
    let steps = Participant::start(|asked| {
        if asked.path == "/second" && asked.parameter("op") == "action" && first_of_its_kind() {
            std::thread::sleep(Duration::from_secs(600)); // until its caller is no more
        }
        (200, "{}".to_owned())
    })?;
    let address = format!("127.0.0.1:{}", ports::free()?);
    begin.args(["begin", &address, "killed", steps.base()]);
    let mut application = Process::spawn("application", begin)?;
    await_calls(&steps, &["/first", "/second"])?;
    application.kill9()?;
    let found = dtm.query("killed")?;
    assert_eq!(found["transaction"]["status"], "prepared", "{found}");
    assert_eq!(found["branches"].as_array().map(Vec::len), Some(1), "{found}");

    let Some(mut serve) = command(&dtm)? else { return Ok(()) };
    serve.args(["serve", &address, steps.base()]);
    let mut application = Process::spawn("application, again", serve)?;
    application.wait_for_stdout("listening", COMMAND)?;
    let (status, rows) = dtm.end("killed")?;
    assert_eq!((status.as_str(), rows), ("succeed", vec!["action:succeed".to_owned(); 3]));
    // The first step's answer was on record. Whether the second one had happened nobody knew.
    assert_eq!(steps.paths(), ["/first", "/second", "/second", "/third"]);
    assert_eq!(dtm.query("killed")?["transaction"]["result"], json!("AP9vaw=="));
    Ok(())
}

/// True at the first call.
fn first_of_its_kind() -> bool {
    use std::sync::atomic::{AtomicBool, Ordering};
    static DONE: AtomicBool = AtomicBool::new(false);
    !DONE.swap(true, Ordering::Relaxed)
}

fn await_calls(service: &Participant, paths: &[&str]) -> Result<()> {
    let begun = std::time::Instant::now();
    while service.paths() != paths {
        ensure!(begun.elapsed() < COMMAND, "{:?}", service.paths());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
