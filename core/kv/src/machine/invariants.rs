//! What must hold of the machine after every entry, and of the engine beside it.

use std::collections::BTreeSet;

use quorate_engine::{Direction, EngineError, Read};

use crate::layout::{self, Position};
use crate::read::Keys;
use crate::record::{self, Change, Version};
use crate::types::{KeyRange, KeyspaceId, LeaseId, Revision};

use super::{Keyspace, Kv, NEVER_COMPACTED};

impl Kv {
    /// Checks the machine; panics where it is broken.
    pub fn invariants(&self) {
        for space in self.keyspaces.values() {
            assert!(space.revision >= Revision::FIRST, "revision {:?}", space.revision);
            assert!(space.compact_revision >= NEVER_COMPACTED, "{:?}", space.compact_revision);
            assert!(space.compact_revision <= space.revision, "compacted past the present");
            let after = Position::first_of(space.compact_revision.next());
            assert!(space.cursor <= after.max(Position::default()), "cursor past compaction");
            space.leases.invariants();
        }
    }

    /// Checks what the engine holds against the machine; walks over everything; panics where it is
    /// broken.
    ///
    /// # Errors
    /// The engine failed.
    pub fn engine_invariants<R: Read>(&self, engine: &R) -> Result<(), EngineError> {
        self.invariants();
        for (id, space) in &self.keyspaces {
            Audit { keys: Keys { read: engine, keyspace: *id, cached: None }, space }.run()?;
        }
        Ok(())
    }
}

/// One keyspace under examination.
struct Audit<'a, R> {
    keys: Keys<'a, R>,
    space: &'a Keyspace,
}

impl<R: Read> Audit<'_, R> {
    /// What is cached of the heads is what the engine holds.
    fn cached_heads(&self) -> Result<(), EngineError> {
        for (key, record) in self.space.heads.audit() {
            let held = self.keys.read.get(&layout::head(self.keys.keyspace, key))?;
            assert_eq!(held.as_ref(), Some(record), "a cached head differs from the engine's");
        }
        Ok(())
    }

    fn run(&self) -> Result<(), EngineError> {
        self.cached_heads()?;
        self.leases()?;
        let attached = self.versions()?;
        assert_eq!(attached, self.attachments()?, "attachments differ from the keys' leases");
        self.changes()
    }

    fn id(&self) -> KeyspaceId {
        self.keys.keyspace
    }

    fn leases(&self) -> Result<(), EngineError> {
        let bounds = layout::leases(self.id());
        let mut stored = 0;
        for pair in self.keys.read.scan(layout::borrow(&bounds), Direction::Forward) {
            let (key, value) = pair?;
            let (_, id) = layout::lease_of(&key)?;
            let lease = record::take_lease(id, &value)?;
            assert_eq!(self.space.leases.get(id), Some(&lease), "a lease differs");
            stored += 1;
        }
        assert_eq!(stored, self.space.leases.len(), "a lease is not stored");
        Ok(())
    }

    /// Versions of each key descend, lives are whole; returns who is attached to what.
    fn versions(&self) -> Result<BTreeSet<(LeaseId, Vec<u8>)>, EngineError> {
        let mut attached = BTreeSet::new();
        let all = KeyRange { key: "".into(), range_end: "\0".into() };
        for head in self.keys.heads(&all, Direction::Forward) {
            let (key, mut newer) = head?;
            assert!(newer.at.revision <= self.space.revision, "a head from the future");
            if let Some(lease) = newer.live.as_ref().and_then(|live| live.lease.some()) {
                attached.insert((lease, key.to_vec()));
            }
            for older in self.keys.older(&key, Position::last_of(Revision(i64::MAX)))? {
                let older = older?;
                assert_follows(&older, &newer);
                newer = older;
            }
        }
        Ok(attached)
    }

    fn attachments(&self) -> Result<BTreeSet<(LeaseId, Vec<u8>)>, EngineError> {
        let mut found = BTreeSet::new();
        for lease in self.space.leases.in_order() {
            let bounds = layout::attachments(self.id(), lease.id);
            for pair in self.keys.read.scan(layout::borrow(&bounds), Direction::Forward) {
                found.insert((lease.id, layout::attached_key(&pair?.0)?.to_vec()));
            }
        }
        let bounds = layout::all_attachments(self.id());
        let all = self.keys.read.scan(layout::borrow(&bounds), Direction::Forward).count();
        assert_eq!(all, found.len(), "a key is attached to a lease that does not exist");
        Ok(found)
    }

    /// Every change from the compact revision on has its version, and revisions have no gaps.
    fn changes(&self) -> Result<(), EngineError> {
        let from = self.space.compact_revision.max(Revision::FIRST);
        let until = Position::last_of(Revision(i64::MAX));
        let bounds = layout::changes(self.id(), Position::first_of(from), until);
        let mut last = from;
        for pair in self.keys.read.scan(layout::borrow(&bounds), Direction::Forward) {
            let (key, value) = pair?;
            let (at, change) = (layout::change_position(&key)?, Change::take(&value)?);
            assert!(at.revision.0 - last.0 <= 1, "no changes between {last:?} and {at:?}");
            last = at.revision;
            let head = self.keys.head(&change.key)?.expect("a change of a key without a head");
            let is_head = head.at == at;
            let old = layout::version(self.id(), &change.key, at);
            assert!(is_head || self.keys.read.get(&old)?.is_some(), "a change without a version");
        }
        assert_eq!(last, self.space.revision, "the last changes are missing");
        Ok(())
    }
}

fn assert_follows(older: &Version, newer: &Version) {
    assert!(older.at < newer.at, "versions do not descend");
    if let (Some(older), Some(newer)) = (&older.live, &newer.live)
        && older.create_revision == newer.create_revision
    {
        assert!(older.version < newer.version, "version numbers do not ascend");
    }
}
