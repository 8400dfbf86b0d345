//! Range, Put, DeleteRange, Txn, Compact.

use quorate_wire::etcdserverpb as pb;
use tonic::Code;

use crate::process::{Server, get, put, range, refused, revision};

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put_op(key: &'static str, value: &'static str) -> pb::RequestOp {
    op(pb::request_op::Request::RequestPut(put(key, value)))
}

#[tokio::test]
async fn reads_and_writes_keep_etcds_rules() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut kv = server.kv().await;

    let empty = kv.range(get("x")).await.expect("read").into_inner();
    assert_eq!((revision(&empty.header), empty.count), (1, 0), "a fresh store is at revision 1");
    let header = empty.header.expect("a header");
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term > 0);

    for (at, key) in ["a", "b", "c"].into_iter().enumerate() {
        let response = kv.put(put(key, "1")).await.expect("put").into_inner();
        assert_eq!(revision(&response.header), 2 + at as i64);
        assert!(response.prev_kv.is_none());
    }
    let mut limited = range("a", "z");
    limited.limit = 2;
    let found = kv.range(limited).await.expect("range").into_inner();
    assert_eq!((found.kvs.len(), found.count, found.more), (2, 3, true));
    let mut past = range("a", "z");
    past.revision = 2;
    let found = kv.range(past).await.expect("range").into_inner();
    assert_eq!((found.kvs.len(), revision(&found.header)), (1, 4), "the header tells the present");
    let mut future = get("a");
    future.revision = 1000;
    let text = "etcdserver: mvcc: required revision is a future revision";
    refused(kv.range(future).await, Code::OutOfRange, text);
    let text = "etcdserver: key is not provided";
    refused(kv.range(get("")).await, Code::InvalidArgument, text);
    refused(kv.put(put("", "")).await, Code::InvalidArgument, text);

    let none = pb::DeleteRangeRequest { key: "none".into(), ..Default::default() };
    let deleted = kv.delete_range(none).await.expect("delete").into_inner();
    assert_eq!((deleted.deleted, revision(&deleted.header)), (0, 4), "nothing happened");
    let all = pb::DeleteRangeRequest { key: "a".into(), range_end: "c".into(), prev_kv: true };
    let deleted = kv.delete_range(all).await.expect("delete").into_inner();
    assert_eq!((deleted.deleted, revision(&deleted.header)), (2, 5), "one revision");
    assert_eq!(deleted.prev_kvs.len(), 2);
}

#[tokio::test]
async fn sizes_are_bounded_with_etcds_texts() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut kv = server.kv().await;
    kv.put(put("fits", vec![b'x'; 1_572_864 - 200])).await.expect("just below the bound");
    let large = kv.put(put("large", vec![b'x'; 1_572_864])).await;
    refused(large, Code::InvalidArgument, "etcdserver: request is too large");
    let huge = kv.put(put("huge", vec![b'x'; 2_200_000])).await.expect_err("far above");
    assert_eq!(huge.code(), Code::ResourceExhausted);
    let text = huge.message();
    assert!(text.starts_with("grpc: received message larger than max (22000"), "{text}");
    assert!(text.ends_with(" vs. 2097152)"), "{text}");
    let read = kv.range(get("fits")).await.expect("still there").into_inner();
    assert_eq!(read.kvs[0].value.len(), 1_572_864 - 200);
}

#[tokio::test]
async fn transactions_decide_first_and_bump_once() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut kv = server.kv().await;
    let missing = pb::Compare {
        target: pb::compare::CompareTarget::Create as i32,
        key: "k".into(),
        ..Default::default()
    };
    let create = pb::TxnRequest {
        compare: vec![missing],
        success: vec![
            put_op("k", "1"),
            put_op("l", "2"),
            op(pb::request_op::Request::RequestRange(get("k"))),
        ],
        failure: vec![],
    };
    let first = kv.txn(create.clone()).await.expect("txn").into_inner();
    assert!(first.succeeded);
    assert_eq!((revision(&first.header), first.responses.len()), (2, 3));
    let Some(pb::response_op::Response::ResponseRange(read)) = &first.responses[2].response else {
        panic!("{first:?}")
    };
    assert_eq!(read.kvs[0].value, "1", "it sees the operations before it");
    let second = kv.txn(create).await.expect("txn").into_inner();
    assert!(!second.succeeded && second.responses.is_empty());
    assert_eq!(revision(&second.header), 2, "nothing changed");

    let twice =
        pb::TxnRequest { success: vec![put_op("a", ""), put_op("a", "")], ..Default::default() };
    let text = "etcdserver: duplicate key given in txn request";
    refused(kv.txn(twice).await, Code::InvalidArgument, text);
    let many = pb::TxnRequest {
        success: (0..129)
            .map(|at| op(pb::request_op::Request::RequestPut(put(format!("o{at}"), ""))))
            .collect(),
        ..Default::default()
    };
    let text = "etcdserver: too many operations in txn request";
    refused(kv.txn(many).await, Code::InvalidArgument, text);
    let empty =
        pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..Default::default() };
    refused(kv.txn(empty).await, Code::InvalidArgument, "etcdserver: key not found");
}

#[tokio::test]
async fn compaction_forgets_and_unknown_methods_say_so() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut kv = server.kv().await;
    for value in ["1", "2", "3"] {
        kv.put(put("k", value)).await.expect("put");
    }
    let compact = |revision| pb::CompactionRequest { revision, physical: true };
    let done = kv.compact(compact(3)).await.expect("compact").into_inner();
    assert_eq!(revision(&done.header), 4);
    let text = "etcdserver: mvcc: required revision has been compacted";
    refused(kv.compact(compact(3)).await, Code::OutOfRange, text);
    let at = |revision| pb::RangeRequest { revision, ..get("k") };
    refused(kv.range(at(2)).await, Code::OutOfRange, text);
    let read = kv.range(at(3)).await.expect("the compact revision is readable").into_inner();
    assert_eq!(read.kvs[0].value, "2");

    let stream = kv.range_stream(get("k")).await.expect_err("not built");
    assert_eq!(stream.code(), Code::Unimplemented);
    assert_eq!(stream.message(), "unknown method RangeStream for service etcdserverpb.KV");
    let mut required = tonic::Request::new(get("k"));
    required.metadata_mut().insert("hasleader", "true".parse().expect("text"));
    kv.range(required).await.expect("there is a leader");
}
