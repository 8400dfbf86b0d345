//! Maintenance, Cluster and health.

use quorate_wire::etcdserverpb as pb;
use quorate_wire::health::health_client::HealthClient;
use quorate_wire::health::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic::Code;

use crate::process::{Server, get, put, refused, revision};

#[tokio::test]
async fn operators_get_etcds_answers() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut maintenance = server.maintenance().await;
    server.kv().await.put(put("k", "v")).await.expect("put");

    let status = maintenance.status(pb::StatusRequest {}).await.expect("status").into_inner();
    assert_eq!(status.version, "3.5.21");
    let me = status.header.as_ref().expect("a header").member_id;
    assert_eq!((status.leader, revision(&status.header)), (me, 2));
    assert!(status.db_size > 0 && status.raft_applied_index > 0 && status.errors.is_empty());

    let hash = |revision| pb::HashKvRequest { revision };
    let first = maintenance.hash_kv(hash(0)).await.expect("hash").into_inner();
    let again = maintenance.hash_kv(hash(2)).await.expect("hash").into_inner();
    assert_eq!((first.hash, first.hash_revision), (again.hash, 2));
    let text = "etcdserver: mvcc: required revision is a future revision";
    refused(maintenance.hash_kv(hash(100)).await, Code::OutOfRange, text);

    let alarm = |action, alarm| pb::AlarmRequest { action, member_id: me, alarm };
    let raised = maintenance.alarm(alarm(1, 1)).await.expect("raise").into_inner();
    assert_eq!(raised.alarms.len(), 1);
    let mut kv = server.kv().await;
    let text = "etcdserver: mvcc: database space exceeded";
    refused(kv.put(put("k", "v")).await, Code::ResourceExhausted, text);
    let standing = maintenance.alarm(alarm(0, 0)).await.expect("get").into_inner();
    assert_eq!(standing.alarms.len(), 1);
    maintenance.alarm(alarm(2, 1)).await.expect("clear");
    kv.put(put("k", "v")).await.expect("disarmed");

    let target = |target_id| pb::MoveLeaderRequest { target_id };
    maintenance.move_leader(target(me)).await.expect("to itself");
    let text = "etcdserver: bad leader transferee";
    refused(maintenance.move_leader(target(5)).await, Code::FailedPrecondition, text);
    maintenance.defragment(pb::DefragmentRequest {}).await.expect("nothing to do");
}

#[tokio::test]
async fn a_corrupt_cluster_refuses_reads_and_writes_of_keys_until_disarmed() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let (mut kv, mut maintenance) = (server.kv().await, server.maintenance().await);
    kv.put(put("k", "v")).await.expect("put");
    let alarm = |action, alarm| pb::AlarmRequest { action, member_id: 0, alarm };
    maintenance.alarm(alarm(1, 2)).await.expect("raise");

    let text = "etcdserver: corrupt cluster";
    refused(kv.put(put("k", "v")).await, Code::DataLoss, text);
    refused(kv.range(get("k")).await, Code::DataLoss, text);
    let serializable = pb::RangeRequest { serializable: true, ..get("k") };
    refused(kv.range(serializable).await, Code::DataLoss, text);
    refused(kv.txn(pb::TxnRequest::default()).await, Code::DataLoss, text);
    let compact = pb::CompactionRequest { revision: 2, physical: true };
    refused(kv.compact(compact).await, Code::DataLoss, text);

    // What an operator looks for the bad member with, and what keeps leases alive.
    let status = maintenance.status(pb::StatusRequest {}).await.expect("status").into_inner();
    assert!(status.errors[0].contains("CORRUPT"), "{status:?}");
    maintenance.hash_kv(pb::HashKvRequest { revision: 0 }).await.expect("hash");
    server.lease().await.lease_leases(pb::LeaseLeasesRequest {}).await.expect("leases");
    server.cluster().await.member_list(pb::MemberListRequest::default()).await.expect("members");
    maintenance.alarm(alarm(2, 2)).await.expect("clear");
    kv.range(get("k")).await.expect("disarmed");
    kv.put(put("k", "v")).await.expect("disarmed");
}

#[tokio::test]
async fn room_is_told_apart_from_what_is_used() {
    let dir = tempfile::tempdir().expect("temp");
    let flags = ["--listen-client-urls", "http://127.0.0.1:0", "--engine-table-bytes", "262144"];
    let server = Server::start_with(dir.path(), &flags);
    let (mut kv, mut maintenance) = (server.kv().await, server.maintenance().await);
    for round in 0..12 {
        for key in 0..40 {
            let value = vec![round; 4_000];
            // Tables this small fill faster than a busy disk takes them.
            while kv.put(put(format!("k{key}"), value.clone())).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
    let ask = pb::StatusRequest {};
    let full = maintenance.status(ask).await.expect("status").into_inner();
    assert!(full.db_size_in_use <= full.db_size, "{full:?}");
    let revision = full.header.expect("a header").revision;
    kv.compact(pb::CompactionRequest { revision, physical: true }).await.expect("compact");
    maintenance.defragment(pb::DefragmentRequest {}).await.expect("merged");
    let merged = maintenance.status(ask).await.expect("status").into_inner();
    assert!(merged.db_size < full.db_size / 2, "from {} to {}", full.db_size, merged.db_size);
    let dead = merged.db_size - merged.db_size_in_use;
    assert!((0..merged.db_size / 10).contains(&dead), "{dead} of {}", merged.db_size);
}

#[tokio::test]
async fn members_are_checked_before_they_change() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut cluster = server.cluster().await;
    let list = pb::MemberListRequest { linearizable: true };
    let members = cluster.member_list(list).await.expect("list").into_inner();
    assert_eq!(revision(&members.header), 0, "no revision in this service");
    let [me] = &members.members[..] else { panic!("{members:?}") };
    assert_eq!((me.name.as_str(), me.client_ur_ls.len()), ("default", 1));
    assert_eq!(me.client_ur_ls[0], format!("http://{}", server.endpoint));

    let add = |urls: &[&str], is_learner| pb::MemberAddRequest {
        peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
        is_learner,
    };
    let text = "etcdserver: given member URLs are invalid";
    refused(cluster.member_add(add(&["nope"], false)).await, Code::InvalidArgument, text);
    refused(cluster.member_add(add(&[], false)).await, Code::InvalidArgument, text);
    let remove = |id| pb::MemberRemoveRequest { id };
    let text = "etcdserver: member not found";
    refused(cluster.member_remove(remove(5)).await, Code::NotFound, text);
    let text = "etcdserver: re-configuration failed due to not enough started members";
    refused(cluster.member_remove(remove(me.id)).await, Code::Unknown, text);
    let text = "etcdserver: can only promote a learner member";
    let promote = |id| pb::MemberPromoteRequest { id };
    refused(cluster.member_promote(promote(me.id)).await, Code::FailedPrecondition, text);

    let url = "http://127.0.0.1:9";
    let added = cluster.member_add(add(&[url], true)).await.expect("add").into_inner();
    let learner = added.member.expect("the new one");
    assert!(learner.is_learner && learner.name.is_empty());
    assert_eq!(added.members.len(), 2);
    let text = "etcdserver: too many learner members in cluster";
    let second = cluster.member_add(add(&["http://127.0.0.1:10"], true)).await;
    refused(second, Code::FailedPrecondition, text);
    let text = "etcdserver: can only promote a learner member which is in sync with leader";
    refused(cluster.member_promote(promote(learner.id)).await, Code::FailedPrecondition, text);
    let left = cluster.member_remove(remove(learner.id)).await.expect("remove").into_inner();
    assert_eq!(left.members.len(), 1);
}

#[tokio::test]
async fn health_is_served() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut health = HealthClient::new(server.channel().await);
    let all = HealthCheckRequest { service: String::new() };
    let answer = health.check(all.clone()).await.expect("check").into_inner();
    assert_eq!(answer.status, ServingStatus::Serving as i32);
    let mut stream = health.watch(all).await.expect("watch").into_inner();
    let first = stream.message().await.expect("open").expect("an answer");
    assert_eq!(first.status, ServingStatus::Serving as i32);
    let unknown = HealthCheckRequest { service: "nope".to_owned() };
    refused(health.check(unknown).await, Code::NotFound, "unknown service");
}
