//! A child process whose output is captured and which never outlives its owner.
//!
//! Signals go to this process's own pid alone. On a failing test the output is printed.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::limits::{LOG_BYTES, POLL};

/// A running or ended child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    stdout: Captured,
    stderr: Captured,
}

/// One output stream and the thread that drains it.
#[derive(Debug)]
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with no input; `name` labels its output.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn(name: impl Into<String>, command: Command) -> Result<Self> {
        Self::launch(name.into(), command, Stdio::null())
    }

    /// As [`Self::spawn`], with a standard input for [`Self::type_in`].
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn_typed(name: impl Into<String>, command: Command) -> Result<Self> {
        Self::launch(name.into(), command, Stdio::piped())
    }

    fn launch(name: String, mut command: Command, stdin: Stdio) -> Result<Self> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let stdout = Captured::drain(child.stdout.take());
        let stderr = Captured::drain(child.stderr.take());
        Ok(Self { name, child, ended: None, stdout, stderr })
    }

    /// Writes to its standard input, which stays open.
    ///
    /// # Errors
    /// If it was not started with [`Self::spawn_typed`], or has closed it.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("started without a standard input")?;
        stdin.write_all(text.as_bytes())?;
        stdin.flush().context("standard input")
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Everything on standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Sends a signal; nothing happens if the process has ended.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_none() {
            let pid = i32::try_from(self.pid())?;
            let pid = Pid::from_raw(pid).context("a child has a pid above 0")?;
            kill_process(pid, signal).with_context(|| format!("signal to {}", self.name))?;
        }
        Ok(())
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// SIGKILL, and waits until the kernel has taken everything back.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn kill9(&mut self) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        self.ended.context("set above")
    }

    /// Waits for the end of the process and of its output.
    ///
    /// # Errors
    /// If it runs longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.ended()? {
                self.stdout.join();
                self.stderr.join();
                return Ok(status);
            }
            std::thread::sleep(POLL / 4);
        }
        bail!("{} still runs after {limit:?}", self.name)
    }

    /// Waits until `needle` has appeared on standard error.
    ///
    /// # Errors
    /// If the process ends first, or `limit` passes; with what it printed.
    pub fn wait_for_stderr(&mut self, needle: &str, limit: Duration) -> Result<()> {
        self.wait_until(needle, limit, |process| process.stderr().contains(needle))
    }

    /// Waits until `needle` has appeared on standard output.
    ///
    /// # Errors
    /// If the process ends first, or `limit` passes; with what it printed.
    pub fn wait_for_stdout(&mut self, needle: &str, limit: Duration) -> Result<()> {
        self.wait_until(needle, limit, |process| process.stdout().contains(needle))
    }

    fn wait_until(
        &mut self,
        needle: &str,
        limit: Duration,
        printed: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if printed(self) {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                bail!("{} ended ({status}) before '{needle}':\n{}", self.name, self.tail());
            }
            std::thread::sleep(POLL / 4);
        }
        bail!("{} did not print '{needle}' within {limit:?}:\n{}", self.name, self.tail())
    }

    /// The last lines of both outputs, for a failing test.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = format!("{}{}", self.stdout(), self.stderr());
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill9() {
            eprintln!("cannot end {}: {error:#}", self.name);
        }
        if std::thread::panicking() {
            eprintln!("---- output of {} ----\n{}\n----", self.name, self.tail());
        }
    }
}

impl Captured {
    fn drain(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = stream.map(|stream| std::thread::spawn(move || copy(stream, &sink)));
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().expect("the reader does not panic while it holds the lock");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader only copies");
        }
    }
}

fn copy(mut stream: impl Read, sink: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let mut kept = sink.lock().expect("nobody panics while holding the lock");
        let room = LOG_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}
