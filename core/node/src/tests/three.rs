//! Three nodes: forwarding, partitions, hand-over, membership, snapshots.

use std::time::Duration;

use quorate_consensus::NodeId;

use super::harness::{World, complete_checkpoints, config};
use crate::{Failure, MemberChange, Reply, Request};

fn three() -> (World, u64) {
    let mut world = World::new((1..=3).map(config).collect());
    world.run(Duration::from_secs(5));
    let leader = world.leader().expect("a leader within five seconds");
    (world, leader)
}

fn follower(leader: u64) -> u64 {
    leader % 3 + 1
}

#[test]
fn any_node_takes_writes_and_reads() {
    let (mut world, leader) = three();
    for id in 1..=3 {
        let request = world.put(id, &format!("k{id}"), "v");
        world.run(Duration::from_millis(200));
        assert!(world.revision(request).is_ok(), "through node {id}");
    }
    for id in 1..=3 {
        assert_eq!(world.get(id, &format!("k{}", follower(id))), Ok(Some("v".into())));
    }
    assert!(world.leader() == Some(leader), "leadership moved without a reason");
}

#[test]
fn a_minority_refuses_and_the_rest_goes_on() {
    let (mut world, leader) = three();
    world.cut = vec![leader];
    let stranded = world.put(leader, "stranded", "v");
    world.run(Duration::from_secs(10));
    assert_eq!(world.revision(stranded), Err(Failure::Timeout), "nobody knows its outcome");
    let next = world.leader().expect("a second leader");
    assert_ne!(next, leader);
    let request = world.put(next, "k", "v");
    world.run(Duration::from_millis(200));
    assert!(world.revision(request).is_ok());
    world.cut.clear();
    world.run(Duration::from_secs(3));
    assert_eq!(world.get(leader, "k"), Ok(Some("v".into())));
    assert_eq!(world.get(leader, "stranded"), Ok(None));
}

#[test]
fn what_a_lost_leader_was_asked_for_is_refused_once_that_is_certain() {
    let (mut world, leader) = three();
    let asked = follower(leader);
    world.cut = vec![leader];
    // Nobody knows yet that the leader is gone: these are sent to it.
    let lost = [world.put(asked, "lost", "v"), world.put(leader, "stranded", "v")];
    world.run(Duration::from_secs(3));
    assert_ne!(world.leader(), Some(leader));
    assert_eq!(world.revision(lost[0]), Err(Failure::LeaderChanged));
    assert!(!world.replies.contains_key(&lost[1]), "the old leader has heard nothing");
    world.cut.clear();
    world.run(Duration::from_secs(1));
    assert_eq!(world.revision(lost[1]), Err(Failure::LeaderChanged));
    for key in ["lost", "stranded"] {
        assert_eq!(world.get(asked, key), Ok(None));
    }
    let again = world.put(asked, "lost", "v");
    world.run(Duration::from_millis(200));
    assert!(world.revision(again).is_ok());
}

#[test]
fn what_a_lost_leader_had_replicated_succeeds() {
    let (mut world, leader) = three();
    let asked = follower(leader);
    world.disks_run = false;
    let request = world.put(asked, "k", "v");
    // The others have the entry; that it is committed is for the next leader to find out.
    world.cut = vec![leader];
    world.disks_run = true;
    world.run(Duration::from_secs(3));
    assert_ne!(world.leader(), Some(leader));
    assert!(world.revision(request).is_ok());
    assert_eq!(world.get(asked, "k"), Ok(Some("v".into())));
}

#[test]
fn what_a_snapshot_jumped_over_stays_unknown() {
    let small = |id| crate::Config { table_bytes: 2_000, log_cache_bytes: 1_000, ..config(id) };
    let mut world = World::new((1..=3).map(small).collect());
    world.run(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let (asked, third) = (follower(leader), follower(follower(leader)));
    world.disks_run = false;
    let request = world.put(asked, "k", "v");
    world.cut = vec![asked];
    world.sync(third);
    world.sync(leader);
    world.disks_run = true;
    for i in 0..60 {
        world.put(leader, &format!("k{i}"), "a value of some length");
        for id in [leader, third] {
            if std::mem::take(&mut world.servers.get_mut(&id).expect("it").sealed) > 0 {
                complete_checkpoints(&mut world, id);
            }
        }
    }
    world.cut.clear();
    world.run(Duration::from_secs(2));
    assert_eq!(world.get(asked, "k"), Ok(Some("v".into())), "it came with the snapshot");
    world.ask(leader, Request::MoveLeader { to: NodeId(third) });
    world.run(Duration::from_secs(1));
    assert_eq!(world.leader(), Some(third));
    assert!(!world.replies.contains_key(&request), "it was applied: no later term refuses it");
    world.run(Duration::from_secs(7));
    assert_eq!(world.revision(request), Err(Failure::Timeout));
}

#[test]
fn leadership_moves_when_asked() {
    let (mut world, leader) = three();
    let to = NodeId(follower(leader));
    let request = world.ask(leader, Request::MoveLeader { to });
    world.run(Duration::from_millis(500));
    let reply = world.replies.remove(&request);
    assert!(matches!(reply, Some(Reply::Done { .. })), "{reply:?}");
    assert_eq!(world.leader(), Some(to.0));
    let request = world.ask(leader, Request::MoveLeader { to });
    let reply = world.replies.remove(&request);
    assert!(matches!(reply, Some(Reply::Failed(Failure::NotLeader))), "{reply:?}");
}

#[test]
fn a_follower_passes_member_changes_on() {
    let (mut world, leader) = three();
    let asked = follower(leader);
    let add = MemberChange::Add {
        id: NodeId(9),
        peer_urls: vec!["http://127.0.0.1:9".into()],
        learner: true,
    };
    let request = world.ask(asked, Request::ChangeMember(add.clone()));
    world.run(Duration::from_millis(300));
    let Some(Reply::Members { members, changed, .. }) = world.replies.remove(&request) else {
        panic!("not added")
    };
    assert_eq!((members.len(), changed), (4, Some(NodeId(9))));
    let again = world.ask(asked, Request::ChangeMember(add));
    world.run(Duration::from_millis(300));
    let reply = world.replies.remove(&again);
    assert!(matches!(reply, Some(Reply::Failed(Failure::Member(_)))), "{reply:?}");
}

#[test]
fn a_restarted_leader_rejoins() {
    let (mut world, leader) = three();
    for i in 0..20 {
        let request = world.put(leader, &format!("k{i}"), "v");
        world.run(Duration::from_millis(50));
        assert!(world.revision(request).is_ok());
    }
    world.restart(leader);
    world.run(Duration::from_secs(5));
    for id in 1..=3 {
        let status = world.servers[&id].node.status();
        assert_eq!(status.revision.0, 21, "node {id}");
    }
}

#[test]
fn a_new_learner_behind_the_log_gets_a_snapshot_and_may_vote() {
    let small = |id| crate::Config { table_bytes: 2_000, ..config(id) };
    let mut world = World::new((1..=3).map(small).collect());
    world.run(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    for i in 0..60 {
        let request = world.put(leader, &format!("k{i}"), "a value of some length");
        world.run(Duration::from_millis(20));
        assert!(world.revision(request).is_ok(), "put {i}");
        for id in 1..=3 {
            if world.servers[&id].sealed > 0 {
                world.servers.get_mut(&id).expect("it").sealed = 0;
                complete_checkpoints(&mut world, id);
            }
        }
    }
    world.join(config(9));
    let peer_urls = vec!["http://127.0.0.1:9".to_owned()];
    let add = MemberChange::Add { id: NodeId(9), peer_urls, learner: true };
    world.ask(leader, Request::ChangeMember(add));
    world.run(Duration::from_secs(2));
    let status = world.servers[&9].node.status();
    assert_eq!((status.revision.0, status.learner), (61, true));
    let promote = MemberChange::Promote { id: NodeId(9) };
    let request = world.ask(leader, Request::ChangeMember(promote));
    world.run(Duration::from_secs(1));
    let reply = world.replies.remove(&request);
    assert!(matches!(reply, Some(Reply::Members { .. })), "{reply:?}");
    assert!(!world.servers[&9].node.status().learner);
    assert_eq!(world.get(9, "k59"), Ok(Some("a value of some length".into())));
}
