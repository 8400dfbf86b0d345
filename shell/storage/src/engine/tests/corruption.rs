//! Flipped bytes in a closed store: an error or the right data, never wrong data.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::*;

/// Offsets tried, spread over all files; every byte of the small ones.
const FLIPS: usize = 1_500;

type Content = BTreeMap<Bytes, Bytes>;

fn value(key: u64, round: u64) -> Vec<u8> {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(round).to_be_bytes().repeat(12)
}

/// A store with several tables in two levels, overwrites and tombstones, and its content.
fn store() -> (TempDir, Content) {
    let (dir, mut engine) = fresh();
    for round in 1..=6u64 {
        for key in (0..600).filter(|key| round == 1 || key % (round + 1) == 0) {
            engine.insert(format!("key/{key:05}").as_bytes(), &value(key, round)).unwrap();
        }
        engine.remove(format!("key/{:05}", round * 10 + 1).as_bytes()).unwrap();
        engine.seal(round).unwrap();
        settle(&engine).unwrap();
    }
    engine.invariants();
    let figures = engine.figures();
    assert!(figures.table_files >= 2 && figures.l0_runs >= 1, "{figures:?}");
    let content = content(&engine).unwrap();
    (dir, content)
}

fn content(engine: &DiskEngine) -> Result<Content, EngineError> {
    engine.scan((Bound::Unbounded, Bound::Unbounded), Direction::Forward).collect()
}

/// Everything that can be read, by both ways of reading, or the error.
fn examine(dir: &TempDir, expected: &Content) -> Result<(), EngineError> {
    let mut engine = open(dir, false)?;
    let snapshot = engine.snapshot();
    for (key, value) in expected {
        assert_eq!(engine.get(key)?.as_ref(), Some(value), "wrong value");
        assert_eq!(snapshot.get(key)?.as_ref(), Some(value), "wrong value in a snapshot");
    }
    assert_eq!(engine.get(b"key/00011")?, None, "a removed key came back");
    assert!(content(&engine)? == *expected, "a scan gave wrong data");
    Ok(())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_flipped_byte_never_gives_wrong_data() {
    let (dir, expected) = store();
    examine(&dir, &expected).unwrap();
    let all = files(dir.path());
    let (mut errors, mut harmless) = (0, 0);
    for file in &all {
        let bytes = fs::read(file).unwrap();
        // Odd, so that the offsets are not all in the same column.
        let step = (bytes.len() * all.len() / FLIPS).max(1) | 1;
        for offset in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << (offset % 8);
            fs::write(file, flipped).unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(|| examine(&dir, &expected)));
            match outcome {
                Ok(Ok(())) => harmless += 1,
                Ok(Err(_)) => errors += 1,
                Err(_) => panic!("a flip in {} at {offset}", file.display()),
            }
        }
        fs::write(file, bytes).unwrap();
    }
    examine(&dir, &expected).unwrap();
    println!("{} files: {errors} errors, {harmless} harmless", all.len());
    assert!(all.len() >= 4 && errors > FLIPS / 2, "{errors} errors, {harmless} harmless");
}

#[test]
fn every_byte_of_the_manifest_and_of_current_is_checked() {
    let (dir, _) = store();
    // An open deletes manifests that are not in force any more; nobody reads those.
    open(&dir, false).unwrap();
    let tree = engine_dir(dir.path(), GROUP, 1);
    for file in files(&tree).iter().filter(|file| file.parent() == Some(&tree)) {
        let bytes = fs::read(file).unwrap();
        for offset in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 0x10;
            fs::write(file, flipped).unwrap();
            let outcome = open(&dir, false);
            assert!(outcome.is_err(), "{} at {offset}", file.display());
        }
        fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        assert!(open(&dir, false).is_err(), "{} cut", file.display());
        fs::write(file, bytes).unwrap();
    }
    open(&dir, false).unwrap();
}
