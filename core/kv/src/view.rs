//! A keyspace as it stood after one entry: what every read that is not part of an entry goes through.
//!
//! A view is a snapshot of the engine and the three numbers that went with it (contract 10). It can be
//! read on any thread for as long as the snapshot lives: compaction that happens meanwhile is not seen,
//! and `compact_revision` here is the one that held when the view was taken.

use bytes::Bytes;
use quorate_engine::{Direction, EngineError, Read};

use crate::error::ReadError;
use crate::layout;
use crate::machine::{Path, branch, next};
use crate::read::{Keys, resolve};
use crate::types::{
    KeyRange, KeyspaceId, LeaseId, Op, OpResult, RangeRequest, RangeResult, Refusal, Revision,
    TxnRequest, TxnResult,
};

mod hash;
mod history;

pub use hash::KvHash;
pub use history::History;

/// A keyspace at one moment. See the module.
#[derive(Clone, Debug)]
pub struct View<S> {
    /// The engine as it stood; or the engine itself, as long as nothing is written.
    pub snapshot: S,
    /// Which keyspace.
    pub keyspace: KeyspaceId,
    /// Its revision.
    pub revision: Revision,
    /// The oldest readable revision; -1: never compacted.
    pub compact_revision: Revision,
    /// The last entry that the view contains.
    pub applied: u64,
    /// Whether a CORRUPT alarm stands: ranges and transactions are refused. Hashes, history and leases are
    /// not, since an operator finds the bad member with them.
    pub corrupt: bool,
}

impl<S: Read> View<S> {
    /// Reads a range. Costs a walk over all keys of the range, whatever the limit (see `read`).
    ///
    /// # Errors
    /// `Corrupt`, `Compacted` or `FutureRevision` refused; or the engine failed.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResult, ReadError> {
        self.check_alarm()?;
        let at = self.resolve(request.revision)?;
        Ok(self.keys().range(request, at, self.revision)?)
    }

    /// The first pairs of a range, in order of keys. Unlike [`Self::range`] it stops at the limit and counts
    /// nothing (`count` is 0), so that a page of a long range costs no more than the page.
    ///
    /// # Errors
    /// `Corrupt` refused; or the engine failed.
    pub fn page(&self, range: &KeyRange, limit: usize) -> Result<RangeResult, ReadError> {
        self.check_alarm()?;
        let mut result = RangeResult { revision: self.revision, ..RangeResult::default() };
        for pair in self.keys().pairs(range, None, Direction::Forward) {
            if result.kvs.len() == limit {
                result.more = true;
                break;
            }
            result.kvs.push(pair?);
        }
        Ok(result)
    }

    /// Carries out a transaction for which `check::is_read_only` holds.
    ///
    /// # Errors
    /// `Corrupt`; `Compacted` or `FutureRevision` for any range on its path; or the engine failed.
    ///
    /// # Panics
    /// When there is a put or a delete on its path.
    pub fn txn_read_only(&self, txn: &TxnRequest) -> Result<TxnResult, ReadError> {
        self.check_alarm()?;
        let path = Path::decide(txn, &self.keys())?;
        self.read_path(txn, &path)
    }

    fn read_path(&self, txn: &TxnRequest, path: &Path) -> Result<TxnResult, ReadError> {
        let mut responses = Vec::new();
        let mut nested = path.nested.iter();
        for op in branch(txn, path.succeeded) {
            responses.push(match op {
                Op::Range(range) => OpResult::Range(self.range(range)?),
                Op::Txn(txn) => OpResult::Txn(self.read_path(txn, next(&mut nested))?),
                Op::Put(_) | Op::Delete(_) => panic!("a write was sent to a view"),
            });
        }
        Ok(TxnResult { revision: self.revision, succeeded: path.succeeded, responses })
    }

    /// Keys attached to a lease, in order; none if there is no such lease.
    ///
    /// # Errors
    /// The engine failed.
    pub fn lease_keys(&self, lease: LeaseId) -> Result<Vec<Bytes>, EngineError> {
        let bounds = layout::attachments(self.keyspace, lease);
        let scan = self.snapshot.scan(layout::borrow(&bounds), Direction::Forward);
        scan.map(|pair| layout::attached_key(&pair?.0)).collect()
    }

    /// Members disagree, so that nobody knows whose pairs these are.
    fn check_alarm(&self) -> Result<(), Refusal> {
        if self.corrupt { Err(Refusal::Corrupt) } else { Ok(()) }
    }

    fn keys(&self) -> Keys<'_, S> {
        Keys { read: &self.snapshot, keyspace: self.keyspace, cached: None }
    }

    /// What revision a request speaks of, if it can be read; `None`: the latest.
    fn resolve(&self, asked: i64) -> Result<Option<Revision>, ReadError> {
        Ok(resolve(asked, self.revision, self.compact_revision)?)
    }
}
