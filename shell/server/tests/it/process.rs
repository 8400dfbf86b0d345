//! A running server and clients for it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use quorate_wire::etcdserverpb as pb;
use quorate_wire::etcdserverpb::cluster_client::ClusterClient;
use quorate_wire::etcdserverpb::kv_client::KvClient;
use quorate_wire::etcdserverpb::lease_client::LeaseClient;
use quorate_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_wire::etcdserverpb::watch_client::WatchClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// Largest response that a client here takes, in bytes.
const MAX_RESPONSE: usize = 64 << 20;

/// The binary under test.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A server; killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// `host:port` of its clients.
    pub(crate) endpoint: String,
    pub(crate) dir: PathBuf,
}

impl Server {
    /// Starts one on a free port and waits until it is ready.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &["--listen-client-urls", "http://127.0.0.1:0"])
    }

    /// The same with these flags.
    pub(crate) fn start_with(dir: &Path, flags: &[&str]) -> Self {
        let mut starting = Self::spawn(dir, flags);
        starting.wait();
        starting
    }

    /// Starts without waiting.
    pub(crate) fn spawn(dir: &Path, flags: &[&str]) -> Self {
        let child = binary()
            .arg("serve")
            .arg("--data-dir")
            .arg(dir)
            .args(["--log-level", "error", "--listen-dtm-urls", "none"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Self { child, endpoint: String::new(), dir: dir.to_path_buf() }
    }

    /// Reads the address off the greeting, which comes when the server is ready.
    pub(crate) fn wait(&mut self) {
        let stdout = self.child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.find_map(|line| {
            let line = line.expect("text");
            line.trim().strip_prefix("clients").map(|url| url.trim().to_owned())
        });
        let url = line.expect("the server ended before it was ready");
        self.endpoint = url.trim_start_matches("http://").to_owned();
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Asks it to stop; its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill exists");
        assert!(sent.success());
        self.child.wait().expect("it ends").code()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = format!("http://{}", self.endpoint);
        let endpoint = Channel::from_shared(endpoint).expect("a URL");
        endpoint.connect().await.expect("it accepts connections")
    }

    pub(crate) async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(MAX_RESPONSE)
    }

    pub(crate) async fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel().await)
    }

    pub(crate) async fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel().await).max_decoding_message_size(MAX_RESPONSE)
    }

    pub(crate) async fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel().await)
    }

    pub(crate) async fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel().await)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A put.
pub(crate) fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

/// A read of one key.
pub(crate) fn get(key: impl Into<Bytes>) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), ..Default::default() }
}

/// A read of a range.
pub(crate) fn range(key: &'static str, end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

/// Asserts code and text of a refusal.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(
    result: Result<Response<T>, Status>,
    code: Code,
    text: &str,
) {
    let status = result.expect_err("it should be refused");
    assert_eq!((status.code(), status.message()), (code, text));
}

/// The header's revision of a response.
#[track_caller]
pub(crate) fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}
