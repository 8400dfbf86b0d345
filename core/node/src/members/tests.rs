//! Changes of the membership, each with its refusals.

use super::*;

fn info(id: u64, name: &str, learner: bool) -> MemberInfo {
    MemberInfo {
        id,
        name: name.into(),
        peer_urls: vec![format!("http://127.0.0.1:{id}")],
        client_urls: vec![],
        learner,
    }
}

fn add(id: u64, learner: bool) -> MemberChange {
    MemberChange::Add { id: NodeId(id), peer_urls: vec![format!("http://h:{id}")], learner }
}

fn change(members: &[MemberInfo], change: &MemberChange) -> Result<Membership, MemberRefusal> {
    changed(&initial_membership(members), change, |_| false)
}

#[test]
fn context_round_trips_and_garbage_is_refused() {
    let member = info(7, "a", true);
    assert_eq!(to_info(&to_member(&member)), Some(member));
    for garbage in [&b""[..], b"\x02", b"\x01\xff\xff\xff\xff", b"\x01\x00\x00\xff\xff"] {
        let context = Bytes::copy_from_slice(garbage);
        assert_eq!(to_info(&Member { id: NodeId(1), learner: false, context }), None);
    }
}

#[test]
fn single_member_may_add_but_not_leave() {
    let one = [info(1, "a", false)];
    let two = change(&one, &add(2, false)).expect("a second member");
    assert_eq!(two.voters().count(), 2);
    let leave = MemberChange::Remove { id: NodeId(1) };
    assert_eq!(change(&one, &leave), Err(MemberRefusal::NotEnoughStarted));
}

#[test]
fn third_voter_waits_for_the_second_to_start() {
    let half = [info(1, "a", false), info(2, "", false)];
    assert_eq!(change(&half, &add(3, false)), Err(MemberRefusal::NotEnoughStarted));
    let whole = [info(1, "a", false), info(2, "b", false)];
    assert!(change(&whole, &add(3, false)).is_ok());
}

#[test]
fn ids_and_urls_are_taken_for_ever_and_once() {
    let one = [info(1, "a", false), info(9, "", true)];
    assert_eq!(change(&one, &add(9, true)), Err(MemberRefusal::IdExists));
    assert_eq!(change(&one, &add(8, true)), Err(MemberRefusal::TooManyLearners));
    let without = change(&one, &MemberChange::Remove { id: NodeId(9) }).expect("learner goes");
    assert_eq!(changed(&without, &add(9, true), |_| true), Err(MemberRefusal::IdExists));
    let urls = one[0].peer_urls.clone();
    let twice = MemberChange::Add { id: NodeId(5), peer_urls: urls, learner: true };
    assert_eq!(change(&one, &twice), Err(MemberRefusal::PeerUrlExists));
}

#[test]
fn promotion_needs_a_learner_that_caught_up() {
    let both = [info(1, "a", false), info(2, "b", true)];
    let promote = |id| MemberChange::Promote { id: NodeId(id) };
    assert_eq!(change(&both, &promote(1)), Err(MemberRefusal::NotLearner));
    assert_eq!(change(&both, &promote(2)), Err(MemberRefusal::LearnerNotReady));
    assert_eq!(change(&both, &promote(3)), Err(MemberRefusal::NotFound));
    let after = changed(&initial_membership(&both), &promote(2), |_| true).expect("promoted");
    assert!(after.is_voter(NodeId(2)));
}
