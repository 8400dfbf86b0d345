//! The avalanche: one participant stands still, and with limits and breaker off everything does.
//!
//! A shop: orders call `stock`, then `points`; every second order also wants `delivery` in the end. `delivery` stops
//! answering for a while. Attempts under way are few, as sockets are.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::world::World;
use crate::limits::Limits;
use crate::{AttemptResult, BreakerState, Call, CallId, CallResult, Input, RetryPolicy};

const ORDERS: u64 = 4_000;
/// An order comes so often.
const EVERY: Duration = Duration::from_millis(5);
/// A participant's time for one call, when it is well.
const WORK: Duration = Duration::from_millis(4);
/// `delivery` stands still from then until then.
const OUTAGE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
/// A failed call is made again after so long.
const AGAIN: Duration = Duration::from_secs(1);
const SERVICES: [&str; 3] = ["stock", "points", "delivery"];

/// How long each order took, with `delivery` and without.
struct Played {
    with: Vec<Duration>,
    without: Vec<Duration>,
    /// Attempts at `delivery` while it stood still.
    in_vain: usize,
    breaker: BreakerState,
}

fn small() -> Limits {
    Limits { attempts: 64, ..Limits::default() }
}

fn call(service: &str) -> Call {
    let retry = RetryPolicy::once(Duration::from_secs(60));
    Call { timeout: Duration::from_secs(3), retry, ..super::call(&format!("http://{service}/")) }
}

fn stands_still(now: Duration, call: &Call) -> bool {
    call.url.contains("delivery") && (OUTAGE.0..OUTAGE.1).contains(&now)
}

/// An answer of a participant that is well.
fn answer() -> (Duration, AttemptResult) {
    let body = Bytes::new();
    (WORK, AttemptResult::Answered { status: 200, message: String::new(), body })
}

/// Number of the call that is a step of an order.
fn id(order: u64, step: usize) -> CallId {
    CallId(order * 10 + u64::try_from(step).expect("small"))
}

fn play(limits: Limits) -> Played {
    let participants = |now, call: &Call, _| (!stands_still(now, call)).then(answer);
    let mut world = World::new(limits, Box::new(participants));
    let mut began = BTreeMap::new();
    for order in 0..ORDERS {
        let at = EVERY * u32::try_from(order).expect("small");
        began.insert(order, at);
        world.plan(at, Input::Start { id: id(order, 0), call: call(SERVICES[0]) });
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    while let Some(done) = world.step() {
        for (CallId(number), result) in done {
            let (order, step) = (number / 10, usize::try_from(number % 10).expect("small"));
            let wants_delivery = order % 2 == 0;
            let steps = if wants_delivery { 3 } else { 2 };
            if !matches!(result, CallResult::Answered { status: 200, .. }) {
                let start = Input::Start { id: id(order, step), call: call(SERVICES[step]) };
                world.plan(world.now + AGAIN, start);
            } else if step + 1 < steps {
                let start =
                    Input::Start { id: id(order, step + 1), call: call(SERVICES[step + 1]) };
                world.plan(world.now, start);
            } else {
                let took = world.now - began[&order];
                if wants_delivery { with.push(took) } else { without.push(took) }
            }
        }
    }
    world.machine.invariants();
    let in_vain = world.seen.iter().filter(|(at, output)| match output {
        crate::Output::Attempt { call, .. } => stands_still(*at, call),
        _ => false,
    });
    let in_vain = in_vain.count();
    let figures = world.machine.figures();
    assert_eq!(figures.calls, 0);
    let delivery = figures.destinations.iter().find(|of| of.destination.as_str().ends_with("very"));
    let breaker = delivery.expect("it was called").breaker;
    Played { with, without, in_vain, breaker }
}

fn share_above(orders: &[Duration], bound: Duration) -> usize {
    orders.iter().filter(|took| **took > bound).count() * 100 / orders.len()
}

#[test]
fn without_limits_and_breaker_everything_stands_still() {
    let off = Limits { attempts_per_destination: 64, failures: u32::MAX, ..small() };
    let played = play(off);
    // Orders that want nothing of `delivery` wait for seconds, many of them.
    assert!(played.without.iter().max() > Some(&(5 * AGAIN)), "{:?}", played.without.iter().max());
    let waited = share_above(&played.without, AGAIN);
    assert!(waited >= 40, "{waited} % of the others waited for more than a second");
    assert_eq!(played.with.len() + played.without.len(), 4_000);
}

#[test]
fn with_a_limit_alone_others_do_not_wait() {
    let share = Limits { attempts_per_destination: 16, failures: u32::MAX, ..small() };
    let played = play(share);
    assert_eq!(played.without.iter().max(), Some(&(2 * WORK)));
    assert_eq!(played.with.len(), 2_000);
}

#[test]
fn with_limits_and_breaker_only_its_own_orders_wait_and_it_is_left_alone() {
    let on = Limits { attempts_per_destination: 16, failures: 8, ..small() };
    let played = play(on);
    assert_eq!(played.without.iter().max(), Some(&(2 * WORK)));
    assert_eq!(played.with.len(), 2_000);
    // Those before the outage did not wait; those of the outage did, until it was over and the suspension too.
    assert!(share_above(&played.with, 3 * WORK) >= 40);
    let longest = OUTAGE.1 - OUTAGE.0 + 8 * AGAIN;
    assert!(played.with.iter().max() < Some(&longest), "{:?}", played.with.iter().max());
    // Its share, those that followed the first seven failures, and some probes.
    assert!(played.in_vain <= 16 + 7 + 4, "{} attempts in vain", played.in_vain);
    assert_eq!(played.breaker, BreakerState::Closed);
    // Without the breaker it is pestered for as long as it stands still.
    let share = Limits { failures: u32::MAX, ..on };
    assert!(play(share).in_vain > 2 * played.in_vain);
}
