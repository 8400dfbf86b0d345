//! The servers that are measured: started on free ports in a fresh directory on a real disk, ended
//! by the number that was given to us at their start, and gone with the value that holds them.

use crate::limits::{LOG_LINE_BYTES, LOG_TAIL_LINES, START_ATTEMPTS, START_POLL, START_TIMEOUT};
use crate::proc::{Pid, dir_bytes, file_system};
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use tempfile::TempDir;

/// What every server prints on standard error when it serves.
const READY: &str = "ready to serve client requests";
/// Room for what a whole table writes.
const QUOTA_BYTES: u64 = 8 << 30;

/// A program to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// etcd.
    Etcd(PathBuf),
    /// Ours, which takes etcd's flags behind a command; without DTM's port.
    Quorate(PathBuf),
    /// Ours with DTM's port.
    QuorateDtm(PathBuf),
    /// One of this binary's own servers, by its arguments; `--listen` and `--dir` are added.
    Own(Vec<String>),
}

/// The processes of one cluster.
#[derive(Debug)]
pub struct Cluster {
    program: Program,
    nodes: Vec<Node>,
    dir: TempDir,
}

#[derive(Debug)]
struct Node {
    command: Vec<OsString>,
    client: SocketAddr,
    dtm: SocketAddr,
    process: Option<Process>,
}

impl Cluster {
    /// Starts `count` nodes as one cluster and waits until all serve.
    pub fn start(program: &Program, count: usize) -> Result<Self> {
        let mut attempt = 1;
        loop {
            // Between finding a port free and using it, somebody else may take it.
            match Self::try_start(program, count) {
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    fn try_start(program: &Program, count: usize) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("quorate-bench-").tempdir()?;
        if file_system(dir.path()).as_deref() == Some("tmpfs") {
            bail!("{} is not on a disk: set TMPDIR to a real one", dir.path().display());
        }
        let ports = free_ports(3 * count)?;
        let (clients, others) = ports.split_at(count);
        let (peers, dtm) = others.split_at(count);
        let nodes = (0..count).map(|i| {
            let mut command = arguments(program, i, clients, peers, dir.path());
            command.extend(dtm_flag(program, dtm[i]));
            Node { command, client: clients[i], dtm: dtm[i], process: None }
        });
        let mut cluster = Self { program: program.clone(), nodes: nodes.collect(), dir };
        (0..count).try_for_each(|i| cluster.spawn(i))?;
        (0..count).try_for_each(|i| cluster.await_ready(i))?;
        Ok(cluster)
    }

    /// Where the nodes listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|n| n.client).collect()
    }

    /// Where the nodes serve DTM's clients, if the program does.
    pub fn dtm_addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|n| n.dtm).collect()
    }

    /// The processes that run.
    pub fn pids(&self) -> Vec<Pid> {
        self.nodes.iter().filter_map(|n| n.process.as_ref()).map(|p| p.pid).collect()
    }

    /// Resident memory of all nodes, in bytes.
    pub fn rss(&self) -> Result<u64> {
        self.pids().into_iter().map(Pid::rss).sum()
    }

    /// The most that each node ever had resident, added up, in bytes.
    pub fn peak_rss(&self) -> Result<u64> {
        self.pids().into_iter().map(Pid::peak_rss).sum()
    }

    /// Bytes in the data directories.
    pub fn disk(&self) -> Result<u64> {
        dir_bytes(self.dir.path())
    }

    /// kill -9 for every node.
    pub fn kill(&mut self) {
        for node in &mut self.nodes {
            node.process = None;
        }
    }

    /// kill -9 for one node.
    pub fn kill_one(&mut self, i: usize) {
        self.nodes[i].process = None;
    }

    /// Starts every node again on the data that it left. Does not wait.
    pub fn respawn(&mut self) -> Result<()> {
        (0..self.nodes.len()).try_for_each(|i| self.spawn(i))
    }

    /// The last lines that the nodes wrote to standard error.
    pub fn log_tail(&self) -> String {
        let tails = self.nodes.iter().filter_map(|n| n.process.as_ref()).map(Process::tail);
        tails.collect::<Vec<_>>().join("\n")
    }

    fn spawn(&mut self, i: usize) -> Result<()> {
        let binary = match &self.program {
            Program::Etcd(path) | Program::Quorate(path) | Program::QuorateDtm(path) => {
                path.clone()
            }
            Program::Own(_) => std::env::current_exe()?,
        };
        let command = command(&binary, &self.nodes[i].command, self.dir.path())?;
        let process = Process::spawn(command, READY)?;
        self.nodes[i].process = Some(process);
        Ok(())
    }

    fn await_ready(&mut self, i: usize) -> Result<()> {
        let process = self.nodes[i].process.as_mut().context("the node was not started")?;
        process.await_ready()
    }
}

/// `count` free ports on loopback, all different.
pub fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    let open = (0..count).map(|_| TcpListener::bind("127.0.0.1:0"));
    let open: Vec<TcpListener> = open.collect::<std::io::Result<_>>()?;
    Ok(open.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?)
}

fn arguments(
    program: &Program,
    i: usize,
    clients: &[SocketAddr],
    peers: &[SocketAddr],
    dir: &Path,
) -> Vec<OsString> {
    let data = dir.join(format!("n{i}"));
    if let Program::Own(own) = program {
        let listen = ["--listen".to_owned(), clients[i].to_string(), "--dir".to_owned()];
        let strings = own.iter().cloned().chain(listen);
        return strings.map(OsString::from).chain([dir.into()]).collect();
    }
    let members = peers.iter().enumerate().map(|(j, p)| format!("n{j}=http://{p}"));
    let (client, peer) = (clients[i], peers[i]);
    let flags = [
        format!("--name=n{i}"),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster={}", members.collect::<Vec<_>>().join(",")),
        "--initial-cluster-state=new".to_owned(),
        format!("--quota-backend-bytes={QUOTA_BYTES}"),
    ];
    let ours = matches!(program, Program::Quorate(_) | Program::QuorateDtm(_));
    let command = ours.then(|| "serve".to_owned());
    command.into_iter().chain(flags).map(OsString::from).collect()
}

/// What ours is told of DTM's port: none, so that nobody waits for the usual one, or this.
fn dtm_flag(program: &Program, at: SocketAddr) -> Option<OsString> {
    match program {
        Program::Quorate(_) => Some("--listen-dtm-urls=none".into()),
        Program::QuorateDtm(_) => Some(format!("--listen-dtm-urls=http://{at}").into()),
        Program::Etcd(_) | Program::Own(_) => None,
    }
}

/// How a program is started in a directory.
pub fn command(binary: &Path, arguments: &[OsString], dir: &Path) -> Result<Command> {
    // It runs in another directory, so a relative path would lead elsewhere; a mere name is
    // looked up in PATH.
    let relative = binary.components().count() > 1;
    let path = if relative { std::path::absolute(binary)? } else { binary.to_owned() };
    let mut command = Command::new(path);
    command.args(arguments).current_dir(dir);
    Ok(command)
}

/// One process and what it says; ends with the value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its number.
    pub pid: Pid,
    said: Arc<Mutex<Said>>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Said {
    ready: bool,
    tail: VecDeque<String>,
}

impl Process {
    /// Starts it. It serves when a line of its standard error contains `ready`.
    pub fn spawn(mut command: Command, ready: &'static str) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let said = Arc::new(Mutex::new(Said::default()));
        let stderr = child.stderr.take().context("standard error was asked for")?;
        let pid = Pid(child.id());
        let heard = Arc::clone(&said);
        let listener = std::thread::Builder::new()
            .name(format!("stderr-{}", pid.0))
            .spawn(move || listen(stderr, ready, &heard))?;
        Ok(Self { child, pid, said, listener: Some(listener) })
    }

    /// Waits until it serves.
    pub fn await_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.said.lock().unwrap_or_else(PoisonError::into_inner).ready {
            if let Some(status) = self.child.try_wait()? {
                // Its last words may still be on their way; the listener ends when they are read.
                self.listener.take().map(JoinHandle::join);
                bail!("the server ended with {status}:\n{}", self.tail());
            }
            if begun.elapsed() > START_TIMEOUT {
                bail!("the server did not serve within {START_TIMEOUT:?}:\n{}", self.tail());
            }
            std::thread::sleep(START_POLL);
        }
        Ok(())
    }

    /// The last lines that it wrote to standard error.
    pub fn tail(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a server's standard error until it ends.
fn listen(stderr: ChildStderr, ready: &str, said: &Mutex<Said>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LOG_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.ready |= text.contains(ready);
        if said.tail.len() == LOG_TAIL_LINES {
            said.tail.pop_front();
        }
        said.tail.push_back(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(arguments: &[OsString]) -> Process {
        let command = command(Path::new("/bin/sh"), arguments, Path::new("/")).unwrap();
        Process::spawn(command, READY).unwrap()
    }

    #[test]
    fn a_program_that_ends_is_reported_with_its_words() {
        let args = ["-c".into(), "echo no such flag >&2; exit 2".into()];
        let mut p = shell(&args);
        let error = p.await_ready().unwrap_err().to_string();
        assert!(error.contains("exit status: 2") && error.contains("no such flag"), "{error}");
    }

    #[test]
    fn readiness_is_read_from_standard_error() {
        let script = format!("echo '{{\"msg\":\"{READY}\"}}' >&2; exec sleep 60");
        shell(&["-c".into(), script.into()]).await_ready().unwrap();
    }

    #[test]
    fn ports_differ() {
        let ports = free_ports(8).unwrap();
        assert_eq!(ports.iter().collect::<std::collections::BTreeSet<_>>().len(), 8);
    }

    #[test]
    fn three_nodes_name_each_other() {
        let at = |p: u16| SocketAddr::from(([127, 0, 0, 1], p));
        let (clients, peers) = ([at(1), at(2), at(3)], [at(4), at(5), at(6)]);
        let of = |program: Program| arguments(&program, 1, &clients, &peers, Path::new("/d"));
        let flags = of(Program::Etcd("etcd".into()));
        assert_eq!(of(Program::Quorate("quorate".into()))[1..], flags);
        let dtm = |program| dtm_flag(&program, at(7)).unwrap_or_default();
        assert_eq!(dtm(Program::Quorate("q".into())), "--listen-dtm-urls=none");
        assert_eq!(dtm(Program::QuorateDtm("q".into())), "--listen-dtm-urls=http://127.0.0.1:7");
        assert_eq!(dtm(Program::Etcd("e".into())), "");
        let all = "n0=http://127.0.0.1:4,n1=http://127.0.0.1:5,n2=http://127.0.0.1:6";
        assert!(flags.contains(&format!("--initial-cluster={all}").into()));
        assert!(flags.contains(&"--listen-client-urls=http://127.0.0.1:2".into()));
        assert!(flags.contains(&"--data-dir=/d/n1".into()));
    }
}
