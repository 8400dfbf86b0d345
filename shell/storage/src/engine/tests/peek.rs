//! Looking at an engine leaves its directory as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::DirectoryLock;

/// Every path below `root`, with what it contains.
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
            all.insert(path, Vec::new());
        } else {
            all.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    all
}

fn peek(dir: &TempDir) -> Result<Peek, EngineError> {
    Peek::open(dir.path(), GROUP, 1, &EngineOptions::new(1 << 20))
}

#[test]
fn what_a_start_would_delete_stays() {
    let (dir, mut engine) = fresh();
    for applied in 1..=3 {
        put_number(&mut engine, &format!("key {applied}"), applied);
        engine.seal(applied).unwrap();
        settle(&engine).unwrap();
    }
    drop(engine);
    let files = engine_dir(dir.path(), GROUP, 1);
    let left_over = [".tmpleft", "v99999", "tables/99999"];
    for left in left_over {
        std::fs::write(files.join(left), "left by a crash").unwrap();
    }
    let before = contents(dir.path());
    let looked_at = peek(&dir).unwrap();
    assert_eq!(number(looked_at.engine(), "key 2"), Some(2));
    assert_eq!(looked_at.engine().figures().table_files, 3);
    drop(looked_at);
    assert!(contents(dir.path()) == before, "a look changed something");

    let engine = open(&dir, false).unwrap();
    assert_eq!(number(&engine, "key 3"), Some(3));
    assert!(left_over.iter().all(|left| !files.join(left).exists()), "a start deletes them");
}

#[test]
fn damage_is_named_by_the_real_path() {
    let (dir, engine) = fresh();
    drop(engine);
    let files = std::fs::canonicalize(engine_dir(dir.path(), GROUP, 1)).unwrap();
    std::fs::remove_file(files.join("current")).unwrap();
    let Err(EngineError::Corrupt(text)) = peek(&dir) else { panic!("it should be refused") };
    assert!(text.contains(&files.display().to_string()), "{text}");
    std::fs::remove_dir_all(dir.path().join("engine")).unwrap();
    assert!(matches!(peek(&dir), Err(EngineError::Corrupt(_))));
    assert!(!dir.path().join("engine").exists());
}

#[test]
fn a_lock_is_respected_and_never_made() {
    let dir = TempDir::new().unwrap();
    assert!(DirectoryLock::acquire_existing(dir.path()).unwrap().is_none());
    assert!(contents(dir.path()).is_empty());
    let held = DirectoryLock::acquire(dir.path()).unwrap();
    assert!(DirectoryLock::acquire_existing(dir.path()).is_err());
    drop(held);
    assert!(DirectoryLock::acquire_existing(dir.path()).unwrap().is_some());
}
