//! The flags: which exist, which are etcd's and ignored, which are refused, and how a command line is
//! read into them.
//!
//! `--flag value`, `--flag=value` and `-flag value` mean the same, as with etcd. One table serves
//! flags, environment (`QUORATE_` and the name in capitals) and file (the name with `_`).

use crate::exit::Fatal;

/// One setting that a user can make.
#[derive(Debug)]
pub struct Flag {
    /// Its name without dashes in front.
    pub name: &'static str,
    /// What the help shows as its value, with the unit.
    pub value: &'static str,
    /// What it does and its default.
    pub help: &'static str,
}

const fn flag(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, value, help }
}

/// All settings of `serve`.
pub const FLAGS: &[Flag] = &[
    flag("config", "FILE", "TOML file with the settings below, `_` for `-`"),
    flag("name", "NAME", "this member's name [default]"),
    flag("data-dir", "DIR", "where the data lives [quorate-data]"),
    flag("listen-client-urls", "URLS", "where clients are served [http://127.0.0.1:2379]"),
    flag("advertise-client-urls", "URLS", "what clients are told [as listened on]"),
    flag("listen-peer-urls", "URLS", "where other members connect [http://127.0.0.1:2380]"),
    flag("initial-advertise-peer-urls", "URLS", "what other members are told [as listened on]"),
    flag("listen-dtm-urls", "URLS|none", "DTM's HTTP and gRPC [http://127.0.0.1:36789 and :36790]"),
    flag("initial-cluster", "NAME=URL,...", "all first members [this one]"),
    flag("initial-cluster-state", "new|existing", "found a cluster, or join one [new]"),
    flag("initial-cluster-token", "TEXT", "keeps clusters apart [etcd-cluster]"),
    flag("heartbeat-interval", "MS", "milliseconds between heartbeats [100]"),
    flag("election-timeout", "MS", "milliseconds until an election [1000]"),
    flag("quota-backend-bytes", "BYTES", "largest store; 0 = none (2 GiB as etcd), -1 = none [0]"),
    flag("max-txn-ops", "N", "operations in a transaction [128]"),
    flag("max-request-bytes", "BYTES", "largest request [1572864]"),
    flag("engine-table-bytes", "BYTES", "expert: writes gathered before a checkpoint [33554432]"),
    flag("log-cache-bytes", "BYTES", "expert: log kept in memory for members that lag [67108864]"),
    flag("auto-compaction-mode", "periodic|revision", "what the retention counts [periodic]"),
    flag("auto-compaction-retention", "DURATION|N", "history kept, hours if bare; 0 = all [0]"),
    flag("watch-progress-notify-interval", "DURATION", "between progress notices [10m]"),
    flag("log-level", "LEVEL", "debug, info, warn, error [info]"),
    flag("runtimes", "N", "threads that serve connections [cores - 1, at most 8]"),
    flag("nodes", "N", "run N processes on loopback for trying out (1 or 3) [1]"),
    flag("dtm-timeout-to-fail", "DURATION", "until an undecided transaction is rolled back [35s]"),
    flag(
        "dtm-retry-interval",
        "DURATION",
        "pause after a failed call; doubles at each error [10s]",
    ),
    flag("dtm-max-backoff", "DURATION", "the longest that errors make this pause [5m]"),
    flag("dtm-request-timeout", "DURATION", "time of one call of a branch [3s]"),
    flag("dtm-retention", "DURATION", "how long finished transactions are kept [24h]"),
    flag("dtm-strict", "true|false", "a branch succeeds by 2xx and no body or JSON alone [false]"),
    flag("dtm-alert-url", "URL|none", "where calls that keep failing are reported [none]"),
    flag("dtm-alert-after", "N", "errors of one call until it is reported [3]"),
    flag("branch-calls", "N", "calls under way at a time [4096]"),
    flag("branch-calls-per-destination", "N", "the same to one host and port [128]"),
    flag("branch-breaker-failures", "N", "failures in a row, then a destination is left alone [8]"),
    flag("branch-breaker-pause", "DURATION", "for how long; doubles up to 30s [1s]"),
    flag("branch-ca-file", "FILE", "PEM: authorities for https, beside the system's"),
];

/// Where a group of settings begins in the help, and its heading. Those before the first have none.
pub const HEADINGS: &[(&str, &str)] = &[
    (
        "dtm-timeout-to-fail",
        "Global transactions (what they do not say themselves; 35s or bare seconds):",
    ),
    ("branch-calls", "Calls of branches (IS_DOCKER=1 makes their localhost host.docker.internal):"),
];

/// Whether a flag may stand without a value, and then means `true`.
#[must_use]
pub fn is_switch(name: &str) -> bool {
    FLAGS.iter().any(|flag| flag.name == name && flag.value == "true|false")
}

/// etcd's other names of our flags.
const ALIASES: &[(&str, &str)] =
    &[("experimental-watch-progress-notify-interval", "watch-progress-notify-interval")];

/// etcd's flags that ask for a closed server. Refused until they work.
const SECURITY: &[&str] = &[
    "cert-file",
    "key-file",
    "client-cert-file",
    "client-key-file",
    "client-cert-auth",
    "client-crl-file",
    "client-cert-allowed-hostname",
    "trusted-ca-file",
    "auto-tls",
    "peer-cert-file",
    "peer-key-file",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-client-cert-auth",
    "peer-trusted-ca-file",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "peer-auto-tls",
    "peer-crl-file",
    "peer-skip-client-san-verification",
    "experimental-peer-skip-client-san-verification",
    "self-signed-cert-validity",
    "cipher-suites",
    "tls-min-version",
    "tls-max-version",
    "auth-token",
    "auth-token-ttl",
    "bcrypt-cost",
    "ca-file",
    "peer-ca-file",
];

/// etcd's flags that would make another cluster out of the data or find members elsewhere: leaving
/// them out would be worse than not starting.
const UNSUPPORTED: &[&str] = &[
    "force-new-cluster",
    "discovery",
    "discovery-srv",
    "discovery-srv-name",
    "discovery-endpoints",
    "discovery-token",
    "discovery-proxy",
    "discovery-fallback",
    "proxy",
    "config-file",
];

/// etcd's flags that change nothing here that a user must know; named in one warning.
const IGNORED: &[&str] = &[
    "snapshot-count",
    "max-snapshots",
    "max-wals",
    "wal-dir",
    "max-concurrent-streams",
    "max-learners",
    "grpc-keepalive-min-time",
    "grpc-keepalive-interval",
    "grpc-keepalive-timeout",
    "socket-reuse-port",
    "socket-reuse-address",
    "cors",
    "host-whitelist",
    "enable-v2",
    "enable-grpc-gateway",
    "pre-vote",
    "strict-reconfig-check",
    "initial-election-tick-advance",
    "enable-pprof",
    "logger",
    "log-format",
    "log-outputs",
    "log-package-levels",
    "enable-log-rotation",
    "log-rotation-config-json",
    "debug",
    "metrics",
    "listen-metrics-urls",
    "backend-batch-interval",
    "backend-batch-limit",
    "backend-bbolt-freelist-type",
    "v2-deprecation",
    "unsafe-no-fsync",
    "memory-mlock",
    "feature-gates",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "bootstrap-defrag-threshold-megabytes",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "compact-hash-check-time",
    "downgrade-check-time",
    "snapshot-catchup-entries",
    "distributed-tracing-address",
    "distributed-tracing-service-name",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
];

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// One of [`FLAGS`], by its own name.
    Ours(&'static str),
    /// A security flag of etcd.
    Security,
    /// A flag of etcd that cannot be left out.
    Unsupported,
    /// A flag of etcd that can.
    Ignored,
    /// Nothing.
    Unknown,
}

/// Looks a name up, without dashes in front.
#[must_use]
pub fn lookup(name: &str) -> Known {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, own)| own);
    if let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) {
        return Known::Ours(flag.name);
    }
    if SECURITY.contains(&name) {
        return Known::Security;
    }
    if UNSUPPORTED.contains(&name) {
        return Known::Unsupported;
    }
    if IGNORED.contains(&name) || name.starts_with("experimental-") {
        return Known::Ignored;
    }
    Known::Unknown
}

/// A flag as written on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Name without dashes.
    pub name: String,
    /// Its value; `None` if the line ends or another flag follows.
    pub value: Option<String>,
}

/// Splits a command line into flags. Every argument belongs to a flag: `serve` takes no others.
///
/// # Errors
/// `Usage` for an argument that belongs to no flag.
pub fn split(args: &[String]) -> Result<Vec<Given>, Fatal> {
    let mut given = Vec::new();
    let mut rest = args.iter().peekable();
    while let Some(arg) = rest.next() {
        let Some(name) = flag_name(arg) else {
            return Err(Fatal::Usage(format!("unexpected argument '{arg}'; see quorate --help")));
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, rest.next_if(|next| !looks_like_flag(next)).cloned()),
        };
        given.push(Given { name: name.to_owned(), value });
    }
    Ok(given)
}

fn flag_name(arg: &str) -> Option<&str> {
    let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    name.starts_with(|first: char| first.is_ascii_alphabetic()).then_some(name)
}

/// A value may be a negative number, but not a flag.
fn looks_like_flag(arg: &str) -> bool {
    flag_name(arg).is_some()
}

/// The name of a setting in the environment.
#[must_use]
pub fn env_name(prefix: &str, flag: &str) -> String {
    format!("{prefix}{}", flag.replace('-', "_").to_ascii_uppercase())
}

/// The flag that an environment variable stands for, if it has this prefix.
#[must_use]
pub fn from_env_name(prefix: &str, variable: &str) -> Option<String> {
    Some(variable.strip_prefix(prefix)?.to_ascii_lowercase().replace('_', "-"))
}
