//! One node by itself: durability, space, leases, bounds.

use std::time::Duration;

use quorate_kv::{
    Alarm, AlarmKind, Command, KeyRange, KeyspaceId, LeaseId, PutRequest, Refusal, Reply as KvReply,
};

use super::harness::{World, complete_checkpoints, config, put};
use crate::{AutoCompaction, Failure, MemberChange, MemberRefusal, Reply, Request};

fn lone() -> World {
    let mut world = World::new(vec![config(1)]);
    world.run(Duration::from_millis(100));
    assert_eq!(world.leader(), Some(1), "a single voter leads at once");
    world
}

#[test]
fn put_is_answered_after_its_sync_and_read_back() {
    let mut world = lone();
    world.disks_run = false;
    let request = world.put(1, "a", "1");
    assert!(world.replies.is_empty(), "answered before it was durable");
    assert!(world.servers[&1].events.is_empty(), "told watchers before it was durable");
    world.disks_run = true;
    world.settle();
    assert_eq!(world.revision(request), Ok(2));
    assert_eq!(world.servers[&1].events, vec![2]);
    assert_eq!(world.get(1, "a"), Ok(Some("1".into())));
}

#[test]
fn restart_keeps_what_was_acknowledged() {
    let mut world = lone();
    for i in 0..10 {
        let request = world.put(1, &format!("k{i}"), "v");
        assert!(world.revision(request).is_ok());
    }
    world.restart(1);
    world.run(Duration::from_millis(100));
    assert_eq!(world.get(1, "k9"), Ok(Some("v".into())));
    let request = world.put(1, "k", "v");
    assert_eq!(world.revision(request), Ok(12));
}

#[test]
fn sealed_tables_shorten_the_log_and_survive() {
    let mut world = World::new(vec![crate::Config { table_bytes: 2_000, ..config(1) }]);
    world.run(Duration::from_millis(100));
    for i in 0..100 {
        let request = world.put(1, &format!("key{i}"), "some value of some length");
        assert!(world.revision(request).is_ok(), "put {i}");
        if world.servers[&1].sealed > 1 {
            world.servers.get_mut(&1).expect("it").sealed = 0;
            complete_checkpoints(&mut world, 1);
        }
    }
    world.restart(1);
    world.run(Duration::from_millis(100));
    assert!(world.servers[&1].node.kv().applied() > 50, "the log still starts at the beginning");
    assert_eq!(world.get(1, "key0"), Ok(Some("some value of some length".into())));
    assert_eq!(world.get(1, "key99"), Ok(Some("some value of some length".into())));
}

#[test]
fn full_tables_refuse_instead_of_growing() {
    let mut world = World::new(vec![crate::Config { table_bytes: 500, ..config(1) }]);
    world.run(Duration::from_millis(100));
    let mut refused = false;
    for i in 0..100 {
        let request = world.put(1, &format!("key{i}"), "value");
        refused |= world.revision(request) == Err(Failure::Overloaded);
    }
    assert!(refused);
    complete_checkpoints(&mut world, 1);
    let request = world.put(1, "after", "value");
    assert!(world.revision(request).is_ok());
}

#[test]
fn a_dead_disk_leaves_the_outcome_unknown() {
    let mut world = lone();
    world.disks_run = false;
    let request = world.put(1, "a", "1");
    world.run(Duration::from_secs(8));
    assert_eq!(world.revision(request), Err(Failure::Timeout));
}

#[test]
fn full_disk_refuses_growth_only() {
    let mut world = lone();
    world.step(1, crate::Input::DiskSpace { full: true });
    let request = world.put(1, "a", "1");
    assert_eq!(world.revision(request), Err(Refusal::NoSpace.into()));
    let range = KeyRange::single("a".into());
    let delete = Command::Delete(quorate_kv::DeleteRequest { range, prev_kv: false });
    let request = world.command(1, delete);
    assert!(world.revision(request).is_ok());
    assert_eq!(world.get(1, "a"), Ok(None));
    world.step(1, crate::Input::DiskSpace { full: false });
    let request = world.put(1, "a", "1");
    assert!(world.revision(request).is_ok());
}

#[test]
fn quota_raises_an_alarm_that_stands_until_it_is_cleared() {
    let mut world = World::new(vec![crate::Config { quota_bytes: 1_000, ..config(1) }]);
    world.run(Duration::from_millis(100));
    let mut last = Ok(0);
    for i in 0..50 {
        let request = world.put(1, &format!("key{i}"), "some value");
        last = world.revision(request);
    }
    assert_eq!(last, Err(Refusal::NoSpace.into()));
    let alarm = Alarm { member: 1, kind: AlarmKind::NoSpace };
    assert_eq!(world.servers[&1].node.status().alarms, vec![alarm]);
    let request = world.command(1, Command::AlarmClear(alarm));
    assert!(world.revision(request).is_ok());
    assert!(world.servers[&1].node.status().alarms.is_empty());
}

#[test]
fn leases_expire_by_group_time_and_are_renewed_together() {
    let mut world = lone();
    let grant = Command::LeaseGrant { id: LeaseId(7), ttl_s: 0 };
    let request = world.command(1, grant);
    let Some(Reply::Applied { result: Ok(KvReply::LeaseGrant { ttl_s, .. }), .. }) =
        world.replies.remove(&request)
    else {
        panic!("not granted")
    };
    assert_eq!(ttl_s, 2, "raised to one and a half election timeouts");
    let attached = PutRequest { key: "l".into(), lease: LeaseId(7), ..PutRequest::default() };
    let request = world.command(1, Command::Put(attached));
    assert!(world.revision(request).is_ok());
    for _ in 0..3 {
        world.run(Duration::from_millis(1_500));
        let keep = Request::LeaseKeepAlive { keyspace: KeyspaceId::ETCD, id: LeaseId(7) };
        let request = world.ask(1, keep);
        let reply = world.replies.remove(&request);
        assert!(matches!(reply, Some(Reply::LeaseRenewed { ttl_s: 2, .. })), "{reply:?}");
    }
    assert_eq!(world.get(1, "l"), Ok(Some(String::new())));
    world.run(Duration::from_millis(1_900));
    assert_eq!(world.get(1, "l"), Ok(Some(String::new())), "expired early");
    world.run(Duration::from_millis(300));
    assert_eq!(world.get(1, "l"), Ok(None));
    let keep = Request::LeaseKeepAlive { keyspace: KeyspaceId::ETCD, id: LeaseId(7) };
    let request = world.ask(1, keep);
    let reply = world.replies.remove(&request);
    assert!(matches!(reply, Some(Reply::LeaseRenewed { ttl_s: 0, .. })), "{reply:?}");
}

#[test]
fn history_is_compacted_automatically() {
    let auto_compaction = AutoCompaction::Revisions(10);
    let mut world = World::new(vec![crate::Config { auto_compaction, ..config(1) }]);
    world.run(Duration::from_millis(100));
    for _ in 0..100 {
        let request = world.put(1, "k", "v");
        assert!(world.revision(request).is_ok());
    }
    world.run(Duration::from_secs(301));
    assert_eq!(world.servers[&1].node.status().compact_revision.0, 91);
}

#[test]
fn invalid_commands_never_reach_the_log() {
    let mut world = lone();
    let before = world.servers[&1].node.status().last;
    let request = world.command(1, put("", "v"));
    assert_eq!(world.revision(request), Err(Refusal::EmptyKey.into()));
    let request = world.command(1, put("k", &"v".repeat(1_572_864)));
    assert_eq!(world.revision(request), Err(Refusal::TooLarge.into()));
    assert_eq!(world.servers[&1].node.status().last, before);
}

#[test]
fn the_last_member_cannot_be_removed() {
    let mut world = lone();
    let id = quorate_consensus::NodeId(1);
    let request = world.ask(1, Request::ChangeMember(MemberChange::Remove { id }));
    let reply = world.replies.remove(&request);
    let refused = Failure::Member(MemberRefusal::NotEnoughStarted);
    assert!(matches!(reply, Some(Reply::Failed(failure)) if failure == refused), "{reply:?}");
}
