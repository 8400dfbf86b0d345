//! What has happened so far.

use std::time::Duration;

/// How an order ended, as the one who paid it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Paid.
    Committed,
    /// A service refused: already paid, out of stock.
    Refused,
    /// A service could not be reached in time, or the transaction timed out meanwhile.
    Cancelled,
    /// The payer went away; the server cancels it.
    Abandoned,
}

/// Counts and times.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) committed: u64,
    pub(super) refused: u64,
    pub(super) cancelled: u64,
    pub(super) abandoned: u64,
    /// Of each committed order: from beginning to the answer that it is decided.
    times: Vec<Duration>,
}

impl Tally {
    pub(super) fn add(&mut self, end: End, took: Duration) {
        match end {
            End::Committed => {
                self.committed += 1;
                self.times.push(took);
            }
            End::Refused => self.refused += 1,
            End::Cancelled => self.cancelled += 1,
            End::Abandoned => self.abandoned += 1,
        }
    }

    pub(super) fn orders(&self) -> u64 {
        self.committed + self.refused + self.cancelled + self.abandoned
    }

    /// The time that this part of the committed orders did not exceed, in ms.
    pub(super) fn percentile_ms(&self, part: f64) -> f64 {
        let mut times = self.times.clone();
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
    fn percentiles_are_of_committed_orders() {
        let mut tally = Tally::default();
        assert_eq!(tally.percentile_ms(0.5).to_bits(), 0.0_f64.to_bits());
        for ms in 1..=101 {
            tally.add(End::Committed, Duration::from_millis(ms));
        }
        tally.add(End::Refused, Duration::from_secs(9));
        assert_eq!((tally.percentile_ms(0.5), tally.percentile_ms(0.99)), (51.0, 100.0));
        assert_eq!((tally.orders(), tally.committed), (102, 101));
    }
}
