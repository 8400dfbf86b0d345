//! What a user writes and what it becomes.

use std::time::Duration;

use super::flags::{Given, split};
use super::values::{Url, UrlError, duration};
use super::{ClusterState, Config, Persona};
use crate::exit::Fatal;
use quorate_node::AutoCompaction;

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn load_with(persona: Persona, args: &[&str], env: &[(&str, &str)]) -> Result<Config, Fatal> {
    let env: Vec<_> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::load(persona, &strings(args), env.into_iter())
}

fn load(args: &[&str]) -> Result<Config, Fatal> {
    load_with(Persona::Quorate, args, &[])
}

fn usage(args: &[&str]) -> String {
    match load(args) {
        Err(Fatal::Usage(sentence)) => sentence,
        other => panic!("{args:?} gave {other:?}"),
    }
}

#[test]
fn without_arguments_it_is_one_node_on_loopback() {
    let config = load(&[]).expect("defaults");
    assert_eq!(config.listen_client, [Url { host: "127.0.0.1".to_owned(), port: 2379 }]);
    assert_eq!(config.data_dir.to_str(), Some("quorate-data"));
    assert_eq!((config.nodes, config.quota_bytes, config.max_txn_ops), (1, 0, 128));
    assert!(!config.has_peers());
}

#[test]
fn started_as_etcd_it_has_its_defaults() {
    let config = load_with(Persona::Etcd, &["--name", "m1"], &[]).expect("etcd");
    assert_eq!(config.data_dir.to_str(), Some("m1.etcd"));
    assert_eq!(config.quota_bytes, 2 << 30);
    let off = load_with(Persona::Etcd, &["--quota-backend-bytes=-1"], &[]).expect("etcd");
    assert_eq!(off.quota_bytes, 0);
}

#[test]
fn flags_are_written_in_three_ways() {
    let given = |name: &str, value: Option<&str>| Given {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    let args = strings(&["--a", "1", "--b=2=3", "-c", "-5", "--d", "--e"]);
    let want = [
        given("a", Some("1")),
        given("b", Some("2=3")),
        given("c", Some("-5")),
        given("d", None),
        given("e", None),
    ];
    assert_eq!(split(&args).expect("split"), want);
    assert!(split(&strings(&["stray"])).is_err());
}

#[test]
fn flag_beats_environment_beats_file() {
    let file = tempfile::NamedTempFile::new().expect("temp");
    std::fs::write(file.path(), "name = 'f'\nmax_txn_ops = 7\nheartbeat_interval = 50\n")
        .expect("write");
    let path = file.path().to_str().expect("utf-8");
    let args = ["--config", path, "--name", "a"];
    let env = [("QUORATE_NAME", "e"), ("QUORATE_MAX_TXN_OPS", "9"), ("ETCD_NAME", "x")];
    let config = load_with(Persona::Quorate, &args, &env).expect("layers");
    assert_eq!((config.name.as_str(), config.max_txn_ops), ("a", 9));
    assert_eq!(config.heartbeat, Duration::from_millis(50));
    let etcd = load_with(Persona::Etcd, &[], &[("ETCD_NAME", "x")]).expect("etcd's environment");
    assert_eq!(etcd.name, "x");
}

#[test]
fn the_file_is_checked() {
    let file = tempfile::NamedTempFile::new().expect("temp");
    let path = file.path().to_str().expect("utf-8").to_owned();
    for (text, word) in [("nmae = 'x'", "nmae"), ("name =", "name"), ("cert_file = 'c'", "TLS")] {
        std::fs::write(file.path(), text).expect("write");
        let sentence = usage(&["--config", &path]);
        assert!(sentence.contains(word), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
    assert!(usage(&["--config", "/nonexistent/file"]).contains("/nonexistent/file"));
}

#[test]
fn security_is_refused_and_never_ignored() {
    for args in [
        &["--cert-file", "c"][..],
        &["--client-cert-auth"],
        &["--auto-tls=true"],
        &["--auth-token", "jwt"],
        &["--listen-client-urls", "https://127.0.0.1:2379"],
        &["--advertise-client-urls", "https://127.0.0.1:2379"],
        &["--initial-cluster", "default=https://127.0.0.1:2380"],
    ] {
        let sentence = usage(args);
        assert!(sentence.contains("closed server"), "{args:?}: {sentence}");
    }
    let env = [("QUORATE_PEER_CERT_FILE", "c")];
    assert!(load_with(Persona::Quorate, &[], &env).is_err());
    assert!(load(&["--client-cert-auth=false", "--cert-file="]).is_ok(), "asks for nothing");
}

#[test]
fn other_flags_of_etcd_are_named_and_unknown_ones_refused() {
    let config = load(&["--snapshot-count", "10", "--pre-vote", "--enable-v2=true"]).expect("ok");
    assert_eq!(config.ignored, ["--snapshot-count", "--pre-vote", "--enable-v2"]);
    assert!(usage(&["--no-such-flag", "1"]).contains("--no-such-flag"));
    assert!(usage(&["--force-new-cluster"]).contains("not supported"));
    assert!(usage(&["--name"]).contains("needs a value"));
}

#[test]
fn bad_values_name_their_source() {
    assert!(usage(&["--heartbeat-interval", "x"]).contains("--heartbeat-interval"));
    assert!(usage(&["--heartbeat-interval", "500"]).contains("five times"));
    assert!(usage(&["--initial-cluster", "a=http://h:1"]).contains("'default'"));
    assert!(usage(&["--initial-cluster", "default=http://h:1"]).contains("different addresses"));
    assert!(usage(&["--initial-cluster-state", "old"]).contains("new or existing"));
    assert!(usage(&["--nodes", "2"]).contains("1 or 3"));
    assert!(usage(&["--engine-table-bytes", "1"]).contains("65536 to 33554432"));
    assert!(usage(&["--log-cache-bytes", "1"]).contains("65536 to 4294967296"));
    assert!(usage(&["--log-level", "loud"]).contains("'loud'"));
}

#[test]
fn a_cluster_of_three_is_read() {
    let config = load(&[
        "--name=b",
        "-initial-cluster",
        "a=http://h1:1,b=http://h2:2,b=http://h2:3,c=http://h3:4",
        "--initial-advertise-peer-urls=http://h2:3,http://h2:2",
        "--initial-cluster-state=existing",
    ])
    .expect("three");
    assert_eq!(config.initial_cluster.len(), 3);
    assert_eq!(config.initial_cluster[1].1.len(), 2);
    assert_eq!(config.cluster_state, ClusterState::Existing);
}

#[test]
fn retention_counts_hours_durations_or_revisions() {
    let of = |args: &[&str]| load(args).expect("retention").auto_compaction;
    assert_eq!(of(&["--auto-compaction-retention", "0"]), AutoCompaction::Off);
    let hours = AutoCompaction::Periodic(Duration::from_secs(7200));
    assert_eq!(of(&["--auto-compaction-retention", "2"]), hours);
    let minutes = AutoCompaction::Periodic(Duration::from_secs(300));
    assert_eq!(of(&["--auto-compaction-retention", "5m"]), minutes);
    let args = ["--auto-compaction-mode=revision", "--auto-compaction-retention=1000"];
    assert_eq!(of(&args), AutoCompaction::Revisions(1000));
    assert!(usage(&["--auto-compaction-retention", "soon"]).contains("duration"));
}

#[test]
fn durations_are_gos() {
    assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
    assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
    assert_eq!(duration("10ms"), Some(Duration::from_millis(10)));
    for bad in ["", "5", "m", "5x", "-5s", "1h-3m", "999999999999h"] {
        assert_eq!(duration(bad), None, "{bad}");
    }
}

#[test]
fn addresses_are_plain_http_with_a_port() {
    assert_eq!(
        Url::parse("http://[::1]:80/").map(|url| url.to_string()),
        Ok("http://[::1]:80".into())
    );
    assert_eq!(Url::parse("https://h:1"), Err(UrlError::Tls));
    for bad in ["h:1", "http://h", "http://:1", "http://h:x", "http://h:1/path", "http://::1:80"] {
        assert_eq!(Url::parse(bad), Err(UrlError::Malformed), "{bad}");
    }
}

#[test]
fn global_transactions_have_their_settings() {
    let defaults = load(&[]).expect("defaults").transactions;
    assert_eq!(defaults.global_txn, quorate_global_txn::Config::default());
    assert_eq!(defaults.limits, quorate_outcall::limits::Limits::default());
    assert!(defaults.given.is_empty() && !defaults.calls.localhost_is_docker_host);
    let args = [
        "--dtm-timeout-to-fail=1m",
        "--dtm-retry-interval",
        "2",
        "--dtm-request-timeout=250ms",
        "--dtm-strict",
        "--dtm-alert-url=http://hook:1/x",
        "--branch-calls-per-destination=7",
        "--branch-breaker-pause=45s",
        "--branch-ca-file=ca.pem",
    ];
    let env = [("IS_DOCKER", "1"), ("QUORATE_DTM_ALERT_AFTER", "5")];
    let set = load_with(Persona::Quorate, &args, &env).expect("settings").transactions;
    let config = &set.global_txn;
    assert_eq!((config.timeout_ms, config.retry_interval_ms), (60_000, 2_000));
    assert_eq!((config.request_timeout_ms, config.alert_after), (250, 5));
    assert!(config.strict && set.calls.localhost_is_docker_host);
    assert_eq!(config.alert_url, "http://hook:1/x");
    assert_eq!(set.limits.attempts_per_destination, 7);
    assert_eq!(set.limits.longest_suspension, Duration::from_secs(45), "never shorter than one");
    assert_eq!(set.calls.ca_file.as_deref().and_then(|path| path.to_str()), Some("ca.pem"));
    assert_eq!(set.given.len(), 9, "{:?}", set.given);
    let args: Vec<&str> = set.given.iter().map(String::as_str).collect();
    assert_eq!(load(&args).expect("the same").transactions.global_txn, set.global_txn);
}

#[test]
fn settings_of_global_transactions_are_checked() {
    for (arg, word) in [
        ("--dtm-retry-interval=0", "dtm-retry-interval"),
        ("--dtm-timeout-to-fail=soon", "35s"),
        ("--dtm-request-timeout=11m", "10m"),
        ("--dtm-retention=5s", "10s"),
        ("--dtm-max-backoff=1s", "dtm-retry-interval"),
        ("--dtm-strict=yes", "true or false"),
        ("--dtm-alert-url=hook", "scheme"),
        ("--dtm-alert-after=0", "1"),
        ("--branch-calls=5", "branch-calls-per-destination"),
        ("--branch-breaker-failures=x", "failures"),
    ] {
        let sentence = usage(&[arg]);
        assert!(sentence.contains(word), "{arg}: {sentence}");
    }
}
