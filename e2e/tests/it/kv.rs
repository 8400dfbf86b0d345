//! Put, Range, DeleteRange, Txn, Compact through the crate etcd-client: traps beside the probe's.

use anyhow::{Context, Result};
use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse,
};
use quorate_e2e::raw::Raw;
use quorate_e2e::server::Server;
use tonic::Code;

use crate::refused;

async fn value(client: &mut Client, key: &str) -> Result<Option<String>> {
    let found = client.get(key, None).await?;
    Ok(found.kvs().first().map(|kv| String::from_utf8_lossy(kv.value()).into_owned()))
}

fn put(key: &str, value: &str) -> TxnOp {
    TxnOp::put(key, value, None)
}

#[tokio::test]
async fn comparisons_of_a_nested_txn_see_the_state_before_any_operation() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    client.put("k", "1", None).await?;
    let inner = Txn::new()
        .when([Compare::value("k", CompareOp::Equal, "1")])
        .and_then([put("then", "x")])
        .or_else([put("else", "x")]);
    let outer = Txn::new().when([Compare::value("k", CompareOp::Equal, "1")]).and_then([
        put("k", "2"),
        TxnOp::txn(inner),
        TxnOp::get("k", None),
    ]);
    let answer = client.txn(outer).await?;
    assert!(answer.succeeded());
    let revision = answer.header().context("header")?.revision();
    let operations = answer.op_responses();
    let [TxnOpResponse::Put(first), TxnOpResponse::Txn(nested), TxnOpResponse::Get(read)] =
        operations.as_slice()
    else {
        panic!("one answer an operation, in order: {operations:?}");
    };
    assert_eq!(first.header().context("header")?.revision(), revision);
    assert!(nested.succeeded(), "decided before the put of the outer level ran");
    assert_eq!(read.kvs()[0].value(), b"2", "an operation sees the ones before it");
    assert_eq!(read.kvs()[0].mod_revision(), revision, "one revision for all");
    assert_eq!(value(&mut client, "then").await?.as_deref(), Some("x"));
    assert_eq!(value(&mut client, "else").await?, None);
    Ok(())
}

#[tokio::test]
async fn a_key_is_put_once_in_a_txn_however_deep() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let nested = |key: &str| TxnOp::txn(Txn::new().and_then([put(key, "x")]));
    let twice = "duplicate key given in txn request";
    for operations in [
        vec![put("a", "1"), nested("a")],
        vec![nested("a"), nested("a")],
        vec![nested("b"), TxnOp::delete("a", Some(DeleteOptions::new().with_range("c")))],
    ] {
        refused(client.txn(Txn::new().and_then(operations)).await, Code::InvalidArgument, twice);
    }
    let either = Txn::new().and_then([put("a", "1")]).or_else([put("a", "2")]);
    client.txn(Txn::new().and_then([TxnOp::txn(either)])).await?;
    assert_eq!(value(&mut client, "a").await?.as_deref(), Some("1"));
    Ok(())
}

#[tokio::test]
async fn nested_txns_share_the_budget_of_operations() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let puts = |name: &str, count: usize| -> Vec<TxnOp> {
        (0..count).map(|index| put(&format!("{name}{index}"), "x")).collect()
    };
    // 100 operations outside leave 28 of 128 to the inner one.
    let txn = |inner: usize| {
        let mut operations = puts("outer", 99);
        operations.push(TxnOp::txn(Txn::new().and_then(puts("inner", inner))));
        Txn::new().and_then(operations)
    };
    let text = "too many operations in txn request";
    refused(client.txn(txn(29)).await, Code::InvalidArgument, text);
    assert!(client.txn(txn(28)).await?.succeeded());
    Ok(())
}

#[tokio::test]
async fn a_failing_operation_leaves_nothing_of_its_txn() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let before = client.put("k", "1", None).await?.header().context("header")?.revision();
    let future = GetOptions::new().with_revision(before + 1000);
    let txn = Txn::new().and_then([put("k", "2"), TxnOp::get("k", Some(future))]);
    let text = "mvcc: required revision is a future revision";
    refused(client.txn(txn).await, Code::OutOfRange, text);
    let read = client.get("k", None).await?;
    assert_eq!(read.kvs()[0].value(), b"1");
    assert_eq!(read.header().context("header")?.revision(), before);
    Ok(())
}

#[tokio::test]
async fn pages_at_one_revision_are_a_snapshot() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    for index in 0..50 {
        client.put(format!("p/{index:03}"), "old", None).await?;
    }
    let first = client.get("p/", Some(GetOptions::new().with_prefix().with_limit(7))).await?;
    let revision = first.header().context("header")?.revision();
    let (mut keys, mut more) = (Vec::new(), true);
    let mut from = b"p/".to_vec();
    while more {
        client.put(format!("p/{:03}", keys.len()), "new", None).await?;
        client.delete(format!("p/{:03}", 49 - keys.len()), None).await?;
        let options = GetOptions::new().with_range("p0").with_limit(7).with_revision(revision);
        let page = client.get(from.clone(), Some(options)).await?;
        assert!(page.kvs().iter().all(|kv| kv.value() == b"old"), "nothing newer shows");
        assert_eq!(page.count() as usize, 50 - keys.len(), "all that is left in the range");
        keys.extend(page.kvs().iter().map(|kv| kv.key().to_vec()));
        from = keys.last().context("a page is not empty")?.clone();
        from.push(0);
        more = page.more();
    }
    assert_eq!(keys.len(), 50);
    assert!(keys.is_sorted());
    Ok(())
}

#[tokio::test]
async fn sorting_and_filters_come_before_the_limit() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    for (key, value) in [("s/a", "3"), ("s/b", "1"), ("s/c", "2")] {
        client.put(key, value, None).await?;
    }
    let sorted = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Value, SortOrder::Descend)
        .with_limit(1);
    let found = client.get("s/", Some(sorted)).await?;
    assert_eq!((found.kvs()[0].key(), found.count(), found.more()), (&b"s/a"[..], 3, true));
    let newest = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Mod, SortOrder::Descend)
        .with_limit(1);
    assert_eq!(client.get("s/", Some(newest)).await?.kvs()[0].key(), b"s/c");
    let first = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Create, SortOrder::Ascend)
        .with_limit(1);
    assert_eq!(client.get("s/", Some(first)).await?.kvs()[0].key(), b"s/a");
    Ok(())
}

#[tokio::test]
async fn a_key_starts_anew_after_its_delete() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    client.put("k", "1", None).await?;
    client.put("k", "2", None).await?;
    let deleted = client.delete("k", None).await?.header().context("header")?.revision();
    client.put("k", "3", None).await?;
    let found = client.get("k", None).await?;
    let kv = &found.kvs()[0];
    assert_eq!(
        (kv.version(), kv.create_revision(), kv.mod_revision()),
        (1, deleted + 1, deleted + 1)
    );
    let old = client.get("k", Some(GetOptions::new().with_revision(deleted - 1))).await?;
    assert_eq!((old.kvs()[0].version(), old.kvs()[0].value()), (2, &b"2"[..]));
    assert_eq!(
        old.header().context("header")?.revision(),
        deleted + 1,
        "the store's, not the asked"
    );
    let gone = client.get("k", Some(GetOptions::new().with_revision(deleted))).await?;
    assert_eq!((gone.kvs().len(), gone.count()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn compaction_keeps_the_newest_and_what_is_above() -> Result<()> {
    let mut server = Server::start(&[])?;
    let mut client = server.client().await?;
    for round in 0..20 {
        client.put("kept", format!("{round}"), None).await?;
        client.put("gone", format!("{round}"), None).await?;
    }
    client.delete("gone", None).await?;
    let revision = client.get("kept", None).await?.header().context("header")?.revision();
    client.put("kept", "after", None).await?;
    let physical = CompactionOptions::new().with_physical();
    client.compact(revision, Some(physical)).await?;
    for restarted in [false, true] {
        if restarted {
            server.kill9()?;
            server.restart()?;
            client = server.client().await?;
        }
        let at = |revision| Some(GetOptions::new().with_revision(revision));
        assert_eq!(client.get("kept", at(revision)).await?.kvs()[0].value(), b"19");
        assert_eq!(client.get("gone", at(revision)).await?.kvs().len(), 0);
        assert_eq!(value(&mut client, "kept").await?.as_deref(), Some("after"));
        let text = "mvcc: required revision has been compacted";
        refused(client.get("kept", at(revision - 1)).await, Code::OutOfRange, text);
        refused(client.compact(revision, None).await, Code::OutOfRange, text);
    }
    Ok(())
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented() -> Result<()> {
    let server = Server::start(&[])?;
    let raw = Raw::connect(&server.client_url()).await?;
    let method = raw.call("/etcdserverpb.KV/Frobnicate", &[], &[]).await.unwrap_err();
    assert_eq!(method.code(), Code::Unimplemented);
    assert_eq!(method.message(), "unknown method Frobnicate for service etcdserverpb.KV");
    let service = raw.call("/nobody.Knows/It", &[], &[]).await.unwrap_err();
    assert_eq!(service.code(), Code::Unimplemented);
    assert_eq!(service.message(), "unknown service nobody.Knows");
    Ok(())
}

#[tokio::test]
async fn a_leader_may_be_required_and_a_version_told() -> Result<()> {
    let server = Server::start(&[])?;
    let raw = Raw::connect(&server.client_url()).await?;
    let range = [0x0a, 1, b'k']; // RangeRequest { key: "k" }
    let told = [("hasleader", "true"), ("client-api-version", "3.5.21")];
    raw.call("/etcdserverpb.KV/Range", &range, &told).await?;
    let health = raw.call("/grpc.health.v1.Health/Check", &[], &[]).await?;
    assert_eq!(&health[..], [0x08, 1], "SERVING");
    Ok(())
}

#[tokio::test]
async fn malformed_messages_are_errors_of_that_call_alone() -> Result<()> {
    let server = Server::start(&[])?;
    let raw = Raw::connect(&server.client_url()).await?;
    for broken in
        [&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f][..], &[0xff; 40], &[0x0a, 5, b'k'], &[0x07]]
    {
        let error = raw.call("/etcdserverpb.KV/Put", broken, &[]).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal, "{broken:?}: {error:?}");
        let put = [0x0a, 1, b'k', 0x12, 1, b'v'];
        raw.call("/etcdserverpb.KV/Put", &put, &[]).await?;
    }
    Ok(())
}
