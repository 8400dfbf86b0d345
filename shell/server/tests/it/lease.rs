//! Leases over the wire.

use quorate_wire::etcdserverpb as pb;
use tonic::Code;

use crate::process::{Server, get, put, refused, revision};

#[tokio::test]
async fn leases_answer_as_etcds_do() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut lease = server.lease().await;
    let mut kv = server.kv().await;

    let grant = |id, ttl| pb::LeaseGrantRequest { id, ttl };
    let chosen = lease.lease_grant(grant(0, 0)).await.expect("grant").into_inner();
    assert!(chosen.id > 0);
    assert_eq!(chosen.ttl, 2, "raised to the minimum");
    let own = lease.lease_grant(grant(-77, 60)).await.expect("grant").into_inner();
    assert_eq!((own.id, own.ttl), (-77, 60));
    let text = "etcdserver: lease already exists";
    refused(lease.lease_grant(grant(-77, 60)).await, Code::FailedPrecondition, text);
    let text = "etcdserver: too large lease TTL";
    refused(lease.lease_grant(grant(0, 9_000_000_001)).await, Code::OutOfRange, text);

    let text = "etcdserver: requested lease not found";
    let unknown = pb::PutRequest { lease: 4242, ..put("k", "") };
    refused(kv.put(unknown).await, Code::NotFound, text);
    for key in ["l1", "l2"] {
        kv.put(pb::PutRequest { lease: -77, ..put(key, "") }).await.expect("put");
    }
    kv.put(put("l2", "")).await.expect("a put without a lease detaches");
    let ask = |id| pb::LeaseTimeToLiveRequest { id, keys: true };
    let left = lease.lease_time_to_live(ask(-77)).await.expect("ask").into_inner();
    assert_eq!((left.granted_ttl, left.keys), (60, vec![bytes::Bytes::from("l1")]));
    assert!((55..60).contains(&left.ttl), "{}", left.ttl);
    let none = lease.lease_time_to_live(ask(12345)).await.expect("no error").into_inner();
    assert_eq!(none.ttl, -1);

    let alive = |id| pb::LeaseKeepAliveRequest { id };
    let requests = tokio_stream::iter([alive(12345), alive(-77)]);
    let mut responses = lease.lease_keep_alive(requests).await.expect("stream").into_inner();
    let first = responses.message().await.expect("open").expect("an answer");
    assert_eq!((first.id, first.ttl), (12345, 0));
    let second = responses.message().await.expect("open").expect("an answer");
    assert_eq!((second.id, second.ttl), (-77, 60));

    let all = lease.lease_leases(pb::LeaseLeasesRequest {}).await.expect("list").into_inner();
    let ids: Vec<i64> = all.leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids, [chosen.id, -77], "soonest deadline first");

    let before = revision(&kv.range(get("x")).await.expect("read").into_inner().header);
    let revoke = |id| pb::LeaseRevokeRequest { id };
    let gone = lease.lease_revoke(revoke(-77)).await.expect("revoke").into_inner();
    assert_eq!(revision(&gone.header), before + 1);
    refused(lease.lease_revoke(revoke(-77)).await, Code::NotFound, text);
    assert_eq!(kv.range(get("l1")).await.expect("read").into_inner().count, 0);
    assert_eq!(kv.range(get("l2")).await.expect("read").into_inner().count, 1);
}
