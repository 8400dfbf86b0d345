//! All the processes of a demo, and where to reach them.

mod server;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_client::{Coordinator, Http, Patience};
use quorate_storage::free_space;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::child::{Child, FreePorts};
use super::story::ServicePlan;
use crate::exit::Fatal;
use server::{Page, Server};

/// How long all of them may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long the servers may take to stop before they are killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// While one that was killed is down, on a machine with much else to do: for the server, and for a participant.
pub(super) const PATIENCE: Patience =
    Patience { total: Duration::from_secs(120), pause: Duration::from_millis(20) };
const BRANCH_PATIENCE: Patience =
    Patience { total: Duration::from_millis(300), pause: Duration::from_millis(20) };
/// One request to the server, one call of a participant.
const TIMEOUTS: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(2));
/// How long a server is asked for its figures, before it is killed.
const PAGE_LIMIT: Duration = Duration::from_millis(300);
/// Free space that the demo wants at first, for itself and for each server; and below which it ends, since the
/// server refuses writes soon after.
const SPACE: (u64, u64) = (512 << 20, 256 << 20);
const LEAST_SPACE: u64 = 384 << 20;

/// The directory of a demo. A temporary one goes with its value, unless something went wrong.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) is_temporary: bool,
}

impl Place {
    /// The directory asked for, which must be empty or not exist; or a temporary one. With space for so many
    /// servers.
    pub(super) fn take(asked: Option<&Path>, servers: usize) -> Result<Self, Fatal> {
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
        let place = Self { path, is_temporary: asked.is_none() };
        place.must_have(SPACE.0 + SPACE.1 * servers as u64)?;
        Ok(place)
    }

    fn must_have(&self, bytes: u64) -> Result<(), Fatal> {
        let path = self.path.display();
        let free = free_space(&self.path);
        let free = free.map_err(|error| Fatal::Runtime(format!("{path}: {error}")))?;
        if free >= bytes {
            return Ok(());
        }
        let (free, wanted) = (free >> 20, bytes >> 20);
        let sentence = format!("{path}: {free} MiB are free, and the demo needs {wanted} MiB");
        Err(Fatal::Runtime(format!("{sentence}; another place is chosen with --dir")))
    }

    /// Whether there is still room.
    pub(super) fn must_have_room(&self) -> Result<(), Fatal> {
        self.must_have(LEAST_SPACE)
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

/// How many processes were killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kills {
    pub(super) all: u64,
    /// Among them: servers, and those of them that said shortly before that they lead.
    pub(super) servers: u64,
    pub(super) leaders: u64,
}

/// Calls that servers have made to services, as they counted them. What one did after it was asked for the last time
/// is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) succeeded: u64,
    /// Refusals among them; the others were repeated.
    pub(super) failed: u64,
}

/// The processes: services, then servers.
pub(super) struct Town {
    children: Vec<Child>,
    /// Addresses of the services, as they stand in `children`.
    bases: Vec<String>,
    nodes: Vec<Node>,
    http: Http,
    kills: Kills,
    calls: Calls,
}

/// A server's addresses, and its client, which asks it first.
struct Node {
    client: String,
    coordinator: Coordinator,
}

impl Town {
    /// Starts everything and waits until it answers.
    pub(super) async fn start(
        dir: &Path,
        services: &[ServicePlan],
        nodes: usize,
    ) -> Result<Self, Fatal> {
        let mut ports = FreePorts::new();
        let servers = (0..nodes).map(|number| Server::new(number, &mut ports));
        let servers: Vec<_> = servers.collect::<Result<_, _>>()?;
        let dtm: Vec<_> = servers.iter().map(Server::dtm).collect();
        let mut town = Self {
            children: Vec::new(),
            bases: Vec::new(),
            nodes: Vec::new(),
            http: Http::new(TIMEOUTS.1),
            kills: Kills::default(),
            calls: Calls::default(),
        };
        for (at, plan) in services.iter().enumerate() {
            let port = ports.take()?;
            let args = service_args(dir, plan, port, &rotated(&dtm, at));
            town.children.push(Child::new(plan.name, args, dir));
            town.bases.push(format!("http://127.0.0.1:{port}"));
        }
        for (at, server) in servers.iter().enumerate() {
            let args = server.args(dir, &servers);
            town.children.push(Child::new(&server.name, args, dir));
            let coordinator = coordinator(&rotated(&dtm, at));
            town.nodes.push(Node { client: server.client(), coordinator });
        }
        for child in &mut town.children {
            child.start()?;
        }
        town.wait_until_it_answers().await?;
        Ok(town)
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), Fatal> {
        let deadline = Instant::now() + START_LIMIT;
        for at in 0..self.children.len() {
            let url = match at.checked_sub(self.bases.len()) {
                None => format!("{}/report", self.bases[at]),
                Some(node) => format!("{}/health", self.nodes[node].client),
            };
            loop {
                let answer = self.http.get(&url, Patience::NONE).await;
                if answer.is_ok_and(|answer| answer.status == 200) {
                    break;
                }
                let child = &mut self.children[at];
                if child.has_ended() || Instant::now() > deadline {
                    let (name, words) = (&child.name, child.last_words());
                    return Err(Fatal::Runtime(format!("'{name}' did not start: {words}")));
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

    /// The numbers of the servers; services have those below.
    pub(super) fn servers(&self) -> Range<usize> {
        self.bases.len()..self.children.len()
    }

    /// The server that says that it leads, if one does.
    pub(super) async fn leader(&self) -> Option<usize> {
        for at in self.servers() {
            if self.page(at).await.leads() {
                return Some(at);
            }
        }
        None
    }

    /// Kills the process with this number.
    pub(super) async fn kill(&mut self, at: usize) {
        if self.servers().contains(&at) {
            let page = self.page(at).await;
            self.kills.servers += 1;
            self.kills.leaders += u64::from(page.leads());
            page.add_to(&mut self.calls);
        }
        self.kills.all += 1;
        self.children[at].kill();
    }

    /// What a server tells of itself; empty if it does not.
    async fn page(&self, at: usize) -> Page {
        let url = format!("{}/metrics", self.nodes[at - self.bases.len()].client);
        let page = tokio::time::timeout(PAGE_LIMIT, self.http.get(&url, Patience::NONE)).await;
        let Ok(Ok(page)) = page else { return Page::default() };
        Page(String::from_utf8_lossy(&page.body).into_owned())
    }

    /// Calls of all servers until now.
    pub(super) async fn calls(&self) -> Calls {
        let mut calls = self.calls;
        for at in self.servers() {
            self.page(at).await.add_to(&mut calls);
        }
        calls
    }

    /// Starts the process with this number again, if it does not run.
    pub(super) fn start_again(&mut self, at: usize) -> Result<(), Fatal> {
        self.children[at].start()
    }

    /// Processes killed so far.
    pub(super) fn kills(&self) -> Kills {
        self.kills
    }

    /// Nothing may have ended though nobody killed it.
    pub(super) fn must_run(&mut self) -> Result<(), Fatal> {
        let Some(at) = self.children.iter_mut().position(Child::has_ended) else {
            return Ok(());
        };
        let (name, words) = (&self.children[at].name, self.children[at].last_words());
        Err(Fatal::Runtime(format!("'{name}' ended by itself: {words}")))
    }

    /// Clients with patience for absences; each asks another server first.
    pub(super) fn coordinators(&self) -> Vec<Coordinator> {
        self.nodes.iter().map(|node| node.coordinator.clone()).collect()
    }

    /// The names of the services.
    pub(super) fn services(&self) -> impl Iterator<Item = &str> {
        self.children[..self.bases.len()].iter().map(|child| child.name.as_str())
    }

    /// The address of a service.
    pub(super) fn base(&self, name: &str) -> &str {
        let at = self.services().position(|known| known == name);
        &self.bases[at.expect("a demo knows its services")]
    }

    /// What a service says of itself.
    pub(super) async fn report(&self, name: &str) -> Result<Value, Fatal> {
        let url = format!("{}/report", self.base(name));
        let failed = |why: String| Fatal::Runtime(format!("'{name}': {why}"));
        let answer = self.http.get(&url, PATIENCE).await.map_err(|e| failed(e.to_string()))?;
        let body = answer.result(&url).map_err(|e| failed(e.to_string()))?;
        serde_json::from_slice(&body).map_err(|e| failed(e.to_string()))
    }

    /// Ends everything: the servers in order, the services at once.
    pub(super) async fn end(mut self) {
        let mut servers = self.children.split_off(self.bases.len());
        servers.iter().for_each(Child::ask_to_end);
        let deadline = Instant::now() + STOP_LIMIT;
        while !servers.iter_mut().all(Child::has_ended) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }
}

/// The same ones, beginning with another.
fn rotated(addresses: &[String], first: usize) -> Vec<String> {
    let mut rotated = addresses.to_vec();
    rotated.rotate_left(first % addresses.len());
    rotated
}

/// The client of servers and services that may be killed at any moment.
pub(super) fn coordinator(addresses: &[String]) -> Coordinator {
    Coordinator::among(addresses)
        .with_timeouts(TIMEOUTS.0, TIMEOUTS.1)
        .with_patience(PATIENCE)
        .with_branch_patience(BRANCH_PATIENCE)
}

fn service_args(dir: &Path, plan: &ServicePlan, port: u16, dtm: &[String]) -> Vec<String> {
    let db = dir.join(format!("{}.sqlite", plan.name)).display().to_string();
    let (port, fill, dtm) = (port.to_string(), plan.fill.to_string(), dtm.join(","));
    let args =
        [plan.role.name(), "--db", &db, "--port", &port, "--fill", &fill, "--dtm", dtm.as_str()];
    args.map(str::to_owned).to_vec()
}
