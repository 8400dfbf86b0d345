//! Three real processes: any one may be killed.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_wire::etcdserverpb as pb;

use crate::process::{Server, get, put};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Three members, running or not.
pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    /// What each is started with; the last flag's value names the first members.
    pub(crate) flags: Vec<Vec<String>>,
}

impl Cluster {
    /// Names three members; nothing is started.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// The same with these flags in front of the others.
    pub(crate) fn with(extra: &[&str]) -> Self {
        // The ports are free now; that nobody takes them before the servers do is likely enough.
        let listeners: Vec<_> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let urls: Vec<String> = listeners
            .iter()
            .map(|listener| format!("http://{}", listener.local_addr().expect("bound")))
            .collect();
        let all: Vec<String> =
            urls.iter().enumerate().map(|(at, url)| format!("n{at}={url}")).collect();
        let all = all.join(",");
        let flags = urls.iter().enumerate().map(|(at, url)| {
            let name = format!("n{at}");
            extra
                .iter()
                .copied()
                .chain(["--name", &name, "--listen-client-urls", "http://127.0.0.1:0"])
                .chain(["--listen-peer-urls", url, "--initial-cluster", &all])
                .map(str::to_owned)
                .collect()
        });
        Self { dir: tempfile::tempdir().expect("temp"), flags: flags.collect() }
    }

    pub(crate) fn spawn(&self, at: usize) -> Server {
        let flags: Vec<&str> = self.flags[at].iter().map(String::as_str).collect();
        let dir: &Path = &self.dir.path().join(format!("n{at}"));
        Server::spawn(dir, &flags)
    }

    pub(crate) fn start(&self) -> Vec<Server> {
        let mut servers: Vec<Server> = (0..3).map(|at| self.spawn(at)).collect();
        servers.iter_mut().for_each(Server::wait);
        servers
    }
}

pub(crate) async fn leader(servers: &[Server]) -> usize {
    let status = servers[0].maintenance().await.status(pb::StatusRequest {}).await;
    let leader = status.expect("status").into_inner().leader;
    for (at, server) in servers.iter().enumerate() {
        let status = server.maintenance().await.status(pb::StatusRequest {}).await;
        if status.expect("status").into_inner().header.expect("a header").member_id == leader {
            return at;
        }
    }
    panic!("no server is the leader {leader:x}")
}

/// Puts until it works: an election may be under way.
pub(crate) async fn put_eventually(server: &Server, key: &'static str, value: &'static str) {
    let mut kv = server.kv().await;
    let begun = Instant::now();
    while let Err(status) = kv.put(put(key, value)).await {
        assert!(begun.elapsed() < PATIENCE, "no put has succeeded: {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn read(server: &Server, key: &'static str) -> String {
    let mut kv = server.kv().await;
    let begun = Instant::now();
    loop {
        match kv.range(get(key)).await {
            Ok(found) => {
                let found = found.into_inner();
                let value = found.kvs.first().map(|kv| kv.value.to_vec()).unwrap_or_default();
                return String::from_utf8(value).expect("text");
            }
            Err(status) => assert!(begun.elapsed() < PATIENCE, "no read has succeeded: {status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_comes_back() {
    let cluster = Cluster::new();
    let mut servers = cluster.start();
    for (at, server) in servers.iter().enumerate() {
        let value = ["zero", "one", "two"][at];
        put_eventually(server, "k", value).await;
        for other in &servers {
            assert_eq!(read(other, "k").await, value, "reads are linearizable on every member");
        }
    }
    let old = leader(&servers).await;
    servers[old].kill();
    let other = (old + 1) % 3;
    put_eventually(&servers[other], "k", "after").await;
    assert_eq!(read(&servers[(old + 2) % 3], "k").await, "after");

    servers[old] = cluster.spawn(old);
    servers[old].wait();
    assert_eq!(read(&servers[old], "k").await, "after");

    let now = leader(&servers).await;
    assert_eq!(servers[now].terminate(), Some(0), "it hands leadership over and stops");
    let begun = Instant::now();
    put_eventually(&servers[(now + 1) % 3], "k", "handed over").await;
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(900), "without waiting for an election: {took:?}");
}

#[tokio::test]
async fn a_member_is_added_and_catches_up() {
    let cluster = Cluster::new();
    let servers = cluster.start();
    put_eventually(&servers[0], "k", "before").await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let request = pb::MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner: true };
    let added = servers[0].cluster().await.member_add(request).await.expect("add").into_inner();
    let id = added.member.expect("the new one").id;

    let all = format!("{},n3={url}", cluster.flags[0].last().expect("initial-cluster"));
    let flags = ["--name", "n3", "--listen-client-urls", "http://127.0.0.1:0"];
    let mut flags = flags.to_vec();
    flags.extend(["--listen-peer-urls", &url, "--initial-cluster", &all]);
    flags.extend(["--initial-cluster-state", "existing"]);
    let fourth = Server::start_with(&cluster.dir.path().join("n3"), &flags);
    let begun = Instant::now();
    let promote = pb::MemberPromoteRequest { id };
    while let Err(status) = servers[0].cluster().await.member_promote(promote).await {
        assert!(begun.elapsed() < PATIENCE, "never in sync: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(read(&fourth, "k").await, "before");
    put_eventually(&fourth, "k", "from the new one").await;
    assert_eq!(read(&servers[1], "k").await, "from the new one");
}
