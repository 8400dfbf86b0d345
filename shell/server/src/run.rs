//! From a configuration to a running server and back to a stopped process.
//!
//! Starting, in this order, so that whatever is wrong is said before anything is changed: addresses are
//! bound, the data directory is locked and opened, threads start (log, engine, node, runtimes), the node
//! publishes its name and addresses, and "ready to serve client requests" is said.
//!
//! Stopping: no new connections, leadership handed over, streams ended, outstanding calls answered, the
//! node told to end, threads joined, the log closed.

mod bind;
mod lanes;
mod publish;

use std::path::Path;
use std::sync::Arc;

use quorate_consensus::{NodeId, Role};
use quorate_node::{Failure, Node};
use quorate_storage::{
    DiskEngine, EngineThread, LatencyHistogram, WalHandle, WalThread, start_wal,
};
use quorate_wal::Writer;
use tokio::runtime::{Builder, Runtime as TokioRuntime};
use tokio::sync::watch;

use crate::config::{ClusterState, Config};
use crate::data_dir::{DataDir, NUMBER_FILE, Newcomer, Opened};
use crate::disk_space;
use crate::exit::Fatal;
use crate::handle::{Handle, Shared};
use crate::inbox::Inbox;
use crate::limits::{BLOCKING_THREADS, HANDOVER_TIMEOUT, SHUTDOWN_GRACE};
use crate::node_thread::{self, NodeThread};
use crate::outcall;
use crate::peer::{self, Directories, Local, LogEnd, Switchboard};
use crate::serve;
use crate::terminal::{complain, say};
use bind::Bound;
use lanes::{Common, Lane};

/// Serves until a signal says stop.
///
/// # Errors
/// Why it did not start; what fails later ends the process at once.
pub fn run(config: &Config) -> Result<(), Fatal> {
    outcall::check(&config.transactions.calls)
        .map_err(|error| Fatal::Usage(format!("--branch-ca-file: {error}")))?;
    let first = runtime(0)?;
    let bound = first.block_on(bind::all(config))?;
    let config = &bound.told(config);
    let dir = DataDir::take(&config.data_dir)?;
    let newcomer = first.block_on(newcomer(config, &dir))?;
    // What may be refused of them is refused before opening the log changes it.
    let directories = Directories::load(dir.root())?;
    if dir.root().join(NUMBER_FILE).exists() {
        dir.number()?;
    }
    let boot = random();
    let opened = dir.open(config, boot, &newcomer)?;
    let server = Server::start(config, &first, dir, directories, opened, boot)?;
    let stopped = first.block_on(server.serve(config, bound));
    drop(first);
    stopped
}

/// A number that no other start has.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds its hash maps from the system's randomness.
    std::hash::RandomState::new().build_hasher().finish()
}

fn runtime(number: usize) -> Result<TokioRuntime, Fatal> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name(format!("pool-{number}"))
        .build()
        .map_err(|error| Fatal::Runtime(format!("cannot start a runtime: {error}")))
}

/// Who this node is if its directory is empty.
async fn newcomer(config: &Config, dir: &DataDir) -> Result<Newcomer, Fatal> {
    if config.cluster_state == ClusterState::New || dir.owner()?.is_some() {
        return Ok(Newcomer::founder(config));
    }
    let found = peer::find_cluster(config).await?;
    Ok(Newcomer { identity: found.identity, members: found.members, joins: true })
}

/// A started server.
struct Server {
    lanes: Vec<Lane>,
    handle: Handle,
    identity: quorate_wal::Identity,
    inbox: Arc<Inbox>,
    wal: WalHandle,
    wal_thread: WalThread,
    checkpoints: Arc<LatencyHistogram>,
    node_thread: NodeThread,
    peers: Arc<Switchboard>,
    snapshots: Arc<peer::Receiver>,
    stop: watch::Sender<bool>,
    /// Keeps the directory locked as long as anything runs.
    dir: DataDir,
}

impl Server {
    fn start(
        config: &Config,
        first: &TokioRuntime,
        dir: DataDir,
        directories: Directories,
        opened: Opened,
        boot: u64,
    ) -> Result<Self, Fatal> {
        let Opened { identity, recovered, generation, kv, engine, engine_options, writer, members } =
            opened;
        let inbox = Arc::new(Inbox::default());
        let shared = Arc::new(Shared::default());
        let (stop, stopping) = watch::channel(false);
        let (wal, wal_thread) = start_log(writer, &dir, &inbox)?;
        let engine_thread = start_engine(&engine, &inbox)?;
        let node_config = node_config(config, identity.node, generation, boot);
        let node = Node::new(node_config, recovered, kv, engine)
            .map_err(|halt| Fatal::Refused(halt.to_string()))?;
        let local = Local { identity, boot, directory: dir.number()? };
        let runtime = first.handle().clone();
        let (end, events) = (LogEnd::of(node.raft_machine()), Arc::clone(&inbox));
        let peers = Switchboard::new(local, directories, end, events, runtime, members);

        let (for_lanes, metrics) = (Arc::clone(&inbox), Arc::default());
        let common = Common { config, identity, inbox: for_lanes, shared, stopping, metrics };
        let lanes = common.lanes(first)?;
        let handle = lanes[0].handle();
        let root = dir.root().to_path_buf();
        let snapshots = Arc::new(peer::Receiver::new(
            root.clone(),
            engine_options.clone(),
            Arc::clone(&inbox),
            handle.clone(),
            generation,
        ));
        let checkpoints = engine_options.checkpoints();
        let parts = node_thread::Parts {
            node,
            engine_thread,
            generation,
            engine_options,
            data_dir: root,
            wal: wal.clone(),
            inbox: Arc::clone(&inbox),
            mailboxes: lanes.iter().map(Lane::mailbox).collect(),
            shared: common.shared,
            peers: Arc::clone(&peers),
        };
        let node_thread = NodeThread::start(parts, end_process).map_err(|error| failed(&error))?;
        Ok(Self {
            lanes,
            handle,
            identity,
            inbox,
            wal,
            wal_thread,
            checkpoints,
            node_thread,
            peers,
            snapshots,
            stop,
            dir,
        })
    }

    /// Runs on the first runtime until a signal, then stops everything.
    async fn serve(self, config: &Config, bound: Bound) -> Result<(), Fatal> {
        let mut signals = bind::Signals::new()?;
        let serving = self.begin_serving(config, bound);
        let publish = publish::publish(self.handle.clone(), self.identity.node, config);
        tokio::select! {
            () = publish => {
                self.handle.shared().set_ready();
                announce(config, self.dir.root());
                signals.next().await;
            }
            () = signals.next() => {}
        }
        // A second signal does not wait for anything.
        tokio::spawn(async move {
            signals.next().await;
            std::process::exit(1);
        });
        for task in serving {
            task.abort();
        }
        self.finish().await
    }

    fn begin_serving(&self, config: &Config, bound: Bound) -> Vec<tokio::task::JoinHandle<()>> {
        let mut tasks = Vec::new();
        let serve = |lane: &Lane| lane.serve(self.wal.clone(), Arc::clone(&self.checkpoints));
        let runtimes: Vec<_> = self.lanes.iter().map(serve).collect();
        for listener in bound.clients {
            tasks.push(tokio::spawn(serve::accept(listener, runtimes.clone())));
        }
        if !bound.dtm.is_empty() {
            let runtimes: Vec<_> = self.lanes.iter().map(Lane::serve_dtm).collect();
            for listener in bound.dtm {
                tasks.push(tokio::spawn(serve::accept(listener, runtimes.clone())));
            }
        }
        for listener in bound.peers {
            let (peers, snapshots) = (Arc::clone(&self.peers), Arc::clone(&self.snapshots));
            tasks.push(tokio::spawn(peer::serve(listener, peers, snapshots)));
        }
        let root = config.data_dir.clone();
        let space = disk_space::watch(root, Arc::clone(&self.inbox), self.wal.clone());
        tasks.push(tokio::spawn(space));
        tasks
    }

    async fn finish(self) -> Result<(), Fatal> {
        tracing::info!("stopping");
        self.hand_over().await;
        // Fails only when no connection and no stream is left to be told.
        let _nobody = self.stop.send(true);
        self.wait_for_calls().await;
        self.inbox.close();
        // Peers may need this runtime to end, so waiting for the thread must not hold it up.
        let joined = tokio::task::spawn_blocking(|| self.node_thread.join()).await;
        self.peers.stop();
        for lane in self.lanes {
            lane.stop();
        }
        let closed = self.wal_thread.shutdown();
        drop(self.dir);
        joined.map_err(|error| Fatal::Runtime(error.to_string()))?;
        closed.map_err(|error| Fatal::Runtime(error.to_string()))
    }

    /// A leader that goes away without a word costs its cluster an election timeout.
    async fn hand_over(&self) {
        let Ok(status) = self.handle.status().await else { return };
        if status.role != Role::Leader || !self.peers.has_peers() {
            return;
        }
        let own = self.identity.node.0;
        let voters = self.peers.members().into_iter().filter(|member| !member.learner);
        for voter in voters.filter(|member| member.id != own) {
            let moving = self.handle.move_leader(NodeId(voter.id));
            match tokio::time::timeout(HANDOVER_TIMEOUT, moving).await {
                Ok(Ok(_)) => return tracing::info!(to = voter.name, "handed leadership over"),
                Ok(Err(Failure::NotLeader)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "leadership was not handed over"),
                Err(_) => return,
            }
        }
    }

    async fn wait_for_calls(&self) {
        let Some(lane) = self.lanes.first() else { return };
        let connections = lane.open_connections();
        let deadline = tokio::time::Instant::now() + SHUTDOWN_GRACE;
        while connections.load(std::sync::atomic::Ordering::Relaxed) > 0
            && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Fatal {
    Fatal::Runtime(format!("cannot start: {error}"))
}

fn start_log(
    writer: Writer,
    dir: &DataDir,
    inbox: &Arc<Inbox>,
) -> Result<(WalHandle, WalThread), Fatal> {
    let events = Arc::clone(inbox);
    let take = move |event| node_thread::take_wal_event(&events, event);
    start_wal(writer, dir.disk(), take).map_err(|error| failed(&error))
}

fn start_engine(engine: &DiskEngine, inbox: &Arc<Inbox>) -> Result<EngineThread, Fatal> {
    let events = Arc::clone(inbox);
    let take = move |event| node_thread::on_engine_event(&events, event);
    EngineThread::start(engine, take).map_err(|error| failed(&error))
}

/// The node has ended by itself only if it must not go on.
fn end_process(ended: Result<(), Fatal>) {
    let Err(why) = ended else { return };
    tracing::error!(%why, "stopping at once: going on could lose data");
    match &why {
        Fatal::Runtime(why) => complain(format_args!("quorate: stopped at once: {why}")),
        why => complain(format_args!("quorate: {why}")),
    }
    std::process::exit(why.code().into());
}

fn node_config(config: &Config, id: NodeId, generation: u64, boot: u64) -> quorate_node::Config {
    quorate_node::Config {
        group: crate::GROUP,
        id,
        boot,
        seed: random(),
        heartbeat: config.heartbeat,
        election_timeout: config.election_timeout,
        max_txn_ops: config.max_txn_ops,
        max_request_bytes: config.max_request_bytes,
        quota_bytes: config.quota_bytes,
        table_bytes: config.engine_table_bytes,
        log_cache_bytes: config.log_cache_bytes,
        generation,
        // etcd's: five seconds and two elections.
        request_timeout: crate::limits::REQUEST_TIMEOUT + 2 * config.election_timeout,
        auto_compaction: config.auto_compaction,
        global_txn: config.transactions.global_txn.clone(),
        outcall: config.transactions.limits,
    }
}

/// What a new user sees, and the line that launchers of etcd wait for.
fn announce(config: &Config, root: &Path) {
    let first = &config.listen_client[0];
    say(format_args!("quorate {}: member '{}'", env!("CARGO_PKG_VERSION"), config.name));
    say(format_args!("  data     {}", root.display()));
    for url in &config.listen_client {
        say(format_args!("  clients  {url}"));
    }
    if let Some((first, others)) = config.listen_dtm.split_first() {
        say(format_args!("  dtm      {first}/api/dtmsvr"));
        others.iter().for_each(|url| say(format_args!("           {}:{}", url.host, url.port)));
    }
    say(format_args!("  try      etcdctl --endpoints={first} put greeting hello"));
    complain(format_args!("ready to serve client requests"));
}
