//! The destinations that are known: for each its queue, its attempts under way and its circuit breaker; and
//! whose turn it is among those that have something to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::breaker::{Breaker, Permit};
use crate::figures::DestinationFigures;
use crate::limits::Limits;
use crate::{CallFailure, CallId, Destination};

/// A place in a destination's queue; smaller ones are first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// One destination.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) breaker: Breaker,
    /// Attempts under way.
    pub(crate) running: usize,
    /// Calls that are not done.
    calls: usize,
    waiting: BTreeMap<Ticket, CallId>,
    last_ticket: u64,
    next_address: u32,
    /// Whether it stands in `Services::turns`.
    in_turns: bool,
    /// When it became idle, if it is.
    idle_since: u64,
    pub(crate) counts: Counts,
}

/// What happened since the destination became known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) attempts: u64,
    pub(crate) failures: u64,
    pub(crate) suspensions: u64,
    pub(crate) refused: u64,
}

impl Service {
    fn new() -> Self {
        Self {
            breaker: Breaker::new(),
            running: 0,
            calls: 0,
            waiting: BTreeMap::new(),
            last_ticket: 0,
            next_address: 0,
            in_turns: false,
            idle_since: 0,
            counts: Counts::default(),
        }
    }

    /// Puts a call into the queue.
    ///
    /// # Errors
    /// `Suspended` by the breaker, `Overloaded` if the queue is full.
    pub(crate) fn enqueue(
        &mut self,
        now: Duration,
        id: CallId,
        limits: &Limits,
    ) -> Result<Ticket, CallFailure> {
        if !self.breaker.admits(now) {
            return Err(self.suspended(now, limits));
        }
        if self.waiting.len() >= limits.waiting_per_destination {
            return Err(CallFailure::Overloaded);
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, id);
        Ok(ticket)
    }

    /// Why a call is not made now.
    pub(crate) fn suspended(&self, now: Duration, limits: &Limits) -> CallFailure {
        CallFailure::Suspended { retry_in: self.breaker.suspended_for(now, limits) }
    }

    pub(crate) fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket).expect("a waiting call stands in its queue");
    }

    /// Empties the queue.
    pub(crate) fn leave_all(&mut self) -> impl Iterator<Item = CallId> + use<> {
        std::mem::take(&mut self.waiting).into_values()
    }

    pub(crate) fn next_address(&mut self) -> u32 {
        self.next_address = self.next_address.wrapping_add(1);
        self.next_address.wrapping_sub(1)
    }

    fn is_ready(&self, limits: &Limits) -> bool {
        !self.waiting.is_empty() && self.running < limits.attempts_per_destination
    }

    fn figures(&self, destination: &Destination) -> DestinationFigures {
        DestinationFigures {
            destination: destination.clone(),
            breaker: self.breaker.state(),
            running: self.running,
            waiting: self.waiting.len(),
            attempts: self.counts.attempts,
            failures: self.counts.failures,
            suspensions: self.counts.suspensions,
            refused: self.counts.refused,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Services {
    known: BTreeMap<Destination, Service>,
    /// Those without a call, longest idle first.
    idle: BTreeSet<(u64, Destination)>,
    /// Counts who became idle when.
    idled: u64,
    /// Those that could begin an attempt, next one first. One that stands here and cannot any more is passed by.
    turns: VecDeque<Destination>,
}

impl Services {
    /// One that has calls.
    pub(crate) fn get(&mut self, destination: &Destination) -> &mut Service {
        self.known.get_mut(destination).expect("a destination with calls is known")
    }

    /// Counts one more call of this destination, and makes room for it if it is new.
    ///
    /// # Errors
    /// `Overloaded` if no known destination is idle.
    pub(crate) fn add_call(
        &mut self,
        destination: &Destination,
        limits: &Limits,
    ) -> Result<(), CallFailure> {
        if !self.known.contains_key(destination) {
            if self.known.len() >= limits.destinations {
                let (_, longest_idle) = self.idle.pop_first().ok_or(CallFailure::Overloaded)?;
                self.known.remove(&longest_idle);
            }
            self.known.insert(destination.clone(), Service::new());
        }
        let service = self.get(destination);
        service.calls += 1;
        let since = service.idle_since;
        self.idle.remove(&(since, destination.clone()));
        Ok(())
    }

    /// A call of this destination is done.
    pub(crate) fn remove_call(&mut self, destination: &Destination) {
        self.idled += 1;
        let idled = self.idled;
        let service = self.get(destination);
        service.calls -= 1;
        if service.calls == 0 {
            service.idle_since = idled;
            self.idle.insert((idled, destination.clone()));
        }
    }

    /// Gives a destination its turn behind the others if it could begin an attempt.
    pub(crate) fn offer(&mut self, destination: &Destination, limits: &Limits) {
        let service = self.get(destination);
        if service.is_ready(limits) && !service.in_turns {
            service.in_turns = true;
            self.turns.push_back(destination.clone());
        }
    }

    /// Takes the first call of the destination whose turn it is out of its queue.
    pub(crate) fn next_call(&mut self, limits: &Limits) -> Option<CallId> {
        loop {
            let destination = self.turns.pop_front()?;
            // A forgotten one has no calls either.
            let Some(service) = self.known.get_mut(&destination) else { continue };
            service.in_turns = false;
            if !service.is_ready(limits) {
                continue;
            }
            let (_, id) = service.waiting.pop_first()?;
            self.offer(&destination, limits);
            return Some(id);
        }
    }

    pub(crate) fn figures(&self) -> Vec<DestinationFigures> {
        self.known.iter().map(|(destination, service)| service.figures(destination)).collect()
    }

    /// What must hold between two steps, given the permits of the attempts under way at each destination, the calls
    /// that wait there, and how many it has. `spare`: whether an attempt could begin.
    pub(crate) fn invariants(
        &self,
        limits: &Limits,
        spare: bool,
        of: &BTreeMap<Destination, Held>,
    ) {
        assert!(self.known.len() <= limits.destinations.max(1));
        let nothing = Held::default();
        for (destination, service) in &self.known {
            let held = of.get(destination).unwrap_or(&nothing);
            assert_eq!(service.calls, held.calls, "{destination}");
            assert_eq!(service.running, held.permits.len(), "{destination}");
            assert!(service.running <= limits.attempts_per_destination, "{destination}");
            assert!(service.waiting.len() <= limits.waiting_per_destination, "{destination}");
            let waiting: BTreeMap<_, _> = held.waiting.iter().copied().collect();
            assert_eq!(service.waiting, waiting, "{destination}");
            assert!(!service.is_ready(limits) || service.in_turns, "{destination} is left out");
            assert!(!service.is_ready(limits) || !spare, "{destination} waits for nothing");
            let idle = self.idle.contains(&(service.idle_since, destination.clone()));
            assert_eq!(idle, service.calls == 0, "{destination}");
            service.breaker.invariants(limits, &held.permits);
        }
        assert!(of.keys().all(|destination| self.known.contains_key(destination)));
        assert!(self.idle.iter().all(|(_, destination)| self.known.contains_key(destination)));
    }
}

/// What the calls say of one destination.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) calls: usize,
    pub(crate) permits: Vec<Permit>,
    pub(crate) waiting: Vec<(Ticket, CallId)>,
}
