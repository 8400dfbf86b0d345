//! Raft's promises, checked over the outputs of all nodes (figure 3 of the paper), and ours.
//!
//! - *Election safety*: a term has one leader.
//! - *Log matching*: an index and a term name one entry with one predecessor, wherever it is written.
//! - *Leader completeness*: who takes office holds everything that anybody ever applied.
//! - *State machine safety*: an index is applied with one entry; group time never falls.
//! - A read barrier lies behind all that was applied when the read was asked for.
//! - A command is applied at most once, and never after it was refused.
//! - *Witnesses* (contract 8): whatever a member has ever seen of another, the other still has.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Entry, Forgotten, LogIndex, Message, NodeId, Origin, Output, Payload, Raft, Role, Term, Witness,
};

#[derive(Default)]
pub(super) struct Checks {
    leaders: BTreeMap<Term, u64>,
    written: BTreeMap<(LogIndex, Term), (Entry, Option<Term>)>,
    pub applied: Vec<Entry>,
    origins: BTreeSet<Origin>,
    refused: BTreeSet<Origin>,
    reads: BTreeMap<(u64, u64), LogIndex>,
    pub answered_reads: u64,
    pub snapshots: u64,
    pub log_reads: u64,
    /// What the first has seen of the second.
    pub witnessed: BTreeMap<(u64, u64), Witness>,
}

impl Checks {
    /// Node `id` asks for a barrier.
    pub(super) fn read(&mut self, node: u64, id: u64) {
        self.reads.insert((node, id), LogIndex(self.applied.len() as u64));
    }

    /// `from`'s message reaches `to`.
    pub(super) fn message(&mut self, from: u64, to: u64, message: &Message) {
        let seen = Witness::of_message(NodeId(from), NodeId(to), message);
        self.saw(to, from, seen);
    }

    /// A leader takes note of what its peers hold.
    pub(super) fn witness(&mut self, node: u64, raft: &Raft) {
        for (peer, _) in raft.progress() {
            self.saw(node, peer.0, raft.witnessed(peer));
        }
    }

    fn saw(&mut self, who: u64, whom: u64, seen: Witness) {
        let known = self.witnessed.entry((who, whom)).or_default();
        *known = known.and(seen);
    }

    /// Who has seen something of this node that it does not know any more, and what.
    pub(super) fn forgotten(&self, node: u64, raft: &Raft) -> Option<(u64, Forgotten)> {
        let about = self.witnessed.iter().filter(|((_, whom), _)| *whom == node);
        about.into_iter().find_map(|((who, _), seen)| Some((*who, raft.forgotten(seen)?)))
    }

    pub(super) fn output(&mut self, node: u64, raft: &Raft, output: &Output) {
        match output {
            Output::Persist(persist) => {
                persist.entries.iter().for_each(|entry| self.write(raft, entry));
            }
            Output::Apply { entries } => entries.iter().for_each(|entry| self.apply(entry)),
            Output::Role(change) if change.role == Role::Leader => {
                self.take_office(node, change.term, raft);
            }
            Output::ReadReady { id, index } => {
                let floor = self.reads.remove(&(node, *id)).expect("a read is answered once");
                assert!(*index >= floor, "stale read on {node}: {index} < {floor}");
                self.answered_reads += 1;
            }
            Output::ReadRefused { id, .. } => {
                self.reads.remove(&(node, *id)).expect("a read is answered once");
            }
            Output::Refused { origin, .. } => {
                assert!(!self.origins.contains(origin), "refused after it was applied: {origin:?}");
                assert_eq!(origin.node, NodeId(node), "told to another node");
                self.refused.insert(*origin);
            }
            Output::SendSnapshot { .. } => self.snapshots += 1,
            Output::ReadLog { .. } => self.log_reads += 1,
            _ => {}
        }
    }

    fn write(&mut self, raft: &Raft, entry: &Entry) {
        let before = raft.term_at(entry.index.prev());
        let seen = self
            .written
            .entry((entry.index, entry.term))
            .or_insert_with(|| (entry.clone(), before));
        assert_eq!(seen.0, *entry, "log matching");
        if let (Some(seen), Some(before)) = (seen.1, before) {
            assert_eq!(seen, before, "log matching before {}", entry.index);
        }
    }

    fn apply(&mut self, entry: &Entry) {
        let at = entry.index.0 as usize - 1;
        assert!(at <= self.applied.len(), "applied ahead of what exists");
        if at < self.applied.len() {
            assert_eq!(self.applied[at], *entry, "state machine safety");
            return;
        }
        let floor = self.applied.last().map(|last| (last.term, last.time));
        assert!(floor.is_none_or(|floor| floor.0 <= entry.term && floor.1 <= entry.time));
        if let Payload::Command { origin, .. } = &entry.payload {
            assert!(self.origins.insert(*origin), "applied twice: {origin:?}");
            assert!(!self.refused.contains(origin), "applied after a refusal: {origin:?}");
        }
        self.applied.push(entry.clone());
    }

    fn take_office(&mut self, node: u64, term: Term, raft: &Raft) {
        let leader = *self.leaders.entry(term).or_insert(node);
        assert_eq!(leader, node, "election safety in term {term}");
        assert!(raft.last_index().0 as usize >= self.applied.len(), "leader completeness");
        for entry in &self.applied {
            let known = raft.term_at(entry.index);
            assert!(known.is_none_or(|term| term == entry.term), "leader completeness");
            assert!(known.is_some() || entry.index <= raft.log_start().index);
        }
    }
}
