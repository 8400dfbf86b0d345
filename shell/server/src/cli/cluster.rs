//! `quorate serve --nodes 3`: three real processes on loopback, for trying out what a cluster does. Kill
//! one of them and look; Ctrl-C stops all.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::config::Config;
use crate::exit::Fatal;
use crate::terminal::{complain, say};

/// Client port of each node; its peer port is one above.
const PORTS: [u16; 3] = [2379, 22379, 32379];

/// Port of each node for DTM's clients.
const DTM_PORTS: [u16; 3] = [36789, 46789, 56789];

/// How often the children are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long a child may take to stop before it is killed.
const STOP_LOOKS: u32 = 100;

/// One child and what it is.
struct Node {
    number: usize,
    process: Child,
    ended: bool,
}

/// Starts the children, waits until told to stop, stops them.
pub(super) fn run(config: &Config) -> Result<(), Fatal> {
    let program = std::env::current_exe()
        .map_err(|error| Fatal::Runtime(format!("cannot find this program: {error}")))?;
    let stopping = on_signal()?;
    let mut nodes = Vec::new();
    for number in 0..PORTS.len() {
        match start(&program, config, number) {
            Ok(process) => nodes.push(Node { number, process, ended: false }),
            Err(fatal) => {
                stop(&mut nodes);
                return Err(fatal);
            }
        }
    }
    tell(config);
    let outcome = supervise(&mut nodes, &stopping);
    stop(&mut nodes);
    outcome
}

/// Waits for a signal. A child that ends is reported and left down: that is what one tries out here.
fn supervise(nodes: &mut [Node], stopping: &AtomicBool) -> Result<(), Fatal> {
    while !stopping.load(Ordering::Relaxed) {
        for node in nodes.iter_mut().filter(|node| !node.ended) {
            if let Ok(Some(status)) = node.process.try_wait() {
                node.ended = true;
                complain(format_args!("quorate: node{} ended: {status}", node.number + 1));
            }
        }
        if nodes.iter().all(|node| node.ended) {
            return Err(Fatal::Runtime("all nodes have ended".to_owned()));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn start(program: &Path, config: &Config, number: usize) -> Result<Child, Fatal> {
    let name = name_of(number);
    Command::new(program)
        .arg("serve")
        .args(["--name", &name])
        .arg("--data-dir")
        .arg(dir_of(config, number))
        .args(["--listen-client-urls", &client_of(number)])
        .args(["--listen-peer-urls", &peer_of(number)])
        .args(["--listen-dtm-urls", &dtm_of(number)])
        .args(["--initial-cluster", &members()])
        .args(["--initial-cluster-token", &config.cluster_token])
        .args(["--heartbeat-interval", &config.heartbeat.as_millis().to_string()])
        .args(["--election-timeout", &config.election_timeout.as_millis().to_string()])
        .args(["--log-level", &config.log_level.to_string().to_lowercase()])
        .args(&config.transactions.given)
        .spawn()
        .map_err(|error| Fatal::Runtime(format!("cannot start {name}: {error}")))
}

/// Asks all of them to stop, and ends those that do not.
fn stop(nodes: &mut [Node]) {
    for node in nodes.iter().filter(|node| !node.ended) {
        if let Some(pid) = i32::try_from(node.process.id()).ok().and_then(Pid::from_raw) {
            // It may have ended in this moment, which is what is wanted.
            let _ended = kill_process(pid, Signal::TERM);
        }
    }
    for node in nodes.iter_mut().filter(|node| !node.ended) {
        let mut looks = 0;
        while matches!(node.process.try_wait(), Ok(None)) {
            looks += 1;
            if looks == STOP_LOOKS {
                let _ended = node.process.kill();
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Becomes true at the first SIGINT or SIGTERM; at the second the process ends.
fn on_signal() -> Result<Arc<AtomicBool>, Fatal> {
    let failed = |error: std::io::Error| Fatal::Runtime(format!("cannot take signals: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let stopping = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopping);
    let (ready, is_ready) = mpsc::sync_channel(1);
    let wait = move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let both = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = both else { return };
            let _waiting = ready.send(());
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if flag.swap(true, Ordering::Relaxed) {
                    std::process::exit(1);
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(failed)?;
    is_ready.recv().map_err(|_| Fatal::Runtime("cannot take signals".to_owned()))?;
    Ok(stopping)
}

fn tell(config: &Config) {
    say(format_args!("three nodes on loopback, data in {}", config.data_dir.display()));
    for number in 0..PORTS.len() {
        say(format_args!(
            "  {}  clients {}  peers {}",
            name_of(number),
            client_of(number),
            peer_of(number)
        ));
    }
    let endpoints: Vec<String> = (0..PORTS.len()).map(client_of).collect();
    say(format_args!("  try    etcdctl --endpoints={} put greeting hello", endpoints.join(",")));
    say(format_args!("  Ctrl-C stops all"));
}

fn name_of(number: usize) -> String {
    format!("node{}", number + 1)
}

fn dir_of(config: &Config, number: usize) -> PathBuf {
    config.data_dir.join(name_of(number))
}

fn client_of(number: usize) -> String {
    format!("http://127.0.0.1:{}", PORTS[number])
}

fn peer_of(number: usize) -> String {
    format!("http://127.0.0.1:{}", PORTS[number] + 1)
}

fn dtm_of(number: usize) -> String {
    format!("http://127.0.0.1:{}", DTM_PORTS[number])
}

fn members() -> String {
    let member = |number| format!("{}={}", name_of(number), peer_of(number));
    (0..PORTS.len()).map(member).collect::<Vec<_>>().join(",")
}
