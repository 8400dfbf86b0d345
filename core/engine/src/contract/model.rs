//! Random operations against a `BTreeMap`, with snapshots that are compared much later.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use quorate_rng::Rng;

use super::{ALL, Subject, pairs};
use crate::{Direction, Engine, Pair, Read};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const OPERATIONS: u64 = 4_000;

/// Draws from a seed: the suite must not depend on anything random.
struct Random(Rng);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    /// Few different keys, one of another's prefix, with zeros and high bytes.
    fn key(&mut self) -> Vec<u8> {
        let length = 1 + self.below(3) as usize;
        (0..length).map(|_| [0, 1, b'a', b'b', 0xff][self.below(5) as usize]).collect()
    }

    fn value(&mut self) -> Vec<u8> {
        let length = if self.below(50) == 0 { 9_000 } else { self.below(40) as usize };
        vec![self.below(256) as u8; length]
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }
}

struct Run<E: Engine> {
    engine: E,
    /// What the engine itself must show, and what snapshots must.
    live: Model,
    published: Model,
    kept: Vec<(Model, E::Snapshot)>,
    random: Random,
}

pub(super) fn random_operations<S: Subject>(subject: &mut S, seed: u64) {
    let mut run = Run {
        engine: subject.fresh(),
        live: Model::new(),
        published: Model::new(),
        kept: Vec::new(),
        random: Random(Rng::new(seed)),
    };
    for n in 1..=OPERATIONS {
        match run.random.below(100) {
            0..=44 => run.insert(),
            45..=64 => run.remove(),
            65..=79 => run.publish(),
            80..=89 => compare_range(&run.engine, &run.live, &mut run.random),
            90..=93 => run.take_snapshot(),
            94..=95 => run.check_snapshot(),
            96..=97 => run.seal(n),
            98 if n % 4 == 0 => subject.complete_checkpoints(&mut run.engine),
            _ => run.check_get(),
        }
    }
    subject.complete_checkpoints(&mut run.engine);
    compare_all(&run.engine, &run.live);
    while !run.kept.is_empty() {
        run.check_snapshot();
    }
}

impl<E: Engine> Run<E> {
    fn insert(&mut self) {
        let (key, value) = (self.random.key(), self.random.value());
        self.engine.insert(&key, &value).unwrap();
        self.live.insert(key, value);
    }

    fn remove(&mut self) {
        let key = self.random.key();
        self.engine.remove(&key).unwrap();
        self.live.remove(&key);
    }

    fn publish(&mut self) {
        self.engine.publish();
        self.published = self.live.clone();
    }

    fn seal(&mut self, applied: u64) {
        self.engine.seal(applied).unwrap();
        self.published = self.live.clone();
    }

    fn take_snapshot(&mut self) {
        if self.kept.len() < 8 {
            self.kept.push((self.published.clone(), self.engine.snapshot()));
        }
    }

    fn check_snapshot(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let at = self.random.below(self.kept.len() as u64) as usize;
        let (model, snapshot) = self.kept.swap_remove(at);
        compare_range(&snapshot, &model, &mut self.random);
        compare_all(&snapshot, &model);
    }

    fn check_get(&mut self) {
        let key = self.random.key();
        let expected = self.live.get(&key).map(|v| &v[..]);
        assert_eq!(self.engine.get(&key).unwrap().as_deref(), expected, "{key:?}");
    }
}

fn owned<'a>(model: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Vec<Pair> {
    model.map(|(k, v)| (Bytes::copy_from_slice(k), Bytes::copy_from_slice(v))).collect()
}

fn compare_all(engine: &impl Read, model: &Model) {
    assert_eq!(pairs(engine, ALL, Direction::Forward), owned(model.iter()));
    assert_eq!(pairs(engine, ALL, Direction::Backward), owned(model.iter().rev()));
    for (key, value) in model {
        assert_eq!(engine.get(key).unwrap().as_deref(), Some(&value[..]), "{key:?}");
    }
}

fn compare_range(engine: &impl Read, model: &Model, random: &mut Random) {
    let (low, high) = (random.bound(), random.bound());
    let above = |key: &[u8]| match &low {
        Bound::Unbounded => true,
        Bound::Included(bound) => key >= &bound[..],
        Bound::Excluded(bound) => key > &bound[..],
    };
    let below = |key: &[u8]| match &high {
        Bound::Unbounded => true,
        Bound::Included(bound) => key <= &bound[..],
        Bound::Excluded(bound) => key < &bound[..],
    };
    let mut expected = owned(model.iter().filter(|(k, _)| above(k) && below(k)));
    let range = (low.as_ref().map(|b| &b[..]), high.as_ref().map(|b| &b[..]));
    assert_eq!(pairs(engine, range, Direction::Forward), expected, "{range:?}");
    expected.reverse();
    assert_eq!(pairs(engine, range, Direction::Backward), expected, "{range:?}");
}
