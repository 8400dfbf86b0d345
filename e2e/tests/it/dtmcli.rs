//! DTM's own Python client, unchanged, through the example that people copy from.

use std::process::Command;

use anyhow::Result;
use quorate_e2e::tools::{python_with, skip, workspace};

use crate::dtm::Dtm;

#[test]
fn tcc_saga_and_message_work_through_dtmcli() -> Result<()> {
    let Some(dtm) = Dtm::start("dtmcli")? else { return Ok(()) };
    let Some(python) = python_with("dtmcli, requests") else {
        skip("dtmcli", "no Python with dtmcli; cargo xtask peers gets one");
        return Ok(());
    };
    let program = workspace().join("examples/python/order.py");
    let output = Command::new(python).arg(program).arg(dtm.url()).output()?;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    for line in ["tcc, 9 pieces", "saga, 9 pieces", "message, rolled back"] {
        assert!(out.contains(line), "{out}");
    }
    Ok(())
}
