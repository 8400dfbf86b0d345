//! What only the in-memory engine can show: checkpoints and crashes.

use super::*;
use crate::contract;

fn value(engine: &impl Read, key: &str) -> Option<Bytes> {
    engine.get(key.as_bytes()).unwrap()
}

#[test]
fn a_crash_leaves_exactly_the_last_completed_checkpoint() {
    let mut engine = MemEngine::new();
    engine.insert(b"a", b"1").unwrap();
    engine.seal(7).unwrap();
    engine.insert(b"a", b"2").unwrap();
    engine.insert(b"b", b"2").unwrap();
    engine.seal(9).unwrap();
    engine.remove(b"a").unwrap();
    engine.publish();
    assert_eq!(engine.usage().sealed_tables, 2);

    assert_eq!(value(&engine.clone().crash(), "a"), None, "nothing was completed");
    assert_eq!(engine.complete_checkpoint(), Some(7));
    let crashed = engine.clone().crash();
    assert_eq!(value(&crashed, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(value(&crashed, "b"), None);
    assert_eq!((crashed.durable_applied(), crashed.usage().sealed_tables), (7, 0));

    assert_eq!(engine.complete_checkpoint(), Some(9));
    assert_eq!(engine.complete_checkpoint(), None);
    let crashed = engine.crash();
    assert_eq!(value(&crashed, "a").as_deref(), Some(&b"2"[..]));
    assert_eq!(crashed.usage().active_bytes, 0);
}

#[test]
fn sealing_an_empty_table_does_nothing() {
    let mut engine = MemEngine::new();
    engine.seal(1).unwrap();
    assert_eq!(engine.usage().sealed_tables, 0);
    assert_eq!(engine.complete_checkpoint(), None);
}

#[test]
#[should_panic(expected = "sealed 4 after 5")]
fn applied_never_goes_back() {
    let mut engine = MemEngine::new();
    engine.insert(b"a", b"").unwrap();
    engine.seal(5).unwrap();
    engine.insert(b"a", b"").unwrap();
    let _ = engine.seal(4);
}

#[test]
#[should_panic(expected = "a key of 0 bytes")]
fn empty_keys_are_a_bug() {
    let _ = MemEngine::new().insert(b"", b"");
}

#[test]
fn byte_counts_follow_the_content() {
    let mut engine = MemEngine::new();
    engine.insert(b"k", b"0123456789").unwrap();
    engine.insert(b"k", b"01").unwrap();
    engine.insert(b"gone", b"x").unwrap();
    engine.remove(b"gone").unwrap();
    engine.remove(b"never there").unwrap();
    engine.seal(1).unwrap();
    engine.complete_checkpoint();
    assert_eq!(engine.usage().disk_bytes, pair_bytes(b"k", b"01"));
    let again = MemEngine::with_checkpoint(1, [(Bytes::from("k"), Bytes::from("01"))]);
    assert_eq!(again.usage(), engine.usage());
    assert_eq!(value(&again.crash(), "k").as_deref(), Some(&b"01"[..]));
}

struct InMemory;

impl contract::Subject for InMemory {
    type Engine = MemEngine;

    fn fresh(&mut self) -> MemEngine {
        MemEngine::new()
    }

    fn complete_checkpoints(&mut self, engine: &mut MemEngine) {
        engine.invariants();
        while engine.complete_checkpoint().is_some() {
            engine.invariants();
        }
        engine.live.check();
        engine.durable.state.check();
    }
}

#[test]
fn the_contract_holds() {
    contract::check_all(&mut InMemory);
}

#[test]
fn copies_of_the_map_share_and_do_not_disturb_each_other() {
    let key = |n: u32| Bytes::from(n.to_string());
    let mut map = Treap::default();
    let mut copies = Vec::new();
    for n in 0..500 {
        map.insert(key(n), Bytes::new());
        copies.push(map.clone());
    }
    for n in (0..500).step_by(3) {
        assert!(map.remove(&key(n)).is_some());
    }
    map.check();
    for (n, copy) in copies.iter().enumerate() {
        copy.check();
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(copy.scan(all, Direction::Forward).count(), n + 1);
    }
}
