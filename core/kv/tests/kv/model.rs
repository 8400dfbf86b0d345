//! The dumb model: every version of every key in one list, every question answered by walking it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_kv::*;

#[derive(Clone, Debug)]
struct Version {
    key: Bytes,
    revision: i64,
    pair: Option<KeyValue>,
}

#[derive(Clone, Debug)]
pub(crate) struct Space {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    versions: Vec<Version>,
    pub(crate) leases: BTreeMap<i64, (i64, u64)>,
}

impl Default for Space {
    fn default() -> Self {
        Self { revision: 1, compacted: -1, versions: Vec::new(), leases: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) spaces: BTreeMap<KeyspaceId, Space>,
    alarms: BTreeSet<Alarm>,
}

const LATEST: i64 = i64::MAX;

impl Model {
    pub(crate) fn space(&mut self, keyspace: KeyspaceId) -> &mut Space {
        self.spaces.entry(keyspace).or_default()
    }

    /// A read by a view, which the alarm refuses as it refuses commands.
    pub(crate) fn range(
        &mut self,
        keyspace: KeyspaceId,
        request: &RangeRequest,
    ) -> Result<RangeResult, Refusal> {
        if self.alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        self.space(keyspace).range(request)
    }

    pub(crate) fn apply(
        &mut self,
        keyspace: KeyspaceId,
        command: &Command,
        time_ms: u64,
    ) -> Result<Reply, Refusal> {
        let raised = |kind| self.alarms.iter().any(|alarm| alarm.kind == kind);
        let (corrupt, full) = (raised(AlarmKind::Corrupt), raised(AlarmKind::NoSpace));
        let renews = matches!(command, Command::LeaseRenew { .. });
        let alarming = matches!(command, Command::AlarmRaise(_) | Command::AlarmClear(_));
        if corrupt && !renews && !alarming {
            return Err(Refusal::Corrupt);
        }
        let grows = match command {
            Command::Put(_) | Command::LeaseGrant { .. } => true,
            Command::Txn(txn) => format!("{txn:?}").contains("PutRequest"),
            _ => false,
        };
        if full && grows && keyspace.keeps_history() {
            return Err(Refusal::NoSpace);
        }
        let revision = Revision(self.space(keyspace).revision);
        match command {
            Command::AlarmRaise(alarm) => {
                self.alarms.insert(*alarm);
                Ok(Reply::Alarm { revision, alarms: vec![*alarm] })
            }
            Command::AlarmClear(which) => {
                let hit = |a: &&Alarm| {
                    a.kind == which.kind && (which.member == 0 || which.member == a.member)
                };
                let alarms: Vec<Alarm> = self.alarms.iter().filter(hit).copied().collect();
                alarms.iter().for_each(|alarm| assert!(self.alarms.remove(alarm)));
                Ok(Reply::Alarm { revision, alarms })
            }
            command => {
                let space = self.space(keyspace);
                let before = space.revision;
                let reply = space.apply(command, time_ms);
                if space.revision > before && !keyspace.keeps_history() {
                    space.compacted = space.revision;
                }
                reply
            }
        }
    }
}

impl Space {
    fn apply(&mut self, command: &Command, time_ms: u64) -> Result<Reply, Refusal> {
        let reply = match command {
            Command::Put(put) => {
                self.check_put(put)?;
                Reply::Put(self.put(put))
            }
            Command::Delete(delete) => Reply::Delete(self.delete(delete)),
            Command::Txn(txn) => {
                let path = self.path(txn);
                let ops = flatten(txn, &path);
                ops.iter().try_for_each(|op| match op {
                    Op::Put(put) => self.check_put(put),
                    _ => Ok(()),
                })?;
                ops.iter().try_for_each(|op| match op {
                    Op::Range(range) => self.check_revision(range.revision),
                    _ => Ok(()),
                })?;
                Reply::Txn(self.run(txn, &path))
            }
            Command::Compact { revision } => {
                if *revision > self.revision {
                    return Err(Refusal::FutureRevision);
                }
                if *revision <= self.compacted {
                    return Err(Refusal::Compacted);
                }
                self.compacted = *revision;
                Reply::Compact { revision: Revision(self.revision) }
            }
            Command::LeaseGrant { id, ttl_s } => {
                if id.0 == 0 || self.leases.contains_key(&id.0) {
                    return Err(Refusal::LeaseExists);
                }
                let ttl_s = (*ttl_s).max(1);
                self.leases.insert(id.0, (ttl_s, time_ms + ttl_s as u64 * 1000));
                Reply::LeaseGrant { revision: Revision(self.revision), id: *id, ttl_s }
            }
            Command::LeaseRenew { ids } => {
                let renew = |id: &LeaseId| match self.leases.get_mut(&id.0) {
                    None => 0,
                    Some((ttl_s, deadline)) => {
                        *deadline = time_ms + *ttl_s as u64 * 1000;
                        *ttl_s
                    }
                };
                let ttls_s = ids.iter().map(renew).collect();
                Reply::LeaseRenew { revision: Revision(self.revision), ttls_s }
            }
            Command::LeaseRevoke { id } => self.revoke(*id)?,
            Command::LeaseExpire { id, deadline_ms } => match self.leases.get(&id.0) {
                Some((_, deadline)) if deadline != deadline_ms => {
                    Reply::LeaseRevoke { revision: Revision(self.revision) }
                }
                _ => self.revoke(*id)?,
            },
            Command::AlarmRaise(_) | Command::AlarmClear(_) => unreachable!("handled above"),
        };
        if self.versions.last().is_some_and(|version| version.revision > self.revision) {
            self.revision += 1;
        }
        Ok(reply)
    }

    /// Revision as a response inside the entry shows it.
    fn so_far(&self) -> Revision {
        Revision(self.versions.last().map_or(1, |v| v.revision).max(self.revision))
    }

    fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        let found = self.versions.iter().rev().find(|v| v.key == key && v.revision <= at);
        found.and_then(|version| version.pair.as_ref())
    }

    fn pairs(&self, range: &KeyRange, at: i64) -> Vec<KeyValue> {
        let keys: BTreeSet<&Bytes> = self.versions.iter().map(|version| &version.key).collect();
        let inside = keys.into_iter().filter(|key| range.contains(key));
        inside.filter_map(|key| self.get(key, at).cloned()).collect()
    }

    pub(crate) fn keys_of(&self, lease: i64) -> Vec<Bytes> {
        let all = KeyRange { key: "".into(), range_end: "\0".into() };
        let mine = |pair: &KeyValue| pair.lease.0 == lease;
        self.pairs(&all, LATEST).into_iter().filter(mine).map(|pair| pair.key).collect()
    }

    pub(crate) fn check_revision(&self, revision: i64) -> Result<(), Refusal> {
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        let gone = revision > 0 && revision < self.compacted;
        if gone { Err(Refusal::Compacted) } else { Ok(()) }
    }

    fn check_put(&self, put: &PutRequest) -> Result<(), Refusal> {
        if (put.ignore_value || put.ignore_lease) && self.get(&put.key, LATEST).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let unknown = put.lease.0 != 0 && !self.leases.contains_key(&put.lease.0);
        if unknown && !put.ignore_lease { Err(Refusal::LeaseNotFound) } else { Ok(()) }
    }

    fn put(&mut self, put: &PutRequest) -> PutResult {
        let old = self.get(&put.key, LATEST).cloned();
        let revision = Revision(self.revision + 1);
        let pair = KeyValue {
            key: put.key.clone(),
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            value: match &old {
                Some(old) if put.ignore_value => old.value.clone(),
                _ => put.value.clone(),
            },
            lease: match &old {
                Some(old) if put.ignore_lease => old.lease,
                _ => put.lease,
            },
        };
        self.versions.push(Version {
            key: put.key.clone(),
            revision: revision.0,
            pair: Some(pair),
        });
        PutResult { revision, prev_kv: old.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &DeleteRequest) -> DeleteResult {
        let doomed = self.pairs(&delete.range, LATEST);
        for pair in &doomed {
            let (key, revision) = (pair.key.clone(), self.revision + 1);
            self.versions.push(Version { key, revision, pair: None });
        }
        DeleteResult {
            revision: self.so_far(),
            deleted: doomed.len() as i64,
            prev_kvs: if delete.prev_kv { doomed } else { Vec::new() },
        }
    }

    fn revoke(&mut self, id: LeaseId) -> Result<Reply, Refusal> {
        let keys = self.keys_of(id.0);
        self.leases.remove(&id.0).ok_or(Refusal::LeaseNotFound)?;
        for key in keys {
            self.delete(&DeleteRequest { range: KeyRange::single(key), prev_kv: false });
        }
        Ok(Reply::LeaseRevoke { revision: self.so_far() })
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResult, Refusal> {
        self.check_revision(request.revision)?;
        Ok(self.read(request))
    }

    fn read(&self, request: &RangeRequest) -> RangeResult {
        let at = if request.revision > 0 { request.revision } else { LATEST };
        let mut kvs = self.pairs(&request.range, at);
        let count = kvs.len() as i64;
        let mut result = RangeResult { revision: self.so_far(), count, ..RangeResult::default() };
        if request.count_only {
            return result;
        }
        let RevisionFilter { min_mod, max_mod, min_create, max_create } = request.filter;
        // etcd's quirk: a target without an order sorts what the limit, plus one, let through.
        let plain = request.filter == RevisionFilter::default();
        let quirk = request.order == SortOrder::None && request.target != SortTarget::Key;
        if quirk && plain && request.limit > 0 {
            kvs.truncate(usize::try_from(request.limit).unwrap() + 1);
        }
        kvs.retain(|kv| min_mod == 0 || kv.mod_revision.0 >= min_mod);
        kvs.retain(|kv| max_mod == 0 || kv.mod_revision.0 <= max_mod);
        kvs.retain(|kv| min_create == 0 || kv.create_revision.0 >= min_create);
        kvs.retain(|kv| max_create == 0 || kv.create_revision.0 <= max_create);
        kvs.sort_by(|a, b| {
            let order = match request.target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if request.order == SortOrder::Descend { order.reverse() } else { order }
        });
        if request.limit > 0 {
            result.more = kvs.len() as i64 > request.limit;
            kvs.truncate(request.limit as usize);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        result.kvs = kvs;
        result
    }

    fn holds(&self, compare: &Compare) -> bool {
        let pairs = self.pairs(&compare.range, LATEST);
        let test = |pair: &KeyValue| {
            let order = match &compare.target {
                CompareTarget::Version(n) => pair.version.cmp(n),
                CompareTarget::Create(n) => pair.create_revision.0.cmp(n),
                CompareTarget::Mod(n) => pair.mod_revision.0.cmp(n),
                CompareTarget::Lease(n) => pair.lease.0.cmp(n),
                CompareTarget::Value(v) => pair.value.cmp(v),
            };
            match compare.result {
                CompareResult::Equal => order == Ordering::Equal,
                CompareResult::NotEqual => order != Ordering::Equal,
                CompareResult::Less => order == Ordering::Less,
                CompareResult::Greater => order == Ordering::Greater,
            }
        };
        match (pairs.is_empty(), &compare.target) {
            (true, CompareTarget::Value(_)) => false,
            (true, _) => test(&KeyValue::default()),
            (false, _) => pairs.iter().all(test),
        }
    }

    /// Decisions in the order in which `flatten` and `run` meet transactions.
    fn path(&self, txn: &TxnRequest) -> Vec<bool> {
        let mut path = vec![txn.compare.iter().all(|compare| self.holds(compare))];
        for op in if path[0] { &txn.success } else { &txn.failure } {
            if let Op::Txn(txn) = op {
                path.extend(self.path(txn));
            }
        }
        path
    }

    fn run(&mut self, txn: &TxnRequest, path: &[bool]) -> TxnResult {
        self.run_some(txn, &mut path.iter())
    }

    fn run_some<'p>(
        &mut self,
        txn: &TxnRequest,
        path: &mut impl Iterator<Item = &'p bool>,
    ) -> TxnResult {
        let succeeded = *path.next().unwrap();
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            responses.push(match op {
                Op::Range(range) => OpResult::Range(self.read(range)),
                Op::Put(put) => OpResult::Put(self.put(put)),
                Op::Delete(delete) => OpResult::Delete(self.delete(delete)),
                Op::Txn(txn) => OpResult::Txn(self.run_some(txn, path)),
            });
        }
        TxnResult { revision: self.so_far(), succeeded, responses }
    }

    /// How many keys there are.
    pub(crate) fn live(&self) -> usize {
        self.pairs(&KeyRange { key: "".into(), range_end: "\0".into() }, LATEST).len()
    }

    /// How many versions compaction keeps.
    pub(crate) fn kept(&self) -> usize {
        let is_kept = |(place, version): &(usize, &Version)| {
            let later = self.versions[place + 1..].iter().find(|v| v.key == version.key);
            version.revision >= self.compacted
                || (version.pair.is_some() && later.is_none_or(|v| v.revision > self.compacted))
        };
        self.versions.iter().enumerate().filter(is_kept).count()
    }

    /// All events of a range from a revision on, by revision; what compaction hides is hidden.
    pub(crate) fn history(&self, range: &KeyRange, from: i64) -> Vec<(i64, Vec<Event>)> {
        self.events(range, from, self.compacted)
    }

    /// The same with nothing hidden.
    pub(crate) fn full_history(&self, range: &KeyRange, from: i64) -> Vec<(i64, Vec<Event>)> {
        self.events(range, from, -1)
    }

    fn events(&self, range: &KeyRange, from: i64, compacted: i64) -> Vec<(i64, Vec<Event>)> {
        let mut history: Vec<(i64, Vec<Event>)> = Vec::new();
        for (place, version) in self.versions.iter().enumerate() {
            if version.revision < from || !range.contains(&version.key) {
                continue;
            }
            let before = self.versions[..place].iter().rev().find(|v| v.key == version.key);
            let hidden =
                |before: &&Version| before.revision < compacted && version.revision <= compacted;
            let prev_kv = before.filter(|b| !hidden(b)).and_then(|before| before.pair.clone());
            let event = Event {
                kind: if version.pair.is_some() { EventKind::Put } else { EventKind::Delete },
                kv: version.pair.clone().unwrap_or_else(|| KeyValue {
                    key: version.key.clone(),
                    mod_revision: Revision(version.revision),
                    ..KeyValue::default()
                }),
                prev_kv,
            };
            match history.last_mut() {
                Some((revision, events)) if *revision == version.revision => events.push(event),
                _ => history.push((version.revision, vec![event])),
            }
        }
        history
    }
}

fn flatten(txn: &TxnRequest, path: &[bool]) -> Vec<Op> {
    fn walk<'p>(txn: &TxnRequest, path: &mut impl Iterator<Item = &'p bool>, out: &mut Vec<Op>) {
        let succeeded = *path.next().unwrap();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            match op {
                Op::Txn(txn) => walk(txn, path, out),
                op => out.push(op.clone()),
            }
        }
    }
    let mut out = Vec::new();
    walk(txn, &mut path.iter(), &mut out);
    out
}
