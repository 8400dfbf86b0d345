//! Heads that were written lately, so that an overwrite need not ask the engine what it overwrites.
//!
//! A direct-mapped cache: a key has one slot, by its hash, and whoever comes later has it. It holds what
//! the engine holds, byte for byte, or nothing: every change of a head passes through `set` or `forget`.
//! It is volatile and local; a miss costs one point read and changes no result.

use bytes::Bytes;

use crate::limits::{HEAD_CACHE_BYTES, HEAD_CACHE_SLOTS, MAX_CACHED_HEAD};

/// Bytes that a cached head is counted as besides its key and record: slot and allocations.
const FIXED: usize = 128;

/// Slots of a cache that holds anything.
const FIRST_SLOTS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    key: Bytes,
    record: Bytes,
}

/// The cache of one keyspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadCache {
    slots: Vec<Option<Head>>,
    bytes: usize,
    used: usize,
    /// Where eviction goes on.
    hand: usize,
}

/// Two keyspaces are equal if they hold the same; what is cached of it says nothing.
impl PartialEq for HeadCache {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for HeadCache {}

impl HeadCache {
    /// The head of `key`, if it is here.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        let head = self.slots.get(self.slot(key))?.as_ref()?;
        (head.key.as_ref() == key).then_some(&head.record)
    }

    /// `record` is the head of `key` from now on.
    pub(super) fn set(&mut self, key: &[u8], record: &[u8]) {
        if key.len() + record.len() > MAX_CACHED_HEAD {
            return self.forget(key);
        }
        if self.slots.len() < HEAD_CACHE_SLOTS && self.used * 2 >= self.slots.len() {
            self.grow();
        }
        // Copies: a slice of a whole message must not be what keeps the message in memory.
        let head =
            Head { key: Bytes::copy_from_slice(key), record: Bytes::copy_from_slice(record) };
        self.put(head);
        while self.bytes > HEAD_CACHE_BYTES {
            self.evict_one();
        }
    }

    /// Nothing is known of the head of `key` from now on.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if self.get(key).is_some() {
            self.empty(self.slot(key));
        }
    }

    fn put(&mut self, head: Head) {
        let slot = self.slot(&head.key);
        self.empty(slot);
        self.bytes += size(&head);
        self.used += 1;
        self.slots[slot] = Some(head);
    }

    fn empty(&mut self, slot: usize) {
        if let Some(head) = self.slots[slot].take() {
            self.bytes -= size(&head);
            self.used -= 1;
        }
    }

    fn evict_one(&mut self) {
        self.hand = (self.hand + 1) % self.slots.len();
        self.empty(self.hand);
    }

    /// Twice the slots, so that a small keyspace costs little.
    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(FIRST_SLOTS);
        let old = std::mem::replace(&mut self.slots, vec![None; slots]);
        (self.bytes, self.used) = (0, 0);
        old.into_iter().flatten().for_each(|head| self.put(head));
    }

    fn slot(&self, key: &[u8]) -> usize {
        crc32c::crc32c(key) as usize % self.slots.len().max(1)
    }

    /// Within the bound; and all that is cached, for checks against the engine.
    pub(super) fn audit(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let held = || self.slots.iter().flatten();
        assert_eq!(self.bytes, held().map(size).sum::<usize>(), "bytes are miscounted");
        assert_eq!(self.used, held().count(), "slots are miscounted");
        assert!(self.bytes <= HEAD_CACHE_BYTES);
        held().map(|head| (&head.key, &head.record))
    }
}

fn size(head: &Head) -> usize {
    head.key.len() + head.record.len() + FIXED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_wins_and_others_are_told_apart() {
        let mut cache = HeadCache::default();
        assert_eq!(cache.get(b"a"), None);
        cache.set(b"a", b"1");
        cache.set(b"b", b"2");
        cache.set(b"a", b"3");
        assert_eq!(cache.get(b"a").map(Bytes::as_ref), Some(&b"3"[..]));
        assert_eq!(cache.get(b"b").map(Bytes::as_ref), Some(&b"2"[..]));
        cache.forget(b"a");
        assert_eq!(cache.get(b"a"), None);
        assert_eq!(cache.audit().count(), 1);
    }

    #[test]
    fn large_heads_are_not_kept_and_hide_no_newer_one() {
        let mut cache = HeadCache::default();
        cache.set(b"a", b"old");
        cache.set(b"a", &vec![0; MAX_CACHED_HEAD]);
        assert_eq!(cache.get(b"a"), None);
        assert_eq!(cache.audit().count(), 0);
    }

    #[test]
    fn bytes_stay_within_the_bound() {
        let mut cache = HeadCache::default();
        let record = vec![7; MAX_CACHED_HEAD - 8];
        for i in 0..20_000_u64 {
            cache.set(&i.to_be_bytes(), &record);
        }
        assert!(cache.audit().count() > 0);
        assert!(cache.bytes > HEAD_CACHE_BYTES / 2);
    }
}
