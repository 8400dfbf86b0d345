//! Starting: every spelling of the flags that works, and every start that is refused with one clear
//! sentence, the exit code for its kind (1 runtime, 2 usage, 3 data refused), and nothing touched.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use quorate_e2e::limits::{COMMAND, READY, REFUSAL, STOP};
use quorate_e2e::netns::Lab;
use quorate_e2e::ports;
use quorate_e2e::process::Process;
use quorate_e2e::server::{Plan, READY_LINE, Server, clean_environment};
use quorate_e2e::tools::{binary, skip, skip_for_etcd};
use quorate_e2e::tree;
use rustix::process::Signal;
use tempfile::TempDir;

const RUNTIME: i32 = 1;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;

fn not_ours(name: &str) -> Result<bool> {
    skip_for_etcd(name, "which has its own sentences and exit codes")
}

/// Runs a start that must fail; gives its one sentence.
fn refusal(mut command: Command, code: i32) -> Result<String> {
    clean_environment(&mut command);
    refusal_as_is(command, code)
}

fn refusal_as_is(command: Command, code: i32) -> Result<String> {
    let mut process = Process::spawn("a refused start", command)?;
    let status = process.wait(REFUSAL)?;
    let stderr = process.stderr();
    assert_eq!(status.code(), Some(code), "{status}: {stderr}");
    let said: Vec<&str> = stderr.lines().filter(|line| line.starts_with("quorate: ")).collect();
    assert_eq!(said.len(), 1, "one sentence: {stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains(READY_LINE), "{stderr}");
    Ok(said[0].to_owned())
}

fn serve(plan: &Plan) -> Result<Command> {
    let mut command = plan.program()?;
    command.args(plan.flags());
    Ok(command)
}

/// A start that must fail and leave the data directory byte for byte as it is.
fn untouched(plan: &Plan, code: i32) -> Result<String> {
    let before = tree::read(&plan.data)?;
    let sentence = refusal(serve(plan)?, code)?;
    let changes = tree::difference(&before, &tree::read(&plan.data)?);
    assert!(changes.is_empty(), "{sentence}\ntouched: {changes:?}");
    Ok(sentence)
}

/// A stopped server's data with `puts` keys, and the plan that made it.
async fn data(puts: usize) -> Result<(TempDir, Plan)> {
    let folder = tempfile::tempdir()?;
    let plan = Plan::new(folder.path().join("data"))?;
    let mut server = plan.clone().spawn()?;
    server.wait_ready()?;
    let mut client = server.client().await?;
    for index in 0..puts {
        client.put(format!("k{index}"), "v".repeat(500), None).await?;
    }
    server.kill9()?;
    Ok((folder, plan))
}

/// It starts on its own flags and has all `puts` keys.
async fn serves(plan: &Plan, puts: i64) -> Result<Server> {
    let mut server = plan.clone().spawn()?;
    server.wait_ready()?;
    let options = etcd_client::GetOptions::new().with_prefix().with_count_only();
    let mut client = server.client().await?;
    assert_eq!(client.get("k", Some(options)).await?.count(), puts);
    Ok(server)
}

#[test]
fn wrong_flags_are_named_and_nothing_is_created() -> Result<()> {
    if not_ours("start_up: wrong flags")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let https = "--listen-client-urls=https://127.0.0.1:23790";
    for (flags, named) in [
        (&["--no-such-flag=1"][..], "no-such-flag"),
        (&["stray"], "stray"),
        (&["--election-timeout=soon"], "election-timeout"),
        (&["--heartbeat-interval=1000", "--election-timeout=100"], "election-timeout"),
        (&["--quota-backend-bytes=many"], "quota-backend-bytes"),
        (&["--initial-cluster-state=maybe"], "initial-cluster-state"),
        (&["--auto-compaction-mode=sometimes"], "auto-compaction-mode"),
        (&["--listen-client-urls=127.0.0.1"], "listen-client-urls"),
        (&["--listen-client-urls=http://127.0.0.1:99999"], "listen-client-urls"),
        (&["--initial-cluster=other=http://127.0.0.1:2380"], "initial-cluster"),
        (&["--name"], "name"),
        (&["--config=/no/such/file.toml"], "/no/such/file.toml"),
        (&["--cert-file=x"], "cert-file"),
        (&["--client-cert-auth"], "client-cert-auth"),
        (&["--trusted-ca-file", "x"], "trusted-ca-file"),
        (&["-auto-tls"], "auto-tls"),
        (&["--peer-auto-tls=true"], "peer-auto-tls"),
        (&["--auth-token=jwt"], "auth-token"),
        (&[https], "https"),
        (&["--listen-peer-urls=https://127.0.0.1:23800"], "https"),
    ] {
        let mut command = Command::new(&binary()?.path);
        command.arg("serve").arg(format!("--data-dir={}", folder.path().join("d").display()));
        command.args(flags).current_dir(folder.path());
        let sentence = refusal(command, USAGE).with_context(|| format!("{flags:?}"))?;
        assert!(sentence.contains(named), "{flags:?}: {sentence}");
        let created = tree::read(folder.path())?;
        assert!(created.is_empty(), "{flags:?} created {created:?}");
    }
    Ok(())
}

#[test]
fn wrong_environment_and_file_are_named() -> Result<()> {
    if not_ours("start_up: wrong environment and file")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(&binary()?.path);
    command.arg("serve").current_dir(folder.path());
    clean_environment(&mut command);
    command.env("QUORATE_ELECTION_TIMEOUT", "soon");
    let sentence = refusal_as_is(command, USAGE)?;
    assert!(sentence.to_lowercase().contains("election"), "{sentence}");
    let file = folder.path().join("q.toml");
    for (text, named) in [("no_such_key = 1\n", "no_such_key"), ("name = \n", "q.toml")] {
        std::fs::write(&file, text)?;
        let mut command = Command::new(&binary()?.path);
        command.arg("serve").arg("--config").arg(&file).current_dir(folder.path());
        let sentence = refusal(command, USAGE)?;
        assert!(sentence.replace('-', "_").contains(named), "{text:?}: {sentence}");
    }
    assert_eq!(tree::read(folder.path())?.len(), 1, "the file alone");
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_named_and_the_data_left_alone() -> Result<()> {
    if not_ours("start_up: port in use")? {
        return Ok(());
    }
    let (_folder, plan) = data(10).await?;
    for port in [plan.client_port, plan.peer_port] {
        let taken = TcpListener::bind(("127.0.0.1", port))?;
        let sentence = untouched(&plan, RUNTIME)?;
        assert!(sentence.contains(&port.to_string()), "{sentence}");
        drop(taken);
    }
    serves(&plan, 10).await?;
    Ok(())
}

#[tokio::test]
async fn a_locked_directory_stays_with_its_owner() -> Result<()> {
    if not_ours("start_up: locked directory")? {
        return Ok(());
    }
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    client.put("k", "v", None).await?;
    let mut second = server.plan().clone();
    (second.client_port, second.peer_port) = (ports::free()?, ports::free()?);
    let sentence = untouched(&second, RUNTIME)?;
    assert!(sentence.contains("in use"), "{sentence}");
    client.put("k", "still mine", None).await?;
    Ok(())
}

#[tokio::test]
async fn data_of_another_cluster_or_member_is_refused() -> Result<()> {
    if not_ours("start_up: other cluster")? {
        return Ok(());
    }
    let (_folder, plan) = data(10).await?;
    let token = plan.clone().with(&["--initial-cluster-token=another"]);
    let sentence = untouched(&token, REFUSED)?;
    assert!(sentence.contains("cluster"), "{sentence}");
    let mut member = plan.clone();
    member.peer_port = ports::free()?;
    untouched(&member, REFUSED)?;
    serves(&plan, 10).await?;
    Ok(())
}

/// Log segments with data, in the order of their names.
fn segments(root: &Path) -> Result<Vec<PathBuf>> {
    let tree = tree::read(&root.join("wal"))?;
    let files = tree.iter().filter(|(_, (bytes, _))| *bytes > 0);
    Ok(files.map(|(path, _)| root.join("wal").join(path)).collect())
}

/// Offset after the last byte that is not zero: segments are allocated ahead.
fn used(contents: &[u8]) -> usize {
    contents.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[tokio::test]
async fn a_flipped_byte_inside_the_log_is_named_and_refused() -> Result<()> {
    if not_ours("start_up: corruption")? {
        return Ok(());
    }
    let (_folder, plan) = data(200).await?;
    let newest = segments(&plan.data)?.pop().context("a segment")?;
    let intact = std::fs::read(&newest)?;
    let end = used(&intact);
    for part in [4, 2] {
        let mut broken = intact.clone();
        let at = (end / part..).find(|at| broken[*at] == b'v').context("a value")?;
        broken[at] ^= 0x10;
        std::fs::write(&newest, &broken)?;
        let sentence = untouched(&plan, REFUSED)?;
        let file = newest.file_name().and_then(|name| name.to_str()).context("a name")?;
        assert!(sentence.contains(file.trim_end_matches(".wal")), "which file: {sentence}");
        assert!(sentence.contains(char::is_numeric), "which offset: {sentence}");
    }
    std::fs::write(&newest, &intact)?;
    serves(&plan, 200).await?;
    Ok(())
}

/// CRC-32C, bit by bit: of 60 bytes it need not be quick.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// What docs/internals/wal-format.md keeps in every version: magic, version, checksum.
fn with_version(mut segment: Vec<u8>, version: u16) -> Vec<u8> {
    assert_eq!(&segment[..4], b"QSYN");
    assert_eq!(segment[60..64], crc32c(&segment[..60]).to_le_bytes());
    segment[4..6].copy_from_slice(&version.to_le_bytes());
    let crc = crc32c(&segment[..60]);
    segment[60..64].copy_from_slice(&crc.to_le_bytes());
    segment
}

#[tokio::test]
async fn a_log_of_a_newer_format_is_named_and_left_alone() -> Result<()> {
    if not_ours("start_up: newer format")? {
        return Ok(());
    }
    let (_folder, plan) = data(20).await?;
    let newest = segments(&plan.data)?.pop().context("a segment")?;
    let intact = std::fs::read(&newest)?;
    std::fs::write(&newest, with_version(intact.clone(), 2))?;
    let sentence = untouched(&plan, REFUSED)?;
    assert!(sentence.contains("format 2") && sentence.contains("up to 1"), "{sentence}");
    assert!(sentence.contains("newer program"), "what to do: {sentence}");
    std::fs::write(&newest, &intact)?;
    serves(&plan, 20).await?;
    Ok(())
}

#[tokio::test]
async fn a_directory_of_a_newer_format_is_named_and_left_alone() -> Result<()> {
    if not_ours("start_up: newer directory")? {
        return Ok(());
    }
    let (_folder, plan) = data(20).await?;
    let known = plan.data.join("peer-directories");
    let title = "quorate peer directories 99\n";
    std::fs::write(&known, format!("{title}{:08x}\n", crc32c(title.as_bytes())))?;
    let sentence = untouched(&plan, REFUSED)?;
    assert!(sentence.contains("peer-directories") && sentence.contains("newer"), "{sentence}");
    std::fs::remove_file(&known)?;
    let number = plan.data.join("directory-id");
    let intact = std::fs::read(&number)?;
    std::fs::write(&number, "no number\n")?;
    let sentence = untouched(&plan, REFUSED)?;
    assert!(sentence.contains("directory-id"), "{sentence}");
    std::fs::write(&number, intact)?;
    serves(&plan, 20).await?;
    Ok(())
}

#[tokio::test]
async fn a_torn_end_of_the_log_is_cut_and_logged() -> Result<()> {
    if not_ours("start_up: torn tail")? {
        return Ok(());
    }
    let (_folder, plan) = data(50).await?;
    let newest = segments(&plan.data)?.pop().context("a segment")?;
    let mut contents = std::fs::read(&newest)?;
    let end = used(&contents);
    contents[end - 100..end].fill(0);
    std::fs::write(&newest, &contents)?;
    // The last group held one put, which this test un-acknowledges.
    let mut server = serves(&plan, 49).await?;
    assert!(server.process().stderr().contains("cut"), "{}", server.process().stderr());
    server.client().await?.put("k49", "again", None).await?;
    server.kill9()?;
    drop(serves(&plan, 50).await?);
    Ok(())
}

#[tokio::test]
async fn a_missing_log_is_not_an_empty_store() -> Result<()> {
    if not_ours("start_up: missing log")? {
        return Ok(());
    }
    let (_folder, plan) = data(10).await?;
    std::fs::remove_dir_all(plan.data.join("wal"))?;
    std::fs::create_dir(plan.data.join("wal"))?;
    untouched(&plan, REFUSED)?;
    Ok(())
}

#[tokio::test]
async fn an_orderly_stop_exits_with_0() -> Result<()> {
    if not_ours("start_up: exit code of a stop")? {
        return Ok(());
    }
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&[])?;
        server.client().await?.put("k", "v", None).await?;
        server.process().signal(signal)?;
        let status = server.process().wait(STOP)?;
        assert_eq!(status.code(), Some(0), "{status}");
        server.restart()?;
        assert_eq!(server.client().await?.get("k", None).await?.kvs().len(), 1);
    }
    Ok(())
}

/// The name that a server on `port` goes by.
async fn name_on(port: u16) -> Result<String> {
    let mut client = etcd_client::Client::connect([format!("127.0.0.1:{port}")], None).await?;
    let members = client.member_list().await?;
    Ok(members.members().first().context("a member")?.name().to_owned())
}

/// `--flag value`, `--flag=value` and `-flag value`, on etcd and on ours.
#[tokio::test]
async fn flags_are_spelled_in_three_ways() -> Result<()> {
    for spelling in 0..3 {
        let folder = tempfile::tempdir()?;
        let mut plan = Plan::new(folder.path().join("data"))?;
        plan.name = format!("spelled-{spelling}");
        let mut command = plan.program()?;
        for flag in plan.flags() {
            let (name, value) = flag.split_once('=').context("--flag=value")?;
            match spelling {
                0 => command.arg(&flag),
                1 => command.arg(name).arg(value),
                _ => command.arg(&name[1..]).arg(value),
            };
        }
        let mut process = Process::spawn(&plan.name, command)?;
        process.wait_for_stderr(READY_LINE, READY)?;
        assert_eq!(name_on(plan.client_port).await?, plan.name);
    }
    Ok(())
}

#[tokio::test]
async fn a_flag_beats_the_environment_and_that_beats_the_file() -> Result<()> {
    if not_ours("start_up: precedence")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("quorate.toml");
    for (by_env, by_flag, expected) in
        [(false, false, "by-file"), (true, false, "by-env"), (true, true, "by-flag")]
    {
        let plan = Plan::new(folder.path().join(expected))?;
        std::fs::write(
            &file,
            format!(
                "name = \"by-file\"\ndata_dir = {:?}\nlisten_client_urls = {:?}\n",
                plan.data.display().to_string(),
                plan.client_url()
            ),
        )?;
        let mut command = plan.program()?;
        command.arg("--config").arg(&file).current_dir(folder.path());
        if by_env {
            command.env("QUORATE_NAME", "by-env");
        }
        if by_flag {
            command.arg("--name=by-flag");
        }
        let mut process = Process::spawn(expected, command)?;
        process.wait_for_stderr(READY_LINE, READY)?;
        assert_eq!(name_on(plan.client_port).await?, expected);
    }
    Ok(())
}

/// Started under the name `etcd`: no `serve`, etcd's default directory and environment.
#[tokio::test]
async fn started_as_etcd_it_behaves_as_etcd() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("etcd");
    std::os::unix::fs::symlink(std::fs::canonicalize(&binary()?.path)?, &program)?;
    let plan = Plan::new("")?;
    let mut command = Command::new(&program);
    clean_environment(&mut command);
    command.current_dir(folder.path()).env("ETCD_NAME", "by-env");
    for flag in plan.flags().iter().filter(|flag| !flag.starts_with("--data-dir")) {
        let flag = flag.replace("default=", "by-env=");
        if !flag.starts_with("--name") {
            command.arg(flag);
        }
    }
    command.arg("--snapshot-count=5000");
    let mut process = Process::spawn("etcd", command)?;
    process.wait_for_stderr(READY_LINE, READY)?;
    assert_eq!(name_on(plan.client_port).await?, "by-env");
    assert!(folder.path().join("by-env.etcd").is_dir(), "etcd's default directory");
    Ok(())
}

/// `quorate serve` alone: the ports of the manual (in a namespace of its own), and a line to try.
#[test]
fn without_arguments_it_serves_and_says_how_to_try_it() -> Result<()> {
    let name = "start_up: no arguments";
    if not_ours(name)? {
        return Ok(());
    }
    let lab = match Lab::new(1) {
        Ok(lab) => lab,
        Err(error) => {
            skip(name, format!("{error:#}"));
            return Ok(());
        }
    };
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new("")?;
    plan.prefix = lab.prefix(0);
    let mut command = plan.program()?;
    command.current_dir(folder.path());
    let mut process = Process::spawn("serve", command)?;
    process.wait_for_stderr(READY_LINE, READY)?;
    process.wait_for_stdout("etcdctl", COMMAND)?;
    let said = process.stdout();
    assert!(said.contains("127.0.0.1:2379"), "{said}");
    assert!(folder.path().join("quorate-data").is_dir());
    Ok(())
}

#[test]
fn ignored_flags_are_named_in_one_warning() -> Result<()> {
    if not_ours("start_up: ignored flags")? {
        return Ok(());
    }
    let mut server = Server::start(&["--snapshot-count=5000", "--max-wals=3", "--pre-vote=true"])?;
    let stderr = server.process().stderr();
    let warnings: Vec<&str> =
        stderr.lines().filter(|line| line.contains("snapshot-count")).collect();
    assert_eq!(warnings.len(), 1, "{stderr}");
    assert!(
        warnings[0].contains("max-wals") && warnings[0].contains("pre-vote"),
        "{}",
        warnings[0]
    );
    Ok(())
}
