//! How long syncs take: a histogram that one thread feeds and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Finite buckets; the last one of the counts is for everything above.
pub const BUCKETS: usize = 14;

/// Counts of durations by etcd's bounds for `etcd_disk_wal_fsync_duration_seconds`:
/// 0.001·2^k seconds for k from 0 to 13.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    counts: [AtomicU64; BUCKETS + 1],
    sum_us: AtomicU64,
    /// Moving average over about eight, in microseconds.
    recent_us: AtomicU64,
}

/// A copy of the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyFigures {
    /// How many durations fell into each bucket (not cumulative); the last is unbounded.
    pub counts: [u64; BUCKETS + 1],
    /// Sum of all durations, in microseconds.
    pub sum_us: u64,
}

impl LatencyHistogram {
    /// Upper bound of a finite bucket, in microseconds, inclusive.
    #[must_use]
    pub fn bound_us(bucket: usize) -> u64 {
        1000 << bucket
    }

    pub(crate) fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = (0..BUCKETS).find(|k| us <= Self::bound_us(*k)).unwrap_or(BUCKETS);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        let recent = self.recent_us.load(Ordering::Relaxed);
        let next = if recent == 0 { us } else { recent - recent / 8 + us / 8 };
        self.recent_us.store(next, Ordering::Relaxed);
    }

    /// Moving average of the latest durations, in microseconds; 0 before the first.
    #[must_use]
    pub fn recent_us(&self) -> u64 {
        self.recent_us.load(Ordering::Relaxed)
    }

    /// A copy; counts of one moment as far as that matters to a graph.
    #[must_use]
    pub fn figures(&self) -> LatencyFigures {
        let mut figures =
            LatencyFigures { sum_us: self.sum_us.load(Ordering::Relaxed), ..Default::default() };
        for (into, from) in figures.counts.iter_mut().zip(&self.counts) {
            *into = from.load(Ordering::Relaxed);
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = LatencyHistogram::default();
        for us in [0, 1000, 1001, 2000, 8_192_000, 8_192_001, 60_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let figures = histogram.figures();
        assert_eq!(figures.counts[..3], [2, 2, 0]);
        assert_eq!(figures.counts[13..], [1, 2]);
        assert_eq!(figures.counts.iter().sum::<u64>(), 7);
        assert_eq!(figures.sum_us, 76_388_002);
    }
}
