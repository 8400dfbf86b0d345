//! One server process on a data directory of its own.
//!
//! The same flags serve etcd and ours. A server can be killed, stopped, paused and started again on
//! the same data and ports; its temporary directory goes when it is dropped, after the process.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::{Client, ConnectOptions};
use rustix::process::Signal;

use crate::limits::{READY, STOP};
use crate::ports;
use crate::process::Process;
use crate::tools::{Binary, Kind, binary};

/// What both etcd and ours print on standard error when clients are served.
pub const READY_LINE: &str = "ready to serve client requests";

/// How a server is started: everything but the process.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Member name.
    pub name: String,
    /// IP address of both listeners.
    pub host: String,
    /// Port for clients.
    pub client_port: u16,
    /// Port for other members.
    pub peer_port: u16,
    /// Data directory.
    pub data: PathBuf,
    /// Flags beyond addresses, name and data directory.
    pub extra: Vec<String>,
    /// A command that runs the server, such as `ip netns exec NAME`; usually empty.
    pub prefix: Vec<String>,
    /// `--initial-cluster`; `None` = this member alone.
    pub cluster: Option<String>,
}

impl Plan {
    /// A lone member `default` on free loopback ports.
    ///
    /// # Errors
    /// If no port is free.
    pub fn new(data: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self {
            name: "default".into(),
            host: "127.0.0.1".into(),
            client_port: ports::free()?,
            peer_port: ports::free()?,
            data: data.into(),
            extra: Vec::new(),
            prefix: Vec::new(),
            cluster: None,
        })
    }

    /// Adds flags.
    #[must_use]
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.extra.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Where clients connect.
    #[must_use]
    pub fn client_url(&self) -> String {
        format!("http://{}:{}", self.host, self.client_port)
    }

    /// Where other members connect.
    #[must_use]
    pub fn peer_url(&self) -> String {
        format!("http://{}:{}", self.host, self.peer_port)
    }

    /// All flags, in etcd's form.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let (client, peer) = (self.client_url(), self.peer_url());
        let alone = format!("{}={peer}", self.name);
        let cluster = self.cluster.as_ref().unwrap_or(&alone);
        let mut flags = vec![
            format!("--name={}", self.name),
            format!("--data-dir={}", self.data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={cluster}"),
        ];
        flags.extend(self.extra.iter().cloned());
        flags
    }

    /// Starts the process; it may not serve yet.
    ///
    /// # Errors
    /// If there is no server to test or it cannot be started.
    pub fn spawn(self) -> Result<Server> {
        let process = self.process()?;
        Ok(Server { plan: self, process, folder: None })
    }

    fn process(&self) -> Result<Process> {
        let mut command = self.program()?;
        command.args(self.flags());
        // DTM's port is a fixed one unless somebody says otherwise.
        let says = |flag: &String| flag.starts_with("--listen-dtm-urls");
        if binary()?.kind == Kind::Quorate && !self.extra.iter().any(says) {
            command.arg("--listen-dtm-urls=none");
        }
        Process::spawn(&self.name, command)
    }

    /// The command without its flags: prefix, executable, and `serve` if ours wants it.
    ///
    /// # Errors
    /// If there is no server to test.
    pub fn program(&self) -> Result<Command> {
        let Binary { path, kind } = binary()?;
        let mut command = match self.prefix.split_first() {
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).arg(path);
                command
            }
            None => Command::new(path),
        };
        clean_environment(&mut command);
        if *kind == Kind::Quorate {
            command.arg("serve");
        }
        Ok(command)
    }
}

/// Takes away the variables that either server reads its flags from.
pub fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ETCD_") || text.starts_with("QUORATE_") {
            command.env_remove(&name);
        }
    }
}

/// A server process, running or not.
#[derive(Debug)]
pub struct Server {
    // Dropped first: the process ends before its directory goes.
    process: Process,
    plan: Plan,
    folder: Option<tempfile::TempDir>,
}

impl Server {
    /// A fresh lone member that serves, with extra flags.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn start(flags: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut server = Plan::new(folder.path().join("data"))?.with(flags).spawn()?;
        server.folder = Some(folder);
        server.wait_ready()?;
        Ok(server)
    }

    /// Waits for the readiness line of this start.
    ///
    /// # Errors
    /// If the process ends or the line does not come, with the output.
    pub fn wait_ready(&mut self) -> Result<()> {
        self.process.wait_for_stderr(READY_LINE, READY)
    }

    /// Starts it again on the same data, ports and flags, and waits until it serves.
    ///
    /// # Errors
    /// As [`Self::wait_ready`].
    pub fn restart(&mut self) -> Result<()> {
        self.respawn()?;
        self.wait_ready()
    }

    /// Starts it again without waiting. A process that still runs is killed first.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn respawn(&mut self) -> Result<()> {
        self.process.kill9()?;
        self.process = self.plan.process()?;
        Ok(())
    }

    /// SIGKILL: what a crash of the process is.
    ///
    /// # Errors
    /// If the kernel cannot say that it has ended.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9().map(drop)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.wait(STOP)
    }

    /// SIGSTOP: the process stands still and its connections stay open.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// A new client of this server alone. It connects with its first request.
    ///
    /// # Errors
    /// If the library refuses the address.
    pub async fn client(&self) -> Result<Client> {
        self.client_with(ConnectOptions::new()).await
    }

    /// A new client with options.
    ///
    /// # Errors
    /// If the library refuses the address.
    pub async fn client_with(&self, options: ConnectOptions) -> Result<Client> {
        let connected = Client::connect([self.client_url()], Some(options)).await;
        connected.context("etcd-client")
    }

    /// A new client whose requests end after `timeout`.
    ///
    /// # Errors
    /// If the library refuses the address.
    pub async fn client_within(&self, timeout: Duration) -> Result<Client> {
        self.client_with(ConnectOptions::new().with_timeout(timeout)).await
    }

    /// Where clients connect, such as `http://127.0.0.1:12345`.
    #[must_use]
    pub fn client_url(&self) -> String {
        self.plan.client_url()
    }

    /// `host:port` for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.plan.host, self.plan.client_port)
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.plan.data
    }

    /// How it was started.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line.context("VmRSS")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}
