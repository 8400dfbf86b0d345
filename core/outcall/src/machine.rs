//! The machine: calls on their way from `Start` to `Done`.
//!
//! ```text
//!            a turn                    answered, or no attempt left
//!  Waiting ──────────▶ Attempting ─────────────────────────────────▶ Done
//!     ▲                    │ failed                                    ▲
//!     └──── Pausing ◀──────┘                                           │
//!   from everywhere: cancelled, out of time, destination suspended ────┘
//! ```
//!
//! After each step no destination that has a call waiting and attempts to spare is left out, unless `Limits::attempts`
//! are under way; then destinations take turns, one call each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_rng::Rng;

use crate::answer;
use crate::figures::Figures;
use crate::in_hand::{self, InHand, Phase};
use crate::limits::{Limits, TIMERS_PER_STEP};
use crate::service::{Held, Services};
use crate::{
    AttemptId, AttemptResult, Call, CallFailure, CallId, CallResult, Destination, Input, Output,
};

/// See the module.
#[derive(Debug)]
pub struct Outcalls {
    limits: Limits,
    rng: Rng,
    calls: BTreeMap<CallId, InHand>,
    attempts: BTreeMap<AttemptId, CallId>,
    services: Services,
    /// When each call's phase ends.
    timers: BTreeSet<(Duration, CallId)>,
    /// Bytes of `calls`.
    bytes: usize,
    last_attempt: u64,
    overloaded: u64,
}

impl Outcalls {
    /// A machine without calls; `seed` is for jitter.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            rng: Rng::new(seed),
            calls: BTreeMap::new(),
            attempts: BTreeMap::new(),
            services: Services::default(),
            timers: BTreeSet::new(),
            bytes: 0,
            last_attempt: 0,
            overloaded: 0,
        }
    }

    /// Takes one input at `now` (monotonic time since any fixed origin) and appends what is to be done.
    ///
    /// # Panics
    /// If a call is started with the number of one that is not done.
    pub fn step(&mut self, now: Duration, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Start { id, call } => self.start(now, id, call, out),
            Input::Cancel { id } => self.cancel(now, id, out),
            Input::AttemptDone { attempt, result } => self.ended(now, attempt, result, out),
            Input::Tick => self.tick(now, out),
        }
        self.take_turns(now, out);
    }

    /// When `Input::Tick` is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How things stand.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            calls: self.calls.len(),
            bytes: self.bytes,
            attempts: self.attempts.len(),
            overloaded: self.overloaded,
            destinations: self.services.figures(),
        }
    }

    fn start(&mut self, now: Duration, id: CallId, call: Call, out: &mut Vec<Output>) {
        assert!(!self.calls.contains_key(&id), "{id:?} is started, and not done");
        match self.admit(&call) {
            Ok(destination) => {
                self.bytes += in_hand::size(&call);
                let call = InHand::new(now, call, destination, &self.limits);
                self.timers.insert((call.wake, id));
                self.calls.insert(id, call);
                self.wait(now, id, out);
            }
            Err(why) => {
                self.overloaded += u64::from(why == CallFailure::Overloaded);
                let result = CallResult::Failed { why, latency: Duration::ZERO, attempts: 0 };
                out.push(Output::Done { id, result });
            }
        }
    }

    fn admit(&mut self, call: &Call) -> Result<Destination, CallFailure> {
        let destination = Destination::of(&call.url, call.wire)?;
        let full = self.calls.len() >= self.limits.calls;
        if full || self.bytes + in_hand::size(call) > self.limits.bytes {
            return Err(CallFailure::Overloaded);
        }
        self.services.add_call(&destination, &self.limits)?;
        Ok(destination)
    }

    /// A call stands in line at its destination, or ends because it may not.
    fn wait(&mut self, now: Duration, id: CallId, out: &mut Vec<Output>) {
        let call = self.calls.get_mut(&id).expect("a call in hand");
        let service = self.services.get(&call.destination);
        match service.enqueue(now, id, &self.limits) {
            Ok(ticket) => {
                call.phase = Phase::Waiting { ticket };
                let (destination, deadline) = (call.destination.clone(), call.deadline());
                self.wake_at(id, deadline);
                self.services.offer(&destination, &self.limits);
            }
            Err(why) => {
                service.counts.refused += 1;
                call.phase = Phase::Pausing;
                self.finish(now, id, why, out);
            }
        }
    }

    fn cancel(&mut self, now: Duration, id: CallId, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get(&id) else { return };
        match call.phase {
            Phase::Waiting { ticket } => self.services.get(&call.destination).leave(ticket),
            Phase::Attempting { attempt, .. } => {
                out.push(Output::AbortAttempt { attempt });
                let why = AttemptResult::Failed(CallFailure::Cancelled);
                self.account(now, attempt, why, out);
            }
            Phase::Pausing => {}
        }
        let result = self.take(id).cancelled(now);
        out.push(Output::Done { id, result });
    }

    /// An attempt ended, or was given up. One that is not known was aborted.
    fn ended(
        &mut self,
        now: Duration,
        attempt: AttemptId,
        result: AttemptResult,
        out: &mut Vec<Output>,
    ) {
        let Some((id, again)) = self.account(now, attempt, result, out) else { return };
        let call = &self.calls[&id];
        let next = if again { call.next_attempt(now, &mut self.rng) } else { None };
        let destination = call.destination.clone();
        match next {
            Some(at) if self.services.get(&destination).breaker.admits(at) => {
                self.wake_at(id, at);
                if at <= now {
                    self.wait(now, id, out);
                }
            }
            _ => {
                let why = self.services.get(&destination).suspended(now, &self.limits);
                self.finish(now, id, why, out);
            }
        }
    }

    /// Writes an attempt's end down: at its call, which is then between two attempts, and at its destination, whose
    /// queue is sent away if this opened the breaker. Gives the call, and whether another attempt makes sense.
    fn account(
        &mut self,
        now: Duration,
        attempt: AttemptId,
        result: AttemptResult,
        out: &mut Vec<Output>,
    ) -> Option<(CallId, bool)> {
        let id = self.attempts.remove(&attempt)?;
        let call = self.calls.get_mut(&id).expect("an attempt has its call");
        let Phase::Attempting { permit, since, .. } = call.phase else {
            unreachable!("an attempt of a call that makes none")
        };
        let meaning = answer::judge(&call.call, &result, call.wake - since);
        call.phase = Phase::Pausing;
        call.ended(result, now.saturating_sub(since));
        let destination = call.destination.clone();
        let service = self.services.get(&destination);
        service.running -= 1;
        service.counts.failures += u64::from(meaning.health == crate::breaker::Health::Failing);
        let opened =
            service.breaker.ended(now, permit, meaning.health, &self.limits, &mut self.rng);
        service.counts.suspensions += u64::from(opened);
        self.send_away(now, &destination, out);
        self.services.offer(&destination, &self.limits);
        Some((id, meaning.again))
    }

    /// Nothing waits at a destination whose breaker admits nothing.
    fn send_away(&mut self, now: Duration, destination: &Destination, out: &mut Vec<Output>) {
        let service = self.services.get(destination);
        if service.breaker.admits(now) {
            return;
        }
        let why = service.suspended(now, &self.limits);
        for id in service.leave_all() {
            self.calls.get_mut(&id).expect("a waiting call").phase = Phase::Pausing;
            self.finish(now, id, why.clone(), out);
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Output>) {
        for _ in 0..TIMERS_PER_STEP {
            match self.timers.first() {
                Some(&(at, id)) if at <= now => self.fire(now, id, out),
                _ => return,
            }
        }
    }

    /// A call's phase is over.
    fn fire(&mut self, now: Duration, id: CallId, out: &mut Vec<Output>) {
        let call = &self.calls[&id];
        match call.phase {
            Phase::Waiting { ticket } => {
                self.services.get(&call.destination).leave(ticket);
                self.finish(now, id, CallFailure::NoTurn, out);
            }
            Phase::Attempting { attempt, .. } => {
                out.push(Output::AbortAttempt { attempt });
                self.ended(now, attempt, AttemptResult::Failed(CallFailure::Timeout), out);
            }
            Phase::Pausing => self.wait(now, id, out),
        }
    }

    /// Begins attempts, one a destination in turn, until nobody has anything to do or the bound is reached.
    fn take_turns(&mut self, now: Duration, out: &mut Vec<Output>) {
        while self.attempts.len() < self.limits.attempts {
            let Some(id) = self.services.next_call(&self.limits) else { return };
            let call = self.calls.get_mut(&id).expect("a waiting call");
            call.phase = Phase::Pausing;
            if call.grant(now).is_zero() {
                self.finish(now, id, CallFailure::NoTurn, out);
            } else {
                self.begin(now, id, out);
            }
        }
    }

    fn begin(&mut self, now: Duration, id: CallId, out: &mut Vec<Output>) {
        let call = self.calls.get_mut(&id).expect("a waiting call");
        let destination = call.destination.clone();
        let service = self.services.get(&destination);
        self.last_attempt += 1;
        let attempt = AttemptId(self.last_attempt);
        let permit = service.breaker.begin(now);
        service.running += 1;
        service.counts.attempts += 1;
        self.timers.remove(&(call.wake, id));
        let address = call.begin(now, attempt, permit, || service.next_address());
        self.timers.insert((call.wake, id));
        self.attempts.insert(attempt, id);
        let timeout = call.wake - now;
        out.push(Output::Attempt { attempt, call: call.call.clone(), address, timeout });
        // If this is the probe, the others do not wait for it.
        self.send_away(now, &destination, out);
    }

    fn wake_at(&mut self, id: CallId, at: Duration) {
        let call = self.calls.get_mut(&id).expect("a call in hand");
        self.timers.remove(&(call.wake, id));
        call.wake = at;
        self.timers.insert((at, id));
    }

    /// Answers a call that neither waits nor has an attempt under way: with what its last attempt said, or with `why`
    /// if there was none.
    fn finish(&mut self, now: Duration, id: CallId, why: CallFailure, out: &mut Vec<Output>) {
        let result = self.take(id).result(now, why);
        out.push(Output::Done { id, result });
    }

    fn take(&mut self, id: CallId) -> InHand {
        let call = self.calls.remove(&id).expect("a call in hand");
        self.timers.remove(&(call.wake, id));
        self.bytes -= in_hand::size(&call.call);
        self.services.remove_call(&call.destination);
        call
    }

    /// Everything that must hold between two steps.
    ///
    /// # Panics
    /// If it does not.
    pub fn invariants(&self) {
        assert!(self.attempts.len() <= self.limits.attempts);
        assert!(self.calls.len() <= self.limits.calls);
        assert!(self.bytes <= self.limits.bytes);
        assert_eq!(self.bytes, self.calls.values().map(|call| in_hand::size(&call.call)).sum());
        let timers: BTreeSet<_> = self.calls.iter().map(|(id, call)| (call.wake, *id)).collect();
        assert_eq!(self.timers, timers);
        let mut of = BTreeMap::<_, Held>::new();
        let mut attempts = BTreeMap::new();
        for (id, call) in &self.calls {
            call.invariants(&self.limits);
            let held = of.entry(call.destination.clone()).or_default();
            held.calls += 1;
            match call.phase {
                Phase::Waiting { ticket } => held.waiting.push((ticket, *id)),
                Phase::Attempting { attempt, permit, .. } => {
                    held.permits.push(permit);
                    attempts.insert(attempt, *id);
                }
                Phase::Pausing => {}
            }
        }
        assert_eq!(self.attempts, attempts);
        let spare = self.attempts.len() < self.limits.attempts;
        self.services.invariants(&self.limits, spare, &of);
    }
}
