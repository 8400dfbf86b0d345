//! Memory tables: what was written since the newest checkpoint, in the order in which it was written.
//!
//! A put must be cheap, and nobody needs its place among the keys at once: most tables are read by key alone
//! until they are written out. So an insert appends an item (`items.rs`) and makes a hash index point to it
//! (`index.rs`); the order of keys is made when a scan or a flush asks for it, by whoever asks, and what was
//! put in order once is kept (`order.rs`).
//!
//! One writer, the owner, holds the [`MemoryTable`]; any number of readers on other threads hold [`Layer`]s of
//! it: the table up to some item. Items are never changed or moved. A key that is written again becomes a new
//! item that names the one before, so a reader finds the newest item below its end whatever comes later.
//! All of it is safe code: single-assignment cells for items, one atomic word a slot of the index.
//!
//! Invariants: an item is in its cell before the index names it; a layer's index holds all keys of the items
//! below its end (an index that has grown is a new one, and readers keep theirs); `previous` descends.
//!
//! Left out: giving back the bytes of an overwritten item before the whole table goes.

mod index;
mod items;
mod order;

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use lsm_tree::{InternalValue, SeqNo, Slice, ValueType};
use quorate_engine::Direction;

use super::limits::{ARENA_BYTES, COPIED_VALUE_BYTES};
use index::{Filled, Index};
use items::Items;
pub(crate) use order::{Cursor, Merged};
use order::{Order, Purpose};

/// Number of an item in its table, from 0.
type At = u32;

/// Bytes counted for an item beside its key and value: its cell, and its share of the index.
const ITEM_OVERHEAD: u64 = size_of::<std::sync::OnceLock<Item>>() as u64 + 16;

/// One write of one key.
pub(crate) struct Item {
    /// Key and value in one piece.
    record: Bytes,
    key_bytes: u16,
    is_tombstone: bool,
    /// The write of the same key before this one.
    previous: Option<At>,
}

/// A table as all who use it share it.
struct Table {
    items: Items,
    /// What has been put in order so far. Held for the copy of a pointer.
    order: Mutex<Arc<Order>>,
    /// Whether anybody has asked for an order.
    is_scanned: AtomicBool,
}

/// A table up to some item. Copies are cheap.
#[derive(Clone)]
pub(crate) struct Layer {
    table: Arc<Table>,
    index: Arc<Index>,
    end: At,
}

/// A table as its only writer holds it.
pub(super) struct MemoryTable {
    /// Up to the last item.
    layer: Layer,
    filled: Filled,
    /// Different keys.
    keys: usize,
    bytes: u64,
    /// Room for records to come.
    arena: BytesMut,
}

impl Table {
    fn held(&self) -> MutexGuard<'_, Arc<Order>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an order if it is the best so far; gives the one that is kept.
    fn hold(&self, made: &Arc<Order>) -> Arc<Order> {
        let mut held = self.held();
        if made.is_better_than(&held) {
            *held = Arc::clone(made);
        }
        Arc::clone(&held)
    }
}

impl Item {
    pub(super) fn key(&self) -> &[u8] {
        &self.record[..usize::from(self.key_bytes)]
    }

    /// The value, unless the item is a tombstone. A small one is a copy, so that it does not hold its arena;
    /// a larger one has its record for itself, and shares it.
    pub(super) fn live_value(&self) -> Option<Bytes> {
        let value = &self.record[usize::from(self.key_bytes)..];
        (!self.is_tombstone).then(|| match value.len() {
            ..=COPIED_VALUE_BYTES => Bytes::copy_from_slice(value),
            _ => self.record.slice(usize::from(self.key_bytes)..),
        })
    }

    /// The item as a table file takes it; shares the record.
    pub(crate) fn to_internal(&self, seqno: SeqNo) -> InternalValue {
        let key = Slice::from(self.record.slice(..usize::from(self.key_bytes)));
        let value = Slice::from(self.record.slice(usize::from(self.key_bytes)..));
        let kind = if self.is_tombstone { ValueType::Tombstone } else { ValueType::Value };
        InternalValue::from_components(key, value, seqno, kind)
    }
}

impl MemoryTable {
    /// An empty table; about `keys` different keys are expected.
    pub(super) fn new(keys: usize) -> Self {
        let table = Table {
            items: Items::new(),
            order: Mutex::default(),
            is_scanned: AtomicBool::new(false),
        };
        let index = Arc::new(Index::new(keys));
        let layer = Layer { table: Arc::new(table), index, end: 0 };
        Self { layer, filled: Filled::default(), keys: 0, bytes: 0, arena: BytesMut::new() }
    }

    /// Appends a write of `key`, whose hash is `hash`; `None` is a tombstone.
    pub(super) fn insert(&mut self, key: &[u8], hash: u64, value: Option<&[u8]>) {
        let key_bytes = u16::try_from(key.len()).expect("the engine checks the length of keys");
        let record = self.record(key, value.unwrap_or_default());
        let Layer { table, index, end } = &mut self.layer;
        if self.filled.is_full(index, hash) {
            Arc::make_mut(index).grow(hash);
        }
        let found = index.find(hash, |at| table.items.get(at).key() == key);
        let item = Item { record, key_bytes, is_tombstone: value.is_none(), previous: found.at() };
        table.items.set(*end, item);
        index.point(&found, hash, *end);
        *end = end.checked_add(1).expect("4 billion items are no memory table");
        self.bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64 + ITEM_OVERHEAD;
        if found.at().is_none() {
            self.keys += 1;
            self.filled.count(hash);
        }
    }

    /// Key and value in one piece: a part of the arena, or an allocation of its own when it is large.
    fn record(&mut self, key: &[u8], value: &[u8]) -> Bytes {
        let bytes = key.len() + value.len();
        if bytes > COPIED_VALUE_BYTES {
            let mut record = Vec::with_capacity(bytes);
            record.extend_from_slice(key);
            record.extend_from_slice(value);
            return Bytes::from(record);
        }
        if self.arena.capacity() < bytes {
            self.arena = BytesMut::with_capacity(ARENA_BYTES);
        }
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        self.arena.split().freeze()
    }

    /// The table up to the last item.
    pub(super) fn layer(&self) -> &Layer {
        &self.layer
    }

    /// The table up to an earlier item.
    pub(super) fn layer_to(&self, end: At) -> Layer {
        assert!(end <= self.layer.end, "a layer of items to come");
        Layer { end, ..self.layer.clone() }
    }

    /// Number of items.
    pub(super) fn len(&self) -> At {
        self.layer.end
    }

    /// Number of different keys.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// Memory that the table takes, unused parts of its last pieces not counted.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Layer {
    /// The newest item of a key, a tombstone included; `hash` is that of the key.
    pub(super) fn get(&self, key: &[u8], hash: u64) -> Option<&Item> {
        let items = &self.table.items;
        let mut at = self.index.find(hash, |at| items.get(at).key() == key).at()?;
        while at >= self.end {
            at = items.get(at).previous?;
        }
        Some(items.get(at))
    }

    /// The newest items of the keys inside the bounds are in these, one a run, newest run first.
    pub(super) fn cursors(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Vec<Cursor<'_>> {
        if self.end == 0 {
            return Vec::new();
        }
        self.table.is_scanned.store(true, Ordering::Relaxed);
        let order = self.order(Purpose::Scan);
        order.cursors(&self.table.items, self.end, range)
    }

    /// Whether the table has been scanned, or the one before it.
    pub(super) fn is_scanned(&self) -> bool {
        self.table.is_scanned.load(Ordering::Relaxed)
    }

    /// A table that follows another will be scanned if that was.
    pub(super) fn scanned_like(&self, before: &Self) {
        self.table.is_scanned.store(before.is_scanned(), Ordering::Relaxed);
    }

    /// Items below this are in order.
    #[cfg(test)]
    pub(super) fn in_order(&self) -> At {
        self.table.held().covered()
    }

    /// Sorts what is not in order yet, and merges, for scans to come. What scans have sorted meanwhile is sorted
    /// again, or all that was done would be in vain.
    pub(super) fn put_in_order(&self) {
        let mut end = self.end;
        let mut made = Arc::clone(&self.table.held());
        loop {
            made = Arc::new(made.extended(&self.table.items, end, Purpose::Ahead));
            end = self.table.hold(&made).covered();
            if end <= made.covered() {
                return;
            }
        }
    }

    /// All items but those that were overwritten, in the order of keys; remembers that order.
    pub(crate) fn sorted(&self) -> Merged<'_> {
        let order = self.order(Purpose::All);
        let all = (Bound::Unbounded, Bound::Unbounded);
        Merged::new(order.cursors(&self.table.items, self.end, all), Direction::Forward)
    }

    /// An order that covers the layer. It is made without the lock: two who need it at once both make it.
    fn order(&self, purpose: Purpose) -> Arc<Order> {
        let held = Arc::clone(&self.table.held());
        if held.suffices(self.end, purpose) {
            return held;
        }
        let made = Arc::new(held.extended(&self.table.items, self.end, purpose));
        self.table.hold(&made);
        made
    }
}

#[cfg(test)]
mod tests;
