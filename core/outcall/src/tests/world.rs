//! A machine among simulated participants: time goes from event to event.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::Limits;
use crate::{AttemptId, AttemptResult, Call, CallId, CallResult, Input, Outcalls, Output};

/// What a participant does with an attempt: answers so, after that time; `None`: never.
pub(super) type Behaviour =
    Box<dyn FnMut(Duration, &Call, u32) -> Option<(Duration, AttemptResult)>>;

/// What the world saw: the machine's outputs, with their time.
pub(super) type Seen = Vec<(Duration, Output)>;

pub(super) struct World {
    pub(super) machine: Outcalls,
    pub(super) now: Duration,
    pub(super) seen: Seen,
    /// How late ticks come.
    pub(super) lateness: Duration,
    participants: Behaviour,
    events: BTreeMap<(Duration, u64), Input>,
    planned: u64,
}

impl World {
    pub(super) fn new(limits: Limits, participants: Behaviour) -> Self {
        Self {
            machine: Outcalls::new(limits, 7),
            now: Duration::ZERO,
            seen: Vec::new(),
            lateness: Duration::ZERO,
            participants,
            events: BTreeMap::new(),
            planned: 0,
        }
    }

    /// Lets this happen then.
    pub(super) fn plan(&mut self, at: Duration, input: Input) {
        self.planned += 1;
        self.events.insert((at.max(self.now), self.planned), input);
    }

    /// When the next tick comes.
    fn tick(&self) -> Option<Duration> {
        self.machine.next_deadline().map(|at| (at + self.lateness).max(self.now))
    }

    /// What `step` will tell the machine, and when; `None` if nothing will ever happen.
    pub(super) fn peek(&self) -> Option<(Duration, Input)> {
        let tick = self.tick();
        match self.events.first_key_value() {
            Some(((at, _), input)) if tick.is_none_or(|tick| *at <= tick) => {
                Some((*at, input.clone()))
            }
            _ => tick.map(|at| (at, Input::Tick)),
        }
    }

    /// Takes one step; gives the calls that ended in it, or `None` if nothing will ever happen.
    pub(super) fn step(&mut self) -> Option<Vec<(CallId, CallResult)>> {
        let (at, input) = self.peek()?;
        self.now = at;
        if !matches!(input, Input::Tick) {
            self.events.pop_first();
        }
        let mut out = Vec::new();
        self.machine.step(self.now, input, &mut out);
        let mut done = Vec::new();
        for output in &out {
            match output {
                Output::Attempt { attempt, call, address, .. } => {
                    self.attempt(*attempt, &call.clone(), *address);
                }
                Output::Done { id, result } => done.push((*id, result.clone())),
                Output::AbortAttempt { .. } => {}
            }
        }
        self.seen.extend(out.into_iter().map(|output| (self.now, output)));
        Some(done)
    }

    fn attempt(&mut self, attempt: AttemptId, call: &Call, address: u32) {
        if let Some((after, result)) = (self.participants)(self.now, call, address) {
            self.plan(self.now + after, Input::AttemptDone { attempt, result });
        }
    }
}
