//! Locks and elections as etcdctl makes them: recipes in the client over Put, Watch and Lease.

use std::time::Duration;

use anyhow::Result;
use quorate_e2e::limits::{COMMAND, SILENCE};
use quorate_e2e::process::Process;
use quorate_e2e::server::Server;
use rustix::process::Signal;

use crate::etcdctl::Ctl;

fn start(suite: &str) -> Result<Option<(Server, Ctl)>> {
    let server = Server::start(&[])?;
    Ok(Ctl::of(suite, &server.client_url()).map(|ctl| (server, ctl)))
}

fn spawn(ctl: &Ctl, arguments: &[&str]) -> Result<Process> {
    Process::spawn(format!("etcdctl {arguments:?}"), ctl.command(arguments))
}

#[test]
fn a_lock_has_one_holder_and_a_queue() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl lock")? else { return Ok(()) };
    let mut holder = spawn(&ctl, &["lock", "L"])?;
    holder.wait_for_stdout("L/", COMMAND)?;
    let key = holder.stdout().trim().to_owned();
    assert_eq!(ctl.ok(&["get", "L/", "--prefix", "--keys-only"])?, format!("{key}\n\n"));
    let mut waiter = spawn(&ctl, &["lock", "L", "echo", "mine now"])?;
    std::thread::sleep(SILENCE);
    assert_eq!(waiter.stdout(), "", "the second waits");
    holder.signal(Signal::INT)?;
    holder.wait(COMMAND)?;
    waiter.wait(COMMAND)?;
    assert_eq!(waiter.stdout(), "mine now\n");
    assert_eq!(ctl.ok(&["get", "L/", "--prefix"])?, "", "both have left");
    Ok(())
}

/// The holder dies without a word; its lease frees the lock, not before its time.
#[test]
fn a_dead_holder_loses_its_lock_with_its_lease() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl lock, dead holder")? else { return Ok(()) };
    let mut holder = spawn(&ctl, &["lock", "L", "--ttl=2"])?;
    holder.wait_for_stdout("L/", COMMAND)?;
    let mut waiter = spawn(&ctl, &["lock", "L", "echo", "mine now"])?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(waiter.stdout(), "", "a living holder keeps it past its TTL");
    holder.kill9()?;
    waiter.wait(COMMAND)?;
    assert_eq!(waiter.stdout(), "mine now\n");
    Ok(())
}

#[test]
fn an_election_has_one_leader_that_all_see() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl elect")? else { return Ok(()) };
    let mut first = spawn(&ctl, &["elect", "E", "one"])?;
    first.wait_for_stdout("one\n", COMMAND)?;
    let mut observer = spawn(&ctl, &["elect", "-l", "E"])?;
    observer.wait_for_stdout("one\n", COMMAND)?;
    let mut second = spawn(&ctl, &["elect", "E", "two"])?;
    std::thread::sleep(SILENCE);
    assert_eq!(second.stdout(), "", "the second candidate waits");
    first.signal(Signal::INT)?;
    first.wait(COMMAND)?;
    second.wait_for_stdout("two\n", COMMAND)?;
    observer.wait_for_stdout("two\n", COMMAND)?;
    Ok(())
}
