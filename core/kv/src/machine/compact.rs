//! Compaction: at once in meaning, bit by bit in the engine (contract 18).
//!
//! The command moves `compact_revision`, and from then on no read goes below it. What cannot be
//! reached any more is removed later, by each member at its own pace. At compact revision C a version
//! is *kept* if its revision is C or later, or if it is its key's newest one before C, is no
//! tombstone, and nothing changed the key at C itself. A tombstone at C stays, so that a watch
//! from C still delivers the delete; the next compaction takes it.
//!
//! The changes before C say what to remove, without a search: each names the version it replaced,
//! and that one is out of reach, since a newer one stands at or before C; a change that is a delete
//! before C takes its own tombstone along. So the work is one pass over `r/` from the cursor to C, a
//! bounded number of records a step, and the cursor is all that has to be remembered. Removing twice
//! does no harm.
//!
//! A keyspace without history is compacted at every change; there is nothing to remove.

use quorate_engine::{Direction, Engine, EngineError};

use crate::error::Halt;
use crate::layout::{self, Position};
use crate::read::Keys;
use crate::record::Change;
use crate::types::{EventKind, KeyspaceId, Refusal, Reply, Revision};

use super::heads::HeadCache;
use super::{Keyspace, Kv};

impl Keyspace {
    /// Moves the compact revision.
    pub(super) fn compact(&mut self, revision: i64) -> Result<Reply, Refusal> {
        let revision = Revision(revision);
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        if revision <= self.compact_revision {
            return Err(Refusal::Compacted);
        }
        // Tombstones at the old compact revision were spared: the next pass begins with them.
        let again = Position::first_of(self.compact_revision.max(Revision(0)));
        self.cursor = self.cursor.min(again);
        self.compact_revision = revision;
        Ok(Reply::Compact { revision: self.revision })
    }

    /// The present is all that there is: nothing older was written.
    pub(super) fn forget_history(&mut self) {
        self.compact_revision = self.revision;
        self.cursor = Position::first_of(self.revision.next());
    }

    fn sweep<E: Engine>(
        &mut self,
        engine: &mut E,
        id: KeyspaceId,
        budget: usize,
    ) -> Result<usize, EngineError> {
        let compacted = self.compact_revision;
        let mut sweep = Sweep { engine, id, compacted, heads: &mut self.heads };
        sweep.step(&mut self.cursor, budget)
    }

    fn has_garbage(&self) -> bool {
        self.cursor <= Position::last_of(self.compact_revision)
    }
}

impl Kv {
    /// Removes what compaction has put out of reach: looks at no more than `budget` changes, and
    /// says whether more are left. Local; changes nothing that a read, a watch or a hash can see.
    /// The caller publishes the engine's batch.
    ///
    /// # Errors
    /// `Halt` when the engine fails.
    pub fn compact_step<E: Engine>(&mut self, engine: &mut E, budget: usize) -> Result<bool, Halt> {
        let mut left = budget;
        for (id, space) in &mut self.keyspaces {
            if space.has_garbage() && left > 0 {
                left -= space.sweep(engine, *id, left)?;
            }
        }
        Ok(self.has_garbage())
    }

    /// Whether `compact_step` has anything to do.
    #[must_use]
    pub fn has_garbage(&self) -> bool {
        self.keyspaces.values().any(Keyspace::has_garbage)
    }
}

/// One keyspace's pass.
struct Sweep<'a, E> {
    engine: &'a mut E,
    id: KeyspaceId,
    compacted: Revision,
    heads: &'a mut HeadCache,
}

impl<E: Engine> Sweep<'_, E> {
    /// Deals with up to `budget` changes from the cursor on; returns how many.
    fn step(&mut self, cursor: &mut Position, budget: usize) -> Result<usize, EngineError> {
        let changes = self.changes(*cursor, budget)?;
        for (at, change) in &changes {
            self.sweep(*at, change)?;
            *cursor = at.next();
        }
        if changes.len() < budget {
            *cursor = Position::first_of(self.compacted.next());
        }
        Ok(changes.len())
    }

    fn changes(
        &self,
        from: Position,
        budget: usize,
    ) -> Result<Vec<(Position, Change)>, EngineError> {
        let bounds = layout::changes(self.id, from, Position::last_of(self.compacted));
        let scan = self.engine.scan(layout::borrow(&bounds), Direction::Forward);
        let parse = |pair: Result<quorate_engine::Pair, EngineError>| {
            let (key, value) = pair?;
            Ok((layout::change_position(&key)?, Change::take(&value)?))
        };
        scan.take(budget).map(parse).collect()
    }

    fn sweep(&mut self, at: Position, change: &Change) -> Result<(), EngineError> {
        if let Some(replaced) = change.replaced.filter(|old| old.revision < self.compacted) {
            self.engine.remove(&layout::version(self.id, &change.key, replaced))?;
        }
        if at.revision == self.compacted {
            return Ok(());
        }
        if change.kind == EventKind::Delete {
            self.remove_tombstone(at, change)?;
        }
        self.engine.remove(&layout::change(self.id, at))
    }

    /// A tombstone is its key's head until somebody puts the key again.
    fn remove_tombstone(&mut self, at: Position, change: &Change) -> Result<(), EngineError> {
        let head = Keys { read: self.engine, keyspace: self.id, cached: None }.head(&change.key)?;
        if head.is_some_and(|head| head.at == at) {
            self.heads.forget(&change.key);
            self.engine.remove(&layout::head(self.id, &change.key))
        } else {
            self.engine.remove(&layout::version(self.id, &change.key, at))
        }
    }
}
