//! Heads that were written lately, so that an overwrite need not ask the engine what it overwrites.
//!
//! A direct-mapped cache: a key has one slot, by its hash, and whoever comes later has it. It holds what
//! the engine holds, byte for byte, or nothing: every change of a head passes through `set` or `forget`.
//! It is volatile and local; a miss costs one point read and changes no result.
//!
//! It grows in shards, each by itself: to move all heads at once stopped the node for 45 ms.

use bytes::Bytes;

use crate::limits::{HEAD_CACHE_BYTES, HEAD_CACHE_SHARDS, HEAD_CACHE_SLOTS, MAX_CACHED_HEAD};

/// Bytes that a cached head is counted as besides its key and record: slot and allocations.
const FIXED: usize = 128;

/// Slots of a shard that holds anything.
const FIRST_SLOTS: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    key: Bytes,
    record: Bytes,
}

/// A power of two of slots, or none.
#[derive(Clone, Debug, Default)]
struct Shard {
    slots: Vec<Option<Head>>,
    used: usize,
}

/// Where a key has its place.
#[derive(Clone, Copy, Debug)]
struct Place {
    shard: usize,
    /// What its slot is chosen by.
    hash: usize,
}

/// The cache of one keyspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadCache {
    /// None before the first head.
    shards: Vec<Shard>,
    bytes: usize,
    /// Where eviction goes on: a shard, and a slot of it.
    hand: (usize, usize),
}

impl Place {
    fn of(key: &[u8]) -> Self {
        let hash = crc32c::crc32c(key) as usize;
        Self { shard: hash % HEAD_CACHE_SHARDS, hash: hash / HEAD_CACHE_SHARDS }
    }
}

impl Shard {
    fn slot(&self, place: Place) -> usize {
        place.hash % self.slots.len().max(1)
    }

    fn wants_to_grow(&self) -> bool {
        self.slots.len() < HEAD_CACHE_SLOTS / HEAD_CACHE_SHARDS && self.used * 2 >= self.slots.len()
    }

    /// Twice the slots, so that a small keyspace costs little. Who finds its slot taken is dropped: gives those.
    fn grow(&mut self) -> Vec<Head> {
        let slots = (self.slots.len() * 2).max(FIRST_SLOTS);
        let old = std::mem::replace(self, Self { slots: vec![None; slots], used: 0 });
        let heads = old.slots.into_iter().flatten();
        heads.filter_map(|head| self.put(Place::of(&head.key), head)).collect()
    }

    /// Gives what was in its slot.
    fn put(&mut self, place: Place, head: Head) -> Option<Head> {
        let slot = self.slot(place);
        let before = self.slots[slot].replace(head);
        self.used += usize::from(before.is_none());
        before
    }

    fn empty(&mut self, slot: usize) -> Option<Head> {
        let before = self.slots.get_mut(slot)?.take();
        self.used -= usize::from(before.is_some());
        before
    }
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
        let place = Place::of(key);
        let shard = self.shards.get(place.shard)?;
        let head = shard.slots.get(shard.slot(place))?.as_ref()?;
        (head.key.as_ref() == key).then_some(&head.record)
    }

    /// `record` is the head of `key` from now on.
    pub(super) fn set(&mut self, key: &[u8], record: &[u8]) {
        if key.len() + record.len() > MAX_CACHED_HEAD {
            return self.forget(key);
        }
        self.shards.resize_with(HEAD_CACHE_SHARDS, Shard::default);
        let place = Place::of(key);
        let shard = &mut self.shards[place.shard];
        let dropped = if shard.wants_to_grow() { shard.grow() } else { Vec::new() };
        // Copies: a slice of a whole message must not be what keeps the message in memory.
        let head =
            Head { key: Bytes::copy_from_slice(key), record: Bytes::copy_from_slice(record) };
        self.bytes += size(&head);
        let replaced = shard.put(place, head);
        self.bytes -= dropped.iter().chain(&replaced).map(size).sum::<usize>();
        while self.bytes > HEAD_CACHE_BYTES {
            self.evict_one();
        }
    }

    /// Nothing is known of the head of `key` from now on.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if self.get(key).is_some() {
            let place = Place::of(key);
            let shard = &mut self.shards[place.shard];
            let gone = shard.empty(shard.slot(place));
            self.bytes -= gone.as_ref().map_or(0, size);
        }
    }

    fn evict_one(&mut self) {
        let (shard, slot) = self.hand;
        let gone = self.shards[shard].empty(slot);
        self.bytes -= gone.as_ref().map_or(0, size);
        self.hand = match slot + 1 < self.shards[shard].slots.len() {
            true => (shard, slot + 1),
            false => ((shard + 1) % HEAD_CACHE_SHARDS, 0),
        };
    }

    /// Within the bound; and all that is cached, for checks against the engine.
    pub(super) fn audit(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let held = || self.shards.iter().flat_map(|shard| shard.slots.iter().flatten());
        assert_eq!(self.bytes, held().map(size).sum::<usize>(), "bytes are miscounted");
        let used = self.shards.iter().map(|shard| shard.used).sum::<usize>();
        assert_eq!(used, held().count(), "slots are miscounted");
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
