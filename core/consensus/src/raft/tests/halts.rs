//! What a machine refuses to live with: input that only lost or corrupt data, or a bug, can produce.

use std::time::Duration;

use bytes::Bytes;

use super::cluster::voters;
use crate::{
    Body, Config, Entry, GroupId, GroupTime, Halt, HardState, Input, LogIndex, LogStart, Message,
    NodeId, Origin, Output, Payload, Raft, Recovered, Seq, Term, first_entries,
};

fn entry(index: u64, term: u64) -> Entry {
    let time = GroupTime(index);
    Entry { term: Term(term), index: LogIndex(index), time, payload: Payload::Empty }
}

/// Three voters; the log holds entries of terms 1, 1, 2, of which two are committed.
fn recovered() -> Recovered {
    let mut entries = first_entries(voters(1..=3));
    entries.extend([entry(2, 1), entry(3, 2)]);
    let hard_state = HardState { term: Term(3), vote: None, commit: LogIndex(2) };
    Recovered { hard_state, entries, ..Recovered::default() }
}

fn config() -> Config {
    Config::new(NodeId(1), GroupId(1), 7)
}

fn follower() -> Raft {
    let mut raft = Raft::new(config(), recovered()).expect("it is sound");
    step(&mut raft, Input::Tick).expect("nothing happens");
    raft
}

fn step(raft: &mut Raft, input: Input) -> Result<Vec<Output>, Halt> {
    let mut out = Vec::new();
    let result = raft.step(Duration::from_millis(1), input, &mut out);
    assert!(result.is_ok() || out.is_empty(), "no output leaves a step that halts");
    result.map(|()| out)
}

fn message(from: u64, body: Body) -> Input {
    let message = Message { group: GroupId(1), term: Term(3), body };
    Input::Message { from: NodeId(from), message }
}

fn append(prev: (u64, u64), commit: u64, entries: Vec<Entry>) -> Body {
    Body::Append {
        prev_index: LogIndex(prev.0),
        prev_term: Term(prev.1),
        commit: LogIndex(commit),
        entries,
    }
}

fn refuses(change: impl FnOnce(&mut Recovered)) {
    let mut recovered = recovered();
    change(&mut recovered);
    let refused = matches!(Raft::new(config(), recovered.clone()), Err(Halt::Recovery(_)));
    assert!(refused, "{recovered:?}");
}

#[test]
fn inconsistent_recovery_is_refused() {
    refuses(|r| drop(r.entries.remove(1)));
    refuses(|r| r.entries[2].term = Term(0));
    refuses(|r| r.entries[2].time = GroupTime(0));
    refuses(|r| r.hard_state.term = Term(1));
    refuses(|r| r.hard_state.commit = LogIndex(4));
    refuses(|r| r.applied = LogIndex(4));
    refuses(|r| r.start.index = LogIndex(1));
    refuses(|r| r.membership.removed.push(NodeId(1)));
}

#[test]
fn a_snapshot_may_be_of_a_later_term_than_the_recorded_one() {
    let start = LogStart { index: LogIndex(9), term: Term(8), time: GroupTime(5) };
    let hard_state = HardState { term: Term(3), vote: Some(NodeId(2)), commit: LogIndex(2) };
    let applied = LogIndex(9);
    let recovered =
        Recovered { hard_state, start, membership: voters(1..=3), applied, ..Recovered::default() };
    let mut raft = Raft::new(config(), recovered).expect("it is sound");
    assert_eq!((raft.term(), raft.commit(), raft.last_index()), (Term(8), applied, applied));
    // The vote of term 3 is not one of term 8.
    let body = Body::Vote { last_index: applied, last_term: Term(8), transfer: false };
    let message = Message { group: GroupId(1), term: Term(8), body };
    let out = step(&mut raft, Input::Message { from: NodeId(3), message }).expect("sound");
    let granted = |o: &Output| matches!(o, Output::Send { message, .. } if message.body == Body::VoteReply { granted: true });
    assert!(out.iter().any(granted), "{out:?}");
}

#[test]
fn bad_configuration_is_refused() {
    let bad = [
        Config { id: NodeId(0), ..config() },
        Config { heartbeat: Duration::ZERO, ..config() },
        Config { election_timeout: Duration::from_millis(199), ..config() },
    ];
    for config in bad {
        assert!(matches!(Raft::new(config, recovered()), Err(Halt::Config(_))));
    }
}

#[test]
fn replacing_committed_entries_halts() {
    let term = Term(3);
    let leader = NodeId(2);
    let mut raft = follower();
    let halt = step(&mut raft, message(2, append((1, 1), 3, vec![entry(2, 3)])));
    let expected = Halt::CommittedConflict { index: LogIndex(2), leader, term };
    assert_eq!(halt, Err(expected.clone()));
    // For good.
    assert_eq!(step(&mut raft, Input::Tick), Err(expected));

    let mut raft = follower();
    let halt = step(&mut raft, message(2, append((2, 3), 3, vec![])));
    assert_eq!(halt, Err(Halt::CommittedConflict { index: LogIndex(2), leader, term }));
}

#[test]
fn replacing_uncommitted_entries_is_everyday() {
    let mut raft = follower();
    step(&mut raft, message(2, append((2, 1), 3, vec![entry(3, 3)]))).expect("allowed");
    raft.invariants();
    assert_eq!(raft.term_at(LogIndex(3)), Some(Term(3)));
    assert_eq!((raft.commit(), raft.persisted()), (LogIndex(3), LogIndex(2)));
}

/// The tail behind what an append mentions may be another than the leader's.
#[test]
fn only_what_an_append_mentions_is_acknowledged_and_committed() {
    for body in [append((2, 1), 3, vec![]), append((1, 1), 3, vec![entry(2, 1)])] {
        let mut raft = follower();
        step(&mut raft, message(2, body)).expect("it matches");
        let out = step(&mut raft, Input::Flush).expect("sound");
        let ack = |o: &Output| match o {
            Output::Send { message, .. } => message.body == Body::Accepted { last: LogIndex(2) },
            _ => false,
        };
        assert!(out.iter().any(ack), "{out:?}");
        assert_eq!((raft.last_index(), raft.commit()), (LogIndex(3), LogIndex(2)));
    }
}

#[test]
fn two_leaders_in_a_term_halt() {
    let mut raft = follower();
    let heartbeat = Body::Heartbeat { commit: LogIndex(0), round: 0 };
    step(&mut raft, message(2, heartbeat.clone())).expect("a leader");
    let halt = step(&mut raft, message(3, heartbeat));
    assert_eq!(halt, Err(Halt::TwoLeaders { term: Term(3), one: NodeId(2), other: NodeId(3) }));
}

#[test]
fn a_commit_index_behind_the_log_halts() {
    let mut raft = follower();
    let halt = step(&mut raft, message(2, Body::Commit { commit: LogIndex(4) }));
    assert_eq!(halt, Err(Halt::LostLog { seen: LogIndex(4), last: LogIndex(3) }));
}

#[test]
fn a_driver_that_confirms_what_it_was_not_given_halts() {
    let halt = step(&mut follower(), Input::Persisted { seq: Seq(9) });
    assert_eq!(halt, Err(Halt::UnknownSeq { seq: Seq(9), handed: Seq(0) }));
    let (index, bound) = (LogIndex(3), LogIndex(2));
    let halt = step(&mut follower(), Input::Applied { index });
    assert_eq!(halt, Err(Halt::ImpossibleIndex { index, bound }));
    let halt = step(&mut follower(), Input::Compact { index: LogIndex(1) });
    assert_eq!(halt, Err(Halt::ImpossibleIndex { index: LogIndex(1), bound: LogIndex(0) }));
}

#[test]
fn a_snapshot_behind_what_was_applied_halts() {
    let mut raft = follower();
    step(&mut raft, Input::Applied { index: LogIndex(2) }).expect("handed out");
    assert!(!raft.wants_snapshot(LogIndex(1), Term(1)));
    let (index, time, membership) = (LogIndex(1), GroupTime(0), voters(1..=3));
    let halt = step(&mut raft, Input::SnapshotInstalled { index, term: Term(1), time, membership });
    assert_eq!(halt, Err(Halt::ImpossibleIndex { index, bound: LogIndex(2) }));
}

#[test]
fn a_snapshot_keeps_the_log_behind_it_if_they_agree() {
    for (term, kept) in [(Term(2), LogIndex(4)), (Term(3), LogIndex(3))] {
        let mut found = recovered();
        found.entries.push(entry(4, 3));
        let mut raft = Raft::new(config(), found).expect("sound");
        step(&mut raft, Input::Tick).expect("sound");
        let (index, time, membership) = (LogIndex(3), GroupTime(3), voters(1..=3));
        step(&mut raft, Input::SnapshotInstalled { index, term, time, membership }).expect("sound");
        raft.invariants();
        assert_eq!((raft.last_index(), raft.persisted(), raft.commit()), (kept, index, index));
        // What was kept goes to the disk again.
        let out = step(&mut raft, Input::Flush).expect("sound");
        let again = out.iter().any(|o| matches!(o, Output::Persist(p) if p.entries.len() == 1));
        assert_eq!(again, kept > index);
    }
}

/// A peer that talks nonsense is not worth a halt.
#[test]
fn nonsense_is_dropped() {
    let command = |index| Entry {
        payload: Payload::Command { origin: Origin::default(), data: Bytes::new() },
        ..entry(index, 9)
    };
    let mut raft = follower();
    for body in [
        append((3, 2), 9, vec![command(4)]),
        append((3, 2), 9, vec![entry(6, 3)]),
        append((3, 2), 9, vec![entry(4, 3), entry(4, 3)]),
        Body::Accepted { last: LogIndex(3) },
        Body::ReadReply { context: 5, result: Ok(LogIndex(1)) },
        Body::PreVoteReply { asked: Term(3), granted: true },
    ] {
        step(&mut raft, message(2, body)).expect("dropped");
        raft.invariants();
        assert_eq!((raft.last_index(), raft.commit()), (LogIndex(3), LogIndex(2)));
    }
    let other_group = Message { group: GroupId(2), term: Term(99), body: Body::NewerTerm };
    step(&mut raft, Input::Message { from: NodeId(2), message: other_group }).expect("dropped");
    assert_eq!(raft.term(), Term(3));
}
