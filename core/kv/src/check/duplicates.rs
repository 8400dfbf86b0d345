//! No key may be changed twice on any path through a transaction.
//!
//! Two puts of one key, or a put of a key and a delete of a range that holds it, in whatever order,
//! are refused; deletes may overlap, since the second finds nothing. The two branches of a
//! transaction exclude each other, so that between them anything goes. (etcd lets a put in one nested
//! transaction pass when a later sibling deletes its key; here that is refused like its mirror image.)
//!
//! Each branch is folded into a *footprint*: the keys it may put and the ranges it may delete, the
//! latter as disjoint intervals, so that a check costs a logarithm and not a walk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::types::{KeyRange, Op, Refusal, TxnRequest};

/// Refuses a transaction that could change a key twice.
pub(super) fn check(txn: &TxnRequest) -> Result<(), Refusal> {
    Footprint::of_branch(&txn.success)?;
    Footprint::of_branch(&txn.failure)?;
    Ok(())
}

/// What a part of a transaction may change.
#[derive(Default)]
struct Footprint<'t> {
    puts: BTreeSet<&'t [u8]>,
    /// Start to end, disjoint; no end: open.
    deletes: BTreeMap<&'t [u8], Option<&'t [u8]>>,
}

impl<'t> Footprint<'t> {
    fn of_branch(ops: &'t [Op]) -> Result<Self, Refusal> {
        let mut all = Self::default();
        for op in ops {
            match op {
                Op::Range(_) => {}
                Op::Put(put) => all.then_put(&put.key)?,
                Op::Delete(delete) => all.then_delete(&delete.range)?,
                Op::Txn(txn) => all.then(Self::of_txn(txn)?)?,
            }
        }
        Ok(all)
    }

    fn of_txn(txn: &'t TxnRequest) -> Result<Self, Refusal> {
        let mut either = Self::of_branch(&txn.success)?;
        let other = Self::of_branch(&txn.failure)?;
        either.puts.extend(other.puts);
        other.deletes.into_iter().for_each(|(start, end)| either.add_delete(start, end));
        Ok(either)
    }

    fn then(&mut self, later: Self) -> Result<(), Refusal> {
        for put in &later.puts {
            if self.puts.contains(put) || self.is_deleted(put) {
                return Err(Refusal::DuplicateKey);
            }
        }
        for (start, end) in &later.deletes {
            if self.has_put_in(start, *end) {
                return Err(Refusal::DuplicateKey);
            }
        }
        self.puts.extend(later.puts);
        later.deletes.into_iter().for_each(|(start, end)| self.add_delete(start, end));
        Ok(())
    }

    fn then_put(&mut self, key: &'t [u8]) -> Result<(), Refusal> {
        if self.is_deleted(key) || !self.puts.insert(key) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(())
    }

    fn then_delete(&mut self, range: &'t KeyRange) -> Result<(), Refusal> {
        if range.is_single() {
            // The interval of one key ends at the key followed by a zero byte, which is nowhere to
            // borrow from: the key itself, as start and end, stands for it.
            return self.then_delete_interval(&range.key, Some(&range.key));
        }
        let end = (!range.is_open_ended()).then_some(&range.range_end[..]);
        if end.is_some_and(|end| end <= &range.key[..]) {
            return Ok(());
        }
        self.then_delete_interval(&range.key, end)
    }

    fn then_delete_interval(
        &mut self,
        start: &'t [u8],
        end: Option<&'t [u8]>,
    ) -> Result<(), Refusal> {
        if self.has_put_in(start, end) {
            return Err(Refusal::DuplicateKey);
        }
        self.add_delete(start, end);
        Ok(())
    }

    fn is_deleted(&self, key: &[u8]) -> bool {
        let before = self.deletes.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        before.last().is_some_and(|(start, end)| covers(start, *end, key))
    }

    fn has_put_in(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        let from = self.puts.range::<[u8], _>((Bound::Included(start), Bound::Unbounded)).next();
        from.is_some_and(|put| covers(start, end, put))
    }

    /// Adds an interval, swallowing those that it touches.
    fn add_delete(&mut self, mut start: &'t [u8], mut end: Option<&'t [u8]>) {
        let before = self.deletes.range::<[u8], _>((Bound::Unbounded, Bound::Included(start)));
        if let Some((s, e)) = before.last()
            && covers(s, *e, start)
        {
            (start, end) = (*s, later(*e, end));
        }
        loop {
            let inside = self.deletes.range::<[u8], _>((Bound::Included(start), Bound::Unbounded));
            let Some((s, e)) = inside.map(|(s, e)| (*s, *e)).next() else { break };
            if s != start && !covers(start, end, s) {
                break;
            }
            end = later(end, e);
            self.deletes.remove(s);
        }
        self.deletes.insert(start, end);
    }
}

/// Whether `key`, not before `start`, is in the interval.
fn covers(start: &[u8], end: Option<&[u8]>, key: &[u8]) -> bool {
    key == start || end.is_none_or(|end| key < end)
}

/// The later of two ends.
fn later<'t>(a: Option<&'t [u8]>, b: Option<&'t [u8]>) -> Option<&'t [u8]> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        _ => None,
    }
}
