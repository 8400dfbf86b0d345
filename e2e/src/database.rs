//! PostgreSQL, MariaDB and Redis: the databases of branches, as processes that can be killed.
//!
//! Each server has a temporary directory and a free loopback port. What is installed is used, else what `cargo
//! xtask peers` has unpacked. PostgreSQL and MariaDB refuse to run as root; there they run as nobody.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::limits::{COMMAND, POLL, READY, STOP};
use crate::ports;
use crate::process::Process;
use crate::tools::{peers, skip};

/// The user and the group nobody.
const NOBODY: u32 = 65_534;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL, with room for prepared transactions.
    Postgres,
    /// MariaDB.
    MariaDb,
    /// Redis.
    Redis,
}

impl Kind {
    /// Name among the peers, and path of the program below the root that it was unpacked into.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Postgres => ("postgres", "usr/lib/postgresql/*/bin/postgres"),
            Self::MariaDb => ("mariadb", "usr/sbin/mariadbd"),
            Self::Redis => ("redis", "usr/bin/redis-server"),
        }
    }

    /// What it says when it serves.
    fn ready(self) -> &'static str {
        match self {
            Self::Postgres => "ready to accept connections",
            Self::MariaDb => "ready for connections",
            Self::Redis => "Ready to accept connections",
        }
    }
}

/// Where a program lies: below `/`, or below a tree of its own.
#[derive(Clone, Debug)]
struct Installed {
    root: PathBuf,
    program: PathBuf,
}

impl Installed {
    fn find(kind: Kind) -> Option<Self> {
        let (name, path) = kind.program();
        let roots = [PathBuf::from("/"), peers().join(name)];
        roots.into_iter().find_map(|root| {
            let program = matching(&root, path).pop()?;
            Some(Self { root, program })
        })
    }

    /// One of its programs, with its libraries, as a user that it accepts.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if self.root != Path::new("/") {
            let libraries = ["usr/lib/*-linux-gnu", "lib/*-linux-gnu"].into_iter();
            let found: Vec<PathBuf> = libraries.flat_map(|l| matching(&self.root, l)).collect();
            let found: Vec<String> = found.iter().map(|l| l.display().to_string()).collect();
            command.env("LD_LIBRARY_PATH", found.join(":"));
        }
        command
    }
}

/// A server process, running or not.
#[derive(Debug)]
pub struct Database {
    // Dropped first: the process ends before its directory goes.
    process: Process,
    kind: Kind,
    installed: Installed,
    port: u16,
    durable: bool,
    folder: tempfile::TempDir,
}

impl Database {
    /// A fresh server that serves; `None`, and `suite` is named as skipped, if there is no such program. `durable`:
    /// it waits for the disk before it answers.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn start(suite: &str, kind: Kind, durable: bool) -> Result<Option<Self>> {
        let Some(installed) = Installed::find(kind) else {
            let (name, _) = kind.program();
            skip(suite, format!("there is no {name}; cargo xtask peers gets it"));
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        if is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
            chown(&data, Some(NOBODY), Some(NOBODY))?;
        }
        match kind {
            Kind::Postgres => make_postgres(&installed, &data)?,
            Kind::MariaDb => make_mariadb(&installed, folder.path())?,
            Kind::Redis => {}
        }
        let port = ports::free()?;
        let process = spawn(kind, &installed, folder.path(), port, durable)?;
        let mut database = Self { process, kind, installed, port, durable, folder };
        database.wait_ready()?;
        Ok(Some(database))
    }

    /// A server that all tests of this process share as long as one of them holds it; it is not durable.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn shared(suite: &str, kind: Kind) -> Result<Option<Arc<Self>>> {
        static SHARED: [Mutex<Weak<Database>>; 3] = [const { Mutex::new(Weak::new()) }; 3];
        let mut held = SHARED[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = held.upgrade() {
            return Ok(Some(database));
        }
        let started = Self::start(suite, kind, false)?.map(Arc::new);
        *held = started.as_ref().map(Arc::downgrade).unwrap_or_default();
        Ok(started)
    }

    /// Where clients connect, as an administrator without a password, to the database that is always there.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(match self.kind {
            Kind::Postgres => "postgres",
            Kind::MariaDb => "mysql",
            Kind::Redis => "0",
        })
    }

    /// As [`Self::url`], to this database of the server.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let who = match self.kind {
            Kind::Postgres => "postgres://postgres@",
            Kind::MariaDb => "mysql://root@",
            Kind::Redis => "redis://",
        };
        format!("{who}127.0.0.1:{}/{database}", self.port)
    }

    /// SIGKILL to the server's first process; its children end when they see it gone.
    ///
    /// # Errors
    /// If the kernel cannot say that it has ended.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9().map(drop)
    }

    /// Starts it again on the same data and port, and waits until it serves.
    ///
    /// # Errors
    /// If it does not get ready; with what it said.
    pub fn restart(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.process.kill9()?;
            let folder = self.folder.path();
            self.process = spawn(self.kind, &self.installed, folder, self.port, self.durable)?;
            match self.wait_ready() {
                // Until the children of the one that was killed are gone, PostgreSQL refuses to start.
                Err(_) if begun.elapsed() < READY => std::thread::sleep(POLL),
                result => return result,
            }
        }
    }

    fn wait_ready(&mut self) -> Result<()> {
        let needle = self.kind.ready();
        match self.kind {
            Kind::Redis => self.process.wait_for_stdout(needle, READY),
            _ => self.process.wait_for_stderr(needle, READY),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // So that PostgreSQL takes its children and its shared memory with it.
        let ended = self.process.signal(Signal::QUIT).and_then(|()| self.process.wait(STOP));
        if let Err(error) = ended {
            eprintln!("cannot stop {:?}: {error:#}", self.kind);
        }
    }
}

fn spawn(
    kind: Kind,
    installed: &Installed,
    folder: &Path,
    port: u16,
    durable: bool,
) -> Result<Process> {
    let mut command = installed.command(&installed.program);
    let data = folder.join("data");
    match kind {
        Kind::Postgres => {
            as_nobody(&mut command);
            command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-D"]).arg(data);
            let fsync = if durable { "fsync=on" } else { "fsync=off" };
            for setting in [
                fsync,
                "unix_socket_directories=",
                "max_prepared_transactions=100",
                "max_connections=200",
                "shared_buffers=16MB",
                "log_min_messages=log",
            ] {
                command.args(["-c", setting]);
            }
        }
        Kind::MariaDb => {
            mariadb_flags(&mut command, installed, folder);
            let flush = if durable { 1 } else { 0 };
            command.args([
                "--skip-grant-tables",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--max-connections=200",
                &format!("--port={port}"),
                &format!("--innodb-flush-log-at-trx-commit={flush}"),
            ]);
        }
        Kind::Redis => {
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(data);
            let sync = if durable { "always" } else { "no" };
            command.args(["--appendonly", "yes", "--appendfsync", sync, "--save", ""]);
        }
    }
    Process::spawn(kind.program().0, command)
}

fn make_postgres(installed: &Installed, data: &Path) -> Result<()> {
    let mut command = installed.command(&installed.program.with_file_name("initdb"));
    as_nobody(&mut command);
    command.args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-D"]);
    let mut initdb = Process::spawn("initdb", {
        command.arg(data);
        command
    })?;
    if !initdb.wait(COMMAND)?.success() {
        bail!("initdb:\n{}", initdb.tail());
    }
    Ok(())
}

/// MariaDB's system tables, from the statements that come with it.
fn make_mariadb(installed: &Installed, folder: &Path) -> Result<()> {
    let mut command = installed.command(&installed.program);
    mariadb_flags(&mut command, installed, folder);
    let tables = installed.root.join("usr/share/mysql/mysql_system_tables.sql");
    let tables = fs::read(&tables).with_context(|| tables.display().to_string())?;
    let log = folder.join("bootstrap.log");
    let output = fs::File::create(&log)?;
    command.arg("--bootstrap").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(output);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("asked for")?;
    let written = stdin.write_all(b"create database mysql;\nuse mysql;\n");
    let written = written.and_then(|()| stdin.write_all(&tables));
    drop(stdin);
    let begun = Instant::now();
    while begun.elapsed() < COMMAND {
        if let Some(status) = child.try_wait()? {
            if status.success() && written.is_ok() {
                return Ok(());
            }
            bail!("mariadbd --bootstrap: {status}:\n{}", fs::read_to_string(log)?);
        }
        std::thread::sleep(POLL);
    }
    child.kill()?;
    child.wait()?;
    bail!("mariadbd --bootstrap takes longer than {COMMAND:?}")
}

fn mariadb_flags(command: &mut Command, installed: &Installed, folder: &Path) {
    let path = |path: &str| installed.root.join(path).display().to_string();
    let folder = folder.display();
    command.arg("--no-defaults");
    if is_root() {
        command.arg("--user=nobody");
    }
    command.args([
        format!("--datadir={folder}/data"),
        format!("--socket={folder}/socket"),
        format!("--pid-file={folder}/data/pid"),
        format!("--basedir={}", path("usr")),
        format!("--lc-messages-dir={}", path("usr/share/mysql")),
        "--innodb-log-file-size=8M".to_owned(),
        "--innodb-buffer-pool-size=32M".to_owned(),
        "--innodb-data-file-path=ibdata1:4M:autoextend".to_owned(),
        "--innodb-temp-data-file-path=ibtmp1:4M:autoextend".to_owned(),
    ]);
}

fn as_nobody(command: &mut Command) {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What lies below `root` under this path, in the order of names; a part with `*` stands for every name that begins
/// and ends so.
fn matching(root: &Path, path: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for part in path.split('/') {
        found = found.iter().flat_map(|folder| children(folder, part)).collect();
    }
    found
}

fn children(folder: &Path, part: &str) -> Vec<PathBuf> {
    let Some((start, end)) = part.split_once('*') else {
        let child = folder.join(part);
        return if child.exists() { vec![child] } else { Vec::new() };
    };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let fits = |name: &str| name.starts_with(start) && name.ends_with(end);
    let paths = entries.flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(fits);
    let mut found: Vec<PathBuf> = paths.filter(named).collect();
    found.sort();
    found
}
