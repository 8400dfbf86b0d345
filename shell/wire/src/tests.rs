//! Checks of the `.proto` sources against bytes written out by hand: a wrong number or type
//! shows here and not first at a client.

use crate::{etcdserverpb as etcd, mvccpb};
use bytes::Bytes;
use prost::Message;
use tonic::server::NamedService;

#[test]
fn a_put_has_the_public_field_numbers() {
    let put = etcd::PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        lease: 3,
        prev_kv: true,
        ignore_value: true,
        ignore_lease: true,
    };
    let wire = [0x0a, 1, b'k', 0x12, 1, b'v', 0x18, 3, 0x20, 1, 0x28, 1, 0x30, 1];
    assert_eq!(put.encode_to_vec(), wire);
}

#[test]
fn events_stand_behind_the_gap_in_a_watch_response() {
    let kv = mvccpb::KeyValue { mod_revision: 5, ..Default::default() };
    let event = mvccpb::Event { r#type: 1, kv: Some(kv), prev_kv: None };
    let response = etcd::WatchResponse { watch_id: 2, events: vec![event], ..Default::default() };
    assert_eq!(response.encode_to_vec(), [0x10, 2, 0x5a, 6, 0x08, 1, 0x12, 2, 0x18, 5]);
}

#[test]
fn a_compare_keeps_its_range_end_at_field_64() {
    let compare = etcd::Compare { range_end: Bytes::from_static(b"z"), ..Default::default() };
    assert_eq!(compare.encode_to_vec(), [0x82, 0x04, 1, b'z']);
}

#[test]
fn a_value_is_a_slice_of_the_frame() {
    let frame = Bytes::from(vec![0x12, 3, b'a', b'b', b'c']);
    let put = etcd::PutRequest::decode(frame.clone()).expect("well formed");
    assert_eq!(put.value.as_ptr(), frame[2..].as_ptr(), "decoding copied the value");
}

#[test]
fn services_have_the_public_names() {
    struct Nothing;
    #[tonic::async_trait]
    impl etcd::kv_server::Kv for Nothing {}
    #[tonic::async_trait]
    impl crate::health::health_server::Health for Nothing {}
    #[tonic::async_trait]
    impl crate::v3lockpb::lock_server::Lock for Nothing {}
    type Kv = etcd::kv_server::KvServer<Nothing>;
    type Health = crate::health::health_server::HealthServer<Nothing>;
    type Lock = crate::v3lockpb::lock_server::LockServer<Nothing>;
    assert_eq!(<Kv as NamedService>::NAME, "etcdserverpb.KV");
    assert_eq!(<Health as NamedService>::NAME, "grpc.health.v1.Health");
    assert_eq!(<Lock as NamedService>::NAME, "v3lockpb.Lock");
}
