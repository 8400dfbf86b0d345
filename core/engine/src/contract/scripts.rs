//! The contract by example: one function a promise.

use std::ops::Bound;

use bytes::Bytes;

use super::{ALL, Range, Subject, pairs, text};
use crate::{Direction, Engine, MAX_KEY_BYTES, MAX_SEALED_TABLES, Read};

fn put(engine: &mut impl Engine, key: &str, value: &str) {
    engine.insert(key.as_bytes(), value.as_bytes()).unwrap();
}

pub(super) fn get_and_scan<S: Subject>(subject: &mut S) {
    let mut engine = subject.fresh();
    assert_eq!(engine.get(b"a").unwrap(), None);
    assert_eq!(text(&engine), "");
    put(&mut engine, "b", "2");
    put(&mut engine, "a", "1");
    put(&mut engine, "empty", "");
    assert_eq!(engine.get(b"a").unwrap().unwrap(), "1", "visible to the owner before publish");
    assert_eq!(engine.get(b"empty").unwrap().unwrap(), "", "empty values are values");
    assert_eq!(engine.get(b"").unwrap(), None);
    engine.publish();
    put(&mut engine, "b", "3");
    engine.remove(b"a").unwrap();
    engine.remove(b"never there").unwrap();
    assert_eq!(text(&engine), "b=3 empty=");
    assert_eq!(engine.get(b"a").unwrap(), None);
    put(&mut engine, "a", "again");
    assert_eq!(text(&engine), "a=again b=3 empty=");
    let backward = pairs(&engine, ALL, Direction::Backward);
    assert_eq!(backward[0], (Bytes::from("empty"), Bytes::new()));
    assert_eq!(backward.len(), 3);
    assert_eq!(engine.scan(ALL, Direction::Forward).next().unwrap().unwrap().0, "a", "lazily");
}

pub(super) fn bounds<S: Subject>(subject: &mut S) {
    let mut engine = subject.fresh();
    for key in ["a", "ab", "b", "c"] {
        put(&mut engine, key, "");
    }
    engine.publish();
    let included = |key: &'static str| Bound::Included(key.as_bytes());
    let excluded = |key: &'static str| Bound::Excluded(key.as_bytes());
    let long = vec![b'a'; MAX_KEY_BYTES + 1];
    let cases: Vec<(Range<'_>, &str)> = vec![
        ((included("a"), included("b")), "a ab b"),
        ((included("a"), excluded("b")), "a ab"),
        ((excluded("a"), excluded("b")), "ab"),
        ((excluded("a"), included("b")), "ab b"),
        ((excluded("a"), Bound::Unbounded), "ab b c"),
        ((Bound::Unbounded, excluded("ab")), "a"),
        ((included("aa"), included("bb")), "ab b"),
        ((included("ab"), included("ab")), "ab"),
        // Empty and reversed bounds yield nothing.
        ((included("ab"), excluded("ab")), ""),
        ((excluded("ab"), included("ab")), ""),
        ((excluded("ab"), excluded("ab")), ""),
        ((included("c"), included("a")), ""),
        ((included("x"), Bound::Unbounded), ""),
        // Bounds may be longer than any key.
        ((Bound::Included(&long), Bound::Unbounded), "ab b c"),
        ((Bound::Unbounded, Bound::Excluded(&long)), "a"),
        ((included(""), excluded("ab")), "a"),
    ];
    for (range, expected) in cases {
        let mut expected: Vec<&str> = expected.split_whitespace().collect();
        for direction in [Direction::Forward, Direction::Backward] {
            let got = pairs(&engine, range, direction);
            let got: Vec<_> = got.iter().map(|(k, _)| std::str::from_utf8(k).unwrap()).collect();
            assert_eq!(got, expected, "{range:?} {direction:?}");
            expected.reverse();
        }
    }
    assert_eq!(engine.get(&long).unwrap(), None, "a key that cannot exist does not");
}

pub(super) fn long_keys<S: Subject>(subject: &mut S) {
    let mut engine = subject.fresh();
    let lengths = [1, 32 * 1024, MAX_KEY_BYTES - 1, MAX_KEY_BYTES];
    for length in lengths {
        engine.insert(&vec![0; length], length.to_string().as_bytes()).unwrap();
    }
    engine.insert(b"large value", &vec![7; 3 << 20]).unwrap();
    engine.seal(1).unwrap();
    subject.complete_checkpoints(&mut engine);
    for length in lengths {
        assert_eq!(engine.get(&vec![0; length]).unwrap().unwrap(), length.to_string());
    }
    assert_eq!(engine.get(&[0; 2]).unwrap(), None);
    assert_eq!(engine.get(b"large value").unwrap().unwrap(), vec![7; 3 << 20]);
    let keys = pairs(&engine, ALL, Direction::Forward);
    assert_eq!(keys.iter().take(4).map(|(k, _)| k.len()).collect::<Vec<_>>(), lengths);
}

pub(super) fn one_batch_may_write_a_key_often<S: Subject>(subject: &mut S) {
    let mut engine = subject.fresh();
    put(&mut engine, "a", "1");
    engine.remove(b"a").unwrap();
    assert_eq!(engine.get(b"a").unwrap(), None);
    put(&mut engine, "b", "1");
    put(&mut engine, "b", "2");
    put(&mut engine, "c", "1");
    engine.remove(b"c").unwrap();
    put(&mut engine, "c", "3");
    engine.publish();
    let snapshot = engine.snapshot();
    assert_eq!(text(&snapshot), "b=2 c=3");
    engine.seal(1).unwrap();
    subject.complete_checkpoints(&mut engine);
    assert_eq!(text(&engine), "b=2 c=3");
    assert_eq!(text(&snapshot), "b=2 c=3");
}

pub(super) fn snapshots_see_whole_batches<S: Subject>(subject: &mut S) {
    let mut engine = subject.fresh();
    assert_eq!(text(&engine.snapshot()), "", "of a fresh engine");
    put(&mut engine, "a", "1");
    put(&mut engine, "b", "1");
    assert_eq!(text(&engine.snapshot()), "", "nothing is published");
    engine.publish();
    put(&mut engine, "a", "2");
    let before = engine.snapshot();
    put(&mut engine, "b", "2");
    assert_eq!(text(&before), "a=1 b=1");
    assert_eq!(text(&engine.snapshot()), "a=1 b=1");
    engine.publish();
    engine.publish();
    assert_eq!(text(&engine.snapshot()), "a=2 b=2");
    put(&mut engine, "a", "3");
    engine.seal(1).unwrap();
    assert_eq!(text(&engine.snapshot()), "a=3 b=2", "sealing ends the batch");
    put(&mut engine, "a", "4");
    subject.complete_checkpoints(&mut engine);
    assert_eq!(text(&engine.snapshot()), "a=3 b=2", "checkpoints publish nothing");
    assert_eq!(text(&engine), "a=4 b=2");
    engine.publish();
    assert_eq!(text(&engine.snapshot()), "a=4 b=2");
}

pub(super) fn snapshots_stay_as_they_are<S: Subject>(subject: &mut S) {
    let mut engine = subject.fresh();
    let mut kept = Vec::new();
    for round in 1..=12u64 {
        put(&mut engine, "always", &round.to_string());
        put(&mut engine, &format!("k{}", round % 3), &round.to_string());
        engine.remove(format!("k{}", (round + 1) % 3).as_bytes()).unwrap();
        engine.publish();
        kept.push((text(&engine), engine.snapshot()));
        if round % 2 == 0 {
            engine.seal(round).unwrap();
            kept.push((text(&engine), engine.snapshot()));
        }
        if round % 4 == 0 {
            subject.complete_checkpoints(&mut engine);
            kept.push((text(&engine), engine.snapshot()));
        }
        // Some end early, so that the oldest one moves on.
        if round % 5 == 0 {
            kept.remove(0);
        }
        for (expected, snapshot) in &kept {
            assert_eq!(text(snapshot), *expected);
            let copy = snapshot.clone();
            for (key, value) in pairs(&copy, ALL, Direction::Backward) {
                assert_eq!(snapshot.get(&key).unwrap(), Some(value));
            }
        }
    }
    drop(engine);
    for (expected, snapshot) in &kept {
        assert_eq!(text(snapshot), *expected, "a snapshot outlives its engine");
    }
}

pub(super) fn snapshots_work_on_other_threads<S: Subject>(subject: &mut S) {
    fn sendable<T: Clone + Send + Sync + 'static>(_: &T) {}
    let mut engine = subject.fresh();
    put(&mut engine, "a", "1");
    engine.publish();
    let snapshot = engine.snapshot();
    sendable(&snapshot);
    engine.remove(b"a").unwrap();
    engine.publish();
    assert_eq!(text(&snapshot), "a=1");
}

pub(super) fn sealing<S: Subject>(subject: &mut S) {
    let mut engine = subject.fresh();
    engine.seal(1).unwrap();
    assert_eq!(engine.usage().sealed_tables, 0, "nothing to seal");
    for applied in 1..=MAX_SEALED_TABLES as u64 + 2 {
        assert!(engine.usage().sealed_tables <= MAX_SEALED_TABLES);
        put(&mut engine, "n", &applied.to_string());
        assert!(engine.usage().active_bytes > 0);
        engine.seal(applied).unwrap();
        assert_eq!(text(&engine), format!("n={applied}"));
    }
    subject.complete_checkpoints(&mut engine);
    assert_eq!(engine.usage().sealed_tables, 0);
    assert!(engine.usage().disk_bytes > 0);
    engine.remove(b"n").unwrap();
    engine.seal(100).unwrap();
    subject.complete_checkpoints(&mut engine);
    assert_eq!(engine.usage().active_bytes, 0);
    assert_eq!(text(&engine), "");
}
