//! An old disk put back is noticed; a log that became shorter by the rules is not. That no life without
//! lost disks is ever refused, `simulation` checks after every step.

use std::time::Duration;

use bytes::Bytes;

use super::cluster::Cluster;
use crate::limits::Limits;
use crate::{Forgotten, Input, LogIndex, NodeId, Origin, Raft, Term, Witness};

fn cluster(nodes: u64) -> Cluster {
    Cluster::new(nodes, 7, Limits::default())
}

/// Delivers until nothing is under way.
fn settle(cluster: &mut Cluster) {
    while let Some(packet) = cluster.packets.pop_front() {
        let to = packet.to;
        cluster.deliver(packet);
        cluster.flush(to);
    }
}

/// `id` starts an election now, and wins it.
fn lead(cluster: &mut Cluster, id: u64) {
    let now = cluster.now;
    cluster.node(id).raft.as_mut().expect("it runs").election_at = now;
    cluster.input(id, Input::Tick);
    settle(cluster);
    assert!(raft(cluster, id).is_leader());
}

fn raft(cluster: &Cluster, id: u64) -> &Raft {
    cluster.raft(id).expect("it runs")
}

fn propose(cluster: &mut Cluster, id: u64, count: u64) {
    for seq in 0..count {
        let (node, boot) = (NodeId(id), raft(cluster, id).last_index().0);
        let data = Bytes::from_static(b"x");
        cluster.input(id, Input::Propose { origin: Origin { node, boot, seq }, data });
    }
    cluster.flush(id);
    settle(cluster);
}

fn forgotten(cluster: &Cluster, id: u64) -> Option<(u64, Forgotten)> {
    cluster.checks.forgotten(id, raft(cluster, id))
}

/// A crash, and a start that reaches nobody.
fn restart_alone(cluster: &mut Cluster, id: u64) {
    cluster.crash(id, 0);
    cluster.packets.clear();
    for other in cluster.nodes.keys().copied().collect::<Vec<_>>() {
        cluster.cut.extend([(id, other), (other, id)]);
    }
    cluster.restart(id);
}

#[test]
fn a_follower_with_an_old_disk_is_noticed() {
    let mut cluster = cluster(3);
    lead(&mut cluster, 1);
    propose(&mut cluster, 1, 5);
    let old = cluster.node(3).store.clone();
    let before = raft(&cluster, 3).last_index();
    propose(&mut cluster, 1, 5);
    let last = raft(&cluster, 1).last_index();
    assert_eq!(cluster.checks.witnessed[&(1, 3)].index, last);

    restart_alone(&mut cluster, 3);
    assert_eq!(forgotten(&cluster, 3), None, "a crash alone forgets nothing");
    cluster.node(3).store = old;
    restart_alone(&mut cluster, 3);
    assert_eq!(raft(&cluster, 3).last_index(), before);
    let term = raft(&cluster, 1).term();
    assert_eq!(forgotten(&cluster, 3), Some((1, Forgotten::Entry { index: last, term })));
}

#[test]
fn votes_and_leaderships_that_an_old_disk_forgot_are_noticed() {
    let mut cluster = cluster(3);
    let old = [1, 3].map(|id| cluster.node(id).store.clone());
    lead(&mut cluster, 1);
    let term = raft(&cluster, 1).term();
    for (id, store) in [1, 3].into_iter().zip(old) {
        cluster.node(id).store = store;
        restart_alone(&mut cluster, id);
    }
    let vote = |teller, id| {
        let seen = cluster.checks.witnessed[&(teller, id)];
        Witness { index: LogIndex(0), index_term: Term(0), ..seen }
    };
    let lost = Some(Forgotten::Vote { term });
    assert_eq!(raft(&cluster, 3).forgotten(&vote(1, 3)), lost, "it voted for the leader");
    assert_eq!(raft(&cluster, 1).forgotten(&vote(2, 1)), lost, "it led");
    assert_eq!(raft(&cluster, 2).forgotten(&vote(1, 2)), None);
    let later = Witness { vote_term: term, vote: NodeId(2), ..Witness::default() };
    assert!(raft(&cluster, 2).forgotten(&later).is_some(), "it voted for another");
}

/// Acknowledged entries may be cut as long as they are not committed.
#[test]
fn a_log_that_a_later_leader_shortened_is_not_refused() {
    let mut cluster = cluster(5);
    lead(&mut cluster, 1);
    for (a, b) in [(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)] {
        cluster.cut.extend([(a, b), (b, a)]);
    }
    propose(&mut cluster, 1, 4);
    let (matched, commit) = (raft(&cluster, 1).match_index(NodeId(2)), raft(&cluster, 1).commit());
    assert_eq!(matched, Some(LogIndex(commit.0 + 4)), "acknowledged, not committed");
    assert_eq!(cluster.checks.witnessed[&(1, 2)].index, commit);

    cluster.crash(1, 0);
    cluster.cut.clear();
    cluster.pass(Duration::from_secs(1));
    cluster.packets.clear();
    lead(&mut cluster, 3);
    propose(&mut cluster, 3, 1);
    assert_eq!(raft(&cluster, 2).last_index(), raft(&cluster, 3).last_index());
    assert!(raft(&cluster, 2).last_index() < matched.expect("checked"), "its log became shorter");
    for id in [2, 1] {
        restart_alone(&mut cluster, id);
        assert_eq!(forgotten(&cluster, id), None, "n{id}");
    }
    let seen = cluster.checks.witnessed[&(3, 2)];
    assert!(seen.index > commit, "and what it acknowledges now is remembered");
}

#[test]
fn what_a_checkpoint_contains_is_not_forgotten() {
    let mut cluster = cluster(3);
    lead(&mut cluster, 1);
    propose(&mut cluster, 1, 9);
    let seen = cluster.checks.witnessed[&(1, 3)];
    propose(&mut cluster, 1, 9);
    cluster.checkpoint(3, true, 2);
    restart_alone(&mut cluster, 3);
    assert!(raft(&cluster, 3).log_start().index > seen.index);
    assert_eq!(raft(&cluster, 3).forgotten(&seen), None);
}
