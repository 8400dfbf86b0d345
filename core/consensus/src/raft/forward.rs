//! Proposals on their way from a follower to the leader (contract 15: nobody re-proposes).
//!
//! A forward names the term whose leader it is meant for, and only the leader of exactly that term takes
//! it. There each proposal is taken at most once: the leader remembers, for its own term, the highest
//! sequence number it has *decided on* by (node, boot), refusals included, so that a doubled or late
//! copy is never appended after its refusal. Nothing of this is replicated: with the term the leader
//! goes, and with it the right to append what was addressed to it.
//!
//! A forward that is lost is never sent again; its client hears that the outcome is unknown.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Raft, State};
use crate::limits::MAX_FORWARD_ORIGINS;
use crate::{Body, NodeId, Origin, Output, Payload, Refusal, Seq};

/// What a proposal counts beside its data.
const PROPOSAL_BYTES: usize = 64;

/// Proposals gathered for the leader.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    proposals: Vec<(Origin, Bytes)>,
    bytes: usize,
}

impl Outbox {
    /// These never left: refusing them is safe.
    pub(super) fn abandon(self, reason: Refusal, out: &mut Vec<Output>) {
        let origins = self.proposals.into_iter().map(|(origin, _)| origin);
        out.extend(origins.map(|origin| Output::Refused { origin, reason }));
    }
}

impl Raft {
    /// Gathers a proposal for the leader, if one is known.
    pub(super) fn gather_forward(&mut self, origin: Origin, data: Bytes, out: &mut Vec<Output>) {
        let limit = self.config.limits.forward_bytes;
        let reason = match &mut self.state {
            State::Follower(follower) if self.leader.is_some() => {
                let outbox = &mut follower.outbox;
                let bytes = data.len() + PROPOSAL_BYTES;
                if outbox.bytes == 0 || outbox.bytes + bytes <= limit {
                    outbox.bytes += bytes;
                    outbox.proposals.push((origin, data));
                    return;
                }
                Refusal::Overloaded
            }
            _ => Refusal::NoLeader,
        };
        out.push(Output::Refused { origin, reason });
    }

    /// Sends what was gathered, in messages of bounded size.
    pub(super) fn flush_forwards(&mut self, leader: NodeId, out: &mut Vec<Output>) {
        let limit = self.config.limits.append_bytes;
        let State::Follower(follower) = &mut self.state else { return };
        let outbox = std::mem::take(&mut follower.outbox);
        let (mut proposals, mut bytes) = (Vec::new(), 0);
        for (origin, data) in outbox.proposals {
            if !proposals.is_empty() && bytes + data.len() > limit {
                let proposals = std::mem::take(&mut proposals);
                self.send(leader, Seq(0), Body::Forward { proposals }, out);
                bytes = 0;
            }
            bytes += data.len();
            proposals.push((origin, data));
        }
        if !proposals.is_empty() {
            self.send(leader, Seq(0), Body::Forward { proposals }, out);
        }
    }

    /// Decides on each proposal that was not decided on before. Only its own node may forward it.
    pub(super) fn on_forward(
        &mut self,
        from: NodeId,
        proposals: Vec<(Origin, Bytes)>,
        out: &mut Vec<Output>,
    ) {
        let mut refused: BTreeMap<u8, (Refusal, Vec<Origin>)> = BTreeMap::new();
        for (origin, data) in proposals {
            if origin.node != from || !self.mark(origin) {
                continue;
            }
            match self.refusal(data.len()) {
                None => self.append_as_leader(Payload::Command { origin, data }),
                Some(reason) => {
                    let entry = refused.entry(reason as u8).or_insert((reason, Vec::new()));
                    entry.1.push(origin);
                }
            }
        }
        for (reason, origins) in refused.into_values() {
            self.send(from, Seq(0), Body::ForwardRefused { origins, reason }, out);
        }
    }

    /// Whether this leader sees the proposal for the first time; from now on it does not.
    fn mark(&mut self, origin: Origin) -> bool {
        let State::Leader(leader) = &mut self.state else { return false };
        let key = (origin.node, origin.boot);
        if leader.marks.len() >= MAX_FORWARD_ORIGINS && !leader.marks.contains_key(&key) {
            return false;
        }
        let mark = leader.marks.get(&key);
        let fresh = mark.is_none_or(|mark| origin.seq > *mark);
        if fresh {
            leader.marks.insert(key, origin.seq);
        }
        fresh
    }

    /// The leader decided against these for good.
    pub(super) fn on_forward_refused(
        &mut self,
        origins: Vec<Origin>,
        reason: Refusal,
        out: &mut Vec<Output>,
    ) {
        let own = origins.into_iter().filter(|origin| origin.node == self.config.id);
        out.extend(own.map(|origin| Output::Refused { origin, reason }));
    }
}
