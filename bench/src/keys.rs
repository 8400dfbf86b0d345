//! Keys, values and the only source of chance: a seeded generator, so that two sides of a
//! comparison see the same keys in the same order.

use crate::limits::{KEY_BYTES, VALUE_BYTES};
use bytes::Bytes;

/// Bytes every benchmark key starts with.
pub const PREFIX: &[u8] = b"bench/";

/// SplitMix64: small, seeded, good enough to spread keys.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose sequence depends on the seed alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The `i`-th key: 32 bytes, spread over the key space like a hash.
pub fn key(i: u64) -> Bytes {
    let mut out = Vec::with_capacity(KEY_BYTES);
    out.extend_from_slice(PREFIX);
    out.extend_from_slice(format!("{:016x}", mix(i)).as_bytes());
    out.extend_from_slice(format!("{i:010x}").as_bytes());
    debug_assert_eq!(out.len(), KEY_BYTES);
    out.into()
}

/// A value of the benchmark's size that does not compress to nothing.
pub fn value(seed: u64) -> Bytes {
    let mut rng = Rng::new(seed);
    let words = (0..VALUE_BYTES / 8).flat_map(|_| rng.next().to_le_bytes());
    words.collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_are_distinct_and_of_one_size() {
        let keys: BTreeSet<Bytes> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.iter().all(|k| k.len() == KEY_BYTES));
    }

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            (0..100).map(|_| rng.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
