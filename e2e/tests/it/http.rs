//! The plain HTTP side of the client port: health, readiness, version, metrics.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use quorate_e2e::http1::{Answer, request};
use quorate_e2e::server::Server;

fn get(server: &Server, path: &str) -> Result<Answer> {
    request(&server.endpoint(), "GET", path)
}

#[test]
fn health_and_readiness() -> Result<()> {
    let server = Server::start(&[])?;
    for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE"] {
        let answer = get(&server, path)?;
        assert_eq!(
            (answer.status, answer.body.trim_end()),
            (200, r#"{"health":"true","reason":""}"#)
        );
    }
    assert_eq!(request(&server.endpoint(), "POST", "/health")?.status, 405);
    for path in ["/livez", "/readyz", "/readyz/linearizable_read", "/livez/serializable_read"] {
        let answer = get(&server, path)?;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{path}");
    }
    let verbose = get(&server, "/readyz?verbose")?;
    assert!(verbose.body.contains("[+]linearizable_read ok"), "{verbose:?}");
    assert_eq!(get(&server, "/readyz/nosuch")?.status, 404);
    assert_eq!(get(&server, "/nosuch")?.status, 404);
    let version = get(&server, "/version")?;
    assert!(version.body.starts_with(r#"{"etcdserver":"3.5."#), "{version:?}");
    Ok(())
}

/// Series without labels, by name.
fn metrics(server: &Server) -> Result<BTreeMap<String, f64>> {
    let answer = get(server, "/metrics")?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");
    let lines = answer.body.lines().filter(|line| !line.starts_with('#') && !line.contains('{'));
    Ok(lines
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect())
}

/// The names that etcd's own dashboards and alerts read.
#[tokio::test]
async fn metrics_have_etcds_names() -> Result<()> {
    let server = Server::start(&[])?;
    let before = metrics(&server)?;
    let mut client = server.client().await?;
    for index in 0..20 {
        client.put(format!("k{index}"), "v", None).await?;
    }
    let after = metrics(&server)?;
    let value = |name: &str| after.get(name).copied().context(name.to_owned());
    assert_eq!(value("etcd_server_has_leader")?, 1.0);
    assert_eq!(value("etcd_server_is_leader")?, 1.0);
    for name in [
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_applied_total",
        "etcd_server_proposals_pending",
        "etcd_server_proposals_failed_total",
        "etcd_server_quota_backend_bytes",
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_wal_fsync_duration_seconds_sum",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        value(name)?;
    }
    let committed = "etcd_server_proposals_committed_total";
    let grown = value(committed)? - before.get(committed).context(committed)?;
    assert!(grown >= 20.0, "{grown} proposals committed by 20 puts");
    assert!(value("process_resident_memory_bytes")? > 1e6);
    Ok(())
}
