//! The circuit breaker of one destination (Nygard, *Release It!*, 2007, chapter 5).
//!
//! ```text
//!             `failures` in a row                  suspension over, a call begins
//!   Closed ───────────────────────▶ Open ─────────────────────────────────▶ Probing
//!     ▲                               ▲  the probe fails: suspended for longer  │ │
//!     │                               └─────────────────────────────────────────┘ │
//!     └───────────────────────────────────────────────── the probe is answered ──┘
//! ```
//!
//! Each change of state begins a new epoch. An attempt holds the epoch in which it began, and only attempts of
//! the present epoch say anything: what was under way when the breaker opened neither closes it nor keeps it open.
//! While it is open or probing, calls fail at once; none waits for the probe.

use std::time::Duration;

use quorate_rng::Rng;

use crate::backoff::backoff;
use crate::limits::Limits;

/// What an attempt says about its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers.
    Well,
    /// It does not, or answers that it cannot.
    Failing,
    /// Nothing.
    Unknown,
}

/// The state as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// Calls fail at once, until the suspension is over and the next one becomes the probe.
    Open,
    /// One call is under way and decides; others fail at once.
    HalfOpen,
}

/// The epoch in which an attempt began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permit(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Duration },
    Probing,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    epoch: u64,
    /// How often it has opened since it was closed.
    trips: u32,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { state: State::Closed { failures: 0 }, epoch: 0, trips: 0 }
    }

    pub(crate) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing => BreakerState::HalfOpen,
        }
    }

    /// Whether an attempt may begin at this time.
    pub(crate) fn admits(&self, at: Duration) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } => until <= at,
            State::Probing => false,
        }
    }

    /// How long a call that is not admitted should stay away.
    pub(crate) fn suspended_for(&self, now: Duration, limits: &Limits) -> Duration {
        match self.state {
            State::Closed { .. } => Duration::ZERO,
            State::Open { until } => until.saturating_sub(now),
            State::Probing => limits.suspension,
        }
    }

    /// An attempt begins; the first one after a suspension is the probe.
    pub(crate) fn begin(&mut self, now: Duration) -> Permit {
        assert!(self.admits(now), "an attempt that the breaker does not admit");
        if matches!(self.state, State::Open { .. }) {
            self.turn(State::Probing);
        }
        Permit(self.epoch)
    }

    /// An attempt ended; true if this opened the breaker.
    pub(crate) fn ended(
        &mut self,
        now: Duration,
        permit: Permit,
        health: Health,
        limits: &Limits,
        rng: &mut Rng,
    ) -> bool {
        if permit.0 != self.epoch {
            return false;
        }
        match (self.state, health) {
            (State::Closed { .. }, Health::Well) => self.state = State::Closed { failures: 0 },
            (State::Closed { failures }, Health::Failing) if failures + 1 < limits.failures => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (_, Health::Failing) => {
                self.open(now, limits, rng);
                return true;
            }
            (State::Probing, Health::Well) => {
                self.trips = 0;
                self.turn(State::Closed { failures: 0 });
            }
            // Nothing was learnt: the next call is the probe.
            (State::Probing, Health::Unknown) => self.turn(State::Open { until: now }),
            (State::Closed { .. } | State::Open { .. }, _) => {}
        }
        false
    }

    fn open(&mut self, now: Duration, limits: &Limits, rng: &mut Rng) {
        let pause = backoff(rng, limits.suspension, self.trips, limits.longest_suspension);
        self.trips = self.trips.saturating_add(1);
        self.turn(State::Open { until: now + pause });
    }

    fn turn(&mut self, state: State) {
        self.epoch += 1;
        self.state = state;
    }

    /// What must hold, given the permits of the attempts under way.
    pub(crate) fn invariants(&self, limits: &Limits, under_way: &[Permit]) {
        let present = under_way.iter().filter(|permit| permit.0 == self.epoch).count();
        match self.state {
            State::Closed { failures } => {
                assert!(failures == 0 || failures < limits.failures, "should have opened");
            }
            State::Open { .. } => assert_eq!(present, 0, "attempts of an open breaker"),
            State::Probing => assert_eq!(present, 1, "exactly one probe"),
        }
        assert!(under_way.iter().all(|permit| permit.0 <= self.epoch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        let suspension = 2 * S;
        Limits { failures: 3, suspension, longest_suspension: 5 * S, ..Limits::default() }
    }

    /// Gives the breaker these results, each of an attempt begun and ended at `now`.
    fn feed(breaker: &mut Breaker, now: Duration, results: &[Health]) -> Vec<bool> {
        let mut rng = Rng::new(1);
        let one = |health: &Health| {
            let permit = breaker.begin(now);
            breaker.ended(now, permit, *health, &limits(), &mut rng)
        };
        results.iter().map(one).collect()
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        use Health::{Failing, Unknown, Well};
        let mut breaker = Breaker::new();
        let results = [Failing, Failing, Well, Failing, Unknown, Failing];
        assert_eq!(feed(&mut breaker, S, &results), [false; 6]);
        assert_eq!(feed(&mut breaker, S, &[Failing]), [true]);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn suspended_for_longer_with_each_failed_probe_and_shortly_again_after_a_good_one() {
        let mut breaker = Breaker::new();
        feed(&mut breaker, S, &[Health::Failing; 3]);
        let mut now = S;
        for expected in [2, 4, 5, 5] {
            assert!(!breaker.admits(now + expected * S / 2 - S / 1_000));
            now += expected * S;
            assert!(breaker.admits(now));
            assert_eq!(feed(&mut breaker, now, &[Health::Failing]), [true]);
        }
        now += 5 * S;
        assert_eq!(feed(&mut breaker, now, &[Health::Well]), [false]);
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert_eq!(feed(&mut breaker, now, &[Health::Failing; 3]), [false, false, true]);
        assert!(breaker.admits(now + 2 * S));
    }

    #[test]
    fn what_began_before_says_nothing() {
        let (mut breaker, mut rng) = (Breaker::new(), Rng::new(1));
        let old = [breaker.begin(S), breaker.begin(S)];
        feed(&mut breaker, S, &[Health::Failing; 3]);
        assert!(!breaker.ended(S, old[0], Health::Well, &limits(), &mut rng));
        assert_eq!(breaker.state(), BreakerState::Open);
        let probe = breaker.begin(4 * S);
        assert!(!breaker.ended(4 * S, old[1], Health::Failing, &limits(), &mut rng));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(!breaker.admits(9 * S));
        assert!(!breaker.ended(4 * S, probe, Health::Unknown, &limits(), &mut rng));
        assert!(breaker.admits(4 * S));
    }
}
