//! Global transactions on three nodes: any node takes requests, the leader calls, its successor goes on.

use std::time::Duration;

use quorate_global_txn::{Body, BranchRequest, KEYSPACE, Record, Request as Asked, Status};
use quorate_kv::{KeyRange, KeyspaceId, RangeRequest, Revision};

use super::harness::{World, config};
use crate::{Reply, Request};

fn three() -> (World, u64) {
    let mut world = World::new((1..=3).map(config).collect());
    world.run(Duration::from_secs(5));
    let leader = world.leader().expect("a leader within five seconds");
    (world, leader)
}

fn follower(leader: u64) -> u64 {
    leader % 3 + 1
}

fn ask(world: &mut World, node: u64, request: Asked) {
    let id = world.ask(node, Request::GlobalTxn(Box::new(request)));
    world.run(Duration::from_millis(300));
    let reply = world.replies.remove(&id);
    let done = matches!(reply, Some(Reply::GlobalTxn(quorate_global_txn::Reply::Done)));
    assert!(done, "{reply:?}");
}

fn body(gid: &str) -> Box<Body> {
    Box::new(Body { gid: gid.into(), trans_type: "tcc".into(), ..Body::default() })
}

fn branch(gid: &str, branch_id: &str) -> Asked {
    let url = |op| (op, format!("http://service/{branch_id}/{op}"));
    let fields = [url("confirm"), url("cancel")].map(|(op, url)| (op.to_owned(), url));
    Asked::RegisterBranch(Box::new(BranchRequest {
        gid: gid.into(),
        trans_type: "tcc".into(),
        branch_id: branch_id.into(),
        data: "{}".into(),
        fields: fields.into(),
    }))
}

/// A prepared transaction of two branches, made through `node`.
fn prepare(world: &mut World, node: u64, gid: &str) {
    ask(world, node, Asked::Prepare(body(gid)));
    ask(world, node, branch(gid, "01"));
    ask(world, node, branch(gid, "02"));
}

/// Where the transaction stands, as this node sees it.
fn status(world: &mut World, node: u64, gid: &str) -> Option<Status> {
    let request = Request::View { keyspace: KEYSPACE, linearizable: false };
    let id = world.ask(node, request);
    let Some(Reply::View { view, .. }) = world.replies.remove(&id) else { panic!("no view") };
    let range = KeyRange::single(format!("g/{gid}").into());
    let found = view.range(&RangeRequest { range, ..RangeRequest::default() }).expect("readable");
    found.kvs.first().map(|kv| Record::decode(&kv.value).expect("a record").status)
}

fn paths(world: &World) -> Vec<&str> {
    world.calls.iter().map(|(_, url)| url.split('?').next().expect("never empty")).collect()
}

#[test]
fn a_transaction_begun_at_a_follower_is_confirmed_by_the_leader() {
    let (mut world, leader) = three();
    let node = follower(leader);
    prepare(&mut world, node, "g1");
    assert_eq!(world.calls, [], "nothing is decided");
    ask(&mut world, node, Asked::Submit(body("g1")));
    world.run(Duration::from_secs(1));
    let expected = ["http://service/02/confirm", "http://service/01/confirm"];
    assert_eq!(paths(&world), expected);
    assert!(world.calls.iter().all(|(node, _)| *node == leader), "{:?}", world.calls);
    for id in 1..=3 {
        assert_eq!(status(&mut world, id, "g1"), Some(Status::Succeed), "node {id}");
    }
}

#[test]
fn what_a_leader_could_not_finish_its_successor_does() {
    let (mut world, leader) = three();
    prepare(&mut world, leader, "g1");
    world.services_answer = false;
    ask(&mut world, leader, Asked::Submit(body("g1")));
    world.run(Duration::from_secs(2));
    assert_eq!(status(&mut world, leader, "g1"), Some(Status::Submitted));
    world.cut = vec![leader];
    world.services_answer = true;
    world.run(Duration::from_secs(60));
    let next = world.leader().expect("a second leader");
    assert_ne!(next, leader);
    assert_eq!(status(&mut world, next, "g1"), Some(Status::Succeed));
    let by = world.calls.last().map(|(node, _)| *node);
    assert_eq!(by, Some(next));
}

#[test]
fn nobody_decides_so_time_does() {
    let (mut world, leader) = three();
    prepare(&mut world, leader, "g1");
    world.run(Duration::from_secs(50));
    assert_eq!(paths(&world), ["http://service/02/cancel", "http://service/01/cancel"]);
    assert_eq!(status(&mut world, leader, "g1"), Some(Status::Failed));
}

#[test]
fn clients_of_keys_see_nothing_of_it_and_an_unused_machine_writes_nothing() {
    let (mut world, leader) = three();
    let before = world.servers[&leader].node.status().last;
    world.run(Duration::from_secs(60));
    assert_eq!(world.servers[&leader].node.status().last, before);
    prepare(&mut world, leader, "g1");
    ask(&mut world, leader, Asked::Submit(body("g1")));
    world.run(Duration::from_secs(1));
    let server = &world.servers[&leader];
    assert_eq!(server.events, Vec::<i64>::new(), "no watch hub hears of it");
    assert_eq!(server.node.kv().revision(KeyspaceId::ETCD), Revision::FIRST);
    assert!(server.node.kv().revision(KEYSPACE) > Revision::FIRST);
}

#[test]
fn a_follower_reckons_the_groups_time_on_and_never_ahead() {
    let (mut world, leader) = three();
    let other = follower(leader);
    world.run(Duration::from_secs(30)); // nothing is written meanwhile
    let time = |world: &World, id: u64| world.servers[&id].node.clocks(world.now).group_ms;
    assert!(time(&world, leader).abs_diff(time(&world, other)) < 300, "it goes on");
    world.restart(other);
    world.run(Duration::from_millis(200));
    assert!(time(&world, other) < time(&world, leader) + 300, "its clock began long before it");
    // A clock that jumps carries nobody with it.
    world.now += Duration::from_secs(700);
    let before = time(&world, other);
    world.step(other, crate::Input::Flush);
    assert!(time(&world, other) - before <= 1_000, "one election timeout a step");
}

#[test]
fn a_full_store_takes_in_nothing_and_ends_what_it_has() {
    let mut world = World::new(vec![crate::Config { quota_bytes: 8 << 10, ..config(1) }]);
    world.run(Duration::from_secs(5));
    prepare(&mut world, 1, "g1");
    let put = |number: u8| {
        let put = quorate_kv::PutRequest {
            key: vec![number].into(),
            value: vec![0; 1 << 10].into(),
            ..Default::default()
        };
        Request::Command { keyspace: KeyspaceId::ETCD, command: quorate_kv::Command::Put(put) }
    };
    for number in 0..16 {
        world.ask(1, put(number));
        world.run(Duration::from_millis(100));
    }
    let id = world.ask(1, Request::GlobalTxn(Box::new(Asked::Prepare(body("g2")))));
    world.run(Duration::from_millis(300));
    let reply = world.replies.remove(&id);
    let full = matches!(
        &reply,
        Some(Reply::GlobalTxn(quorate_global_txn::Reply::Refused(refused))) if refused.is_full
    );
    assert!(full, "{reply:?}");
    ask(&mut world, 1, Asked::Submit(body("g1")));
    world.run(Duration::from_secs(1));
    assert_eq!(status(&mut world, 1, "g1"), Some(Status::Succeed));
    assert_eq!(status(&mut world, 1, "g2"), None);
}
