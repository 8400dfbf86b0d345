//! One seed, from its options to its verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::check::{Property, Violation};
use crate::options::Settings;
use crate::world::{Tally, World};

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Servers at the start.
    pub nodes: usize,
    /// What was counted.
    pub tally: Tally,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// Hash of everything that happened.
    pub fingerprint: u64,
    /// The trace, if it was asked for.
    pub trace: String,
}

/// Runs a seed. A failed assertion of the code under test is a violation like any other.
#[must_use]
pub fn run(settings: &Settings) -> Outcome {
    let mut world = World::new(settings);
    let nodes = world.options.nodes;
    let panicked = catch_unwind(AssertUnwindSafe(|| world.run())).err();
    let mut violation = world.checks.violation().cloned();
    if let Some(panic) = panicked {
        let what = panic_text(panic.as_ref());
        let at = world.now();
        if settings.only.is_none_or(|only| only == Property::Assertion) {
            violation = Some(Violation { property: Property::Assertion, at, what });
        }
    }
    Outcome {
        seed: settings.seed,
        nodes,
        tally: world.tally.clone(),
        violation,
        fingerprint: world.trace.fingerprint(),
        trace: world.trace.text().to_owned(),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}
