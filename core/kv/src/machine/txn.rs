//! Transactions: decide the path, check what is on it, then carry it out.
//!
//! 1. All conditions, nested ones too, are evaluated against the state before the entry; they pick
//!    one branch a transaction, and so one path through the whole.
//! 2. Every operation on the path is checked against that same state: puts first (lease, `ignore_*`),
//!    then the revisions of ranges, which is etcd's order. A refusal refuses the whole.
//! 3. The operations run in order, each seeing what the earlier ones did, at one new revision.
//!
//! Between 2 and 3 nothing can change a check's answer: that a key with `ignore_value` is deleted
//! earlier on the path is refused by `check` as a duplicate key before the command is proposed. (If it
//! was not, there is nothing to keep, and the put stands as it is: the same on every member.)

use quorate_engine::{Engine, EngineError, Read};

use crate::error::ReadError;
use crate::read::{Keys, resolve};
use crate::types::{
    Op, OpResult, PutRequest, RangeRequest, RangeResult, Refusal, Revision, TxnRequest, TxnResult,
};

use super::write::Write;

/// Which branch a transaction takes, and each nested one on it, in order.
pub(crate) struct Path {
    pub(crate) succeeded: bool,
    pub(crate) nested: Vec<Self>,
}

impl Path {
    /// The path through `txn` in the state that `keys` shows.
    pub(crate) fn decide<R: Read>(
        txn: &TxnRequest,
        keys: &Keys<'_, R>,
    ) -> Result<Self, EngineError> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded = succeeded && keys.holds(compare)?;
        }
        let mut nested = Vec::new();
        for op in branch(txn, succeeded) {
            if let Op::Txn(txn) = op {
                nested.push(Self::decide(txn, keys)?);
            }
        }
        Ok(Self { succeeded, nested })
    }

    /// Calls `visit` with every operation on the path that is not a transaction, in order.
    pub(crate) fn walk<'t, X>(
        &self,
        txn: &'t TxnRequest,
        visit: &mut impl FnMut(&'t Op) -> Result<(), X>,
    ) -> Result<(), X> {
        let mut nested = self.nested.iter();
        for op in branch(txn, self.succeeded) {
            match op {
                Op::Txn(txn) => next(&mut nested).walk(txn, visit)?,
                op => visit(op)?,
            }
        }
        Ok(())
    }
}

pub(crate) fn branch(txn: &TxnRequest, succeeded: bool) -> &[Op] {
    if succeeded { &txn.success } else { &txn.failure }
}

pub(crate) fn next<'p>(nested: &mut impl Iterator<Item = &'p Path>) -> &'p Path {
    nested.next().expect("the path was decided over the same transaction")
}

impl<E: Engine> Write<'_, E> {
    /// Carries out a transaction.
    pub(super) fn txn(&mut self, txn: &TxnRequest) -> Result<TxnResult, ReadError> {
        let path = Path::decide(txn, &self.keys())?;
        self.check_path(txn, &path)?;
        Ok(self.run(txn, &path)?)
    }

    fn check_path(&self, txn: &TxnRequest, path: &Path) -> Result<(), ReadError> {
        path.walk(txn, &mut |op| match op {
            Op::Put(put) => self.check_put(put),
            _ => Ok(()),
        })?;
        path.walk(txn, &mut |op| match op {
            Op::Range(range) => self.check_range(range),
            _ => Ok(()),
        })
    }

    /// Whether a put can be carried out: its lease exists, and so does its key if it keeps anything
    /// of it.
    pub(super) fn check_put(&self, put: &PutRequest) -> Result<(), ReadError> {
        if put.ignore_value || put.ignore_lease {
            let head = self.keys().head(&put.key)?;
            if head.is_none_or(|head| head.live.is_none()) {
                return Err(Refusal::KeyNotFound.into());
            }
        }
        let lease_exists = put.ignore_lease || self.space.leases.accepts(put.lease);
        if lease_exists { Ok(()) } else { Err(Refusal::LeaseNotFound.into()) }
    }

    fn check_range(&self, range: &RangeRequest) -> Result<(), ReadError> {
        resolve(range.revision, self.space.revision, self.space.compact_revision)?;
        Ok(())
    }

    fn run(&mut self, txn: &TxnRequest, path: &Path) -> Result<TxnResult, EngineError> {
        let ops = branch(txn, path.succeeded);
        let mut responses = Vec::with_capacity(ops.len());
        let mut nested = path.nested.iter();
        for op in ops {
            responses.push(match op {
                Op::Range(range) => OpResult::Range(self.range(range)?),
                Op::Put(put) => OpResult::Put(self.put(put)?),
                Op::Delete(delete) => OpResult::Delete(self.delete(delete)?),
                Op::Txn(txn) => OpResult::Txn(self.run(txn, next(&mut nested))?),
            });
        }
        Ok(TxnResult { revision: self.revision(), succeeded: path.succeeded, responses })
    }

    fn range(&self, range: &RangeRequest) -> Result<RangeResult, EngineError> {
        let at = (range.revision > 0).then_some(Revision(range.revision));
        self.keys().range(range, at, self.revision())
    }
}
