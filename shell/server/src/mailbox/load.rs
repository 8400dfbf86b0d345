//! What deliveries hold in memory: keys and values, as far as they have a size that clients choose.

use std::ops::AddAssign;

use quorate_kv::{
    DeleteResult, EventBatch, KeyValue, LeaseStatus, OpResult, PutResult, RangeResult,
    Reply as KvReply, TxnResult,
};
use quorate_node::Reply;

use super::Delivery;
use crate::Snapshot;

/// Bytes in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Of events.
    pub(super) event_bytes: usize,
    /// Of what replies carry.
    pub(super) reply_bytes: usize,
}

impl Load {
    pub(super) fn of(deliveries: &[Delivery]) -> Self {
        let mut load = Self::default();
        for delivery in deliveries {
            match delivery {
                Delivery::Events(batches) => {
                    load.event_bytes += batches.iter().map(batch_bytes).sum::<usize>();
                }
                other => load.reply_bytes += reply_bytes(other),
            }
        }
        load
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.event_bytes += other.event_bytes;
        self.reply_bytes += other.reply_bytes;
    }
}

/// What a delivery counts as if it is a reply, else 0.
pub(super) fn reply_bytes(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Reply { reply, .. } => carried(reply),
        _ => 0,
    }
}

/// Bytes that a reply carries. A view carries none: it shares the engine's.
pub(super) fn carried(reply: &Reply<Snapshot>) -> usize {
    match reply {
        Reply::Applied { result: Ok(reply), .. } => applied_bytes(reply),
        Reply::Leases { leases, .. } => leases.len() * size_of::<LeaseStatus>(),
        _ => 0,
    }
}

fn applied_bytes(reply: &KvReply) -> usize {
    match reply {
        KvReply::Put(put) => put_bytes(put),
        KvReply::Delete(delete) => delete_bytes(delete),
        KvReply::Txn(txn) => txn_bytes(txn),
        _ => 0,
    }
}

fn put_bytes(put: &PutResult) -> usize {
    put.prev_kv.as_ref().map_or(0, pair_bytes)
}

fn delete_bytes(delete: &DeleteResult) -> usize {
    delete.prev_kvs.iter().map(pair_bytes).sum()
}

/// As deep as transactions may be nested (`MAX_TXN_DEPTH`).
fn txn_bytes(txn: &TxnResult) -> usize {
    let bytes = |result: &OpResult| match result {
        OpResult::Range(RangeResult { kvs, .. }) => kvs.iter().map(pair_bytes).sum(),
        OpResult::Put(put) => put_bytes(put),
        OpResult::Delete(delete) => delete_bytes(delete),
        OpResult::Txn(txn) => txn_bytes(txn),
    };
    txn.responses.iter().map(bytes).sum()
}

fn pair_bytes(pair: &KeyValue) -> usize {
    size_of::<KeyValue>() + pair.key.len() + pair.value.len()
}

fn batch_bytes(batch: &EventBatch) -> usize {
    batch.events.iter().map(quorate_kv::Event::size).sum()
}
