//! Random schedules against the promises of the chapter, judged from outside: by inputs, outputs and figures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::MS;
use super::world::World;
use crate::limits::Limits;
use crate::{
    AttemptId, AttemptResult, BreakerState, Call, CallFailure, CallId, CallResult, Figures, Input,
    Output, RetryPolicy,
};

/// One call of a schedule, and how each of its attempts is met.
#[derive(Clone, Debug)]
struct Planned {
    at: u64,
    destination: u8,
    timeout: u64,
    within: u64,
    attempts: u32,
    pause: u64,
    cancel_after: Option<u64>,
    /// In turn: after how long, and what (0: never anything).
    met: Vec<(u64, u8)>,
}

fn planned() -> impl Strategy<Value = Planned> {
    let times = (0..400u64, 1..60u64, 1..120u64);
    let retry = (0..4u32, 0..20u64, proptest::option::weighted(0.15, 0..80u64));
    let met = proptest::collection::vec((0..70u64, 0..9u8), 1..4);
    (times, 0..3u8, retry, met).prop_map(|((at, timeout, within), destination, retry, met)| {
        let (attempts, pause, cancel_after) = retry;
        Planned { at, destination, timeout, within, attempts, pause, cancel_after, met }
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..6usize, 1..4usize, 1..5usize, 3..40usize, 1..4usize, 1..5u32).prop_map(
        |(attempts, share, queue, calls, destinations, failures)| Limits {
            attempts,
            attempts_per_destination: share,
            waiting_per_destination: queue,
            calls,
            destinations,
            failures,
            suspension: 30 * MS,
            longest_suspension: 100 * MS,
            ..Limits::default()
        },
    )
}

impl Planned {
    fn call(&self, number: usize) -> Call {
        let millis = Duration::from_millis;
        Call {
            timeout: millis(self.timeout),
            retry: RetryPolicy {
                attempts: self.attempts,
                pause: millis(self.pause),
                longest_pause: 4 * millis(self.pause),
                within: millis(self.within),
            },
            body: Bytes::from(number.to_string()),
            ..super::call(&format!("http://d{}/", self.destination))
        }
    }
}

fn result(kind: u8) -> Option<AttemptResult> {
    let answered =
        |status| AttemptResult::Answered { status, message: String::new(), body: Bytes::new() };
    Some(match kind {
        0 => return None,
        1 => AttemptResult::Failed(CallFailure::Unreachable(String::new())),
        2 => AttemptResult::Failed(CallFailure::Broken(String::new())),
        3 => answered(503),
        4 => AttemptResult::Failed(CallFailure::Timeout),
        5 => AttemptResult::Failed(CallFailure::BadRequest(String::new())),
        _ => answered(200),
    })
}

fn number_of(call: &Call) -> usize {
    std::str::from_utf8(&call.body).unwrap().parse().unwrap()
}

fn world(limits: Limits, plan: &[Planned]) -> World {
    let mut met: Vec<_> = plan.iter().map(|call| call.met.clone().into_iter().cycle()).collect();
    let meet = move |_, call: &Call, _| {
        let (after, kind) = met[number_of(call)].next()?;
        Some((Duration::from_millis(after), result(kind)?))
    };
    let mut world = World::new(limits, Box::new(meet));
    for (number, call) in plan.iter().enumerate() {
        let (id, at) = (CallId(number as u64), Duration::from_millis(call.at));
        world.plan(at, Input::Start { id, call: call.call(number) });
        if let Some(after) = call.cancel_after {
            world.plan(at + Duration::from_millis(after), Input::Cancel { id });
        }
    }
    world
}

/// What an observer keeps.
#[derive(Default)]
struct Observer {
    under_way: BTreeMap<AttemptId, usize>,
    begun: BTreeMap<usize, u32>,
    done: BTreeMap<usize, CallResult>,
    /// Since when a destination is seen to be suspended.
    open_since: BTreeMap<String, Duration>,
}

impl Observer {
    fn look(
        &mut self,
        plan: &[Planned],
        limits: &Limits,
        before: &Figures,
        now: Duration,
        out: &[Output],
    ) {
        let mut probes = BTreeSet::new();
        for output in out {
            match output {
                Output::Attempt { attempt, call, timeout, .. } => {
                    self.attempt(plan, now, call, *timeout);
                    self.check_breaker(before, now, &call.url, &mut probes);
                    assert!(self.under_way.insert(*attempt, number_of(call)).is_none());
                    self.check_share(plan, limits, number_of(call));
                }
                Output::AbortAttempt { attempt } => {
                    assert!(self.under_way.remove(attempt).is_some(), "aborts what is not there");
                }
                Output::Done { id, result } => {
                    let number = usize::try_from(id.0).unwrap();
                    assert!(self.under_way.values().all(|of| *of != number), "done, yet under way");
                    assert!(self.done.insert(number, result.clone()).is_none(), "answered twice");
                }
            }
        }
    }

    fn attempt(&mut self, plan: &[Planned], now: Duration, call: &Call, timeout: Duration) {
        let number = number_of(call);
        let planned = &plan[number];
        let end = Duration::from_millis(planned.at + planned.within);
        assert!(now < end && now + timeout <= end, "an attempt beyond the call's time");
        assert!(timeout > Duration::ZERO && timeout <= call.timeout);
        assert!(!self.done.contains_key(&number), "an attempt of a call that is done");
        let begun = self.begun.entry(number).or_default();
        *begun += 1;
        assert!(*begun <= planned.attempts.max(1), "too many attempts");
    }

    /// A suspended destination gets one attempt, after its suspension, and none more until that has ended.
    fn check_breaker(
        &self,
        before: &Figures,
        now: Duration,
        url: &str,
        probes: &mut BTreeSet<String>,
    ) {
        let of = before.destinations.iter().find(|of| url.starts_with(of.destination.as_str()));
        match of.map(|of| of.breaker) {
            Some(BreakerState::Open) => {
                assert!(probes.insert(url.to_owned()), "two probes");
                // A probe that said nothing gives its place to the next at once: then it is not known since when.
                if let Some(since) = self.open_since.get(url) {
                    assert!(now >= *since + 15 * MS, "not suspended");
                }
            }
            Some(BreakerState::HalfOpen) => {
                let running = of.map(|of| of.running).unwrap_or_default();
                assert_eq!(running, 1);
            }
            _ => {}
        }
    }

    fn check_share(&self, plan: &[Planned], limits: &Limits, number: usize) {
        assert!(self.under_way.len() <= limits.attempts);
        let same = |of: &&usize| plan[**of].destination == plan[number].destination;
        assert!(self.under_way.values().filter(same).count() <= limits.attempts_per_destination);
    }

    fn figures(&mut self, before: &Figures, after: &Figures, limits: &Limits, now: Duration) {
        assert_eq!(after.attempts, self.under_way.len());
        for of in &after.destinations {
            let url = format!("{}/", of.destination);
            let was = before.destinations.iter().find(|was| was.destination == of.destination);
            let was_open = was.map(|was| was.breaker) == Some(BreakerState::Open);
            match of.breaker {
                BreakerState::Open
                    if !was_open && was.map(|was| was.suspensions) < Some(of.suspensions) =>
                {
                    self.open_since.insert(url, now);
                }
                BreakerState::Open if was_open => {}
                _ => {
                    self.open_since.remove(&url);
                }
            }
            let could =
                of.running < limits.attempts_per_destination && after.attempts < limits.attempts;
            assert!(of.waiting == 0 || !could, "{} waits for nothing", of.destination);
        }
    }
}

fn run(limits: Limits, plan: &[Planned], lateness: u64) {
    let mut world = world(limits, plan);
    world.lateness = Duration::from_millis(lateness);
    let mut observer = Observer::default();
    let mut before = world.machine.figures();
    loop {
        let seen = world.seen.len();
        // What is reported is under way no more before the machine hears of it.
        let Some((_, input)) = world.peek() else { break };
        if let Input::AttemptDone { attempt, .. } = input {
            observer.under_way.remove(&attempt);
        }
        world.step();
        world.machine.invariants();
        let now = world.now;
        let out: Vec<_> = world.seen[seen..].iter().map(|(_, output)| output.clone()).collect();
        observer.look(plan, &limits, &before, now, &out);
        let after = world.machine.figures();
        observer.figures(&before, &after, &limits, now);
        before = after;
    }
    assert_eq!(observer.done.len(), plan.len(), "each call is answered");
    assert!(observer.under_way.is_empty());
    assert_eq!((before.calls, before.bytes, world.machine.next_deadline()), (0, 0, None));
    for (number, result) in observer.done {
        let (CallResult::Answered { attempts, .. } | CallResult::Failed { attempts, .. }) = result;
        assert_eq!(attempts, observer.begun.get(&number).copied().unwrap_or(0));
    }
}

/// When the calls of destination 0 were attempted and done.
fn of_destination_0(limits: Limits, plan: &[Planned]) -> Vec<(Duration, usize, bool)> {
    let mut world = world(limits, plan);
    while world.step().is_some() {}
    let seen = world.seen.iter().filter_map(|(at, output)| match output {
        Output::Attempt { call, .. } => Some((*at, number_of(call), false)),
        Output::Done { id, .. } => Some((*at, usize::try_from(id.0).unwrap(), true)),
        Output::AbortAttempt { .. } => None,
    });
    seen.filter(|(_, number, _)| plan[*number].destination == 0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_are_kept(
        limits in limits(),
        plan in proptest::collection::vec(planned(), 1..60),
        lateness in 0..30u64,
    ) {
        run(limits, &plan, lateness);
    }

    /// Whatever the others do, a destination's calls are attempted and done at the same times.
    #[test]
    fn a_destination_is_not_delayed_by_others(
        limits in limits(),
        plan in proptest::collection::vec(planned(), 1..60),
    ) {
        // Its own calls are answered in time, so that no jitter is drawn for it; room for three.
        let plan: Vec<_> = plan
            .into_iter()
            .map(|call| match call.destination {
                0 => Planned { met: vec![(call.met[0].0 % call.timeout, 8)], within: 10_000, ..call },
                _ => call,
            })
            .collect();
        let attempts = 3 * limits.attempts_per_destination;
        let limits = Limits { attempts, calls: 100, destinations: 3, ..limits };
        let mut alone = plan.clone();
        for call in alone.iter_mut().filter(|call| call.destination != 0) {
            // Behind everything.
            call.at += 1_000_000;
        }
        let early = |(at, _, _): &(Duration, usize, bool)| *at < Duration::from_secs(900);
        let alone = of_destination_0(limits, &alone).into_iter().filter(early);
        prop_assert_eq!(of_destination_0(limits, &plan), alone.collect::<Vec<_>>());
    }
}
