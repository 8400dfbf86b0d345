//! One call that is not done.

use std::sync::Arc;
use std::time::Duration;

use quorate_rng::Rng;

use crate::backoff::backoff;
use crate::breaker::Permit;
use crate::limits::Limits;
use crate::service::Ticket;
use crate::{AttemptId, AttemptResult, Call, CallFailure, CallResult, Destination};

/// Where a call stands. Each phase ends at `InHand::wake` at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In its destination's queue, until the whole call's time is over.
    Waiting { ticket: Ticket },
    /// Under way since then.
    Attempting { attempt: AttemptId, permit: Permit, since: Duration },
    /// Between two attempts.
    Pausing,
}

#[derive(Debug)]
pub(crate) struct InHand {
    pub(crate) call: Arc<Call>,
    pub(crate) destination: Destination,
    pub(crate) phase: Phase,
    /// When the phase ends if nothing else happens.
    pub(crate) wake: Duration,
    started: Duration,
    /// End of the whole call.
    deadline: Duration,
    /// Attempts begun.
    attempts: u32,
    /// Address of the last attempt.
    address: Option<u32>,
    /// How the last attempt ended, and how long it took.
    last: Option<(AttemptResult, Duration)>,
}

impl InHand {
    pub(crate) fn new(
        now: Duration,
        call: Call,
        destination: Destination,
        limits: &Limits,
    ) -> Self {
        let deadline = now + call.retry.within.min(limits.longest_call);
        Self {
            call: Arc::new(call),
            destination,
            phase: Phase::Pausing,
            wake: deadline,
            started: now,
            deadline,
            attempts: 0,
            address: None,
            last: None,
        }
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Time that an attempt beginning now gets; zero if it is too late for one.
    pub(crate) fn grant(&self, now: Duration) -> Duration {
        self.call.timeout.min(self.deadline.saturating_sub(now))
    }

    /// Begins an attempt. The first one goes to the address that is next for the destination, each further one to
    /// the neighbour of the last.
    pub(crate) fn begin(
        &mut self,
        now: Duration,
        attempt: AttemptId,
        permit: Permit,
        next_address: impl FnOnce() -> u32,
    ) -> u32 {
        self.attempts += 1;
        self.wake = now + self.grant(now);
        self.phase = Phase::Attempting { attempt, permit, since: now };
        let address = self.address.map_or_else(next_address, |last| last.wrapping_add(1));
        self.address = Some(address);
        address
    }

    /// Keeps the result of an attempt.
    pub(crate) fn ended(&mut self, result: AttemptResult, latency: Duration) {
        self.last = Some((result, latency));
    }

    /// When another attempt is due, if there is one left and time for it.
    pub(crate) fn next_attempt(&self, now: Duration, rng: &mut Rng) -> Option<Duration> {
        let policy = &self.call.retry;
        if self.attempts >= policy.attempts {
            return None;
        }
        let doublings = self.attempts.saturating_sub(1);
        let at = now + backoff(rng, policy.pause, doublings, policy.longest_pause);
        (at < self.deadline).then_some(at)
    }

    /// The answer to who started it: what the last attempt said, or this if there was none.
    pub(crate) fn result(self, now: Duration, otherwise: CallFailure) -> CallResult {
        let latency = now.saturating_sub(self.started);
        let attempts = self.attempts;
        match self.last {
            Some((AttemptResult::Answered { status, message, body }, latency)) => {
                CallResult::Answered { status, message, body, latency, attempts }
            }
            Some((AttemptResult::Failed(why), _)) => CallResult::Failed { why, latency, attempts },
            None => CallResult::Failed { why: otherwise, latency, attempts },
        }
    }

    /// Forgets what attempts said.
    pub(crate) fn cancelled(mut self, now: Duration) -> CallResult {
        self.last = None;
        self.result(now, CallFailure::Cancelled)
    }

    pub(crate) fn invariants(&self, limits: &Limits) {
        assert!(self.wake <= self.deadline, "something is due after the end of the call");
        assert!(self.deadline - self.started <= limits.longest_call);
        assert!(self.attempts <= self.call.retry.attempts.max(1), "too many attempts");
        assert_eq!(self.address.is_some(), self.attempts > 0);
    }
}

/// What a call takes in memory, about.
pub(crate) fn size(call: &Call) -> usize {
    const FIXED: usize = 512;
    let header = |(name, value): &(String, String)| name.len() + value.len();
    FIXED + call.url.len() + call.body.len() + call.headers.iter().map(header).sum::<usize>()
}
