//! A memory table as the owner holds it: with a filter in front.
//!
//! A get looks into the active table and up to four sealed ones before it looks into files, and each look
//! into a skip list of 32 MiB costs some µs of cache misses, nearly always to find nothing. The filter
//! answers that in one cache line. It is the owner's alone: readers on other threads do without.
//!
//! Each key sets four bits of one 64-bit word. The size is fixed for the usual number of keys in a table;
//! with more of them it only says "maybe" more often.

use std::sync::Arc;

use lsm_tree::{InternalValue, Memtable, SeqNo};

/// Words of the filter: 512 KiB, 16 bits a key at 256 k keys, which then errs about once in 100 times.
const WORDS: usize = 1 << 16;

/// See the module.
pub(super) struct MemoryTable {
    pub(super) table: Arc<Memtable>,
    filter: Box<[u64]>,
}

impl MemoryTable {
    /// A table that is still empty.
    pub(super) fn new(table: Arc<Memtable>) -> Self {
        assert!(table.is_empty(), "the filter would not know what is in the table");
        Self { table, filter: vec![0; WORDS].into() }
    }

    /// Adds an item; `hash` is that of its key.
    pub(super) fn insert(&mut self, item: InternalValue, hash: u64) {
        let (word, bits) = place(hash);
        self.filter[word] |= bits;
        self.table.insert(item);
    }

    /// The newest item of a key, a tombstone included.
    pub(super) fn get(&self, key: &[u8], hash: u64) -> Option<InternalValue> {
        let (word, bits) = place(hash);
        if self.filter[word] & bits != bits {
            return None;
        }
        self.table.get(key, SeqNo::MAX)
    }
}

/// The word of a key and its bits in it, from different parts of the hash.
fn place(hash: u64) -> (usize, u64) {
    let word = (hash >> 48) as usize % WORDS;
    let bit = |shift: u32| 1 << (hash >> shift & 63);
    (word, bit(0) | bit(6) | bit(12) | bit(18))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::read::hash;
    use lsm_tree::ValueType;

    #[test]
    fn finds_all_that_is_in_it_and_spares_nearly_all_other_looks() {
        let mut table = MemoryTable::new(Arc::new(Memtable::new(0)));
        let key = |n: u32| n.to_string().into_bytes();
        for n in 0..100_000 {
            let item = InternalValue::from_components(key(n), vec![], 1, ValueType::Value);
            table.insert(item, hash(&key(n)));
        }
        assert!((0..100_000).all(|n| table.get(&key(n), hash(&key(n))).is_some()));
        let maybe = |n: u32| {
            let (word, bits) = place(hash(&key(n)));
            table.filter[word] & bits == bits
        };
        let wrong = (100_000..200_000).filter(|n| maybe(*n)).count();
        assert!(wrong < 1_000, "{wrong} of 100000");
    }
}
