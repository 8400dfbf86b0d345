//! An append-only list of items that any thread may read while its owner appends.
//!
//! Chunks of cells, each assigned once. A chunk is allocated when its first item comes. There are
//! [`CHUNKS_A_SIZE`] chunks of the smallest size, as many of twice that size, and so on: so the directory
//! is short whatever a table grows to, and at most a sixteenth of the cells is not used yet.

use std::sync::OnceLock;

use super::{At, Item};

const CHUNKS_A_SIZE: usize = 16;
/// Cells of the smallest chunks, as a power of two.
const SMALLEST: u32 = 10;
/// Items in all chunks of the smallest size, as a power of two.
const FIRST: u32 = SMALLEST + CHUNKS_A_SIZE.ilog2();
/// Enough for every number.
const CHUNKS: usize = CHUNKS_A_SIZE * (At::BITS - FIRST + 1) as usize;

type Chunk = Box<[OnceLock<Item>]>;

/// See the module.
pub(super) struct Items(Box<[OnceLock<Chunk>]>);

/// Where an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    chunk: usize,
    offset: usize,
    /// Cells of the chunk, as a power of two.
    size: u32,
}

impl Place {
    fn of(at: At) -> Self {
        let doublings = ((at >> FIRST) + 1).ilog2();
        let before = ((1_u64 << doublings) - 1) << FIRST;
        let within = (u64::from(at) - before) as usize;
        let size = SMALLEST + doublings;
        let chunk = CHUNKS_A_SIZE * doublings as usize + (within >> size);
        Self { chunk, offset: within & ((1 << size) - 1), size }
    }
}

impl Items {
    pub(super) fn new() -> Self {
        Self((0..CHUNKS).map(|_| OnceLock::new()).collect())
    }

    /// An item that was set before its number was handed out.
    pub(super) fn get(&self, at: At) -> &Item {
        let Place { chunk, offset, .. } = Place::of(at);
        let cell = self.0[chunk].get().and_then(|chunk| chunk[offset].get());
        cell.expect("an item is set before its number is handed out")
    }

    /// Sets the next item.
    pub(super) fn set(&self, at: At, item: Item) {
        let Place { chunk, offset, size } = Place::of(at);
        let new = || (0..1_usize << size).map(|_| OnceLock::new()).collect();
        let outcome = self.0[chunk].get_or_init(new)[offset].set(item);
        assert!(outcome.is_ok(), "a memory table has two writers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_each_other() {
        let mut expected = Place { chunk: 0, offset: 0, size: SMALLEST };
        for at in 0..1_000_000 {
            assert_eq!(Place::of(at), expected, "{at}");
            expected.offset += 1;
            if expected.offset == 1 << expected.size {
                expected.offset = 0;
                expected.chunk += 1;
                expected.size += u32::from(expected.chunk.is_multiple_of(CHUNKS_A_SIZE));
            }
        }
        assert!(Place::of(At::MAX).chunk < CHUNKS);
    }
}
