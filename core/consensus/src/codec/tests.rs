//! Round trips, garbage, and bytes that must never change.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    Body, Entry, GroupId, GroupTime, HardState, LogIndex, Member, Membership, Message, NodeId,
    Origin, Payload, Refusal, Term,
};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..300, any::<u64>()]
}

fn data() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn origin() -> impl Strategy<Value = Origin> {
    (number(), any::<u64>(), number()).prop_map(|(node, boot, seq)| Origin {
        node: NodeId(node),
        boot,
        seq,
    })
}

fn membership() -> impl Strategy<Value = Membership> {
    let members = prop::collection::btree_map(1u64..1_000, (any::<bool>(), data()), 0..7);
    let removed = prop::collection::btree_set(number(), 0..5);
    (members, removed).prop_map(|(members, removed)| Membership {
        members: members
            .into_iter()
            .map(|(id, (learner, context))| Member { id: NodeId(id), learner, context })
            .collect(),
        removed: removed.into_iter().map(NodeId).collect(),
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(Payload::Empty),
        (origin(), data()).prop_map(|(origin, data)| Payload::Command { origin, data }),
        (origin(), membership())
            .prop_map(|(origin, membership)| Payload::Membership { origin, membership }),
    ];
    (number(), 1..u64::MAX, number(), payload).prop_map(|(term, index, time, payload)| Entry {
        term: Term(term),
        index: LogIndex(index),
        time: GroupTime(time),
        payload,
    })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop::sample::select(vec![
        Refusal::NoLeader,
        Refusal::LeaderChanged,
        Refusal::Transferring,
        Refusal::Overloaded,
        Refusal::NotLeader,
        Refusal::ChangePending,
        Refusal::InvalidChange,
    ])
}

fn index() -> impl Strategy<Value = LogIndex> {
    number().prop_map(LogIndex)
}

fn term() -> impl Strategy<Value = Term> {
    number().prop_map(Term)
}

fn append() -> impl Strategy<Value = Body> {
    let prev = (0..u64::MAX - 10).prop_map(LogIndex);
    (prev, term(), index(), prop::collection::vec(entry(), 0..4)).prop_map(
        |(prev_index, prev_term, commit, entries)| Body::Append {
            prev_index,
            prev_term,
            commit,
            entries,
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let elections = prop_oneof![
        (index(), term())
            .prop_map(|(last_index, last_term)| Body::PreVote { last_index, last_term }),
        (term(), any::<bool>()).prop_map(|(asked, granted)| Body::PreVoteReply { asked, granted }),
        (index(), term(), any::<bool>()).prop_map(|(last_index, last_term, transfer)| {
            Body::Vote { last_index, last_term, transfer }
        }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        Just(Body::TimeoutNow),
        Just(Body::NewerTerm),
    ];
    let replication = prop_oneof![
        append(),
        index().prop_map(|last| Body::Accepted { last }),
        (index(), index(), term()).prop_map(|(prev_index, hint_index, hint_term)| {
            Body::Rejected { prev_index, hint_index, hint_term }
        }),
        (index(), number()).prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        number().prop_map(|round| Body::HeartbeatReply { round }),
        index().prop_map(|commit| Body::Commit { commit }),
    ];
    let clients = prop_oneof![
        prop::collection::vec((origin(), data()), 0..4)
            .prop_map(|proposals| Body::Forward { proposals }),
        (prop::collection::vec(origin(), 0..4), refusal())
            .prop_map(|(origins, reason)| Body::ForwardRefused { origins, reason }),
        any::<u64>().prop_map(|context| Body::ReadRequest { context }),
        (any::<u64>(), index())
            .prop_map(|(context, index)| Body::ReadReply { context, result: Ok(index) }),
        (any::<u64>(), refusal())
            .prop_map(|(context, reason)| Body::ReadReply { context, result: Err(reason) }),
    ];
    prop_oneof![elections, replication, clients]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u32>(), term(), body()).prop_map(|(group, term, body)| Message {
        group: GroupId(group),
        term,
        body,
    })
}

fn encoded<T>(value: &T, encode: impl Fn(&T, &mut Vec<u8>)) -> Bytes {
    let mut out = Vec::new();
    encode(value, &mut out);
    Bytes::from(out)
}

proptest! {
    #[test]
    fn entries_come_back(entry in entry()) {
        prop_assert_eq!(decode_entry(encoded(&entry, encode_entry)), Ok(entry));
    }

    #[test]
    fn memberships_come_back(membership in membership()) {
        prop_assert_eq!(decode_membership(encoded(&membership, encode_membership)), Ok(membership));
    }

    #[test]
    fn messages_come_back(message in message()) {
        prop_assert_eq!(decode_message(encoded(&message, encode_message)), Ok(message));
    }

    #[test]
    fn a_cut_message_is_an_error(message in message(), cut in any::<prop::sample::Index>()) {
        let whole = encoded(&message, encode_message);
        let part = whole.slice(..cut.index(whole.len()));
        prop_assert!(decode_message(part).is_err());
    }

    #[test]
    fn what_decodes_has_one_encoding(message in message(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut raw = encoded(&message, encode_message).to_vec();
        let at = at.index(raw.len());
        raw[at] = byte;
        if let Ok(other) = decode_message(Bytes::from(raw.clone())) {
            prop_assert_eq!(encoded(&other, encode_message), Bytes::from(raw));
        }
    }

    #[test]
    fn garbage_is_an_answer_not_a_panic(mut raw in prop::collection::vec(any::<u8>(), 0..64), kind in 0u8..18) {
        raw.insert(0, kind);
        raw.insert(0, FORMAT_VERSION);
        let raw = Bytes::from(raw);
        let _ = (decode_entry(raw.clone()), decode_membership(raw.clone()));
        let _ = (decode_hard_state(raw.clone()), decode_message(raw));
    }

    #[test]
    fn hard_states_come_back(term in term(), vote in 1u64.., voted: bool, commit in index()) {
        let state = HardState { term, vote: voted.then_some(NodeId(vote)), commit };
        prop_assert_eq!(decode_hard_state(encoded(&state, encode_hard_state)), Ok(state));
    }
}

#[test]
fn a_huge_count_allocates_nothing() {
    let raw = [&[FORMAT_VERSION, 12, 1, 1][..], &[0xff; 9], &[1]].concat();
    assert_eq!(decode_message(Bytes::from(raw)), Err(DecodeError::Truncated));
}

#[test]
fn unknown_versions_kinds_and_remains_are_refused() {
    assert_eq!(decode_entry(Bytes::from_static(&[2])), Err(DecodeError::Version(2)));
    let kind = Bytes::from_static(&[1, 99, 1, 1]);
    assert_eq!(decode_message(kind), Err(DecodeError::Invalid("kind of message")));
    let trailing = Bytes::from_static(&[1, 16, 1, 1, 0]);
    assert_eq!(decode_message(trailing), Err(DecodeError::Trailing(1)));
    let unsorted = Bytes::from_static(&[1, 2, 2, 0, 0, 1, 0, 0, 0]);
    assert_eq!(decode_membership(unsorted), Err(DecodeError::Invalid("order of members")));
}

/// The format itself, byte for byte: a change here is a new version.
#[test]
fn bytes_of_version_one() {
    let origin = Origin { node: NodeId(3), boot: 0x0102_0304_0506_0708, seq: 300 };
    let data = Bytes::from_static(b"hi");
    let payload = Payload::Command { origin, data };
    let entry = Entry { term: Term(2), index: LogIndex(128), time: GroupTime(5), payload };
    let command = [1, 1, 2, 0x80, 1, 5, 3, 8, 7, 6, 5, 4, 3, 2, 1, 0xac, 2, 2, b'h', b'i'];
    assert_eq!(encoded(&entry, encode_entry), &command[..]);

    let member =
        |id, learner| Member { id: NodeId(id), learner, context: Bytes::from_static(b"c") };
    let members = vec![member(1, false), member(2, true)];
    let membership = Membership { members, removed: vec![NodeId(9)] };
    let raw = [1, 2, 1, 0, 1, b'c', 2, 1, 1, b'c', 1, 9];
    assert_eq!(encoded(&membership, encode_membership), &raw[..]);

    let state = HardState { term: Term(7), vote: None, commit: LogIndex(4) };
    assert_eq!(encoded(&state, encode_hard_state), &[1, 7, 0, 4][..]);

    let body = Body::Append {
        prev_index: LogIndex(127),
        prev_term: Term(2),
        commit: LogIndex(126),
        entries: vec![entry],
    };
    let message = Message { group: GroupId(1), term: Term(2), body };
    let raw = [&[1, 5, 1, 2, 127, 2, 126, 1][..], &command].concat();
    assert_eq!(encoded(&message, encode_message), raw);
}
