//! Events and messages as lines of a transcript.

use super::cluster::{Event, Packet, Parcel};
use crate::{
    Body, Entry, Membership, Message, NodeId, Output, Payload, Persist, Role, RoleChange, Seq,
};

/// A line for an event; `quiet` leaves out what goes to disks and peers.
pub(super) fn event(event: &Event, quiet: bool) -> Option<String> {
    match event {
        Event::Out(_, Output::Send { .. } | Output::Persist(_)) if quiet => None,
        Event::Out(id, out) => Some(format!("n{id} {}", output(out))),
        Event::Halted(id, halt) => Some(format!("n{id} HALTS: {halt}")),
        Event::Installed(id, index) => Some(format!("n{id} installed a snapshot at {index}")),
    }
}

fn output(output: &Output) -> String {
    match output {
        Output::Persist(persist) => self::persist(persist),
        Output::Send { to, after, message } => {
            let wait = if *after == Seq(0) { String::new() } else { format!(" after #{after}") };
            format!("→ n{to}{wait}: {}", self::message(message))
        }
        Output::Apply { entries } => format!("applies {}", list(entries)),
        Output::ReadReady { id, index } => format!("read {id} stands at {index}"),
        Output::ReadRefused { id, reason } => format!("read {id} refused: {reason}"),
        Output::Refused { origin, reason } => format!("proposal {} refused: {reason}", origin.seq),
        Output::Role(change) => role(change),
        Output::ReadLog { to, from, until, max_bytes } => {
            format!("reads its log [{from}, {until}) up to {max_bytes} B for n{to}")
        }
        Output::SendSnapshot { to } => format!("sends a snapshot to n{to}"),
    }
}

fn role(change: &RoleChange) -> String {
    let RoleChange { role, term, leader } = change;
    match (role, leader) {
        (Role::Leader, _) => format!("leads in term {term}"),
        (Role::Candidate, _) => format!("is candidate in term {term}"),
        (Role::PreCandidate, _) => format!("is pre-candidate in term {term}"),
        (Role::Follower, Some(leader)) => format!("follows n{leader} in term {term}"),
        (Role::Follower, None) => format!("follows nobody in term {term}"),
    }
}

fn persist(persist: &Persist) -> String {
    let mut parts = vec![format!("persists #{}:", persist.seq)];
    if let Some(state) = persist.hard_state {
        let vote = state.vote.map_or_else(|| "nobody".into(), |vote| format!("n{vote}"));
        parts.push(format!("term {} vote {vote} commit {}", state.term, state.commit));
    }
    if !persist.entries.is_empty() {
        parts.push(format!("entries {}", list(&persist.entries)));
    }
    parts.join(" ")
}

pub(super) fn list(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
}

fn entry(entry: &Entry) -> String {
    let content = match &entry.payload {
        Payload::Empty => "-".into(),
        Payload::Command { data, .. } if data.len() <= 16 => String::from_utf8_lossy(data).into(),
        Payload::Command { data, .. } => format!("{}B", data.len()),
        Payload::Membership { membership, .. } => self::membership(membership),
    };
    format!("{}@{}:{content}", entry.index, entry.term)
}

/// `{1,2,3~}`: learners bear a tilde, removed ids an exclamation mark.
pub(super) fn membership(membership: &Membership) -> String {
    let members = membership.members.iter();
    let members = members.map(|m| format!("{}{}", m.id, if m.learner { "~" } else { "" }));
    let removed = membership.removed.iter().map(|id: &NodeId| format!("!{id}"));
    format!("{{{}}}", members.chain(removed).collect::<Vec<_>>().join(","))
}

pub(super) fn packet(packet: &Packet) -> String {
    let what = match &packet.parcel {
        Parcel::Message(message) => self::message(message),
        Parcel::Snapshot(machine) => format!("snapshot up to {}", machine.len()),
        Parcel::SnapshotSent(Some(index)) => format!("snapshot installed at {index}"),
        Parcel::SnapshotSent(None) => "snapshot failed".into(),
    };
    format!("n{} → n{}: {what}", packet.from, packet.to)
}

/// The body's name, for filters.
pub(super) fn name(packet: &Packet) -> String {
    let line = packet_body(packet);
    line.split(' ').next().unwrap_or_default().into()
}

fn packet_body(packet: &Packet) -> String {
    match &packet.parcel {
        Parcel::Message(message) => body(&message.body),
        Parcel::Snapshot(_) => "Snapshot".into(),
        Parcel::SnapshotSent(_) => "SnapshotSent".into(),
    }
}

fn message(message: &Message) -> String {
    format!("[t{}] {}", message.term, body(&message.body))
}

fn body(body: &Body) -> String {
    match body {
        Body::PreVote { last_index, last_term } => format!("PreVote log {last_index}@{last_term}"),
        Body::PreVoteReply { asked, granted } => {
            format!("PreVoteReply {} (asked in {asked})", yes(*granted))
        }
        Body::Vote { last_index, last_term, transfer } => {
            let why = if *transfer { " (transfer)" } else { "" };
            format!("Vote log {last_index}@{last_term}{why}")
        }
        Body::VoteReply { granted } => format!("VoteReply {}", yes(*granted)),
        Body::Append { prev_index, prev_term, commit, entries } => {
            let entries = if entries.is_empty() { "nothing".into() } else { list(entries) };
            format!("Append behind {prev_index}@{prev_term} commit {commit}: {entries}")
        }
        Body::Accepted { last } => format!("Accepted {last}"),
        Body::Rejected { prev_index, hint_index, hint_term } => {
            format!("Rejected {prev_index}, try {hint_index}@{hint_term}")
        }
        Body::Heartbeat { commit, round } => format!("Heartbeat commit {commit} round {round}"),
        Body::HeartbeatReply { round } => format!("HeartbeatReply round {round}"),
        Body::Commit { commit } => format!("Commit {commit}"),
        Body::TimeoutNow => "TimeoutNow".into(),
        Body::Forward { proposals } => {
            let seqs: Vec<String> = proposals.iter().map(|p| p.0.seq.to_string()).collect();
            format!("Forward {}", seqs.join(" "))
        }
        Body::ForwardRefused { origins, reason } => {
            let seqs: Vec<String> = origins.iter().map(|origin| origin.seq.to_string()).collect();
            format!("ForwardRefused {}: {reason}", seqs.join(" "))
        }
        // Contexts start at random: only that there is one matters.
        Body::ReadRequest { .. } => "ReadRequest".into(),
        Body::ReadReply { result: Ok(index), .. } => format!("ReadReply {index}"),
        Body::ReadReply { result: Err(reason), .. } => format!("ReadReply refused: {reason}"),
        Body::NewerTerm => "NewerTerm".into(),
    }
}

fn yes(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}
