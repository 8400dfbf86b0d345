//! State machine safety (Raft, figure 3): no two servers apply different entries at one index; and since
//! applying is a pure function, all have the same revision after it and tell the same events.
//!
//! The first server that applies an entry commits it to the record here, and a reference machine, which
//! never crashes and never compacts physically, applies it. Whatever a server does later, after however
//! many restarts, is compared with that.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_consensus::{Entry, NodeId, Payload};
use quorate_engine::{Engine, MemEngine, MemSnapshot};
use quorate_kv::{
    AlarmKind, At, Command, EventBatch, KeyRange, KeyspaceId, Kv, Reply, View, codec,
};

use super::lease_expiry::LeaseFact;
use super::linearizability::Hints;
use super::{Internal, Log};
use crate::model::Change;

/// Command entries whose first byte is below this are for the key-value machine (`docs/format.md`).
const NOT_KV: u8 = 0x80;

/// An entry that some server has applied.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The entry.
    pub entry: Entry,
    /// The revision of the etcd keyspace after it.
    pub revision: i64,
}

/// What a committed entry means to other checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Something about a lease.
    Lease(LeaseFact),
    /// Whether the alarm of a full store stands now.
    NoSpace(bool),
    /// There is a new revision.
    Reached(i64),
    /// History before `revision` is gone.
    Compacted {
        /// The oldest revision that can be read.
        revision: i64,
        /// The revision of the store.
        current: i64,
    },
}

/// The committed log and the reference machine.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    committed: Vec<Committed>,
    kv: Kv,
    engine: MemEngine,
    events: BTreeMap<i64, EventBatch>,
    internal: Vec<Internal>,
}

impl StateMachineSafety {
    /// All committed entries, from index 1 on.
    #[must_use]
    pub fn committed(&self) -> &[Committed] {
        &self.committed
    }

    /// Events by revision: what watchers must be told.
    #[must_use]
    pub fn events(&self) -> &BTreeMap<i64, EventBatch> {
        &self.events
    }

    /// Changes in the keyspace of the layers, in order.
    #[must_use]
    pub fn internal(&self) -> &[Internal] {
        &self.internal
    }

    /// A hash of that keyspace.
    pub fn internal_hash(&mut self) -> u32 {
        let view = self.kv.view(quorate_global_txn::KEYSPACE, self.engine.snapshot());
        view.hash().expect("the in-memory engine does not fail")
    }

    /// The reference machine's revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.kv.revision(KeyspaceId::ETCD).0
    }

    /// The reference machine's compact revision.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.kv.compact_revision(KeyspaceId::ETCD).0
    }

    /// Leases that exist, for the checks at the end.
    #[must_use]
    pub fn leases(&self) -> Vec<quorate_kv::LeaseStatus> {
        self.kv.leases(KeyspaceId::ETCD).cloned().collect()
    }

    /// The reference state.
    pub fn view(&mut self) -> View<MemSnapshot> {
        self.kv.view(KeyspaceId::ETCD, self.engine.snapshot())
    }

    /// `node` went on from applied index `from` to `to` and then had this revision. Returns what new
    /// entries mean to other checkers.
    pub fn applied(
        &mut self,
        node: NodeId,
        log: &Log,
        from: u64,
        to: u64,
        revision: i64,
    ) -> (Vec<Fact>, Result<(), String>) {
        let mut facts = Vec::new();
        for index in from + 1..=to {
            let Some(entry) = log.entry(index) else {
                let what = format!("node {node} applied index {index}, which its log has not");
                return (facts, Err(what));
            };
            if let Err(what) = self.check_entry(node, entry, &mut facts) {
                return (facts, Err(what));
            }
        }
        let expected = match to {
            0 => 1,
            _ => self.committed[to as usize - 1].revision,
        };
        let result = if revision == expected {
            Ok(())
        } else {
            Err(format!("node {node} has revision {revision} at index {to}, others {expected}"))
        };
        (facts, result)
    }

    fn check_entry(
        &mut self,
        node: NodeId,
        entry: &Entry,
        facts: &mut Vec<Fact>,
    ) -> Result<(), String> {
        let at = entry.index.0 as usize;
        if let Some(known) = self.committed.get(at - 1) {
            if known.entry == *entry {
                return Ok(());
            }
            let known = &known.entry;
            return Err(format!("node {node} applied {entry:?}, another server {known:?}"));
        }
        assert_eq!(at, self.committed.len() + 1, "servers apply entries in order");
        self.apply(entry, facts);
        let revision = self.revision();
        self.committed.push(Committed { entry: entry.clone(), revision });
        Ok(())
    }

    fn apply(&mut self, entry: &Entry, facts: &mut Vec<Fact>) {
        let at = At { index: entry.index.0, term: entry.term.0, time_ms: entry.time.0 };
        let Some((id, command)) = command_of(entry) else {
            return self.kv.apply_nothing(at);
        };
        let Payload::Command { data, origin } = &entry.payload else {
            unreachable!("only command entries have commands");
        };
        let before = lease_of(&command).map(|lease| self.kv.lease(id, lease).is_some());
        let applied = self.kv.apply(&mut self.engine, at, data);
        let applied = applied.expect("the reference decodes what it has just decoded");
        self.engine.publish();
        match applied.events {
            Some(batch) if batch.keyspace == KeyspaceId::ETCD => {
                facts.push(Fact::Reached(batch.revision.0));
                self.events.insert(batch.revision.0, batch);
            }
            Some(batch) => {
                self.internal.push(Internal { index: at.index, origin: *origin, batch });
            }
            None => {}
        }
        let after = lease_of(&command).map(|lease| self.kv.lease(id, lease).is_some());
        let reply = applied.reply.as_ref().ok();
        let leases = lease_facts(&command, reply, (before, after), at.time_ms);
        facts.extend(leases.into_iter().map(Fact::Lease));
        facts.extend(self.other_fact(&command, reply));
    }

    fn other_fact(&self, command: &Command, reply: Option<&Reply>) -> Option<Fact> {
        match (command, reply?) {
            (Command::AlarmRaise(_) | Command::AlarmClear(_), _) => {
                Some(Fact::NoSpace(self.kv.has_alarm(AlarmKind::NoSpace)))
            }
            (Command::Compact { revision }, Reply::Compact { .. }) => {
                Some(Fact::Compacted { revision: *revision, current: self.revision() })
            }
            _ => None,
        }
    }

    /// A server's events are those of the reference.
    ///
    /// # Errors
    /// The first that are not.
    pub fn events_agree(&self, node: NodeId, batches: &[EventBatch]) -> Result<(), String> {
        for batch in batches.iter().filter(|batch| batch.keyspace == KeyspaceId::ETCD) {
            let expected = self.events.get(&batch.revision.0);
            if expected != Some(batch) {
                return Err(format!("node {node} tells {batch:?}, expected {expected:?}"));
            }
        }
        Ok(())
    }

    /// What changed at each revision, for the linearizability checker's guesses.
    #[must_use]
    pub fn hints(&self) -> Hints {
        let changes = |batch: &EventBatch| {
            let mut changes: Vec<Change> = batch
                .events
                .iter()
                .map(|event| Change {
                    key: event.kv.key.clone(),
                    value: (event.kv.version > 0).then(|| event.kv.value.clone()),
                })
                .collect();
            changes.sort_by(|a, b| a.key.cmp(&b.key));
            changes
        };
        self.events.iter().map(|(revision, batch)| (*revision, changes(batch))).collect()
    }

    /// Whether a deletion of `key` was committed after `revision`.
    #[must_use]
    pub fn deleted_after(&self, key: &Bytes, revision: i64) -> bool {
        let key = KeyRange::single(key.clone());
        self.events.range(revision + 1..).any(|(_, batch)| {
            batch.events.iter().any(|event| event.kv.version == 0 && key.contains(&event.kv.key))
        })
    }
}

/// The key-value command of an entry, decoded.
fn command_of(entry: &Entry) -> Option<(KeyspaceId, Command)> {
    let Payload::Command { data, .. } = &entry.payload else { return None };
    (*data.first()? < NOT_KV).then(|| codec::decode(data).ok())?
}

fn lease_of(command: &Command) -> Option<quorate_kv::LeaseId> {
    match command {
        Command::LeaseGrant { id, .. }
        | Command::LeaseRevoke { id }
        | Command::LeaseExpire { id, .. } => Some(*id),
        _ => None,
    }
}

fn lease_facts(
    command: &Command,
    reply: Option<&Reply>,
    (before, after): (Option<bool>, Option<bool>),
    time_ms: u64,
) -> Vec<LeaseFact> {
    let was_there = before == Some(true);
    let is_there = after == Some(true);
    match (command, reply) {
        (Command::LeaseGrant { id, ttl_s }, _) if !was_there && is_there => {
            vec![LeaseFact::Granted { id: *id, ttl_s: *ttl_s, time_ms }]
        }
        (Command::LeaseRevoke { id }, _) if was_there && !is_there => {
            vec![LeaseFact::Revoked { id: *id }]
        }
        (Command::LeaseExpire { id, .. }, _) if was_there && !is_there => {
            vec![LeaseFact::Expired { id: *id, time_ms }]
        }
        (Command::LeaseRenew { ids }, Some(Reply::LeaseRenew { ttls_s, .. })) => {
            let renewed = ids.iter().zip(ttls_s).filter(|(_, ttl_s)| **ttl_s > 0);
            renewed.map(|(id, _)| LeaseFact::Renewed { id: *id, time_ms }).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use quorate_consensus::{GroupTime, LogIndex, LogStart, Term};

    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        let (term, index) = (Term(term), LogIndex(index));
        Entry { term, index, time: GroupTime(0), payload: Payload::Empty }
    }

    #[test]
    fn another_entry_another_revision_and_other_events_are_caught() {
        let mut check = StateMachineSafety::default();
        let mut apply = |node, entries: &[Entry], revision| {
            let log = Log::new(LogStart::default(), entries.to_vec());
            check.applied(NodeId(node), &log, 0, entries.len() as u64, revision).1
        };
        assert!(apply(1, &[entry(1, 1), entry(1, 2)], 1).is_ok());
        assert!(apply(2, &[entry(1, 1)], 1).is_ok());
        assert!(apply(2, &[entry(1, 1)], 2).is_err(), "another revision");
        assert!(apply(2, &[entry(2, 1)], 1).is_err(), "another entry");
        let batch = EventBatch {
            keyspace: KeyspaceId::ETCD,
            revision: quorate_kv::Revision(2),
            events: [].into(),
        };
        assert!(check.events_agree(NodeId(1), &[batch]).is_err(), "events of nothing");
    }
}
