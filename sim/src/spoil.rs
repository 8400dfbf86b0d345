//! Where planted bugs take hold: each changes what the driver passes on, and nothing when it is not
//! planted. The rest of them sit beside what they spoil (`drive`, `watchers`, `nemesis`, `storage`).

use quorate_consensus::{Body, LogIndex, Message, NodeId, Payload, Recovered};
use quorate_kv::{Alarm, AlarmKind, Command, KeyspaceId};
use quorate_node::{AutoCompaction, Input, Request};
use quorate_wal::Record;

use crate::planted::Planted;
use crate::world::World;

impl World {
    /// What recovery found, made worse.
    pub(crate) fn spoil_recovered(&self, recovered: &mut Recovered) {
        match self.planted {
            Some(Planted::CutGoodRecord) if recovered.entries.len() > 1 => {
                recovered.entries.pop();
                let last = recovered.entries.last().map(|entry| entry.index);
                let commit = &mut recovered.hard_state.commit;
                *commit = (*commit).min(last.unwrap_or_default());
            }
            _ => {}
        }
    }

    /// What is handed to the log's writer, made less.
    pub(crate) fn spoil_records(&self, records: &mut Vec<Record>) {
        if self.is_planted(Planted::ForgetVote) {
            records.retain(|record| !matches!(record, Record::HardState { .. }));
        }
    }

    /// A message, made a lie.
    pub(crate) fn spoil_message(&self, from: NodeId, to: NodeId, message: &mut Message) {
        match (self.planted, &mut message.body) {
            (
                Some(Planted::ApplyBeforeCommit),
                Body::Append { prev_index, commit, entries, .. },
            ) => {
                *commit = LogIndex(prev_index.0 + entries.len() as u64).max(*commit);
            }
            (Some(Planted::StaleReadIndex), Body::ReadReply { result: Ok(index), .. }) => {
                *index = index.prev();
            }
            (
                Some(Planted::BoastInElection),
                Body::Vote { last_index, last_term, .. } | Body::PreVote { last_index, last_term },
            ) => {
                *last_index = LogIndex(last_index.0 + 1_000);
                *last_term = message.term;
            }
            (Some(Planted::VoteTwice), Body::VoteReply { granted }) => *granted = true,
            (Some(Planted::AcceptMismatch), body) => {
                if let Body::Rejected { prev_index, .. } = body {
                    *body = Body::Accepted { last: *prev_index };
                }
            }
            (Some(Planted::ChangeEntry), Body::Append { entries, .. }) if from < to => {
                if let Some(Payload::Command { origin, .. }) =
                    entries.last_mut().map(|entry| &mut entry.payload)
                {
                    origin.seq += 1;
                }
            }
            _ => {}
        }
    }

    /// The copies of a message that arrive.
    pub(crate) fn spoil_copies(&self, copies: usize, message: Message) -> Vec<Message> {
        let mut all = vec![message; copies];
        if let (Some(Planted::ForwardTwice), Some(first)) = (self.planted, all.first()) {
            let mut again = first.clone();
            if let Body::Forward { proposals } = &mut again.body {
                proposals.iter_mut().for_each(|(origin, _)| origin.boot ^= 1 << 40);
                all.push(again);
            }
        }
        all
    }

    /// A request, changed on its way in.
    pub(crate) fn spoil_request(&self, request: &mut Request) {
        match (self.planted, request) {
            (Some(Planted::ReadWithoutBarrier), Request::View { linearizable, .. }) => {
                *linearizable = false;
            }
            (Some(Planted::IgnoreCompare), Request::Command { command: Command::Txn(txn), .. }) => {
                txn.compare.clear()
            }
            _ => {}
        }
    }

    /// How the node compacts by itself.
    pub(crate) fn spoil_auto_compaction(&self) -> AutoCompaction {
        match self.options.auto_compaction {
            AutoCompaction::Periodic(window) if self.is_planted(Planted::CompactEarly) => {
                AutoCompaction::Periodic(window / 2)
            }
            AutoCompaction::Revisions(keep) if self.is_planted(Planted::CompactEarly) => {
                AutoCompaction::Revisions(keep / 2)
            }
            mode => mode,
        }
    }

    /// Somebody was refused for want of space.
    pub(crate) fn spoil_alarm(&mut self, id: NodeId) {
        if self.is_planted(Planted::SelfDisarm) {
            let alarm = Alarm { member: 0, kind: AlarmKind::NoSpace };
            let command = Command::AlarmClear(alarm);
            self.foreign(id, Request::Command { keyspace: KeyspaceId::ETCD, command });
        }
    }

    /// The revision of a response's header.
    pub(crate) fn spoil_revision(&self, revision: i64) -> i64 {
        revision - i64::from(self.is_planted(Planted::OldRevision))
    }

    /// A table is sealed, and already called durable.
    pub(crate) fn spoil_sealed(&mut self, id: NodeId) {
        if !self.is_planted(Planted::ReleaseEarly) {
            return;
        }
        let Some(up) = self.server(id).up() else { return };
        let applied = LogIndex(up.node.kv().applied());
        self.input(id, Input::EngineDurable { applied });
    }
}
