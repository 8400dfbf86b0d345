//! The key-value machine: entries of the log in, replies and events out.
//!
//! It holds little: where it stands in the log, each keyspace's revisions, the leases, the alarms. Keys
//! live in the engine. `apply` is a pure function of (engine, machine, entry) (contract 3): the same
//! entries give the same replies, events and logical content on every member, however far each has
//! physically compacted.
//!
//! What must outlive a crash is in the engine when `checkpoint` has run: keys and leases by their own
//! records, the rest in one meta record. After a crash the log replays what came later.
//!
//! Invariants: indexes are consecutive; term and group time never go back; a refused command has
//! changed nothing; a revision is used by one entry at most.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use quorate_engine::{Direction, Engine, EngineError, Read};

use crate::codec;
use crate::error::{Halt, ReadError, corrupt};
use crate::layout::{self, Position};
use crate::lease::LeaseTable;
use crate::read::Keys;
use crate::record::{self, KeyspaceMeta, Meta};
use crate::types::{
    Alarm, AlarmKind, Command, EventBatch, KeyRange, KeyValue, KeyspaceId, LeaseId, LeaseStatus,
    Refusal, Reply, Revision,
};
use crate::view::View;

mod alarm;
mod compact;
mod grant;
mod heads;
mod invariants;
mod txn;
mod write;

pub(crate) use heads::HeadCache;
pub(crate) use txn::{Path, branch, next};
use write::Write;

/// Where an entry stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Its index, one more than the last.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Its group time, in milliseconds.
    pub time_ms: u64,
}

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What the client is told. A refusal has changed nothing.
    pub reply: Result<Reply, Refusal>,
    /// The keyspace it was for.
    pub keyspace: KeyspaceId,
    /// The changes it made, if any, for watchers.
    pub events: Option<EventBatch>,
}

/// The machine. See the module.
#[derive(Clone, Debug, Default)]
pub struct Kv {
    applied: u64,
    term: u64,
    time_ms: u64,
    keyspaces: BTreeMap<KeyspaceId, Keyspace>,
    alarms: BTreeSet<Alarm>,
}

/// What is in memory of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Keyspace {
    revision: Revision,
    compact_revision: Revision,
    cursor: Position,
    leases: LeaseTable,
    heads: HeadCache,
}

/// `compact_revision` of a keyspace that was never compacted: below it, 0 can still be compacted.
const NEVER_COMPACTED: Revision = Revision(-1);

impl Default for Keyspace {
    fn default() -> Self {
        Self {
            revision: Revision::FIRST,
            compact_revision: NEVER_COMPACTED,
            cursor: Position::default(),
            leases: LeaseTable::default(),
            heads: HeadCache::default(),
        }
    }
}

impl Kv {
    /// The machine as the engine's last checkpoint left it; a new one on an empty engine.
    ///
    /// # Errors
    /// `Halt` when the engine fails, or holds something that this crate did not write.
    pub fn open<E: Engine>(engine: &E) -> Result<Self, Halt> {
        let Some(meta) = engine.get(&layout::meta())? else {
            let mut all = engine.scan((Bound::Unbounded, Bound::Unbounded), Direction::Forward);
            return match all.next().transpose()? {
                None => Ok(Self::default()),
                Some(_) => Err(corrupt("data without a meta record").into()),
            };
        };
        let meta = Meta::take(&meta)?;
        if !meta.keyspaces.iter().all(is_sound) {
            return Err(corrupt("meta record: revisions that cannot be").into());
        }
        let mut kv = Self {
            applied: meta.applied,
            term: meta.term,
            time_ms: meta.time_ms,
            keyspaces: meta.keyspaces.into_iter().map(from_meta).collect(),
            alarms: meta.alarms.into_iter().collect(),
        };
        kv.load_leases(engine)?;
        Ok(kv)
    }

    fn load_leases<E: Engine>(&mut self, engine: &E) -> Result<(), EngineError> {
        let bounds = layout::all_leases();
        for pair in engine.scan(layout::borrow(&bounds), Direction::Forward) {
            let (key, value) = pair?;
            let (keyspace, id) = layout::lease_of(&key)?;
            let keyspace = self.keyspaces.get_mut(&keyspace);
            let keyspace = keyspace.ok_or_else(|| corrupt("a lease of an unknown keyspace"))?;
            keyspace.leases.set(record::take_lease(id, &value)?);
        }
        Ok(())
    }

    /// Writes the meta record, so that what the engine now holds says of itself how far it goes. To
    /// be called right before `engine.seal(kv.applied())`, and right before a snapshot is taken that
    /// another member will install.
    ///
    /// # Errors
    /// `Halt` when the engine fails.
    pub fn checkpoint<E: Engine>(&mut self, engine: &mut E) -> Result<(), Halt> {
        let meta = Meta {
            applied: self.applied,
            term: self.term,
            time_ms: self.time_ms,
            keyspaces: self.keyspaces.iter().map(to_meta).collect(),
            alarms: self.alarms.iter().copied().collect(),
        };
        engine.insert(&layout::meta(), &meta.put())?;
        Ok(())
    }

    /// Carries out the command of one entry. The caller publishes the engine's batch.
    ///
    /// # Errors
    /// `Halt` when the engine fails or the command does not decode.
    ///
    /// # Panics
    /// When the entry is not the next one of the log.
    pub fn apply<E: Engine>(
        &mut self,
        engine: &mut E,
        at: At,
        command: &Bytes,
    ) -> Result<Applied, Halt> {
        let decoded = codec::decode(command);
        let (id, command) = decoded.map_err(|cause| Halt::Entry { index: at.index, cause })?;
        self.apply_nothing(at);
        let (reply, events) = match self.refused_by_alarm(id, &command) {
            Some(refusal) => (Err(refusal), None),
            None => self.carry_out(engine, id, command)?,
        };
        Ok(Applied { reply, keyspace: id, events })
    }

    /// Takes note of an entry without a command.
    ///
    /// # Panics
    /// When the entry is not the next one of the log: going on would fork the state.
    pub fn apply_nothing(&mut self, at: At) {
        assert_eq!(at.index, self.applied + 1, "entries are applied in order, each once");
        assert!(at.term >= self.term, "term {} after {}", at.term, self.term);
        assert!(at.time_ms >= self.time_ms, "time {} after {}", at.time_ms, self.time_ms);
        At { index: self.applied, term: self.term, time_ms: self.time_ms } = at;
    }

    fn carry_out<E: Engine>(
        &mut self,
        engine: &mut E,
        id: KeyspaceId,
        command: Command,
    ) -> Result<(Result<Reply, Refusal>, Option<EventBatch>), Halt> {
        let time_ms = self.time_ms;
        let space = self.keyspaces.entry(id).or_default();
        let before = space.revision;
        let mut write = Write::new(engine, space, id);
        let reply = match command {
            Command::Put(put) => write.put_alone(put).map(Reply::Put),
            Command::Delete(delete) => write.delete_alone(&delete).map(Reply::Delete),
            Command::Txn(txn) => write.txn(&txn).map(Reply::Txn),
            Command::LeaseGrant { id, ttl_s } => write.grant(id, ttl_s, time_ms),
            Command::LeaseRevoke { id } => write.revoke(id),
            Command::LeaseRenew { ids } => write.renew(&ids, time_ms),
            Command::LeaseExpire { id, deadline_ms } => write.expire(id, deadline_ms),
            Command::Compact { revision } => return Ok((space.compact(revision), None)),
            Command::AlarmRaise(alarm) => return Ok((Ok(self.raise(id, alarm)), None)),
            Command::AlarmClear(alarm) => return Ok((Ok(self.clear(id, alarm)), None)),
        };
        let events = write.finish();
        match reply {
            Ok(reply) => Ok((Ok(reply), events)),
            Err(ReadError::Engine(error)) => Err(error.into()),
            Err(ReadError::Refused(refusal)) => {
                assert!(events.is_none(), "a refused command changed revision {before:?}");
                Ok((Err(refusal), None))
            }
        }
    }

    /// Index of the last entry applied; 0 before the first.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Term of the last entry applied.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Group time of the last entry applied, in milliseconds.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Keyspaces that an entry has named so far, in order.
    pub fn keyspaces(&self) -> impl Iterator<Item = KeyspaceId> + '_ {
        self.keyspaces.keys().copied()
    }

    /// A keyspace's revision.
    #[must_use]
    pub fn revision(&self, keyspace: KeyspaceId) -> Revision {
        self.keyspaces.get(&keyspace).map_or(Revision::FIRST, |space| space.revision)
    }

    /// The oldest revision of a keyspace that is still readable; -1: it was never compacted.
    #[must_use]
    pub fn compact_revision(&self, keyspace: KeyspaceId) -> Revision {
        self.keyspaces.get(&keyspace).map_or(NEVER_COMPACTED, |space| space.compact_revision)
    }

    /// A view of one keyspace over an engine or a snapshot of it that holds exactly what was applied
    /// so far.
    pub fn view<S: Read>(&self, keyspace: KeyspaceId, snapshot: S) -> View<S> {
        View {
            snapshot,
            keyspace,
            revision: self.revision(keyspace),
            compact_revision: self.compact_revision(keyspace),
            applied: self.applied,
            corrupt: self.has_alarm(AlarmKind::Corrupt),
        }
    }

    /// The first pairs of a range in the state as applied so far, in key order: at most `limit` of them, and
    /// whether there are more. Unlike a `RangeRequest` it stops there and counts nothing; it serves machines
    /// that are stepped beside this one.
    ///
    /// # Errors
    /// The engine failed.
    pub fn first_pairs<R: Read>(
        &self,
        engine: &R,
        keyspace: KeyspaceId,
        range: &KeyRange,
        limit: usize,
    ) -> Result<(Vec<KeyValue>, bool), EngineError> {
        let cached = self.keyspaces.get(&keyspace).map(|space| &space.heads);
        let keys = Keys { read: engine, keyspace, cached };
        let mut pairs = keys.pairs(range, None, Direction::Forward);
        let found = pairs.by_ref().take(limit).collect::<Result<Vec<_>, _>>()?;
        let more = pairs.next().transpose()?.is_some();
        Ok((found, more))
    }

    /// Up to `max` leases whose deadline is not after `now_ms` of group time, as what `LeaseExpire`
    /// takes; earliest deadlines first within a keyspace. None while a CORRUPT alarm stands, since
    /// every expiry would be refused.
    #[must_use]
    pub fn due_leases(&self, now_ms: u64, max: usize) -> Vec<(KeyspaceId, LeaseId, u64)> {
        if self.has_alarm(AlarmKind::Corrupt) {
            return Vec::new();
        }
        let of_space = |(id, space): (&KeyspaceId, &Keyspace)| {
            let due = space.leases.in_order().take_while(|lease| lease.deadline_ms <= now_ms);
            due.take(max).map(|lease| (*id, lease.id, lease.deadline_ms)).collect::<Vec<_>>()
        };
        self.keyspaces.iter().flat_map(of_space).take(max).collect()
    }

    /// The earliest deadline of all leases, in ms of group time.
    #[must_use]
    pub fn next_lease_deadline(&self) -> Option<u64> {
        let spaces = self.keyspaces.values();
        spaces.filter_map(|space| space.leases.in_order().next()).map(|l| l.deadline_ms).min()
    }

    /// A lease, if it exists. Its keys: [`View::lease_keys`].
    #[must_use]
    pub fn lease(&self, keyspace: KeyspaceId, id: LeaseId) -> Option<&LeaseStatus> {
        self.keyspaces.get(&keyspace)?.leases.get(id)
    }

    /// A keyspace's leases, earliest deadline first.
    pub fn leases(&self, keyspace: KeyspaceId) -> impl Iterator<Item = &LeaseStatus> {
        self.keyspaces.get(&keyspace).into_iter().flat_map(|space| space.leases.in_order())
    }

    /// How many leases there are in all keyspaces.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.keyspaces.values().map(|space| space.leases.len()).sum()
    }
}

fn is_sound(meta: &KeyspaceMeta) -> bool {
    // Far from overflow: nobody makes 2^62 changes.
    (Revision::FIRST.0..i64::MAX / 2).contains(&meta.revision.0)
        && (NEVER_COMPACTED..=meta.revision).contains(&meta.compact_revision)
        && (Revision(0)..=meta.revision.next()).contains(&meta.cursor.revision)
}

fn from_meta(meta: KeyspaceMeta) -> (KeyspaceId, Keyspace) {
    let KeyspaceMeta { id, revision, compact_revision, cursor } = meta;
    (
        id,
        Keyspace {
            revision,
            compact_revision,
            cursor,
            leases: LeaseTable::default(),
            heads: HeadCache::default(),
        },
    )
}

fn to_meta((id, space): (&KeyspaceId, &Keyspace)) -> KeyspaceMeta {
    let &Keyspace { revision, compact_revision, cursor, leases: _, heads: _ } = space;
    KeyspaceMeta { id: *id, revision, compact_revision, cursor }
}
