//! One process: started, killed, started again on the same port, and ended with the demo.

use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Fatal;

/// Ports are taken from here, below those that the system gives to outgoing connections: nothing else takes
/// one while its process is down.
const PORTS: Range<u16> = 12_000..32_000;

/// A process that runs or was killed. Ends with its value.
#[derive(Debug)]
pub(super) struct Child {
    /// What it is called.
    pub(super) name: String,
    args: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
}

impl Child {
    /// This program as `demo-service` with these arguments, not yet running; it writes into a log file in
    /// `dir`.
    pub(super) fn new(name: &str, args: Vec<String>, dir: &Path) -> Self {
        Self { name: name.to_owned(), args, log: dir.join(format!("{name}.log")), process: None }
    }

    /// Starts it if it does not run.
    pub(super) fn start(&mut self) -> Result<(), Fatal> {
        if self.process.is_some() {
            return Ok(());
        }
        let failed = |error| Fatal::Runtime(format!("cannot start {}: {error}", self.name));
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("demo-service").arg(std::process::id().to_string());
        command.args(&self.args).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        // Ctrl-C is for the demo alone: it ends the others in its own order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(variable);
            }
        }
        self.process = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// SIGKILL, as the power of that machine would do.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Fails only if it has ended by itself, which is what is wanted.
            let _ended = process.kill();
            let _status = process.wait();
        }
    }

    /// Whether it was started and has ended without being killed.
    pub(super) fn has_ended(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_some_and(|process| !matches!(process.try_wait(), Ok(None)))
    }

    /// Asks it to end.
    pub(super) fn ask_to_end(&self) {
        let id = self.process.as_ref().and_then(|process| i32::try_from(process.id()).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            let _ended = kill_process(pid, Signal::TERM);
        }
    }

    /// The last that it has written, for an error message.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        last.map_or("it has said nothing", |line| line.trim_start_matches("quorate: ")).to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ports on loopback that are free now, from a place that depends on this process.
#[derive(Clone, Debug)]
pub(super) struct FreePorts {
    first: u16,
    tried: u16,
}

impl FreePorts {
    pub(super) fn new() -> Self {
        let span = u32::from(PORTS.end - PORTS.start);
        Self { first: (std::process::id().wrapping_mul(97) % span) as u16, tried: 0 }
    }

    /// The next one.
    pub(super) fn take(&mut self) -> Result<u16, Fatal> {
        let span = PORTS.end - PORTS.start;
        while self.tried < span {
            let port = PORTS.start + (self.first + self.tried) % span;
            self.tried += 1;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        let Range { start, end } = PORTS;
        Err(Fatal::Runtime(format!("no port of 127.0.0.1 from {start} to {end} is free")))
    }
}
