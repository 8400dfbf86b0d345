//! What every engine must do, as tests that run against any of them.
//!
//! Each engine's own tests call [`check_all`] with a [`Subject`] that makes fresh engines. What only
//! one of them can show (files, crashes, corruption) stays with that engine.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod model;
mod scripts;

use std::ops::Bound;

use bytes::Bytes;

use crate::{Direction, Engine, Pair, Read};

/// An engine under test.
pub trait Subject {
    /// The engine.
    type Engine: Engine;

    /// A fresh, empty engine; the one made before is dropped first.
    fn fresh(&mut self) -> Self::Engine;

    /// Makes everything that is sealed durable, and whatever else the engine does in the background.
    fn complete_checkpoints(&mut self, engine: &mut Self::Engine);
}

/// Runs the whole suite.
pub fn check_all(subject: &mut impl Subject) {
    scripts::get_and_scan(subject);
    scripts::bounds(subject);
    scripts::long_keys(subject);
    scripts::one_batch_may_write_a_key_often(subject);
    scripts::snapshots_see_whole_batches(subject);
    scripts::snapshots_stay_as_they_are(subject);
    scripts::snapshots_work_on_other_threads(subject);
    scripts::sealing(subject);
    for seed in 1..=8 {
        model::random_operations(subject, seed);
    }
}

type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

const ALL: Range<'static> = (Bound::Unbounded, Bound::Unbounded);

fn pairs(from: &impl Read, range: Range<'_>, direction: Direction) -> Vec<Pair> {
    from.scan(range, direction).map(|pair| pair.unwrap()).collect()
}

/// The content as text, for keys and values that are text.
fn text(from: &impl Read) -> String {
    let part = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let all = pairs(from, ALL, Direction::Forward);
    all.iter().map(|(k, v)| format!("{}={}", part(k), part(v))).collect::<Vec<_>>().join(" ")
}
