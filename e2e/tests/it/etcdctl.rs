//! A user at the command line: etcdctl 3.5, with the exact output where it is deterministic.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use quorate_e2e::limits::COMMAND;
use quorate_e2e::process::Process;
use quorate_e2e::server::{Server, clean_environment};
use quorate_e2e::tools::{self, skip};

/// `check perf` writes for a minute, whatever it is asked.
const CHECK: Duration = Duration::from_secs(120);

/// etcdctl, aimed at servers.
#[derive(Clone, Debug)]
pub(crate) struct Ctl {
    program: PathBuf,
    endpoints: String,
}

impl Ctl {
    /// `None`, and says so, if there is no etcdctl.
    pub(crate) fn of(suite: &str, endpoints: &str) -> Option<Self> {
        let Some(program) = tools::etcdctl() else {
            skip(suite, "no etcdctl: cargo xtask peers");
            return None;
        };
        Some(Self { program, endpoints: endpoints.to_owned() })
    }

    /// The command, not started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        clean_environment(&mut command);
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(&self.endpoints).args(arguments);
        command
    }

    fn run(
        &self,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Result<(Option<i32>, String, String)> {
        let command = self.command(arguments);
        let mut process = Process::spawn_typed(format!("etcdctl {arguments:?}"), command)?;
        if let Some(input) = input {
            process.type_in(input)?;
        }
        let limit = if arguments[0] == "check" { CHECK } else { COMMAND };
        let status = process.wait(limit)?;
        Ok((status.code(), process.stdout(), process.stderr()))
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.typed(arguments, None)
    }

    fn typed(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let (code, stdout, stderr) = self.run(arguments, input)?;
        anyhow::ensure!(code == Some(0), "etcdctl {arguments:?}: exit {code:?}\n{stdout}{stderr}");
        Ok(stdout)
    }

    /// The last line on standard error of a command that must fail with exit code 1.
    fn fails(&self, arguments: &[&str]) -> Result<String> {
        let (code, stdout, stderr) = self.run(arguments, None)?;
        anyhow::ensure!(code == Some(1), "etcdctl {arguments:?}: exit {code:?}\n{stdout}{stderr}");
        Ok(stderr.lines().last().unwrap_or_default().to_owned())
    }
}

fn start(suite: &str) -> Result<Option<(Server, Ctl)>> {
    let server = Server::start(&[])?;
    Ok(Ctl::of(suite, &server.client_url()).map(|ctl| (server, ctl)))
}

#[test]
fn put_get_del() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl put get del")? else { return Ok(()) };
    let conversation: &[(&[&str], &str)] = &[
        (&["put", "foo", "bar"], "OK\n"),
        (&["put", "foo", "baz", "--prev-kv"], "OK\nfoo\nbar\n"),
        (&["get", "foo"], "foo\nbaz\n"),
        (&["get", "foo", "--print-value-only"], "baz\n"),
        (&["get", "foo", "--rev=2"], "foo\nbar\n"),
        (&["put", "fop", "x"], "OK\n"),
        (&["get", "fo", "--prefix", "--keys-only"], "foo\n\nfop\n\n"),
        (&["get", "fo", "--prefix", "--sort-by=VALUE", "--order=DESCEND", "--limit=1"], "fop\nx\n"),
        (&["get", "foo", "--from-key"], "foo\nbaz\nfop\nx\n"),
        (&["get", "foo", "fop"], "foo\nbaz\n"),
        (&["get", "foo", "--consistency=s"], "foo\nbaz\n"),
        (&["get", "nothing"], ""),
        (&["del", "nothing"], "0\n"),
        (&["del", "fop", "--prev-kv"], "1\nfop\nx\n"),
        (&["put", "empty", ""], "OK\n"),
        (&["get", "empty"], "empty\n\n"),
        (&["del", "", "--from-key"], "2\n"),
    ];
    for (arguments, expected) in conversation {
        assert_eq!(ctl.ok(arguments)?, *expected, "{arguments:?}");
    }
    assert_eq!(ctl.fails(&["put", "", "x"])?, "Error: etcdserver: key is not provided");
    let future = "Error: etcdserver: mvcc: required revision is a future revision";
    assert_eq!(ctl.fails(&["get", "foo", "--rev=999"])?, future);
    Ok(())
}

#[test]
fn every_header_field_is_there() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl fields")? else { return Ok(()) };
    ctl.ok(&["put", "foo", "bar"])?;
    ctl.ok(&["put", "foo", "baz"])?;
    let fields = ctl.ok(&["get", "f", "--prefix", "--write-out=fields"])?;
    let mut lines = fields.lines();
    for header in ["\"ClusterID\" : ", "\"MemberID\" : "] {
        let line = lines.next().context("a header line")?;
        let id: u64 = line.strip_prefix(header).context(header)?.parse()?;
        assert_ne!(id, 0, "{line}");
    }
    assert_eq!(lines.next(), Some("\"Revision\" : 3"));
    let term =
        lines.next().and_then(|line| line.strip_prefix("\"RaftTerm\" : ")).context("term")?;
    assert_ne!(term.parse::<u64>()?, 0);
    let rest: Vec<&str> = lines.collect();
    let expected = [
        "\"Key\" : \"foo\"",
        "\"CreateRevision\" : 2",
        "\"ModRevision\" : 3",
        "\"Version\" : 2",
        "\"Value\" : \"baz\"",
        "\"Lease\" : 0",
        "\"More\" : false",
        "\"Count\" : 1",
    ];
    assert_eq!(rest, expected);
    Ok(())
}

#[test]
fn interactive_txn() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl txn")? else { return Ok(()) };
    ctl.ok(&["put", "foo", "baz"])?;
    let prompts =
        "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\n";
    let taken = "mod(\"foo\") > \"0\"\n\nput r1 \"a b\"\nget foo\n\nput r2 b\n\n";
    let answer = ctl.typed(&["txn", "-i"], Some(taken))?;
    assert_eq!(answer, format!("{prompts}SUCCESS\n\nOK\n\nfoo\nbaz\n"));
    assert_eq!(ctl.ok(&["get", "r", "--prefix"])?, "r1\na b\n");
    let other = "value(\"foo\") = \"nope\"\n\nput r1 a\n\ndel r1\nget r1\n\n";
    let answer = ctl.typed(&["txn", "-i"], Some(other))?;
    assert_eq!(answer, format!("{prompts}FAILURE\n\n1\n\n"));
    Ok(())
}

#[test]
fn interactive_watch() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl watch")? else { return Ok(()) };
    ctl.ok(&["put", "other", "0"])?;
    let command = ctl.command(&["watch", "-i"]);
    let mut watch = Process::spawn_typed("etcdctl watch -i", command)?;
    watch.type_in("watch watched\nwatch other --prev-kv\nwatch old --rev=1\n")?;
    // Nothing tells that the watches stand: put until the first is seen.
    for round in 0.. {
        ctl.ok(&["put", "watched", "first"])?;
        if watch.stdout().contains("first") {
            break;
        }
        assert!(round < 100, "no event: {}", watch.tail());
    }
    ctl.ok(&["put", "other", "2"])?;
    watch.wait_for_stdout("PUT\nother\n0\nother\n2\n", COMMAND)?;
    ctl.ok(&["del", "watched"])?;
    watch.wait_for_stdout("DELETE\nwatched\n\n", COMMAND)?;
    Ok(())
}

#[test]
fn leases() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl lease")? else { return Ok(()) };
    let granted = ctl.ok(&["lease", "grant", "60"])?;
    let id = granted.split(' ').nth(1).context("an id")?;
    assert_eq!(granted, format!("lease {id} granted with TTL(60s)\n"));
    ctl.ok(&["put", "leased", "v", &format!("--lease={id}")])?;
    let left = ctl.ok(&["lease", "timetolive", id, "--keys"])?;
    let seconds: Vec<String> = (57..=60)
        .map(|left| {
            let head = format!("lease {id} granted with TTL(60s), remaining({left}s)");
            format!("{head}, attached keys([leased])\n")
        })
        .collect();
    assert!(seconds.contains(&left), "{left}");
    let kept = ctl.ok(&["lease", "keep-alive", "--once", id])?;
    assert_eq!(kept, format!("lease {id} keepalived with TTL(60)\n"));
    assert_eq!(ctl.ok(&["lease", "list"])?, format!("found 1 leases\n{id}\n"));
    assert_eq!(ctl.ok(&["lease", "revoke", id])?, format!("lease {id} revoked\n"));
    assert_eq!(ctl.ok(&["get", "leased"])?, "");
    assert_eq!(ctl.ok(&["lease", "timetolive", id])?, format!("lease {id} already expired\n"));
    let again = ctl.fails(&["lease", "revoke", id])?;
    assert_eq!(again, "Error: failed to revoke lease (etcdserver: requested lease not found)");
    let short = ctl.ok(&["lease", "grant", "1"])?;
    assert!(short.ends_with("granted with TTL(2s)\n"), "the shortest is 2 s: {short}");
    Ok(())
}

#[test]
fn members_and_endpoints() -> Result<()> {
    let Some((server, ctl)) = start("etcdctl member endpoint")? else { return Ok(()) };
    let (client, peer) = (server.client_url(), server.plan().peer_url());
    let members = ctl.ok(&["member", "list"])?;
    let id = members.split(',').next().context("an id")?;
    assert_eq!(members, format!("{id}, started, default, {peer}, {client}, false\n"));
    let health = ctl.ok(&["endpoint", "health"])?;
    let head = format!("{client} is healthy: successfully committed proposal: took = ");
    assert!(health.starts_with(&head), "{health}");
    let status = ctl.ok(&["endpoint", "status"])?;
    let fields: Vec<&str> = status.trim_end().split(", ").collect();
    assert_eq!(
        (fields[0], fields[1], fields[4], fields[5]),
        (client.as_str(), id, "true", "false")
    );
    assert!(fields[2].starts_with("3.5."), "version {}", fields[2]);
    let hash = ctl.ok(&["endpoint", "hashkv"])?;
    let hash = hash.trim_end().strip_prefix(&format!("{client}, ")).context("hashkv")?;
    hash.split(", ").next().context("a hash")?.parse::<u32>()?;
    assert_eq!(ctl.ok(&["alarm", "list"])?, "");
    assert_eq!(ctl.ok(&["alarm", "disarm"])?, "");
    let moved = format!("Leadership transferred from {id} to {id}\n");
    assert_eq!(ctl.ok(&["move-leader", id])?, moved);
    let defragmented = format!("Finished defragmenting etcd member[{client}]\n");
    assert_eq!(ctl.ok(&["defrag"])?, defragmented);
    Ok(())
}

#[test]
fn compaction() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl compaction")? else { return Ok(()) };
    for value in ["1", "2", "3", "4"] {
        ctl.ok(&["put", "k", value])?;
    }
    assert_eq!(ctl.ok(&["compaction", "3"])?, "compacted revision 3\n");
    let compacted = "Error: etcdserver: mvcc: required revision has been compacted";
    assert_eq!(ctl.fails(&["compaction", "3"])?, compacted);
    assert_eq!(ctl.ok(&["compaction", "--physical", "4"])?, "compacted revision 4\n");
    assert_eq!(ctl.ok(&["get", "k", "--rev=4"])?, "k\n3\n");
    assert_eq!(ctl.fails(&["get", "k", "--rev=3"])?, compacted);
    Ok(())
}

/// Ten thousand keys of 1 KiB by fifty clients; etcdctl reads the server's memory from /metrics.
#[test]
fn check_datascale() -> Result<()> {
    let Some((server, ctl)) = start("etcdctl check datascale")? else { return Ok(()) };
    let said = ctl.ok(&["check", "datascale", "--load=s"])?;
    assert!(said.contains("PASS: Approximate system memory used"), "{said}");
    assert!(server.resident_bytes()? < 1 << 30, "{} bytes resident", server.resident_bytes()?);
    Ok(())
}

/// 150 puts a second for a minute by fifty clients. What it says of the slowest request depends on what
/// else this machine does; the throughput hardly.
#[test]
fn check_perf() -> Result<()> {
    let Some((_server, ctl)) = start("etcdctl check perf")? else { return Ok(()) };
    let (_, said, stderr) = ctl.run(&["check", "perf", "--load=s"], None)?;
    assert!(said.contains("PASS: Throughput is"), "{said}{stderr}");
    Ok(())
}
