//! The etcd model of the checkers: what a key-value store of one keyspace answers, in the plainest form.
//!
//! It is written from the specification alone and shares no code with `core/kv` but the types of
//! requests and results. Every version of every key is kept, so that a state can be read at any
//! revision and a guess can be taken back ([`Model::undo_to`]).
//!
//! Left out: whether a lease exists (leases have a checker of their own), compaction, alarms.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRequest, DeleteResult, KeyRange,
    KeyValue, LeaseId, Op, OpResult, PutRequest, PutResult, RangeRequest, RangeResult, Reply,
    Revision, SortOrder, TxnRequest, TxnResult,
};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    at: i64,
    /// `None` is a tombstone.
    live: Option<Live>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Live {
    create: i64,
    version: i64,
    value: Bytes,
    lease: i64,
}

/// A change of one key, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its new value, or `None` for a deletion.
    pub value: Option<Bytes>,
}

/// The whole store with its history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Model {
    revision: i64,
    keys: BTreeMap<Bytes, Vec<Version>>,
}

impl Default for Model {
    fn default() -> Self {
        Self { revision: Revision::FIRST.0, keys: BTreeMap::new() }
    }
}

impl Model {
    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Forgets everything after `revision`.
    pub fn undo_to(&mut self, revision: i64) {
        for versions in self.keys.values_mut() {
            while versions.last().is_some_and(|version| version.at > revision) {
                versions.pop();
            }
        }
        self.revision = self.revision.min(revision);
    }

    /// Carries a command out; the reply is `None` for commands that do not touch keys. The revision has
    /// grown if and only if a key was changed.
    pub fn apply(&mut self, command: &Command) -> Option<Reply> {
        let next = self.revision + 1;
        let reply = match command {
            Command::Put(put) => Some(Reply::Put(self.put(put, next))),
            Command::Delete(delete) => Some(Reply::Delete(self.delete(delete, next))),
            Command::Txn(txn) => Some(Reply::Txn(self.txn(txn, next))),
            Command::LeaseRevoke { id } | Command::LeaseExpire { id, .. } => {
                self.drop_lease(*id, next);
                None
            }
            _ => None,
        };
        self.settle(next);
        reply.map(|mut reply| {
            set_revision(&mut reply, self.revision);
            reply
        })
    }

    /// Deletes what is attached to a lease, in one revision.
    pub fn expire(&mut self, lease: i64) {
        self.apply(&Command::LeaseRevoke { id: LeaseId(lease) });
    }

    fn settle(&mut self, next: i64) {
        let changed = |versions: &Vec<Version>| versions.last().is_some_and(|v| v.at == next);
        if self.keys.values().any(changed) {
            self.revision = next;
        }
    }

    /// Leases that live keys are attached to.
    #[must_use]
    pub fn attached_leases(&self) -> Vec<i64> {
        let live = self.keys.values().filter_map(|versions| versions.last()?.live.as_ref());
        let mut leases: Vec<i64> = live.map(|live| live.lease).filter(|id| *id != 0).collect();
        leases.sort_unstable();
        leases.dedup();
        leases
    }

    /// What the current revision changed, by key.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let at = self.revision;
        let changed = self.keys.iter().filter_map(|(key, versions)| {
            let last = versions.last().filter(|version| version.at == at)?;
            let value = last.live.as_ref().map(|live| live.value.clone());
            Some(Change { key: key.clone(), value })
        });
        changed.collect()
    }

    /// A key's pair as of a revision, if it lived then.
    #[must_use]
    pub fn live_at(&self, key: &Bytes, at: i64) -> Option<KeyValue> {
        let versions = self.keys.get(key)?;
        let version = versions.iter().rev().find(|version| version.at <= at)?;
        let live = version.live.as_ref()?;
        Some(KeyValue {
            key: key.clone(),
            create_revision: Revision(live.create),
            mod_revision: Revision(version.at),
            version: live.version,
            value: live.value.clone(),
            lease: LeaseId(live.lease),
        })
    }

    fn pairs(&self, range: &KeyRange, at: i64) -> Vec<KeyValue> {
        let inside = self.keys.keys().filter(|key| range.contains(key));
        inside.filter_map(|key| self.live_at(key, at)).collect()
    }

    /// Answers a range at the revision it asks for; the revision is one that exists.
    #[must_use]
    pub fn range(&self, request: &RangeRequest) -> RangeResult {
        let at = if request.revision > 0 { request.revision } else { self.revision };
        self.range_at(request, at)
    }

    fn range_at(&self, request: &RangeRequest, at: i64) -> RangeResult {
        let mut kvs = self.pairs(&request.range, at);
        let count = kvs.len() as i64;
        let mut more = false;
        if request.count_only {
            kvs.clear();
        }
        if request.order == SortOrder::Descend {
            kvs.reverse();
        }
        if request.limit > 0 && kvs.len() as i64 > request.limit {
            kvs.truncate(request.limit as usize);
            more = true;
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResult { revision: Revision(self.revision), kvs, more, count }
    }

    fn put(&mut self, put: &PutRequest, next: i64) -> PutResult {
        let before = self.live_at(&put.key, next);
        let live = Live {
            create: before.as_ref().map_or(next, |kv| kv.create_revision.0),
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            value: put.value.clone(),
            lease: put.lease.0,
        };
        let versions = self.keys.entry(put.key.clone()).or_default();
        versions.push(Version { at: next, live: Some(live) });
        PutResult { revision: Revision(next), prev_kv: before.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &DeleteRequest, next: i64) -> DeleteResult {
        let gone = self.pairs(&delete.range, next);
        for kv in &gone {
            let versions = self.keys.entry(kv.key.clone()).or_default();
            versions.push(Version { at: next, live: None });
        }
        let deleted = gone.len() as i64;
        let prev_kvs = if delete.prev_kv { gone } else { Vec::new() };
        DeleteResult { revision: Revision(next), deleted, prev_kvs }
    }

    fn drop_lease(&mut self, lease: LeaseId, next: i64) {
        for versions in self.keys.values_mut() {
            let live = versions.last().and_then(|version| version.live.as_ref());
            if live.is_some_and(|live| live.lease == lease.0) {
                versions.push(Version { at: next, live: None });
            }
        }
    }

    /// Conditions look at the state before the transaction, operations at what came before them.
    fn txn(&mut self, txn: &TxnRequest, next: i64) -> TxnResult {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let responses = branch.iter().map(|op| match op {
            Op::Range(range) => {
                let at = if range.revision > 0 { range.revision } else { next };
                OpResult::Range(self.range_at(range, at))
            }
            Op::Put(put) => OpResult::Put(self.put(put, next)),
            Op::Delete(delete) => OpResult::Delete(self.delete(delete, next)),
            Op::Txn(txn) => OpResult::Txn(self.txn(txn, next)),
        });
        TxnResult { revision: Revision(next), succeeded, responses: responses.collect() }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let pairs = self.pairs(&compare.range, self.revision);
        if !pairs.is_empty() {
            return pairs.iter().all(|pair| matches(pair, compare));
        }
        !matches!(compare.target, CompareTarget::Value(_)) && matches(&KeyValue::default(), compare)
    }
}

fn matches(pair: &KeyValue, compare: &Compare) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(number) => pair.version.cmp(number),
        CompareTarget::Create(number) => pair.create_revision.0.cmp(number),
        CompareTarget::Mod(number) => pair.mod_revision.0.cmp(number),
        CompareTarget::Lease(number) => pair.lease.0.cmp(number),
        CompareTarget::Value(value) => pair.value.cmp(value),
    };
    match compare.result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
        CompareResult::NotEqual => ordering != Ordering::Equal,
    }
}

/// Sets the revision of a reply and blanks those inside of it, which nobody relies on.
pub fn set_revision(reply: &mut Reply, revision: i64) {
    match reply {
        Reply::Put(put) => put.revision = Revision(revision),
        Reply::Delete(delete) => delete.revision = Revision(revision),
        Reply::Txn(txn) => {
            blank(txn);
            txn.revision = Revision(revision);
        }
        _ => {}
    }
}

fn blank(txn: &mut TxnResult) {
    txn.revision = Revision(0);
    for response in &mut txn.responses {
        match response {
            OpResult::Range(range) => range.revision = Revision(0),
            OpResult::Put(put) => put.revision = Revision(0),
            OpResult::Delete(delete) => delete.revision = Revision(0),
            OpResult::Txn(txn) => blank(txn),
        }
    }
}

/// Whether a reply says that a key was changed.
#[must_use]
pub fn is_effective(reply: &Reply) -> bool {
    match reply {
        Reply::Put(_) => true,
        Reply::Delete(delete) => delete.deleted > 0,
        Reply::Txn(txn) => txn_is_effective(txn),
        _ => false,
    }
}

fn txn_is_effective(txn: &TxnResult) -> bool {
    txn.responses.iter().any(|response| match response {
        OpResult::Range(_) => false,
        OpResult::Put(_) => true,
        OpResult::Delete(delete) => delete.deleted > 0,
        OpResult::Txn(txn) => txn_is_effective(txn),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> PutRequest {
        PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
    }

    #[test]
    fn a_life_of_a_key() {
        let mut model = Model::default();
        model.apply(&Command::Put(put("a", "1")));
        model.apply(&Command::Put(put("a", "2")));
        let range = RangeRequest { range: KeyRange::single("a".into()), ..RangeRequest::default() };
        let kv = &model.range(&range).kvs[0];
        assert_eq!((kv.create_revision.0, kv.mod_revision.0, kv.version), (2, 3, 2));
        let delete = DeleteRequest { range: range.range.clone(), prev_kv: false };
        model.apply(&Command::Delete(delete.clone()));
        assert_eq!((model.range(&range).count, model.revision()), (0, 4));
        model.apply(&Command::Delete(delete));
        assert_eq!(model.revision(), 4, "deleting nothing changes nothing");
        let past = RangeRequest { revision: 2, ..range.clone() };
        assert_eq!(model.range(&past).kvs[0].value, "1");
        model.undo_to(3);
        assert_eq!(model.range(&range).kvs[0].value, "2");
    }

    #[test]
    fn conditions_see_the_state_before_and_operations_what_came_before_them() {
        let mut model = Model::default();
        let absent = Compare {
            range: KeyRange::single("a".into()),
            target: CompareTarget::Create(0),
            result: CompareResult::Equal,
        };
        let nested = TxnRequest { compare: vec![absent.clone()], ..TxnRequest::default() };
        let get = RangeRequest { range: KeyRange::single("a".into()), ..RangeRequest::default() };
        let success = vec![Op::Put(put("a", "1")), Op::Txn(nested), Op::Range(get)];
        let txn = TxnRequest { compare: vec![absent], success, ..TxnRequest::default() };
        let Some(Reply::Txn(result)) = model.apply(&Command::Txn(txn)) else { unreachable!() };
        assert!(result.succeeded);
        let OpResult::Txn(inner) = &result.responses[1] else { unreachable!() };
        assert!(inner.succeeded);
        let OpResult::Range(range) = &result.responses[2] else { unreachable!() };
        assert_eq!(range.kvs[0].value, "1");
    }
}
