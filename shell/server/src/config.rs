//! Configuration: flags, environment and file become one checked [`Config`].
//!
//! Invariants: a `Config` that exists can be started: addresses are well formed and plain HTTP, this
//! member stands in its own initial cluster, the election timeout exceeds the heartbeat. What it
//! leaves out: reloading, and anything about TLS (refused in `flags`, so that nobody gets an open
//! server who asked for a closed one).

pub mod flags;
pub mod layers;
#[cfg(test)]
mod tests;
pub mod transactions;
pub mod values;

use std::path::PathBuf;
use std::time::Duration;

use quorate_node::AutoCompaction;

use crate::exit::Fatal;
use layers::{Layers, Setting};
use transactions::Transactions;
use values::Url;

/// The quota that etcd has when none is asked for, in bytes.
const ETCD_QUOTA_BYTES: u64 = 2 << 30;

/// Where DTM's clients look for their server: over HTTP and over gRPC. Here both speak both.
const DTM_PORTS: [u16; 2] = [36789, 36790];

/// As what the binary was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persona {
    /// Under its own name.
    Quorate,
    /// Under the name `etcd`: its defaults and its environment variables.
    Etcd,
}

/// Whether the first start founds a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It does, together with the others of `initial_cluster`.
    New,
    /// It joins one whose members have added it.
    Existing,
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member's name.
    pub name: String,
    /// Its directory.
    pub data_dir: PathBuf,
    /// Where clients are served.
    pub listen_client: Vec<Url>,
    /// What clients are told.
    pub advertise_client: Vec<Url>,
    /// Where other members connect.
    pub listen_peer: Vec<Url>,
    /// Whether the user asked for a peer address; if not, it is bound only when there are peers.
    pub peer_asked: bool,
    /// Where clients of DTM's protocol are served; nowhere if empty.
    pub listen_dtm: Vec<Url>,
    /// Whether the user asked for these addresses; if not, one that is taken is left alone.
    pub dtm_asked: bool,
    /// What other members are told.
    pub advertise_peer: Vec<Url>,
    /// The first members, this one included.
    pub initial_cluster: Vec<(String, Vec<Url>)>,
    /// Whether the user named the first members.
    pub cluster_asked: bool,
    /// Found or join.
    pub cluster_state: ClusterState,
    /// Keeps clusters apart.
    pub cluster_token: String,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// Until an election.
    pub election_timeout: Duration,
    /// Largest store in bytes; 0 = none.
    pub quota_bytes: u64,
    /// Operations in a transaction.
    pub max_txn_ops: usize,
    /// Largest request in bytes.
    pub max_request_bytes: usize,
    /// Size of a memory table of the engine in bytes.
    pub engine_table_bytes: u64,
    /// Tail of the log kept in memory in bytes.
    pub log_cache_bytes: usize,
    /// History kept.
    pub auto_compaction: AutoCompaction,
    /// Between progress notices of a watcher.
    pub progress_interval: Duration,
    /// Least important messages to log.
    pub log_level: tracing::Level,
    /// Threads that serve connections.
    pub runtimes: usize,
    /// Processes to run on loopback.
    pub nodes: usize,
    /// Global transactions, and the calls that they make.
    pub transactions: Transactions,
    /// What was given and has no effect.
    pub ignored: Vec<String>,
}

impl Config {
    /// Reads flags, environment and, if named, the file.
    ///
    /// # Errors
    /// `Usage`, one sentence.
    pub fn load(
        persona: Persona,
        args: &[String],
        env: impl Iterator<Item = (String, String)> + Clone,
    ) -> Result<Self, Fatal> {
        let mut layers = Layers::default();
        layers.add_flags(args)?;
        layers.add_env("QUORATE_", env.clone())?;
        if persona == Persona::Etcd {
            let etcds = env.clone().filter(|(name, _)| name != "ETCD_UNSUPPORTED_ARCH");
            layers.add_env("ETCD_", etcds)?;
        }
        if let Some(file) = layers.get("config").cloned() {
            let text = std::fs::read_to_string(&file.value)
                .map_err(|error| Fatal::Usage(format!("{}: {error}", file.value)))?;
            layers.add_file(&file.value, &text)?;
        }
        let transactions = transactions::read(&layers, env)?;
        Self::from_layers(persona, &layers, transactions)
    }

    fn from_layers(
        persona: Persona,
        layers: &Layers,
        transactions: Transactions,
    ) -> Result<Self, Fatal> {
        let name = text(layers, "name", "default");
        let listen_client = urls(layers, "listen-client-urls", &[local(2379)])?;
        let listen_peer = urls(layers, "listen-peer-urls", &[local(2380)])?;
        let advertise_peer = urls(layers, "initial-advertise-peer-urls", &listen_peer)?;
        let config = Self {
            data_dir: PathBuf::from(text(layers, "data-dir", &default_dir(persona, &name))),
            advertise_client: urls(layers, "advertise-client-urls", &listen_client)?,
            initial_cluster: initial_cluster(layers, &name, &advertise_peer)?,
            cluster_asked: layers.get("initial-cluster").is_some(),
            cluster_state: cluster_state(layers)?,
            cluster_token: text(layers, "initial-cluster-token", "etcd-cluster"),
            heartbeat: milliseconds(layers, "heartbeat-interval", 100, 1)?,
            election_timeout: milliseconds(layers, "election-timeout", 1000, 50)?,
            quota_bytes: quota(persona, layers)?,
            max_txn_ops: count(layers, "max-txn-ops", 128, 1, 100_000, "operations")?,
            max_request_bytes: max_request(layers)?,
            engine_table_bytes: engine_table(layers)?,
            log_cache_bytes: log_cache(layers)?,
            auto_compaction: auto_compaction(layers)?,
            progress_interval: progress_interval(layers)?,
            log_level: log_level(layers)?,
            runtimes: count(layers, "runtimes", default_runtimes(), 1, 64, "threads")?,
            nodes: nodes(layers)?,
            transactions,
            ignored: layers.ignored.clone(),
            peer_asked: layers.get("listen-peer-urls").is_some(),
            listen_dtm: listen_dtm(persona, layers)?,
            dtm_asked: layers.get("listen-dtm-urls").is_some(),
            name,
            listen_client,
            listen_peer,
            advertise_peer,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Fatal> {
        if self.election_timeout < self.heartbeat * 5 {
            return Err(Fatal::Usage(format!(
                "election-timeout of {} ms must be at least five times the heartbeat-interval of {} ms",
                self.election_timeout.as_millis(),
                self.heartbeat.as_millis()
            )));
        }
        let Some((_, own)) = self.initial_cluster.iter().find(|(name, _)| *name == self.name)
        else {
            return Err(Fatal::Usage(format!(
                "initial-cluster has no member named '{}' (see --name)",
                self.name
            )));
        };
        let sorted = |urls: &[Url]| {
            let mut urls = urls.to_vec();
            urls.sort();
            urls
        };
        if sorted(own) != sorted(&self.advertise_peer) {
            return Err(Fatal::Usage(format!(
                "initial-cluster and initial-advertise-peer-urls name different addresses for '{}'",
                self.name
            )));
        }
        Ok(())
    }

    /// Whether this server was told of other members.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.initial_cluster.len() > 1 || self.cluster_state == ClusterState::Existing
    }
}

/// An address on loopback.
fn local(port: u16) -> Url {
    Url { host: "127.0.0.1".to_owned(), port }
}

fn default_dir(persona: Persona, name: &str) -> String {
    match persona {
        Persona::Quorate => "quorate-data".to_owned(),
        Persona::Etcd => format!("{name}.etcd"),
    }
}

/// One core is left to the node's own threads; on two cores one runtime serves everything.
fn default_runtimes() -> i64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i64::try_from(cores.saturating_sub(1).clamp(1, 8)).expect("at most 8")
}

fn text(layers: &Layers, name: &str, default: &str) -> String {
    layers
        .get(name)
        .filter(|setting| !setting.value.is_empty())
        .map_or_else(|| default.to_owned(), |setting| setting.value.clone())
}

fn urls(layers: &Layers, name: &str, default: &[Url]) -> Result<Vec<Url>, Fatal> {
    layers.get(name).map_or_else(|| Ok(default.to_vec()), values::urls)
}

/// A launcher of etcd that was given this binary does not expect another port.
fn listen_dtm(persona: Persona, layers: &Layers) -> Result<Vec<Url>, Fatal> {
    match (layers.get("listen-dtm-urls"), persona) {
        (Some(setting), _) if setting.value == "none" => Ok(Vec::new()),
        (Some(setting), _) => values::urls(setting),
        (None, Persona::Etcd) => Ok(Vec::new()),
        (None, Persona::Quorate) => Ok(DTM_PORTS.map(local).to_vec()),
    }
}

fn count(
    layers: &Layers,
    name: &str,
    default: i64,
    least: i64,
    most: i64,
    unit: &str,
) -> Result<usize, Fatal> {
    let number = layers.get(name).map_or(Ok(default), |s| values::integer(s, least, most, unit))?;
    Ok(usize::try_from(number).expect("the bounds are positive"))
}

fn milliseconds(layers: &Layers, name: &str, default: u64, least: i64) -> Result<Duration, Fatal> {
    let Some(setting) = layers.get(name) else { return Ok(Duration::from_millis(default)) };
    let ms = values::integer(setting, least, 50_000, "milliseconds")?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}

fn initial_cluster(
    layers: &Layers,
    name: &str,
    own: &[Url],
) -> Result<Vec<(String, Vec<Url>)>, Fatal> {
    let alone = || Ok(vec![(name.to_owned(), own.to_vec())]);
    layers.get("initial-cluster").map_or_else(alone, values::cluster)
}

fn cluster_state(layers: &Layers) -> Result<ClusterState, Fatal> {
    match layers.get("initial-cluster-state") {
        None => Ok(ClusterState::New),
        Some(setting) => match setting.value.as_str() {
            "new" => Ok(ClusterState::New),
            "existing" => Ok(ClusterState::Existing),
            _ => Err(not_one_of(setting, "new or existing")),
        },
    }
}

fn quota(persona: Persona, layers: &Layers) -> Result<u64, Fatal> {
    let asked = match layers.get("quota-backend-bytes") {
        Some(setting) => values::integer(setting, i64::MIN, i64::MAX, "bytes")?,
        None => 0,
    };
    Ok(match (asked, persona) {
        (0, Persona::Etcd) => ETCD_QUOTA_BYTES,
        (asked, _) => u64::try_from(asked).unwrap_or(0),
    })
}

fn max_request(layers: &Layers) -> Result<usize, Fatal> {
    let most = i64::try_from(crate::limits::LARGEST_MAX_REQUEST_BYTES).expect("small");
    let default = i64::try_from(crate::limits::MAX_REQUEST_BYTES).expect("small");
    count(layers, "max-request-bytes", default, 1024, most, "bytes")
}

fn engine_table(layers: &Layers) -> Result<u64, Fatal> {
    let bound = |bytes: u64| i64::try_from(bytes).expect("small");
    let (least, most) = (crate::limits::LEAST_TABLE_BYTES, crate::limits::TABLE_BYTES);
    let (least, most) = (bound(least), bound(most));
    count(layers, "engine-table-bytes", most, least, most, "bytes").map(|bytes| bytes as u64)
}

fn log_cache(layers: &Layers) -> Result<usize, Fatal> {
    let bound = |bytes: usize| i64::try_from(bytes).expect("small");
    let (least, most) = crate::limits::LOG_CACHE_BOUNDS;
    let default = bound(crate::limits::LOG_CACHE_BYTES);
    count(layers, "log-cache-bytes", default, bound(least), bound(most), "bytes")
}

fn auto_compaction(layers: &Layers) -> Result<AutoCompaction, Fatal> {
    let by_revision = match layers.get("auto-compaction-mode") {
        None => false,
        Some(setting) => match setting.value.as_str() {
            "periodic" => false,
            "revision" => true,
            _ => return Err(not_one_of(setting, "periodic or revision")),
        },
    };
    let Some(setting) = layers.get("auto-compaction-retention") else {
        return Ok(AutoCompaction::Off);
    };
    if by_revision {
        let kept = values::integer(setting, 0, i64::MAX, "revisions")?;
        return Ok(if kept == 0 { AutoCompaction::Off } else { AutoCompaction::Revisions(kept) });
    }
    let hours = setting.value.parse::<u32>().ok().map(|h| Duration::from_secs(3600) * h);
    match hours.or_else(|| values::duration(&setting.value)) {
        None => Err(not_one_of(setting, "a number of hours or a duration like 5m")),
        Some(Duration::ZERO) => Ok(AutoCompaction::Off),
        Some(window) => Ok(AutoCompaction::Periodic(window)),
    }
}

fn progress_interval(layers: &Layers) -> Result<Duration, Fatal> {
    let Some(setting) = layers.get("watch-progress-notify-interval") else {
        return Ok(crate::limits::PROGRESS_INTERVAL);
    };
    values::duration(&setting.value)
        .filter(|interval| *interval >= Duration::from_millis(100))
        .ok_or_else(|| not_one_of(setting, "a duration of at least 100ms"))
}

fn log_level(layers: &Layers) -> Result<tracing::Level, Fatal> {
    let Some(setting) = layers.get("log-level") else { return Ok(tracing::Level::INFO) };
    match setting.value.as_str() {
        "debug" => Ok(tracing::Level::DEBUG),
        "info" => Ok(tracing::Level::INFO),
        "warn" => Ok(tracing::Level::WARN),
        // The peer has three levels above error that say the same to an operator.
        "error" | "dpanic" | "panic" | "fatal" => Ok(tracing::Level::ERROR),
        _ => Err(not_one_of(setting, "debug, info, warn or error")),
    }
}

fn nodes(layers: &Layers) -> Result<usize, Fatal> {
    match layers.get("nodes") {
        None => Ok(1),
        Some(setting) => match setting.value.as_str() {
            "1" => Ok(1),
            "3" => Ok(3),
            _ => Err(not_one_of(setting, "1 or 3 processes")),
        },
    }
}

fn not_one_of(setting: &Setting, wanted: &str) -> Fatal {
    Fatal::Usage(format!("{}: '{}' is not {wanted}", setting.source, setting.value))
}
