//! Conversions that clients could see going wrong.

use bytes::Bytes;
use quorate_consensus::Term;
use tonic::Code;

use super::*;

fn put_op(key: &'static str) -> pb::RequestOp {
    let key = Bytes::from_static(key.as_bytes());
    let put = pb::PutRequest { key, ..pb::PutRequest::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

#[test]
fn unknown_sorts_are_no_sort() {
    let request = pb::RangeRequest { sort_order: 7, sort_target: 9, ..Default::default() };
    let converted = range(request);
    assert_eq!((converted.order, converted.target), (SortOrder::None, SortTarget::Key));
}

#[test]
fn an_operation_without_content_is_refused() {
    let request = pb::TxnRequest {
        success: vec![put_op("a"), pb::RequestOp::default()],
        ..Default::default()
    };
    let status = txn(request).expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "etcdserver: key not found");
}

#[test]
fn nested_transactions_keep_their_shape() {
    let inner = pb::TxnRequest { failure: vec![put_op("b")], ..Default::default() };
    let nested = pb::RequestOp { request: Some(pb::request_op::Request::RequestTxn(inner)) };
    let outer = pb::TxnRequest { success: vec![put_op("a"), nested], ..Default::default() };
    let converted = txn(outer).expect("valid");
    let [Op::Put(_), Op::Txn(inner)] = converted.success.as_slice() else {
        panic!("{converted:?}")
    };
    assert_eq!((inner.success.len(), inner.failure.len()), (0, 1));
}

#[test]
fn the_target_of_a_condition_decides() {
    let with = |target, union| pb::Compare {
        target,
        key: Bytes::from_static(b"k"),
        target_union: union,
        ..pb::Compare::default()
    };
    use pb::compare::TargetUnion;
    let cases = [
        (with(0, Some(TargetUnion::Version(3))), CompareTarget::Version(3)),
        (with(0, Some(TargetUnion::Lease(3))), CompareTarget::Version(0)),
        (with(3, None), CompareTarget::Value(Bytes::new())),
        (with(4, Some(TargetUnion::Lease(-1))), CompareTarget::Lease(-1)),
    ];
    for (condition, target) in cases {
        assert_eq!(compare(condition).expect("valid").map(|c| c.target), Some(target));
    }
    let holds = pb::Compare { result: 9, ..with(0, None) };
    assert_eq!(compare(holds).expect("valid"), None, "an unknown result holds");
    assert!(compare(with(8, None)).is_err(), "an unknown target");
}

#[test]
fn headers_of_transactions_are_as_etcd_has_them() {
    let put = OpResult::Put(PutResult { revision: Revision(9), prev_kv: None });
    let inner = TxnResult { revision: Revision(9), succeeded: true, responses: vec![put] };
    let outer =
        TxnResult { revision: Revision(9), succeeded: true, responses: vec![OpResult::Txn(inner)] };
    let response = txn_response(outer, None);
    let Some(pb::response_op::Response::ResponseTxn(nested)) = &response.responses[0].response
    else {
        panic!("{response:?}")
    };
    assert_eq!(nested.header, Some(pb::ResponseHeader::default()), "an empty header");
    let Some(pb::response_op::Response::ResponsePut(put)) = &nested.responses[0].response else {
        panic!("{nested:?}")
    };
    let header = put.header.as_ref().expect("a header");
    assert_eq!((header.revision, header.cluster_id, header.raft_term), (9, 0, 0));
}

#[test]
fn the_pair_before_goes_only_to_who_asked() {
    let kv = KeyValue { key: Bytes::from_static(b"k"), ..KeyValue::default() };
    let change = Event { kind: EventKind::Delete, kv: kv.clone(), prev_kv: Some(kv) };
    assert!(event(&change, true).prev_kv.is_some());
    let without = event(&change, false);
    assert_eq!((without.r#type, without.prev_kv), (1, None));
}

#[test]
fn headers_tell_who_answers() {
    let identity = Identity { cluster: 1, member: 2 };
    let stamp = Stamp { revision: Revision(3), term: Term(4) };
    let header = identity.header_at(stamp, Revision(7)).expect("a header");
    assert_eq!((header.cluster_id, header.member_id), (1, 2));
    assert_eq!((header.revision, header.raft_term), (7, 4));
}
