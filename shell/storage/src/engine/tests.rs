//! The contract suite, with and without a running thread, and what only files can show.

use std::sync::mpsc::{Receiver, channel};

use quorate_engine::contract::{Subject, check_all};
use tempfile::TempDir;

use super::*;
use crate::engine_thread::settle;
use crate::{EngineEvent, EngineThread};

mod corruption;
mod crash;
mod files;
mod layers;
mod merge;
mod peek;

const GROUP: GroupId = GroupId(1);

fn open(dir: &TempDir, may_create: bool) -> Result<DiskEngine, EngineError> {
    DiskEngine::open(dir.path(), GROUP, 1, may_create, &EngineOptions::new(1 << 20))
}

fn fresh() -> (TempDir, DiskEngine) {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir, true).unwrap();
    (dir, engine)
}

fn number(from: &impl Read, key: &str) -> Option<u64> {
    let value = from.get(key.as_bytes()).unwrap()?;
    Some(u64::from_be_bytes(value[..].try_into().unwrap()))
}

fn put_number(engine: &mut DiskEngine, key: &str, number: u64) {
    engine.insert(key.as_bytes(), &number.to_be_bytes()).unwrap();
}

/// Checkpoints happen only when they are asked for, and then compaction too.
#[derive(Default)]
struct OnRequest(Option<TempDir>);

impl Subject for OnRequest {
    type Engine = DiskEngine;

    fn fresh(&mut self) -> DiskEngine {
        let (dir, engine) = fresh();
        self.0 = Some(dir);
        engine
    }

    fn complete_checkpoints(&mut self, engine: &mut DiskEngine) {
        engine.invariants();
        settle(engine).unwrap();
        engine.invariants();
    }
}

/// The thread flushes and compacts while the suite runs.
#[derive(Default)]
struct AllTheTime(Option<(EngineThread, Receiver<EngineEvent>, TempDir)>);

impl Subject for AllTheTime {
    type Engine = DiskEngine;

    fn fresh(&mut self) -> DiskEngine {
        let (dir, engine) = fresh();
        let (tell, told) = channel();
        let thread = EngineThread::start(&engine, move |event| drop(tell.send(event))).unwrap();
        self.0 = Some((thread, told, dir));
        engine
    }

    fn complete_checkpoints(&mut self, engine: &mut DiskEngine) {
        let (_, told, _) = self.0.as_ref().unwrap();
        while engine.usage().sealed_tables > 0 {
            match told.recv().unwrap() {
                EngineEvent::Durable { .. } | EngineEvent::Merged => engine.invariants(),
                EngineEvent::Failed(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn the_contract_holds() {
    check_all(&mut OnRequest::default());
}

#[test]
fn the_contract_holds_with_the_thread_running() {
    check_all(&mut AllTheTime::default());
}

#[test]
fn events_come_in_the_order_of_sealing() {
    let (_dir, mut engine) = fresh();
    let (tell, told) = channel();
    for applied in [3, 5, 8] {
        put_number(&mut engine, "applied", applied);
        engine.seal(applied).unwrap();
    }
    let thread = EngineThread::start(&engine, move |event| drop(tell.send(event))).unwrap();
    for expected in [3, 5, 8] {
        match told.recv().unwrap() {
            EngineEvent::Durable { applied } => assert_eq!(applied, expected),
            other => panic!("{other:?}"),
        }
    }
    thread.stop();
    assert!(told.recv().is_err(), "the thread ended and dropped its end");
    assert_eq!(engine.figures().flushes, 3);
}

/// Readers on other threads, while the owner writes and the thread flushes and compacts: each snapshot shows
/// one batch, all of it, and goes on showing it.
#[test]
fn snapshots_hold_under_flushes_on_other_threads() {
    const KEYS: u64 = 20;
    let (_dir, mut engine) = fresh();
    let (failed, failures) = channel();
    let thread = EngineThread::start(&engine, move |event| {
        if let EngineEvent::Failed(error) = event {
            drop(failed.send(error.to_string()));
        }
    });
    let (hand, handed) = std::sync::mpsc::sync_channel::<(u64, DiskSnapshot)>(16);
    let reader = std::thread::spawn(move || {
        let mut kept = Vec::new();
        for (batch, snapshot) in handed {
            kept.push((batch, snapshot));
            if kept.len() > 12 {
                kept.remove(0);
            }
            for (batch, snapshot) in &kept {
                for key in 0..KEYS {
                    assert_eq!(number(snapshot, &format!("k{key}")), Some(*batch));
                }
                let all = (Bound::Unbounded, Bound::Unbounded);
                assert_eq!(snapshot.scan(all, Direction::Forward).count() as u64, KEYS);
            }
        }
    });
    // A busy disk takes its time, and the other thread is to be at work all along.
    let begun = std::time::Instant::now();
    let is_enough = |figures: EngineFigures| figures.flushes > 10 && figures.compactions > 0;
    for batch in 1.. {
        if batch > 600 && (is_enough(engine.figures()) || begun.elapsed().as_secs() > 60) {
            break;
        }
        for key in 0..KEYS {
            put_number(&mut engine, &format!("k{key}"), batch);
        }
        engine.publish();
        engine.invariants();
        hand.send((batch, engine.snapshot())).unwrap();
        if batch % 7 == 0 {
            engine.seal(batch).unwrap();
        }
        for key in 0..KEYS {
            assert_eq!(number(&engine, &format!("k{key}")), Some(batch));
        }
    }
    drop(hand);
    reader.join().unwrap();
    drop(thread);
    assert_eq!(failures.try_iter().collect::<Vec<_>>(), Vec::<String>::new());
    let figures = engine.figures();
    assert!(is_enough(figures), "{figures:?}");
    assert_eq!(figures.open_snapshots, 0);
}

/// What is scanned is put in order beside, in this table and the next; what nobody scans is not.
#[test]
fn tables_that_are_scanned_are_put_in_order_ahead() {
    let (_dir, mut engine) = fresh();
    let thread = EngineThread::start(&engine, |_| {}).unwrap();
    let write = |engine: &mut DiskEngine| {
        (0..u64::from(ORDER_STEP)).for_each(|n| put_number(engine, &format!("k{n}"), n));
        engine.publish();
    };
    write(&mut engine);
    assert_eq!(engine.ordered, 0, "nobody scans");
    let all = (Bound::Unbounded, Bound::Unbounded);
    assert_eq!(engine.scan(all, Direction::Forward).count(), ORDER_STEP as usize);
    for _ in 0..2 {
        write(&mut engine);
        let written = engine.active.len();
        assert_eq!(engine.ordered, written);
        let begun = std::time::Instant::now();
        while engine.active.layer().in_order() < written {
            assert!(begun.elapsed().as_secs() < 20, "it is not put in order");
            std::thread::yield_now();
        }
        engine.seal(engine.last_sealed + 1).unwrap();
        assert_eq!(engine.active.layer().in_order(), 0);
    }
    thread.stop();
}
