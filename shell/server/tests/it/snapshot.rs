//! Members that the log alone cannot help any more: they get the whole state. Small tables and a small
//! cache make the log forget soon.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quorate_wire::etcdserverpb as pb;
use tonic::Code;

use crate::cluster::{Cluster, PATIENCE, leader, put_eventually, read};
use crate::process::{Server, put};
use crate::watch::Stream;

const SMALL: &[&str] = &["--engine-table-bytes", "262144", "--log-cache-bytes", "65536"];
const VALUE_BYTES: usize = 8 << 10;

/// Puts `count` values through this server, some at a time.
async fn fill(server: &Server, count: usize) {
    const WRITERS: usize = 8;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let mut kv = server.kv().await;
        writers.spawn(async move {
            for at in 0..count / WRITERS {
                let key = format!("fill/{writer}/{}", at % 64);
                let value = vec![b'a' + writer as u8; VALUE_BYTES];
                while let Err(status) = kv.put(put(key.clone(), value.clone())).await {
                    // Tables this small fill faster than a busy disk takes them.
                    assert_eq!(status.message(), "etcdserver: too many requests");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer");
    }
}

/// The generation of the engine that this data directory holds; waits until there is only one.
async fn generation(dir: &Path) -> u64 {
    let numbers = |dir: PathBuf| -> Vec<u64> {
        let names = std::fs::read_dir(dir).expect("it exists").map(|entry| entry.expect("entry"));
        names.filter_map(|entry| entry.file_name().to_str().and_then(|n| n.parse().ok())).collect()
    };
    let begun = Instant::now();
    let groups = numbers(dir.join("engine"));
    assert_eq!(groups.len(), 1, "one group");
    loop {
        let found = numbers(dir.join("engine").join(groups[0].to_string()));
        if let [only] = found[..] {
            return only;
        }
        assert!(begun.elapsed() < PATIENCE, "generations {found:?} are kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn revision_of(server: &Server) -> i64 {
    let status = server.maintenance().await.status(pb::StatusRequest {}).await;
    status.expect("status").into_inner().header.expect("a header").revision
}

/// The hash of everything up to a revision, once the server has got there.
async fn hash(server: &Server, revision: i64) -> u32 {
    let mut maintenance = server.maintenance().await;
    let begun = Instant::now();
    loop {
        match maintenance.hash_kv(pb::HashKvRequest { revision }).await {
            Ok(found) => return found.into_inner().hash,
            Err(status) if [Code::OutOfRange, Code::Unavailable].contains(&status.code()) => {}
            Err(status) => panic!("{status}"),
        }
        assert!(begun.elapsed() < PATIENCE, "it does not get to revision {revision}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn assert_equal(servers: &[&Server], leader: &Server) {
    let revision = revision_of(leader).await;
    let wanted = hash(leader, revision).await;
    for server in servers {
        assert_eq!(hash(server, revision).await, wanted, "{}", server.dir.display());
    }
}

fn signal(server: &Server, name: &str) {
    let pid = server.child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status().expect("kill exists");
    assert!(sent.success());
}

/// Adds a learner; its id and flags.
async fn add_fourth(cluster: &Cluster, through: &Server) -> (u64, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let request = pb::MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner: true };
    let added = through.cluster().await.member_add(request).await.expect("add").into_inner();
    let all = format!("{},n3={url}", cluster.flags[0].last().expect("initial-cluster"));
    let mut flags = SMALL.to_vec();
    flags.extend(["--name", "n3", "--listen-client-urls", "http://127.0.0.1:0"]);
    flags.extend(["--listen-peer-urls", &url, "--initial-cluster", &all]);
    flags.extend(["--initial-cluster-state", "existing"]);
    let flags = flags.into_iter().map(str::to_owned).collect();
    (added.member.expect("the new one").id, flags)
}

async fn promote(through: &Server, id: u64) {
    let begun = Instant::now();
    let promote = pb::MemberPromoteRequest { id };
    while let Err(status) = through.cluster().await.member_promote(promote).await {
        assert!(begun.elapsed() < PATIENCE, "never in sync: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_member_that_was_down_for_long_gets_a_snapshot() {
    let cluster = Cluster::with(SMALL);
    let mut servers = cluster.start();
    put_eventually(&servers[0], "k", "before").await;
    let lead = leader(&servers).await;
    let behind = (lead + 1) % 3;
    servers[behind].kill();
    fill(&servers[lead], 400).await;

    servers[behind] = cluster.spawn(behind);
    servers[behind].wait();
    assert_equal(&servers.iter().collect::<Vec<_>>(), &servers[lead]).await;
    assert!(generation(&servers[behind].dir).await > 0, "it came by a snapshot");
    servers[behind].kill();
    servers[behind] = cluster.spawn(behind);
    servers[behind].wait();
    assert!(generation(&servers[behind].dir).await > 0, "it stands on the snapshot still");
    assert_eq!(read(&servers[behind], "k").await, "before");
    put_eventually(&servers[behind], "k", "after").await;
    assert_equal(&servers.iter().collect::<Vec<_>>(), &servers[lead]).await;

    servers[lead].kill();
    put_eventually(&servers[behind], "k", "without the old leader").await;
    assert_eq!(read(&servers[(lead + 2) % 3], "k").await, "without the old leader");
}

#[tokio::test]
async fn a_new_member_joins_by_a_snapshot_and_votes() {
    let cluster = Cluster::with(SMALL);
    let servers = cluster.start();
    put_eventually(&servers[0], "k", "before").await;
    let lead = leader(&servers).await;
    fill(&servers[lead], 400).await;
    let (id, flags) = add_fourth(&cluster, &servers[0]).await;
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let dir = cluster.dir.path().join("n3");
    let mut fourth = Server::start_with(&dir, &flags);
    assert!(generation(&dir).await > 0, "it came by a snapshot");
    fourth.kill();
    let fourth = Server::start_with(&dir, &flags);
    promote(&servers[0], id).await;
    assert_eq!(read(&fourth, "k").await, "before");
    put_eventually(&fourth, "k", "from the new one").await;
    let mut all: Vec<_> = servers.iter().collect();
    all.push(&fourth);
    assert_equal(&all, &servers[lead]).await;
}

/// The process is stopped for so long that its connections break, and goes on with what it had.
#[tokio::test]
async fn watchers_see_everything_across_the_jump() {
    /// The peers give a connection up when one write takes five seconds.
    const STOPPED: Duration = Duration::from_secs(7);
    let cluster = Cluster::with(SMALL);
    let servers = cluster.start();
    put_eventually(&servers[0], "k", "before").await;
    let lead = leader(&servers).await;
    let behind = &servers[(lead + 1) % 3];
    let mut stream = Stream::open(behind).await;
    let every =
        pb::WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    stream.create(every).await;
    assert!(stream.next().await.created);
    let from = revision_of(behind).await + 1;

    signal(behind, "-STOP");
    let begun = Instant::now();
    while begun.elapsed() < STOPPED || revision_of(&servers[lead]).await < 4_000 {
        fill(&servers[lead], 400).await;
    }
    signal(behind, "-CONT");
    let until = revision_of(&servers[lead]).await;
    let mut next = from;
    while next <= until {
        for event in stream.next().await.events {
            assert_eq!(event.kv.expect("a pair").mod_revision, next, "in order, each once");
            next += 1;
        }
    }
    assert!(generation(&behind.dir).await > 0, "it came by a snapshot");
    assert_equal(&[behind], &servers[lead]).await;
}

/// A member that was away while another one was added and became the leader knows nothing of that leader.
#[tokio::test]
async fn a_leader_that_is_unknown_is_found_through_the_others() {
    let cluster = Cluster::new();
    let mut servers = cluster.start();
    put_eventually(&servers[0], "k", "before").await;
    let lead = leader(&servers).await;
    let away = (lead + 1) % 3;
    servers[away].kill();
    let (id, flags) = add_fourth(&cluster, &servers[lead]).await;
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let fourth = Server::start_with(&cluster.dir.path().join("n3"), &flags);
    promote(&servers[lead], id).await;
    let request = pb::MoveLeaderRequest { target_id: id };
    servers[lead].maintenance().await.move_leader(request).await.expect("moved");
    put_eventually(&fourth, "k", "by the new leader").await;
    servers[away] = cluster.spawn(away);
    servers[away].wait();
    assert_eq!(read(&servers[away], "k").await, "by the new leader");
}
