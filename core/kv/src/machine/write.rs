//! Changing keys: one entry's changes to one keyspace, all at one new revision.
//!
//! A put reads the head, writes the new head and the change; if there was a version before, that moves
//! behind it as it is, byte for byte. Attachments are touched only where a lease comes or goes.
//!
//! In a keyspace without history the new head is all that is written, and a deleted key leaves nothing.
//!
//! Nothing here refuses: whatever can be refused has been checked before the first change
//! (`txn::check_put` and its neighbours), so an entry is carried out whole or not at all.

use bytes::Bytes;
use quorate_engine::{Direction, Engine, EngineError};

use crate::error::{ReadError, corrupt};
use crate::layout::{self, Position};
use crate::read::Keys;
use crate::record::{Change, Live, Version};
use crate::types::{
    DeleteRequest, DeleteResult, Event, EventBatch, EventKind, KeyRange, KeyValue, KeyspaceId,
    LeaseId, PutRequest, PutResult, Revision,
};

use super::Keyspace;

/// One entry's changes in the making.
pub(super) struct Write<'a, E> {
    pub(super) engine: &'a mut E,
    pub(super) space: &'a mut Keyspace,
    pub(super) id: KeyspaceId,
    events: Vec<Event>,
    scratch: Vec<u8>,
}

impl<'a, E: Engine> Write<'a, E> {
    pub(super) fn new(engine: &'a mut E, space: &'a mut Keyspace, id: KeyspaceId) -> Self {
        Self { engine, space, id, events: Vec::new(), scratch: Vec::new() }
    }

    /// The keyspace as it stands, earlier changes of this entry included.
    pub(super) fn keys(&self) -> Keys<'_, E> {
        Keys { read: self.engine, keyspace: self.id, cached: Some(&self.space.heads) }
    }

    /// The keyspace's revision, counting this entry if it has changed anything so far.
    pub(super) fn revision(&self) -> Revision {
        if self.events.is_empty() { self.space.revision } else { self.space.revision.next() }
    }

    /// Ends the entry: the revision moves if anything changed.
    pub(super) fn finish(self) -> Option<EventBatch> {
        let revision = self.revision();
        self.space.revision = revision;
        if !self.events.is_empty() && !self.id.keeps_history() {
            self.space.forget_history();
        }
        (!self.events.is_empty()).then(|| EventBatch {
            keyspace: self.id,
            revision,
            events: self.events.into(),
        })
    }

    /// A put that is a command of its own.
    pub(super) fn put_alone(&mut self, request: PutRequest) -> Result<PutResult, ReadError> {
        self.check_put(&request)?;
        Ok(self.put(&request)?)
    }

    /// A delete that is a command of its own.
    pub(super) fn delete_alone(
        &mut self,
        request: &DeleteRequest,
    ) -> Result<DeleteResult, ReadError> {
        Ok(self.delete(request)?)
    }

    /// A put, already checked.
    pub(super) fn put(&mut self, request: &PutRequest) -> Result<PutResult, EngineError> {
        let old_bytes = self.head(&request.key)?;
        let old = old_bytes.as_ref().map(Version::take).transpose()?;
        let at = self.next_position();
        let live = new_version(request, old.as_ref(), at.revision);
        let new = Version { at, live: Some(live.clone()) };
        self.replace(&request.key, old_bytes.as_ref().zip(old.as_ref()), &new)?;
        let prev_kv = old.and_then(|old| Some(old.live?.with_key(request.key.clone(), old.at)));
        let result = PutResult {
            revision: at.revision,
            prev_kv: prev_kv.clone().filter(|_| request.prev_kv),
        };
        let kv = live.with_key(request.key.clone(), at);
        self.events.push(Event { kind: EventKind::Put, kv, prev_kv });
        Ok(result)
    }

    /// A delete. Deleting nothing changes nothing.
    pub(super) fn delete(&mut self, request: &DeleteRequest) -> Result<DeleteResult, EngineError> {
        let doomed = self.live_heads(&request.range)?;
        let mut result = DeleteResult { deleted: doomed.len() as i64, ..DeleteResult::default() };
        for (key, bytes) in doomed {
            let prev = self.delete_key(key, &bytes)?;
            if request.prev_kv {
                result.prev_kvs.push(prev);
            }
        }
        result.revision = self.revision();
        Ok(result)
    }

    /// Keys of a range that live now, with the bytes of their heads: collected first, because the
    /// engine cannot be scanned while it is written.
    fn live_heads(&self, range: &KeyRange) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
        let is_live = |bytes: &Bytes| Version::take(bytes).map(|head| head.live.is_some());
        if range.is_single() {
            let head = self.head(&range.key)?;
            let head = match head {
                Some(bytes) if is_live(&bytes)? => Some((range.key.clone(), bytes)),
                _ => None,
            };
            return Ok(head.into_iter().collect());
        }
        let bounds = layout::heads(self.id, range);
        let mut found = Vec::new();
        for pair in self.engine.scan(layout::borrow(&bounds), Direction::Forward) {
            let (key, bytes) = pair?;
            if is_live(&bytes)? {
                found.push((layout::head_key(&key)?, bytes));
            }
        }
        Ok(found)
    }

    /// Deletes a key whose head lives; returns the pair before.
    pub(super) fn delete_key(&mut self, key: Bytes, head: &Bytes) -> Result<KeyValue, EngineError> {
        let old = Version::take(head)?;
        let at = self.next_position();
        self.replace(&key, Some((head, &old)), &Version { at, live: None })?;
        let live = old.live.ok_or_else(|| corrupt("a tombstone was deleted"))?;
        let prev = live.with_key(key.clone(), old.at);
        let kv = KeyValue { key, mod_revision: at.revision, ..KeyValue::default() };
        self.events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(prev.clone()) });
        Ok(prev)
    }

    /// The bytes of a key's head.
    fn head(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.space.heads.get(key) {
            Some(record) => Ok(Some(record.clone())),
            None => self.engine.get(&layout::head(self.id, key)),
        }
    }

    /// Where the next change of this entry stands.
    fn next_position(&self) -> Position {
        let sub = u32::try_from(self.events.len()).expect("an entry cannot name 2^32 keys");
        Position { revision: self.space.revision.next(), sub }
    }

    /// Makes `new` the head of a key, moves the old head behind it, notes the change, and keeps the
    /// attachments right.
    fn replace(
        &mut self,
        key: &Bytes,
        old: Option<(&Bytes, &Version)>,
        new: &Version,
    ) -> Result<(), EngineError> {
        if let Some((_, old)) = old {
            assert!(old.at < new.at, "{:?} would replace {:?}", new.at, old.at);
        }
        if self.id.keeps_history() {
            if let Some((bytes, old)) = old {
                self.engine.insert(&layout::version(self.id, key, old.at), bytes)?;
            }
            self.set_head(key, new)?;
            self.note_change(key, old.map(|(_, old)| old), new)?;
        } else if new.live.is_some() {
            self.set_head(key, new)?;
        } else {
            self.engine.remove(&layout::head(self.id, key))?;
            self.space.heads.forget(key);
        }
        self.attach(key, lease_of(old.map(|(_, old)| old)), lease_of(Some(new)))
    }

    fn set_head(&mut self, key: &Bytes, new: &Version) -> Result<(), EngineError> {
        self.scratch.clear();
        new.put(&mut self.scratch);
        self.engine.insert(&layout::head(self.id, key), &self.scratch)?;
        self.space.heads.set(key, &self.scratch);
        Ok(())
    }

    fn note_change(
        &mut self,
        key: &Bytes,
        old: Option<&Version>,
        new: &Version,
    ) -> Result<(), EngineError> {
        let kind = if new.live.is_some() { EventKind::Put } else { EventKind::Delete };
        let change = Change { kind, replaced: old.map(|old| old.at), key: key.clone() };
        self.scratch.clear();
        change.put(&mut self.scratch);
        self.engine.insert(&layout::change(self.id, new.at), &self.scratch)
    }

    fn attach(&mut self, key: &Bytes, old: LeaseId, new: LeaseId) -> Result<(), EngineError> {
        if old == new {
            return Ok(());
        }
        if let Some(old) = old.some() {
            self.engine.remove(&layout::attachment(self.id, old, key))?;
        }
        if let Some(new) = new.some() {
            assert!(self.space.leases.accepts(new), "a key would be attached to no lease");
            self.engine.insert(&layout::attachment(self.id, new, key), &[])?;
        }
        Ok(())
    }
}

fn lease_of(version: Option<&Version>) -> LeaseId {
    version.and_then(|version| version.live.as_ref()).map_or(LeaseId::NONE, |live| live.lease)
}

/// What a put makes of a key.
fn new_version(request: &PutRequest, old: Option<&Version>, revision: Revision) -> Live {
    let before = old.and_then(|old| old.live.as_ref());
    let (create_revision, version) =
        before.map_or((revision, 1), |before| (before.create_revision, before.version + 1));
    let keep_lease = before.filter(|_| request.ignore_lease);
    let keep_value = before.filter(|_| request.ignore_value);
    Live {
        create_revision,
        version,
        lease: keep_lease.map_or(request.lease, |before| before.lease),
        value: keep_value.map_or(&request.value, |before| &before.value).clone(),
    }
}
