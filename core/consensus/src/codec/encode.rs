//! Values to bytes; the tables stand at the head of the parent module.

use super::FORMAT_VERSION;
use crate::{
    Body, Entry, HardState, Member, Membership, Message, NodeId, Origin, Payload, Refusal,
};

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn list<T>(items: &[T], out: &mut Vec<u8>, each: impl Fn(&T, &mut Vec<u8>)) {
    varint(items.len() as u64, out);
    items.iter().for_each(|item| each(item, out));
}

fn origin(origin: &Origin, out: &mut Vec<u8>) {
    varint(origin.node.0, out);
    out.extend_from_slice(&origin.boot.to_le_bytes());
    varint(origin.seq, out);
}

fn member(member: &Member, out: &mut Vec<u8>) {
    varint(member.id.0, out);
    out.push(u8::from(member.learner));
    bytes(&member.context, out);
}

/// Appends an entry's bytes to `out`.
pub fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.push(FORMAT_VERSION);
    out.push(match entry.payload {
        Payload::Empty => 0,
        Payload::Command { .. } => 1,
        Payload::Membership { .. } => 2,
    });
    varint(entry.term.0, out);
    varint(entry.index.0, out);
    varint(entry.time.0, out);
    match &entry.payload {
        Payload::Empty => {}
        Payload::Command { origin: from, data } => {
            origin(from, out);
            bytes(data, out);
        }
        Payload::Membership { origin: from, membership } => {
            origin(from, out);
            encode_membership(membership, out);
        }
    }
}

/// Appends a membership's bytes to `out`.
pub fn encode_membership(membership: &Membership, out: &mut Vec<u8>) {
    out.push(FORMAT_VERSION);
    list(&membership.members, out, member);
    list(&membership.removed, out, |id: &NodeId, out| varint(id.0, out));
}

/// Appends a hard state's bytes to `out`.
pub fn encode_hard_state(state: &HardState, out: &mut Vec<u8>) {
    out.push(FORMAT_VERSION);
    varint(state.term.0, out);
    varint(state.vote.map_or(0, |vote| vote.0), out);
    varint(state.commit.0, out);
}

/// Appends a message's bytes to `out`.
pub fn encode_message(message: &Message, out: &mut Vec<u8>) {
    out.push(FORMAT_VERSION);
    out.push(kind(&message.body));
    varint(u64::from(message.group.0), out);
    varint(message.term.0, out);
    encode_body(&message.body, out);
}

fn kind(body: &Body) -> u8 {
    match body {
        Body::PreVote { .. } => 1,
        Body::PreVoteReply { .. } => 2,
        Body::Vote { .. } => 3,
        Body::VoteReply { .. } => 4,
        Body::Append { .. } => 5,
        Body::Accepted { .. } => 6,
        Body::Rejected { .. } => 7,
        Body::Heartbeat { .. } => 8,
        Body::HeartbeatReply { .. } => 9,
        Body::Commit { .. } => 10,
        Body::TimeoutNow => 11,
        Body::Forward { .. } => 12,
        Body::ForwardRefused { .. } => 13,
        Body::ReadRequest { .. } => 14,
        Body::ReadReply { .. } => 15,
        Body::NewerTerm => 16,
    }
}

fn reason(reason: Refusal) -> u8 {
    match reason {
        Refusal::NoLeader => 1,
        Refusal::LeaderChanged => 2,
        Refusal::Transferring => 3,
        Refusal::Overloaded => 4,
        Refusal::NotLeader => 5,
        Refusal::ChangePending => 6,
        Refusal::InvalidChange => 7,
    }
}

fn encode_body(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::PreVote { last_index, last_term } => numbers([last_index.0, last_term.0], out),
        Body::PreVoteReply { asked, granted } => {
            varint(asked.0, out);
            out.push(u8::from(*granted));
        }
        Body::Vote { last_index, last_term, transfer } => {
            numbers([last_index.0, last_term.0], out);
            out.push(u8::from(*transfer));
        }
        Body::VoteReply { granted } => out.push(u8::from(*granted)),
        Body::Append { prev_index, prev_term, commit, entries } => {
            numbers([prev_index.0, prev_term.0, commit.0], out);
            list(entries, out, encode_entry);
        }
        Body::Accepted { last } => varint(last.0, out),
        Body::Rejected { prev_index, hint_index, hint_term } => {
            numbers([prev_index.0, hint_index.0, hint_term.0], out);
        }
        Body::Heartbeat { commit, round } => numbers([commit.0, *round], out),
        Body::HeartbeatReply { round } => varint(*round, out),
        Body::Commit { commit } => varint(commit.0, out),
        Body::TimeoutNow | Body::NewerTerm => {}
        Body::Forward { proposals } => list(proposals, out, |(from, data), out| {
            origin(from, out);
            bytes(data, out);
        }),
        Body::ForwardRefused { origins, reason: why } => {
            out.push(reason(*why));
            list(origins, out, origin);
        }
        Body::ReadRequest { context } => out.extend_from_slice(&context.to_le_bytes()),
        Body::ReadReply { context, result } => {
            out.extend_from_slice(&context.to_le_bytes());
            match result {
                Ok(index) => numbers([0, index.0], out),
                Err(why) => out.push(reason(*why)),
            }
        }
    }
}

fn numbers<const N: usize>(values: [u64; N], out: &mut Vec<u8>) {
    values.into_iter().for_each(|value| varint(value, out));
}
