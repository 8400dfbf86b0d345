//! From the hash of a key to its newest item: open addressing, one atomic word a slot.
//!
//! A word holds 32 bits of the hash and the item's number plus one; 0 is a free slot. The owner alone writes.
//! Readers may meet words that are newer than what they are to see: these lead to older items. A slot is
//! never given to another key, so what a reader must find is where it was. A full index is not grown in
//! place: the owner makes a new one, and who reads the old one keeps it as it is.

use std::sync::atomic::{AtomicU64, Ordering};

use super::At;

/// Slots of the smallest index.
const MIN_SLOTS: usize = 1 << 10;

/// See the module.
pub(super) struct Index {
    slots: Box<[AtomicU64]>,
}

/// What is known of a key.
pub(super) enum Found {
    /// Its slot and its newest item.
    Present { slot: usize, at: At },
    /// The slot that is free for it.
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

impl Index {
    /// Room for `keys` keys.
    pub(super) fn new(keys: usize) -> Self {
        let slots = (keys + keys / 2).next_power_of_two().max(MIN_SLOTS);
        Self { slots: (0..slots).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Keys that it takes: a quarter of the slots stays free, so that searches are short and end.
    pub(super) fn capacity(&self) -> usize {
        self.slots.len() / 4 * 3
    }

    /// Searches the key of this hash that `is_key` recognises by an item.
    pub(super) fn find(&self, hash: u64, is_key: impl Fn(At) -> bool) -> Found {
        let mut slot = self.first_slot(tag(hash));
        loop {
            let word = self.slots[slot].load(Ordering::Acquire);
            if word == 0 {
                return Found::Vacant { slot };
            }
            let at = word as u32 - 1;
            if word >> 32 == tag(hash) && is_key(at) {
                return Found::Present { slot, at };
            }
            slot = self.after(slot);
        }
    }

    /// Lets the slot that was found for a key of this hash point to the item.
    pub(super) fn point(&self, found: &Found, hash: u64, at: At) {
        let (Found::Present { slot, .. } | Found::Vacant { slot }) = *found;
        self.slots[slot].store(tag(hash) << 32 | u64::from(at + 1), Ordering::Release);
    }

    /// Twice as large, with the same content.
    pub(super) fn grown(&self) -> Self {
        let grown = Self { slots: (0..self.slots.len() * 2).map(|_| AtomicU64::new(0)).collect() };
        for word in &self.slots {
            let word = word.load(Ordering::Relaxed);
            if word != 0 {
                let mut slot = grown.first_slot(word >> 32);
                while grown.slots[slot].load(Ordering::Relaxed) != 0 {
                    slot = grown.after(slot);
                }
                grown.slots[slot].store(word, Ordering::Relaxed);
            }
        }
        grown
    }

    /// The slot at which the search for a tag begins. The number of slots is a power of two.
    fn first_slot(&self, tag: u64) -> usize {
        // 32 bits are enough for the slots of all items that have numbers.
        (tag << 32 >> (64 - self.slots.len().ilog2())) as usize
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}
