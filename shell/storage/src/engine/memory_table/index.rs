//! From the hash of a key to its newest item: open addressing, one atomic word a slot.
//!
//! A word holds 32 bits of the hash and the item's number plus one; 0 is a free slot. The owner alone writes.
//! Readers may meet words that are newer than what they are to see: these lead to older items. A slot is
//! never given to another key, so what a reader must find is where it was.
//!
//! The slots are divided into shards by other bits of the hash. A full shard is not grown in place: the owner makes
//! an index with a new one, and who reads the old one keeps it as it is. So no write waits longer than a shard takes:
//! to clear and fill 8 MiB at once stopped everybody for 20 ms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::At;

/// Parts that grow one by one.
const SHARDS: usize = 256;

/// Slots of the smallest shard.
const MIN_SLOTS: usize = 8;

/// A power of two of slots, or none.
type Shard = Arc<[AtomicU64]>;

/// See the module.
#[derive(Clone)]
pub(super) struct Index {
    shards: Box<[Shard]>,
    /// Slots that a shard gets when its first key comes.
    first_slots: usize,
}

/// What is known of a key.
pub(super) enum Found {
    /// Its slot and its newest item.
    Present { slot: usize, at: At },
    /// The slot that is free for it, if its shard is not full.
    Vacant { slot: usize },
}

impl Found {
    /// The newest item, if there is one.
    pub(super) fn at(&self) -> Option<At> {
        match self {
            Self::Present { at, .. } => Some(*at),
            Self::Vacant { .. } => None,
        }
    }
}

fn tag(hash: u64) -> u64 {
    hash >> 32
}

/// The shard of a hash, by bits that are not in its tag.
fn shard_of(hash: u64) -> usize {
    hash as usize % SHARDS
}

fn new_shard(slots: usize) -> Shard {
    (0..slots).map(|_| AtomicU64::new(0)).collect()
}

/// How full the shards are; for the owner, who decides when one has to grow.
#[derive(Default)]
pub(super) struct Filled {
    keys: Vec<u32>,
}

impl Filled {
    /// Counts a new key.
    pub(super) fn count(&mut self, hash: u64) {
        self.keys.resize(SHARDS, 0);
        self.keys[shard_of(hash)] += 1;
    }

    /// Whether the shard of this hash has no room for another key: a quarter of the slots stays free, so that
    /// searches are short and end.
    pub(super) fn is_full(&self, index: &Index, hash: u64) -> bool {
        let keys = self.keys.get(shard_of(hash)).copied().unwrap_or(0);
        keys as usize >= index.shards[shard_of(hash)].len() / 4 * 3
    }
}

impl Index {
    /// One that need not grow before it holds about `keys` keys. Memory is taken as keys come.
    pub(super) fn new(keys: usize) -> Self {
        let each = keys / SHARDS;
        let first_slots = (each + each / 2).next_power_of_two().max(MIN_SLOTS);
        Self { shards: vec![new_shard(0); SHARDS].into(), first_slots }
    }

    /// Searches the key of this hash that `is_key` recognises by an item.
    pub(super) fn find(&self, hash: u64, is_key: impl Fn(At) -> bool) -> Found {
        let slots = &self.shards[shard_of(hash)];
        if slots.is_empty() {
            return Found::Vacant { slot: 0 };
        }
        let mut slot = first_slot(slots, tag(hash));
        loop {
            let word = slots[slot].load(Ordering::Acquire);
            if word == 0 {
                return Found::Vacant { slot };
            }
            let at = word as u32 - 1;
            if word >> 32 == tag(hash) && is_key(at) {
                return Found::Present { slot, at };
            }
            slot = after(slots, slot);
        }
    }

    /// Lets the slot that was found for a key of this hash point to the item.
    pub(super) fn point(&self, found: &Found, hash: u64, at: At) {
        let (Found::Present { slot, .. } | Found::Vacant { slot }) = *found;
        let word = tag(hash) << 32 | u64::from(at + 1);
        self.shards[shard_of(hash)][slot].store(word, Ordering::Release);
    }

    /// Makes the shard of this hash twice as large, with the same content.
    pub(super) fn grow(&mut self, hash: u64) {
        let shard = &mut self.shards[shard_of(hash)];
        let grown = new_shard(self.first_slots.max(2 * shard.len()));
        for word in shard.iter() {
            let word = word.load(Ordering::Relaxed);
            if word != 0 {
                let mut slot = first_slot(&grown, word >> 32);
                while grown[slot].load(Ordering::Relaxed) != 0 {
                    slot = after(&grown, slot);
                }
                grown[slot].store(word, Ordering::Relaxed);
            }
        }
        *shard = grown;
    }
}

/// The slot at which the search for a tag begins. The number of slots is a power of two.
fn first_slot(slots: &[AtomicU64], tag: u64) -> usize {
    // 32 bits are enough for the slots of all items that have numbers.
    (tag << 32 >> (64 - slots.len().ilog2())) as usize
}

fn after(slots: &[AtomicU64], slot: usize) -> usize {
    (slot + 1) & (slots.len() - 1)
}
