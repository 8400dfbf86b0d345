//! What has happened so far.

use std::collections::BTreeMap;
use std::time::Duration;

use super::options::Kind;

/// How a deed ended, as the one who did it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it was done.
    Committed,
    /// A service refused, for a good reason.
    Refused,
    /// A service could not be reached in time, or the transaction timed out meanwhile.
    Cancelled,
    /// Whoever did it went away; the server cancels it.
    Abandoned,
}

/// Counts of ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) committed: u64,
    pub(super) refused: u64,
    pub(super) cancelled: u64,
    pub(super) abandoned: u64,
}

impl Ends {
    fn add(&mut self, end: End) {
        *match end {
            End::Committed => &mut self.committed,
            End::Refused => &mut self.refused,
            End::Cancelled => &mut self.cancelled,
            End::Abandoned => &mut self.abandoned,
        } += 1;
    }

    /// Deeds that have ended, however.
    pub(super) fn all(&self) -> u64 {
        self.committed + self.refused + self.cancelled + self.abandoned
    }
}

/// Counts and times by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    total: Ends,
    kinds: BTreeMap<Kind, (Ends, Times)>,
}

/// Of each committed deed: from its beginning to the answer that it is decided.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<Duration>);

impl Tally {
    pub(super) fn add(&mut self, kind: Kind, end: End, took: Duration) {
        self.total.add(end);
        let (ends, times) = self.kinds.entry(kind).or_default();
        ends.add(end);
        if end == End::Committed {
            times.0.push(took);
        }
    }

    pub(super) fn total(&self) -> Ends {
        self.total
    }

    /// Of each kind that occurred.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (Kind, Ends, &Times)> {
        self.kinds.iter().map(|(kind, (ends, times))| (*kind, *ends, times))
    }

    /// Of all kinds.
    pub(super) fn times(&self) -> Times {
        Times(self.kinds.values().flat_map(|(_, times)| times.0.iter().copied()).collect())
    }
}

impl Times {
    /// The time that this part of the deeds did not exceed, in ms.
    pub(super) fn percentile_ms(&self, part: f64) -> f64 {
        let mut times = self.0.clone();
        times.sort_unstable();
        let Some(last) = times.len().checked_sub(1) else { return 0.0 };
        let at = (last as f64 * part).ceil() as usize;
        times[at.min(last)].as_secs_f64() * 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_committed_deeds() {
        let mut tally = Tally::default();
        assert_eq!(tally.times().percentile_ms(0.5).to_bits(), 0.0_f64.to_bits());
        for ms in 1..=101 {
            let kind = if ms % 2 == 0 { Kind::Tcc } else { Kind::Msg };
            tally.add(kind, End::Committed, Duration::from_millis(ms));
        }
        tally.add(Kind::Tcc, End::Refused, Duration::from_secs(9));
        let times = tally.times();
        assert_eq!((times.percentile_ms(0.5), times.percentile_ms(0.99)), (51.0, 100.0));
        assert_eq!((tally.total().all(), tally.total().committed), (102, 101));
        let (kind, ends, times) = tally.kinds().next().expect("two kinds");
        assert_eq!((kind, ends.all(), ends.refused), (Kind::Tcc, 51, 1));
        assert!((times.percentile_ms(1.0) - 100.0).abs() < 0.01);
    }
}
