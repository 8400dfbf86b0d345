//! Plain HTTP on the same port.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::process::Server;

/// Status line, headers and body of one request.
fn http(server: &Server, method: &str, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(&server.endpoint).expect("it accepts connections");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn the_endpoints_of_operators_answer() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let (status, head, body) = http(&server, "GET", "/version");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(body, r#"{"etcdserver":"3.5.21","etcdcluster":"3.5.0"}"#);

    let (status, head, body) = http(&server, "GET", "/health");
    assert_eq!((status, body.as_str()), (200, r#"{"health":"true","reason":""}"#));
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
    assert_eq!(http(&server, "GET", "/health?serializable=true").0, 200);
    let (status, _, body) = http(&server, "POST", "/health");
    assert_eq!((status, body.as_str()), (405, "Method Not Allowed\n"));

    assert_eq!(http(&server, "GET", "/livez").2, "ok\n");
    let (_, _, body) = http(&server, "GET", "/readyz?verbose");
    for check in ["data_corruption", "linearizable_read", "non_learner", "serializable_read"] {
        assert!(body.contains(&format!("[+]{check} ok\n")), "{body}");
    }
    assert_eq!(http(&server, "GET", "/readyz/linearizable_read").2, "ok\n");
    assert_eq!(http(&server, "GET", "/readyz/no_such").0, 404);
    let (status, _, body) = http(&server, "GET", "/v2/keys/foo");
    assert_eq!((status, body.as_str()), (404, "404 page not found\n"));

    let (status, _, body) = http(&server, "GET", "/metrics");
    assert_eq!(status, 200);
    for line in [
        "etcd_server_has_leader 1\n",
        "etcd_server_is_leader 1\n",
        "process_open_fds ",
        "etcd_disk_wal_fsync_duration_seconds_count ",
        "etcd_disk_backend_commit_duration_seconds_bucket{le=\"+Inf\"} ",
        "etcd_mvcc_db_total_size_in_use_in_bytes ",
        "quorate_snapshots_installed_total 0\n",
    ] {
        assert!(body.contains(line), "{line} is missing");
    }
}
