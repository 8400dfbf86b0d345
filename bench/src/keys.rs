//! Keys, values and the only source of chance: a seeded generator, so that two sides of a
//! comparison see the same keys in the same order.

use crate::limits::{KEY_BYTES, VALUE_BYTES};
use bytes::Bytes;
use quorate_rng::mix;

pub use quorate_rng::Rng;

/// Bytes every benchmark key starts with.
pub const PREFIX: &[u8] = b"bench/";

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
}
