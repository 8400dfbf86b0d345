//! Key-value transactions that the machine proposes: each compares what it rests on, and brings back what
//! stands there if that has changed.

use bytes::Bytes;
use quorate_kv::{
    Compare, CompareResult, CompareTarget, DeleteRequest, KeyRange, KeyValue, Op, OpResult,
    PutRequest, RangeRequest, Revision, TxnRequest, TxnResult,
};

use crate::api::Halt;
use crate::gid::GlobalTxnId;
use crate::keys;
use crate::record::Record;

/// A record as it was read: with the revision that wrote it, 0 if there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) record: Option<Record>,
    pub(crate) revision: Revision,
}

impl Found {
    /// What a read of a record's key brought.
    pub(crate) fn of(kvs: &[KeyValue]) -> Result<Self, Halt> {
        match kvs.first() {
            None => Ok(Self::default()),
            Some(kv) => Ok(Self { record: Some(decode(kv)?), revision: kv.mod_revision }),
        }
    }
}

/// The record in a pair.
pub(crate) fn decode(kv: &KeyValue) -> Result<Record, Halt> {
    Record::decode(&kv.value)
        .map_err(|cause| Halt(format!("record {}: {cause}", String::from_utf8_lossy(&kv.key))))
}

/// Reads one key.
pub(crate) fn get(key: Bytes) -> RangeRequest {
    RangeRequest { range: KeyRange::single(key), ..RangeRequest::default() }
}

/// That a key still stands at this revision; 0: that it does not exist.
pub(crate) fn stands_at(key: Bytes, revision: Revision) -> Compare {
    Compare {
        range: KeyRange::single(key),
        target: CompareTarget::Mod(revision.0),
        result: CompareResult::Equal,
    }
}

pub(crate) fn put(key: Bytes, value: Bytes) -> Op {
    Op::Put(PutRequest { key, value, ..PutRequest::default() })
}

pub(crate) fn delete(range: KeyRange) -> Op {
    Op::Delete(DeleteRequest { range, prev_kv: false })
}

/// Operations that put `next`, whose bytes these are, in the place of `before`, indexes included.
pub(crate) fn replace(
    gid: &GlobalTxnId,
    before: Option<&Record>,
    next: &Record,
    bytes: Bytes,
) -> Vec<Op> {
    let mut ops = vec![put(keys::record(gid), bytes)];
    let old_due = before.and_then(|record| record.due_ms);
    if old_due != next.due_ms {
        ops.extend(old_due.map(|ms| delete(KeyRange::single(keys::due(ms, gid)))));
        ops.extend(next.due_ms.map(|ms| put(keys::due(ms, gid), Bytes::new())));
    }
    if before.is_none_or(|record| record.done_ms.is_none()) {
        ops.extend(next.done_ms.map(|ms| put(keys::done(ms, gid), Bytes::new())));
    }
    ops
}

/// A transaction on a record as it was found, with nothing to do yet. If it fails it brings the record.
pub(crate) fn on(gid: &GlobalTxnId, found: Revision) -> TxnRequest {
    TxnRequest {
        compare: vec![stands_at(keys::record(gid), found)],
        success: Vec::new(),
        failure: vec![Op::Range(get(keys::record(gid)))],
    }
}

/// What the `index`th operation of a transaction, a read, brought.
pub(crate) fn pairs(result: &TxnResult, index: usize) -> Result<&[KeyValue], Halt> {
    match result.responses.get(index) {
        Some(OpResult::Range(range)) => Ok(&range.kvs),
        other => Err(Halt(format!("a read was answered with {other:?}"))),
    }
}
