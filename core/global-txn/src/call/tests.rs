//! URLs, metadata and bodies of calls.

use super::*;

fn gid() -> GlobalTxnId {
    GlobalTxnId::parse("g 1/ä").unwrap()
}

fn named(gid: &GlobalTxnId) -> Named<'_> {
    Named { gid, kind: Kind::Tcc, branch_id: "01", op: "confirm" }
}

#[test]
fn own_parameters_of_a_url_are_kept() {
    let gid = gid();
    let tail = "gid=g%201%2F%C3%A4&trans_type=tcc&branch_id=01&op=confirm";
    let cases = [
        ("http://h/p", format!("http://h/p?{tail}")),
        ("http://h/p?", format!("http://h/p?{tail}")),
        ("http://h/p?a=1#x", format!("http://h/p?a=1&{tail}")),
    ];
    for (url, expected) in cases {
        assert_eq!(with_query(url, &named(&gid)), expected);
    }
}

#[test]
fn the_url_decides_over_the_protocol() {
    let wire = |protocol, url, kind| wire(protocol, url, kind, &Bytes::new(), false);
    let http = |method| Wire::Http { method };
    assert_eq!(wire(Protocol::Grpc, "h:1/s.S/M", Kind::Tcc), Wire::Grpc);
    assert_eq!(wire(Protocol::Grpc, "http://h/p", Kind::Tcc), http(Method::Get));
    assert_eq!(wire(Protocol::Http, "http://h/p", Kind::Xa), http(Method::Post));
    assert_eq!(wire(Protocol::Http, "http://h/p", Kind::Workflow), http(Method::Post));
}

#[test]
fn json_rpc_gets_the_payloads_fields_and_ours() {
    let gid = gid();
    let body = rpc_body("http://h/r?method=pay", &named(&gid), &Bytes::from_static(b" {\"a\":1} "));
    let expected = r#"{"jsonrpc":"2.0","id":"g 1/ä-01-confirm","method":"pay","params":{"a":1,"gid":"g 1/ä","trans_type":"tcc","branch_id":"01","op":"confirm"}}"#;
    assert_eq!(body, expected.as_bytes());
    let body = rpc_body("http://h/r?method=pay", &named(&gid), &Bytes::from_static(b"[1]"));
    assert!(!body.windows(3).any(|w| w == b"[1]"));
}

#[test]
fn a_workflows_message_over_grpc() {
    assert_eq!(workflow_data(&Bytes::from_static(b"ab")), Bytes::from_static(b"\x0a\x02ab"));
    let long = workflow_data(&vec![7; 300].into());
    assert_eq!(&long[..4], b"\x0a\xac\x02\x07");
}
