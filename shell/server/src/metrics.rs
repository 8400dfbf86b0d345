//! Figures for Prometheus, under etcd's names where the thing is the same.
//!
//! Counters of calls are kept here; everything else is asked of whoever knows it when somebody looks.

pub mod dtm;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use quorate_consensus::Role;
use quorate_node::Status;
use quorate_storage::LatencyHistogram;

/// Methods that are counted one by one; others share the last counters.
const METHODS: &[&str] = &[
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Cluster/MemberAdd",
    "/etcdserverpb.Cluster/MemberRemove",
    "/etcdserverpb.Cluster/MemberUpdate",
    "/etcdserverpb.Cluster/MemberPromote",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Alarm",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Maintenance/MoveLeader",
    "/etcdserverpb.Maintenance/Defragment",
    "/other/other",
];

const WAL_FSYNC: &str = "etcd_disk_wal_fsync_duration_seconds";
const BACKEND_COMMIT: &str = "etcd_disk_backend_commit_duration_seconds";

/// Streams: their response says nothing about how they end.
const STREAMS: &[&str] = &["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"];

const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Counters of one method.
#[derive(Debug, Default)]
struct Calls {
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
}

/// Counters of the process.
#[derive(Debug)]
pub struct Metrics {
    calls: Vec<Calls>,
    started_at: SystemTime,
    /// Open connections of clients.
    pub connections: AtomicU64,
    /// Requests of DTM's clients.
    pub dtm: dtm::Requests,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: METHODS.iter().map(|_| Calls::default()).collect(),
            started_at: SystemTime::now(),
            connections: AtomicU64::new(0),
            dtm: dtm::Requests::default(),
        }
    }
}

impl Metrics {
    /// A call has begun; returns the method's number for `handled`.
    pub fn started(&self, path: &str) -> usize {
        let known = METHODS.iter().position(|method| *method == path);
        let method = known.unwrap_or(METHODS.len() - 1);
        self.calls[method].started.fetch_add(1, Ordering::Relaxed);
        method
    }

    /// It has been answered.
    pub fn handled(&self, method: usize, response: &HeaderMap) {
        let status = response.get("grpc-status").and_then(|status| status.to_str().ok());
        let code: usize = status.and_then(|status| status.parse().ok()).unwrap_or(0);
        if let Some(counter) = self.calls[method].handled.get(code) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn text(&self, figures: &Figures<'_>) -> String {
        let mut out = String::with_capacity(16 << 10);
        let page = &mut Page(&mut out);
        server(page, &figures.status);
        store(page, figures);
        histogram(page, WAL_FSYNC, "Time that syncs of the log take.", figures.syncs);
        let help = "Time that checkpoints of the store take.";
        histogram(page, BACKEND_COMMIT, help, figures.checkpoints);
        let name = "quorate_snapshots_installed_total";
        let installed = figures.snapshots_installed;
        page.one(name, "counter", "Snapshots of peers taken over since the start.", installed);
        self.grpc(page);
        self.process(page);
        out
    }

    fn grpc(&self, page: &mut Page<'_>) {
        page.head("grpc_server_started_total", "counter", "Calls begun on the server.");
        for (method, calls) in METHODS.iter().zip(&self.calls) {
            let labels = labels(method);
            let started = calls.started.load(Ordering::Relaxed);
            page.line(&format!("grpc_server_started_total{{{labels}}}"), started);
        }
        page.head("grpc_server_handled_total", "counter", "Calls completed, by code.");
        for (method, calls) in METHODS.iter().zip(&self.calls) {
            let labels = labels(method);
            for (code, handled) in CODES.iter().zip(&calls.handled) {
                let count = handled.load(Ordering::Relaxed);
                if count > 0 {
                    let name =
                        format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}}");
                    page.line(&name, count);
                }
            }
        }
        let connections = self.connections.load(Ordering::Relaxed);
        page.one("quorate_client_connections", "gauge", "Open connections.", connections);
    }

    fn process(&self, page: &mut Page<'_>) {
        let since = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = "process_start_time_seconds";
        page.one(name, "gauge", "Start of the process since the epoch.", since.as_secs_f64());
        let Some(process) = Process::read() else { return };
        let name = "process_cpu_seconds_total";
        page.one(name, "counter", "CPU time of the process.", process.cpu_s);
        let name = "process_resident_memory_bytes";
        page.one(name, "gauge", "Resident memory.", process.resident_bytes);
        page.one("process_open_fds", "gauge", "Open file descriptors.", process.open_files);
    }
}

/// What the text tells beside the counters.
#[derive(Debug)]
pub struct Figures<'a> {
    /// The node's own view.
    pub status: Status,
    /// Watch streams and watchers of the runtime that answers.
    pub watch: (usize, usize),
    /// Syncs of the log.
    pub syncs: &'a LatencyHistogram,
    /// Checkpoints of the engine.
    pub checkpoints: &'a LatencyHistogram,
    /// Snapshots of peers that this process has taken over.
    pub snapshots_installed: u64,
    /// Segments of the log.
    pub segments: usize,
}

fn server(page: &mut Page<'_>, status: &Status) {
    let leads = status.role == Role::Leader;
    let has_leader = u64::from(status.leader.is_some());
    page.one("etcd_server_has_leader", "gauge", "Whether a leader is known.", has_leader);
    page.one("etcd_server_is_leader", "gauge", "Whether this member leads.", u64::from(leads));
    let name = "etcd_server_is_learner";
    page.one(name, "gauge", "Whether this member is a learner.", u64::from(status.learner));
    let name = "etcd_server_leader_changes_seen_total";
    page.one(name, "counter", "Changes of leadership seen.", status.leader_changes);
    let name = "etcd_server_proposals_committed_total";
    page.one(name, "gauge", "Highest committed index.", status.commit.0);
    let name = "etcd_server_proposals_applied_total";
    page.one(name, "gauge", "Highest applied index.", status.applied.0);
    let name = "etcd_server_proposals_pending";
    page.one(name, "gauge", "Proposals that wait.", status.pending as u64);
    let name = "etcd_server_proposals_failed_total";
    page.one(name, "counter", "Proposals that failed or timed out.", status.failed);
    let name = "etcd_server_quota_backend_bytes";
    page.one(name, "gauge", "Quota; 0 = none.", status.quota_bytes);
    let version = format!("etcd_server_version{{server_version=\"{}\"}}", crate::VERSION_TOLD);
    page.head("etcd_server_version", "gauge", "Version told to clients.");
    page.line(&version, 1);
    let build = format!("quorate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    page.head("quorate_build_info", "gauge", "Version of this program.");
    page.line(&build, 1);
}

fn store(page: &mut Page<'_>, figures: &Figures<'_>) {
    let status = &figures.status;
    let bytes = status.usage.total_bytes();
    let name = "etcd_mvcc_db_total_size_in_bytes";
    page.one(name, "gauge", "Bytes of the store, memory tables included.", bytes);
    let name = "etcd_mvcc_db_total_size_in_use_in_bytes";
    let help = "Bytes of the store that defragmentation would leave, as an estimate.";
    page.one(name, "gauge", help, status.usage.in_use_bytes());
    let name = "etcd_debugging_store_revision";
    page.one(name, "gauge", "Current revision.", status.revision.0.unsigned_abs());
    let name = "etcd_debugging_mvcc_current_revision";
    page.one(name, "gauge", "Current revision.", status.revision.0.unsigned_abs());
    let name = "etcd_debugging_mvcc_compact_revision";
    page.one(name, "gauge", "Oldest readable revision; -1 = all.", status.compact_revision.0);
    let (streams, watchers) = figures.watch;
    let name = "etcd_debugging_mvcc_watch_stream_total";
    page.one(name, "gauge", "Watch streams of the answering runtime.", streams as u64);
    let name = "etcd_debugging_mvcc_watcher_total";
    page.one(name, "gauge", "Watchers of the answering runtime.", watchers as u64);
    page.one("quorate_leases", "gauge", "Leases.", status.leases as u64);
    let name = "quorate_sealed_tables";
    page.one(name, "gauge", "Memory tables not durable yet.", status.usage.sealed_tables as u64);
    page.one("quorate_wal_segments", "gauge", "Segments of the log.", figures.segments as u64);
    let full = u64::from(status.disk_full);
    page.one("quorate_disk_full", "gauge", "Whether the disk's watermark refuses writes.", full);
}

fn histogram(page: &mut Page<'_>, name: &str, help: &str, durations: &LatencyHistogram) {
    page.head(name, "histogram", help);
    let figures = durations.figures();
    let mut below = 0;
    for (bucket, count) in figures.counts.iter().enumerate() {
        below += count;
        let finite = bucket + 1 < figures.counts.len();
        let bound = LatencyHistogram::bound_us(bucket) as f64 / 1e6;
        let bound = if finite { bound.to_string() } else { "+Inf".to_owned() };
        page.line(&format!("{name}_bucket{{le=\"{bound}\"}}"), below);
    }
    page.line(&format!("{name}_sum"), figures.sum_us as f64 / 1e6);
    page.line(&format!("{name}_count"), below);
}

fn labels(path: &str) -> String {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    let kind = if STREAMS.contains(&path) { "bidi_stream" } else { "unary" };
    format!("grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"")
}

struct Page<'a>(&'a mut String);

impl Page<'_> {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        let _infallible = writeln!(self.0, "{name} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, value);
    }
}

/// What the system says about this process.
struct Process {
    cpu_s: f64,
    resident_bytes: u64,
    open_files: u64,
}

impl Process {
    /// `None` where there is no `/proc`.
    fn read() -> Option<Self> {
        // Linux counts in ticks of 1/100 s and, on all platforms that we serve, pages of 4 KiB.
        const TICKS_PER_S: f64 = 100.0;
        const PAGE_BYTES: u64 = 4096;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the name in brackets, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 =
            fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        let pages: u64 = fields.get(21)?.parse().ok()?;
        let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        Some(Self { cpu_s: ticks / TICKS_PER_S, resident_bytes: pages * PAGE_BYTES, open_files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let metrics = Metrics::default();
        let put = metrics.started("/etcdserverpb.KV/Put");
        metrics.handled(put, &HeaderMap::new());
        let other = metrics.started("/no.Such/Method");
        let mut refused = HeaderMap::new();
        refused.insert("grpc-status", "12".parse().expect("a header"));
        metrics.handled(other, &refused);
        let mut out = String::new();
        metrics.grpc(&mut Page(&mut out));
        for wanted in [
            "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",\
             grpc_type=\"unary\"} 1\n",
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\"",
            "grpc_server_handled_total{grpc_code=\"Unimplemented\",grpc_method=\"other\"",
        ] {
            assert!(out.contains(wanted), "{wanted} is not in\n{out}");
        }
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut out = String::new();
        histogram(&mut Page(&mut out), WAL_FSYNC, "", &LatencyHistogram::default());
        assert!(out.contains("_bucket{le=\"0.001\"} 0\n"), "{out}");
        assert!(out.contains("_bucket{le=\"+Inf\"} 0\n"), "{out}");
    }
}
