//! Merging everything on request: what it leaves, what it spares, and how it fails.

use std::fs;

use super::*;

const KEYS: u64 = 2_000;

fn key(n: u64) -> String {
    format!("key {n:06}")
}

fn fill(engine: &mut DiskEngine, applied: u64) {
    (0..KEYS).for_each(|n| engine.insert(key(n).as_bytes(), &[applied as u8; 100]).unwrap());
    engine.seal(applied).unwrap();
}

fn empty(engine: &mut DiskEngine, applied: u64) {
    (0..KEYS).for_each(|n| engine.remove(key(n).as_bytes()).unwrap());
    engine.seal(applied).unwrap();
}

fn start(engine: &DiskEngine) -> (EngineThread, Receiver<EngineEvent>) {
    let (tell, told) = channel();
    let thread = EngineThread::start(engine, move |event| drop(tell.send(event))).unwrap();
    (thread, told)
}

/// Merges; the checkpoints that were reported before.
fn merge(thread: &EngineThread, told: &Receiver<EngineEvent>) -> Vec<u64> {
    thread.merge_all();
    let mut durable = Vec::new();
    loop {
        match told.recv().unwrap() {
            EngineEvent::Durable { applied } => durable.push(applied),
            EngineEvent::Merged => return durable,
            EngineEvent::Failed(error) => panic!("{error}"),
        }
    }
}

fn count(from: &impl Read) -> u64 {
    from.scan((Bound::Unbounded, Bound::Unbounded), Direction::Forward).count() as u64
}

#[test]
fn nothing_dead_is_left_but_what_a_snapshot_sees() {
    let (dir, mut engine) = fresh();
    let (thread, told) = start(&engine);
    assert_eq!(merge(&thread, &told), Vec::<u64>::new(), "of nothing");
    fill(&mut engine, 1);
    let snapshot = engine.snapshot();
    empty(&mut engine, 2);
    assert_eq!(merge(&thread, &told), [1, 2], "the sealed tables come first");
    assert_eq!((count(&engine), count(&snapshot)), (0, KEYS));
    drop(snapshot);

    fill(&mut engine, 3);
    empty(&mut engine, 4);
    put_number(&mut engine, "left", 7);
    engine.seal(5).unwrap();
    assert_eq!(merge(&thread, &told), [3, 4, 5]);
    engine.publish();
    engine.invariants();
    let usage = engine.usage();
    assert!(usage.disk_bytes > 0 && usage.disk_bytes < 10_000, "{usage:?}");
    assert_eq!((usage.sealed_bytes, usage.sealed_tables), (0, 0));
    assert_eq!((number(&engine, "left"), count(&engine)), (Some(7), 1));
    assert_eq!(merge(&thread, &told), Vec::<u64>::new(), "again");

    engine.remove(b"left").unwrap();
    engine.seal(6).unwrap();
    merge(&thread, &told);
    assert_eq!(engine.usage().disk_bytes, 0);
    drop((thread, engine));
    let engine = open(&dir, false).unwrap();
    assert_eq!((count(&engine), engine.usage().disk_bytes), (0, 0));
}

#[test]
fn sealed_tables_are_counted_until_they_are_on_disk() {
    let (_dir, mut engine) = fresh();
    fill(&mut engine, 1);
    let sealed = engine.usage().sealed_bytes;
    assert!(sealed > KEYS * 100, "{sealed}");
    fill(&mut engine, 2);
    let usage = engine.usage();
    assert_eq!((usage.sealed_bytes, usage.active_bytes), (2 * sealed, 0));
    settle(&engine).unwrap();
    let usage = engine.usage();
    assert_eq!((usage.sealed_bytes, usage.total_bytes()), (0, usage.disk_bytes));
}

#[test]
fn a_merge_that_fails_is_final() {
    let (dir, mut engine) = fresh();
    for applied in [1, 2] {
        fill(&mut engine, applied);
    }
    settle(&engine).unwrap();
    // A file where the folder of tables was: every create fails.
    let tables = engine_dir(dir.path(), GROUP, 1).join("tables");
    let away = tables.with_extension("away");
    fs::rename(&tables, &away).unwrap();
    fs::write(&tables, b"").unwrap();
    let (thread, told) = start(&engine);
    thread.merge_all();
    assert!(matches!(told.recv().unwrap(), EngineEvent::Failed(EngineError::Io(_))));
    assert!(told.recv().is_err());
    drop((thread, engine));
    fs::remove_file(&tables).unwrap();
    fs::rename(&away, &tables).unwrap();
    assert_eq!(count(&open(&dir, false).unwrap()), KEYS, "what was there is there");
}
