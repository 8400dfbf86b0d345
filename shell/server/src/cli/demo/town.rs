//! All the processes of a demo, and where to reach them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_client::{Coordinator, Http, Patience};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::child::{Child, free_ports};
use super::service::Role;
use crate::exit::Fatal;

/// How long all of them may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long the server may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// While one that was killed is down: for the server, and for a participant.
const PATIENCE: Patience =
    Patience { total: Duration::from_secs(20), pause: Duration::from_millis(20) };
const BRANCH_PATIENCE: Patience =
    Patience { total: Duration::from_millis(300), pause: Duration::from_millis(20) };
/// One request to the server, one call of a participant.
const TIMEOUTS: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(2));

/// The directory of a demo. A temporary one goes with its value, unless something went wrong.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) is_temporary: bool,
}

impl Place {
    /// The directory asked for, which must be empty or not exist; or a temporary one.
    pub(super) fn take(asked: Option<&Path>) -> Result<Self, Fatal> {
        let temporary = || {
            let name = format!("quorate-demo-{}-{:x}", std::process::id(), crate::run::random());
            std::env::temp_dir().join(name)
        };
        let path = asked.map_or_else(temporary, Path::to_path_buf);
        let failed = |error| Fatal::Runtime(format!("{}: {error}", path.display()));
        std::fs::create_dir_all(&path).map_err(failed)?;
        if std::fs::read_dir(&path).map_err(failed)?.next().is_some() {
            return Err(Fatal::Usage(format!("--dir: {} is not empty", path.display())));
        }
        Ok(Self { path, is_temporary: asked.is_none() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary {
            // What is left of it is the system's to clean up.
            let _left = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The processes. The server is the last one.
pub(super) struct Town {
    children: Vec<Child>,
    bases: Vec<(Role, String)>,
    coordinator: Coordinator,
    http: Http,
    kills: u64,
}

impl Town {
    /// Starts everything and waits until it answers. `stock` pieces of each item are there.
    pub(super) async fn start(dir: &Path, stock: u64) -> Result<Self, Fatal> {
        let [client, dtm, services @ ..] = free_ports::<6>()?;
        let mut children = Vec::new();
        let mut bases = Vec::new();
        for (role, port) in Role::ALL.into_iter().zip(services) {
            let db = dir.join(format!("{}.sqlite", role.name())).display().to_string();
            let (port_text, stock) = (port.to_string(), stock.to_string());
            let args =
                ["demo-service", role.name(), "--db", &db, "--port", &port_text, "--stock", &stock];
            children.push(Child::new(role.name(), args.map(str::to_owned).to_vec(), dir));
            bases.push((role, format!("http://127.0.0.1:{port}")));
        }
        children.push(Child::new("quorate", server_args(dir, client, dtm), dir));
        let coordinator = Coordinator::new(&format!("http://127.0.0.1:{dtm}/api/dtmsvr"))
            .with_timeouts(TIMEOUTS.0, TIMEOUTS.1)
            .with_patience(PATIENCE)
            .with_branch_patience(BRANCH_PATIENCE);
        let http = Http::new(TIMEOUTS.1);
        let mut town = Self { children, bases, coordinator, http, kills: 0 };
        for child in &mut town.children {
            child.start()?;
        }
        town.wait_until_it_answers().await?;
        Ok(town)
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), Fatal> {
        let deadline = Instant::now() + START_LIMIT;
        for at in 0..self.children.len() {
            loop {
                let answers = match self.bases.get(at) {
                    Some((_, base)) => {
                        self.http.get(&format!("{base}/report"), Patience::NONE).await.is_ok()
                    }
                    None => {
                        let url = format!("{}/newGid", self.coordinator.base());
                        self.http.get(&url, Patience::NONE).await.is_ok()
                    }
                };
                if answers {
                    break;
                }
                let child = &mut self.children[at];
                if child.has_ended() || Instant::now() > deadline {
                    let (name, words) = (child.name, child.last_words());
                    return Err(Fatal::Runtime(format!("{name} did not start:\n{words}")));
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// How many processes there are.
    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    /// Kills the process with this number.
    pub(super) fn kill(&mut self, at: usize) {
        self.kills += 1;
        self.children[at].kill();
    }

    /// Starts the process with this number again, if it does not run.
    pub(super) fn start_again(&mut self, at: usize) -> Result<(), Fatal> {
        self.children[at].start()
    }

    /// Processes killed so far.
    pub(super) fn kills(&self) -> u64 {
        self.kills
    }

    /// A process that has ended though nobody killed it: that must not happen.
    pub(super) fn fallen(&mut self) -> Option<String> {
        self.children.iter_mut().find_map(|child| {
            child
                .has_ended()
                .then(|| format!("{} ended by itself:\n{}", child.name, child.last_words()))
        })
    }

    /// The server, with patience for its absences.
    pub(super) fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// The address of a service.
    pub(super) fn base(&self, role: Role) -> &str {
        let found = self.bases.iter().find(|(known, _)| *known == role);
        &found.expect("every role has a process").1
    }

    /// What a service says of itself.
    pub(super) async fn report(&self, role: Role) -> Result<Value, Fatal> {
        let url = format!("{}/report", self.base(role));
        let failed = |why: String| Fatal::Runtime(format!("{}: {why}", role.name()));
        let answer = self.http.get(&url, PATIENCE).await.map_err(|e| failed(e.to_string()))?;
        let body = answer.result(&url).map_err(|e| failed(e.to_string()))?;
        serde_json::from_slice(&body).map_err(|e| failed(e.to_string()))
    }

    /// Ends everything: the server in order, the services at once.
    pub(super) async fn end(mut self) {
        let Some(mut server) = self.children.pop() else { return };
        server.ask_to_end();
        let deadline = Instant::now() + STOP_LIMIT;
        while !server.has_ended() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }
}

fn server_args(dir: &Path, client: u16, dtm: u16) -> Vec<String> {
    let at = |port| format!("http://127.0.0.1:{port}");
    let data = dir.join("quorate-data").display().to_string();
    let (client, dtm) = (at(client), at(dtm));
    let args = [
        "demo-service",
        "server",
        "--data-dir",
        &data,
        "--listen-client-urls",
        &client,
        "--listen-dtm-urls",
        &dtm,
        "--log-level",
        "warn",
    ];
    args.map(str::to_owned).to_vec()
}
