//! Time inside the machine: the leader's group clock, and jitter for elections.
//!
//! Group time (contract 4) is the last stamp in the leader's log plus the monotonic progress it made
//! since it took office. A leader that was paused, or whose host slept, credits at most one election
//! timeout for the whole gap: by then it may have been deposed, and leases must not expire by a jump.

use std::time::Duration;

use quorate_rng::Rng;

use crate::GroupTime;

/// The group's clock while this node leads.
#[derive(Debug)]
pub(super) struct Clock {
    /// The last stamp in the log when it took office.
    base: GroupTime,
    progress: Duration,
    seen: Duration,
    /// Most progress credited to one step.
    cap: Duration,
}

impl Clock {
    pub(super) fn new(base: GroupTime, now: Duration, cap: Duration) -> Self {
        Self { base, progress: Duration::ZERO, seen: now, cap }
    }

    /// Credits the time since the last call, at most the cap.
    pub(super) fn advance(&mut self, now: Duration) {
        self.progress += now.saturating_sub(self.seen).min(self.cap);
        self.seen = self.seen.max(now);
    }

    /// Group time at `now`, without crediting it.
    pub(super) fn time(&self, now: Duration) -> GroupTime {
        let progress = self.progress + now.saturating_sub(self.seen).min(self.cap);
        GroupTime(self.base.0 + progress.as_millis() as u64)
    }
}

/// A duration in `[base, 2 * base)`, in whole microseconds: Raft's randomized timeout (5.2).
pub(super) fn timeout(rng: &mut Rng, base: Duration) -> Duration {
    let micros = (base.as_micros() as u64).max(1);
    base + Duration::from_micros(rng.below(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_secs(1);

    #[test]
    fn a_pause_credits_at_most_the_cap() {
        let mut clock = Clock::new(GroupTime(500), Duration::from_secs(9), CAP);
        clock.advance(Duration::from_millis(9_200));
        assert_eq!(clock.time(Duration::from_millis(9_200)), GroupTime(700));
        clock.advance(Duration::from_secs(60));
        assert_eq!(clock.time(Duration::from_secs(60)), GroupTime(1_700));
    }

    #[test]
    fn looking_credits_nothing_and_going_back_takes_nothing() {
        let mut clock = Clock::new(GroupTime(0), Duration::from_secs(5), CAP);
        assert_eq!(clock.time(Duration::from_millis(5_400)), GroupTime(400));
        assert_eq!(clock.time(Duration::from_secs(5)), GroupTime(0));
        clock.advance(Duration::from_millis(5_400));
        clock.advance(Duration::from_secs(1));
        clock.advance(Duration::from_millis(5_500));
        assert_eq!(clock.time(Duration::from_millis(5_500)), GroupTime(500));
    }

    #[test]
    fn timeouts_spread_over_the_interval() {
        let mut rng = Rng::new(7);
        let drawn: Vec<_> = (0..1_000).map(|_| timeout(&mut rng, CAP)).collect();
        assert!(drawn.iter().all(|t| (CAP..CAP * 2).contains(t)));
        assert!(drawn.iter().any(|t| *t < CAP * 11 / 10));
        assert!(drawn.iter().any(|t| *t > CAP * 19 / 10));
    }
}
