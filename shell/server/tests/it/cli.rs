//! The command line: exit codes and one sentence for whatever is wrong.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::process::{Server, binary, put};

/// Exit code and standard error.
fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = binary().args(args).output().expect("the binary starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Fails with this code and one sentence that contains this text.
#[track_caller]
fn fails(args: &[&str], code: i32, text: &str) {
    let (found, said) = run(args);
    assert_eq!(found, Some(code), "{args:?}: {said}");
    assert!(said.contains(text), "{args:?}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "one sentence: {said}");
}

fn path(dir: &Path) -> &str {
    dir.to_str().expect("text")
}

#[test]
fn usage_errors_exit_2_and_touch_nothing() {
    let dir = tempfile::tempdir().expect("temp");
    let data = dir.path().join("data");
    let serve = |flags: &[&'static str]| {
        let mut args = vec!["serve", "--data-dir", path(&data)];
        args.extend(flags);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (flags, text) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["--cert-file", "c"], "closed server"),
        (&["--listen-client-urls", "https://127.0.0.1:0"], "closed server"),
        (&["--heartbeat-interval", "x"], "--heartbeat-interval"),
    ] {
        let args = serve(flags);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        fails(&args, 2, text);
    }
    fails(&["nonsense"], 2, "unknown command");
    assert!(!data.exists(), "nothing was touched");
    assert_eq!(run(&["--help"]).0, Some(0));
}

#[test]
fn a_port_in_use_and_a_locked_directory_exit_1() {
    let dir = tempfile::tempdir().expect("temp");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", taken.local_addr().expect("bound"));
    let data = dir.path().join("data");
    let args = ["serve", "--data-dir", path(&data), "--listen-client-urls", &url];
    fails(&args, 1, "in use by another process");
    assert!(!data.exists(), "nothing was touched");

    let server = Server::start(dir.path());
    let free = "http://127.0.0.1:0";
    let args = ["serve", "--data-dir", path(&server.dir), "--listen-client-urls", free];
    fails(&args, 1, "in use by another process");
}

#[tokio::test]
async fn foreign_and_damaged_data_exits_3_and_is_left_alone() {
    let dir = tempfile::tempdir().expect("temp");
    let free = ["--listen-client-urls", "http://127.0.0.1:0"];
    let mut server = Server::start(dir.path());
    for _ in 0..3 {
        server.kv().await.put(put("k", "v")).await.expect("put");
    }
    assert_eq!(server.terminate(), Some(0));
    let data = path(dir.path());
    let inspected = binary().args(["inspect", data, "--json"]).output().expect("it runs");
    assert_eq!(inspected.status.code(), Some(0), "{inspected:?}");
    let report: serde_json::Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
    assert!(report["problem"].is_null() && report["groups"][0]["last"].as_u64() > Some(3));

    let other = "default=http://127.0.0.1:7";
    let args = ["serve", "--data-dir", data, free[0], free[1], "--initial-cluster", other];
    let mut args = args.to_vec();
    args.extend(["--initial-advertise-peer-urls", "http://127.0.0.1:7"]);
    fails(&args, 3, "belongs to cluster");

    let segment = first_segment(dir.path());
    let mut bytes = std::fs::read(&segment).expect("readable");
    bytes[4096 + 100] ^= 1;
    std::fs::write(&segment, &bytes).expect("writable");
    let args = ["serve", "--data-dir", data, free[0], free[1]];
    fails(&args, 3, "corrupt at offset");
    fails_inspection(data);
    assert!(std::fs::read(&segment).expect("readable") == bytes, "it was left alone");
}

fn fails_inspection(data: &str) {
    let (code, said) = run(&["inspect", data]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("corrupt at offset"), "{said}");
}

fn first_segment(dir: &Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(dir.join("wal")).expect("a log");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    paths.sort();
    paths.swap_remove(0)
}

#[test]
fn under_the_name_etcd_it_serves_with_etcds_defaults() {
    let dir = tempfile::tempdir().expect("temp");
    let mut child = binary()
        .arg0("etcd")
        .args(["-name", "m1", "--listen-client-urls=http://127.0.0.1:0", "--snapshot-count", "5"])
        .current_dir(dir.path())
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the binary starts");
    let stderr = child.stderr.take().expect("piped");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let mut warned = false;
    let ready = lines.map(|line| line.expect("text")).any(|line| {
        warned |= line.contains("--snapshot-count");
        line.contains("ready to serve client requests")
    });
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(ready && warned);
    assert!(dir.path().join("m1.etcd").join("wal").is_dir());
}

#[test]
fn status_shows_the_member() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let args = ["status", "--endpoints", &server.endpoint, "--json"];
    let output = binary().args(args).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(status["members"][0]["role"], "leader");
    assert_eq!(status["members"][0]["name"], "default");
    let (code, said) = run(&["status", "--endpoints", "127.0.0.1:1"]);
    assert_eq!(code, Some(1), "{said}");
}
