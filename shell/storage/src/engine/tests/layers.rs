//! Memory tables, flushes and files at any moment to each other: nothing is ever seen twice, half or not at all.

use std::collections::BTreeMap;

use quorate_rng::Rng;

use super::*;
use crate::engine_thread::settle_one;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

const ALL: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Unbounded);

fn content(from: &impl Read) -> Content {
    let pairs = from.scan(ALL, Direction::Forward);
    pairs.map(|pair| pair.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Every way of reading.
fn check(from: &impl Read, expected: &Content, random: &mut Rng) {
    let forward: Vec<_> = from.scan(ALL, Direction::Forward).map(|pair| pair.unwrap()).collect();
    let mut backward: Vec<_> =
        from.scan(ALL, Direction::Backward).map(|pair| pair.unwrap()).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    let keys = |content: &Content| content.keys().cloned().collect::<Vec<_>>();
    assert_eq!(forward.len(), expected.len(), "{:?}", keys(expected));
    for ((key, value), (expected_key, expected_value)) in forward.iter().zip(expected) {
        assert_eq!((&key[..], &value[..]), (&expected_key[..], &expected_value[..]));
    }
    for _ in 0..20 {
        let key = key(random);
        assert_eq!(from.get(&key).unwrap().as_deref(), expected.get(&key).map(|v| &v[..]));
        let (low, high) = (Bound::Included(key.clone()), Bound::Unbounded);
        let next = from
            .scan(
                (Bound::Included(&key), high.as_ref().map(|k: &Vec<u8>| &k[..])),
                Direction::Forward,
            )
            .next();
        let next = next.map(|pair| pair.unwrap().0.to_vec());
        assert_eq!(next.as_ref(), expected.range((low, high)).next().map(|(key, _)| key));
        let before =
            from.scan((Bound::Unbounded, Bound::Excluded(&key)), Direction::Backward).next();
        let before = before.map(|pair| pair.unwrap().0.to_vec());
        assert_eq!(before.as_ref(), expected.range(..key).next_back().map(|(key, _)| key));
    }
}

/// Keys that begin alike and differ late, some of them the beginning of others.
fn key(random: &mut Rng) -> Vec<u8> {
    let kind = [b'h', b'r', b'v'][random.below(3) as usize];
    let mut key = vec![kind, 0, 0, 0, 1];
    key.extend_from_slice(b"/registry/pods/default/");
    let number = random.below(120).to_string();
    key.extend_from_slice(&number.as_bytes()[..number.len() - random.below(2) as usize]);
    key.extend(std::iter::repeat_n(0, random.below(3) as usize));
    key
}

fn value(random: &mut Rng) -> Vec<u8> {
    let bytes = match random.below(40) {
        0 => 5_000,
        1 => 0,
        _ => random.below(60) as usize,
    };
    (0..bytes).map(|_| random.below(256) as u8).collect()
}

/// Thousands of steps against a map, with snapshots that are held over seals, flushes and compactions, and
/// flushes that the owner has not noticed yet.
fn random_steps(seed: u64, steps: u64) {
    let (_dir, mut engine) = fresh();
    let mut random = Rng::new(seed);
    let (mut live, mut published) = (Content::new(), Content::new());
    let mut held: Vec<(Content, DiskSnapshot)> = Vec::new();
    for step in 1..=steps {
        match random.below(1000) {
            0..=599 => {
                let (key, value) = (key(&mut random), value(&mut random));
                engine.insert(&key, &value).unwrap();
                live.insert(key, value);
            }
            600..=749 => {
                let key = key(&mut random);
                engine.remove(&key).unwrap();
                live.remove(&key);
            }
            750..=879 => {
                engine.publish();
                published = live.clone();
            }
            880..=919 if held.len() < 12 => held.push((published.clone(), engine.snapshot())),
            920..=949 if !held.is_empty() => {
                let at = random.below(held.len() as u64) as usize;
                check(&held[at].1, &held[at].0, &mut random);
                if random.below(2) == 0 {
                    held.swap_remove(at);
                }
            }
            950..=959 => check(&engine, &live, &mut random),
            960..=974 if engine.usage().sealed_tables < MAX_SEALED_TABLES => {
                engine.seal(step).unwrap();
                published = live.clone();
            }
            975..=994 => drop(settle_one(&engine).unwrap()),
            995..=998 => drop(settle(&engine).unwrap()),
            _ => engine.invariants(),
        }
    }
    check(&engine, &live, &mut random);
    drop(engine);
    for (expected, snapshot) in &held {
        check(snapshot, expected, &mut random);
    }
}

#[test]
fn random_steps_agree_with_a_map() {
    for seed in 1..=6 {
        random_steps(seed, 6_000);
    }
}

/// What the owner does in [`a_flush_at_any_moment_hides_nothing`].
const SCRIPT: [fn(&mut Scene); 12] = [
    Scene::look,
    Scene::write,
    Scene::look,
    Scene::publish,
    Scene::look,
    Scene::write,
    Scene::seal,
    Scene::look,
    Scene::write,
    Scene::look,
    Scene::publish,
    Scene::look,
];

struct Scene {
    engine: DiskEngine,
    written: u64,
    published: Content,
    looks: Vec<(Content, DiskSnapshot)>,
}

impl Scene {
    /// One key is written each time, one only now, and one is removed and comes back.
    fn write(&mut self) {
        self.written += 1;
        put_number(&mut self.engine, "always", self.written);
        put_number(&mut self.engine, &format!("once {}", self.written), self.written);
        if self.written.is_multiple_of(2) {
            self.engine.remove(b"at times").unwrap();
        } else {
            put_number(&mut self.engine, "at times", self.written);
        }
    }

    fn publish(&mut self) {
        self.engine.publish();
        self.published = content(&self.engine);
    }

    fn seal(&mut self) {
        self.engine.seal(self.written).unwrap();
        self.published = content(&self.engine);
    }

    fn look(&mut self) {
        self.looks.push((self.published.clone(), self.engine.snapshot()));
    }

    fn check(&self) {
        self.engine.invariants();
        for (expected, snapshot) in &self.looks {
            assert_eq!(content(snapshot), *expected);
            for (key, value) in expected {
                assert_eq!(snapshot.get(key).unwrap().as_deref(), Some(&value[..]));
            }
        }
        let newest = self.written.to_be_bytes();
        assert_eq!(self.engine.get(b"always").unwrap().as_deref(), Some(&newest[..]));
        let of_now = (1..=self.written)
            .filter(|n| self.engine.get(format!("once {n}").as_bytes()).unwrap().is_some());
        assert_eq!(
            of_now.count() as u64,
            self.written,
            "a table was let go before its file was there"
        );
    }
}

/// Two tables are sealed; each is flushed before any step of what the owner then does, the second perhaps
/// with a compaction behind it. A snapshot never sees less than what was published, nor more.
#[test]
fn a_flush_at_any_moment_hides_nothing() {
    for first in 0..=SCRIPT.len() {
        for second in first..=SCRIPT.len() {
            let (_dir, engine) = fresh();
            let mut scene =
                Scene { engine, written: 0, published: Content::new(), looks: Vec::new() };
            for _ in 0..2 {
                scene.write();
                scene.seal();
            }
            for step in 0..=SCRIPT.len() {
                if step == first {
                    settle_one(&scene.engine).unwrap();
                }
                if step == second {
                    settle(&scene.engine).unwrap();
                }
                scene.check();
                if let Some(act) = SCRIPT.get(step) {
                    act(&mut scene);
                }
            }
            scene.check();
        }
    }
}

/// Readers hold what they read, and nobody else does: dead files go when the last snapshot does.
#[test]
fn dead_files_go_with_the_last_snapshot() {
    let (dir, mut engine) = fresh();
    let tables = engine_dir(dir.path(), GROUP, 1).join("tables");
    let files = || std::fs::read_dir(&tables).unwrap().count();
    for applied in 1..=3 {
        put_number(&mut engine, "k", applied);
        engine.seal(applied).unwrap();
        settle(&engine).unwrap();
    }
    engine.publish();
    let (snapshot, in_use) = (engine.snapshot(), engine.in_use());
    let before = files();
    let (tell, told) = channel();
    let thread = EngineThread::start(&engine, move |event| drop(tell.send(event))).unwrap();
    put_number(&mut engine, "k", 4);
    engine.seal(4).unwrap();
    thread.merge_all();
    while !matches!(told.recv().unwrap(), EngineEvent::Merged) {}
    engine.publish();
    assert!(files() > before, "the old ones are still read");
    assert_eq!((number(&snapshot, "k"), number(&engine, "k")), (Some(3), Some(4)));
    assert_eq!(engine.figures().open_snapshots, 1);
    drop(snapshot);
    assert_eq!(engine.figures().open_snapshots, 0);
    // Whatever was left to it is freed at the latest when it ends.
    thread.stop();
    drop(engine);
    assert!(!in_use.is_used());
    assert_eq!(files(), 1);
}
