//! Opening, reopening, refusing; generations; figures.

use std::fs;

use bytes::Bytes;

use super::*;

fn is_corrupt<T>(outcome: Result<T, EngineError>) -> bool {
    matches!(outcome, Err(EngineError::Corrupt(_)))
}

#[test]
fn only_checkpoints_survive_and_sequence_numbers_go_on() {
    let (dir, mut engine) = fresh();
    for applied in 1..=3 {
        put_number(&mut engine, "applied", applied);
        put_number(&mut engine, &format!("k{applied}"), applied);
        engine.seal(applied).unwrap();
    }
    assert_eq!(settle(&engine).unwrap(), [1, 2, 3]);
    put_number(&mut engine, "applied", 4);
    engine.publish();
    let last = engine.shared.seqno.get();
    drop(engine);

    let mut engine = open(&dir, false).unwrap();
    assert_eq!(number(&engine, "applied"), Some(3), "what was not sealed is the log's to replay");
    assert!(engine.shared.seqno.get() > 3 && engine.shared.seqno.get() <= last);
    assert_eq!(number(&engine.snapshot(), "applied"), Some(3), "published from the start");
    put_number(&mut engine, "applied", 4);
    engine.remove(b"k1").unwrap();
    engine.publish();
    assert_eq!(number(&engine.snapshot(), "applied"), Some(4), "newer than what is in the files");
    engine.seal(4).unwrap();
    settle(&engine).unwrap();
    drop(engine);
    let engine = open(&dir, true).unwrap();
    assert_eq!(number(&engine, "applied"), Some(4));
    assert_eq!(number(&engine, "k1"), None);
    assert_eq!(number(&engine, "k2"), Some(2));
}

#[test]
fn a_store_that_should_exist_is_never_created() {
    let dir = TempDir::new().unwrap();
    assert!(is_corrupt(open(&dir, false)));
    assert!(!dir.path().join("engine").exists(), "nothing was touched");
    let (dir, mut engine) = fresh();
    put_number(&mut engine, "a", 1);
    engine.seal(1).unwrap();
    settle(&engine).unwrap();
    drop(engine);
    let tree = engine_dir(dir.path(), GROUP, 1);
    fs::remove_file(tree.join("current")).unwrap();
    assert!(is_corrupt(open(&dir, false)));
    assert!(is_corrupt(open(&dir, true)), "there are tables, so it was not new");
    assert!(
        fs::read_dir(tree.join("tables")).unwrap().next().is_some(),
        "and they are still there"
    );
}

#[test]
fn an_interrupted_creation_is_taken_up_again() {
    let dir = TempDir::new().unwrap();
    let tree = engine_dir(dir.path(), GROUP, 1);
    fs::create_dir_all(tree.join("tables")).unwrap();
    fs::write(tree.join("v0"), b"half").unwrap();
    fs::write(tree.join(".tmpAbCdEf"), b"half").unwrap();
    let engine = open(&dir, true).unwrap();
    assert_eq!(number(&engine, "a"), None);
    assert!(!tree.join(".tmpAbCdEf").exists());
    drop(engine);
    fs::write(tree.join(".tmpGhIjKl"), b"half").unwrap();
    open(&dir, false).unwrap();
    assert!(!tree.join(".tmpGhIjKl").exists());
}

#[test]
fn a_missing_table_is_noticed() {
    let (dir, mut engine) = fresh();
    put_number(&mut engine, "a", 1);
    engine.seal(1).unwrap();
    settle(&engine).unwrap();
    drop(engine);
    let tables = engine_dir(dir.path(), GROUP, 1).join("tables");
    let table = fs::read_dir(&tables).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(table).unwrap();
    assert!(is_corrupt(open(&dir, false)));
}

#[test]
fn a_failed_flush_is_reported_once_and_ends_the_thread() {
    let (dir, mut engine) = fresh();
    put_number(&mut engine, "a", 1);
    engine.seal(1).unwrap();
    // A file where the folder of tables should be: every create fails.
    let tables = engine_dir(dir.path(), GROUP, 1).join("tables");
    fs::remove_dir(&tables).unwrap();
    fs::write(&tables, b"").unwrap();
    let (tell, told) = channel();
    let _thread = EngineThread::start(&engine, move |event| drop(tell.send(event))).unwrap();
    assert!(matches!(told.recv().unwrap(), EngineEvent::Failed(EngineError::Io(_))));
    assert!(told.recv().is_err());
    assert_eq!(engine.usage().sealed_tables, 1, "it never became durable");
    assert_eq!(number(&engine, "a"), Some(1));
}

#[test]
fn generations_are_ingested_and_removed() {
    let dir = TempDir::new().unwrap();
    let options = EngineOptions::new(1 << 20);
    let pair = |n: u32| Ok((Bytes::from(format!("{n:06}")), Bytes::from(vec![n as u8; 100])));
    let ingest = |generation, pairs: Vec<Result<(Bytes, Bytes), EngineError>>| {
        DiskEngine::ingest(dir.path(), GROUP, generation, &options, pairs)
    };
    assert_eq!(ingest(7, (0..5000).map(pair).collect()).unwrap(), 5000);
    // Again, as after a crash before the commit record.
    assert_eq!(ingest(7, (0..4000).map(pair).collect()).unwrap(), 4000);
    let mut engine = DiskEngine::open(dir.path(), GROUP, 7, false, &options).unwrap();
    let all = (Bound::Unbounded, Bound::Unbounded);
    assert_eq!(engine.scan(all, Direction::Forward).count(), 4000);
    assert_eq!(engine.snapshot().scan(all, Direction::Backward).count(), 4000);
    engine.remove(b"000001").unwrap();
    engine.insert(b"000002", b"new").unwrap();
    engine.seal(1).unwrap();
    settle(&engine).unwrap();
    assert_eq!(engine.get(b"000001").unwrap(), None);
    assert_eq!(engine.get(b"000002").unwrap().unwrap(), "new");
    assert_eq!(engine.get(b"000003").unwrap().unwrap(), vec![3; 100]);
    drop(engine);

    assert!(is_corrupt(ingest(8, vec![pair(2), pair(2)])), "keys must ascend");
    let source = || Err(EngineError::Io("the peer went away".into()));
    assert!(matches!(ingest(8, vec![pair(1), source()]), Err(EngineError::Io(_))));
    assert_eq!(ingest(9, vec![]).unwrap(), 0);
    for generation in [7, 8, 9, 10] {
        remove_generation(dir.path(), GROUP, generation).unwrap();
        assert!(!engine_dir(dir.path(), GROUP, generation).exists());
    }
}

#[test]
fn figures_follow_the_files() {
    let (_dir, mut engine) = fresh();
    assert_eq!(engine.figures(), EngineFigures::default());
    let rounds = u64::from(L0_RUNS_TO_MERGE) + 2;
    for applied in 1..=rounds {
        for key in 0..200 {
            engine.insert(format!("key {key}").as_bytes(), &[applied as u8; 500]).unwrap();
        }
        engine.seal(applied).unwrap();
        settle(&engine).unwrap();
    }
    let figures = engine.figures();
    assert_eq!((figures.flushes, figures.sealed_tables), (rounds, 0));
    let most = usize::from(L0_RUNS_TO_MERGE);
    assert!(figures.compactions >= 1 && figures.l0_runs <= most, "{figures:?}");
    assert!(
        figures.live_bytes >= 100_000 && figures.live_bytes <= figures.disk_bytes,
        "{figures:?}"
    );
    let usage = engine.usage();
    assert_eq!(usage.disk_bytes, figures.disk_bytes);
    assert_eq!(usage.in_use_bytes(), figures.live_bytes + usage.active_bytes);
}
