//! `kill -9` of a child process that writes, flushes and compacts: the engine is then exactly some completed
//! checkpoint, not older than the last one that was reported.
//!
//! The child is this test binary, told by an environment variable to run [`child`]. It prints `applied`
//! for each report; the parent kills it after some number of lines, at no particular moment.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

const ROLE: &str = "QUORATE_ENGINE_CRASH_CHILD";
const KILLS: u64 = 12;
const KEYS: u64 = 300;

/// What key `key` holds in the state `applied`: entry `n` writes the keys that are multiples of n mod 7 + 1,
/// and removes one.
fn apply(engine: &mut DiskEngine, n: u64) {
    for key in (0..KEYS).step_by((n % 7 + 1) as usize) {
        engine.insert(format!("k{key}").as_bytes(), &n.to_be_bytes().repeat(40)).unwrap();
    }
    engine.remove(format!("k{}", n % KEYS).as_bytes()).unwrap();
    put_number(engine, "applied", n);
}

/// The same on a dumb model, from the beginning.
fn model(applied: u64) -> Vec<Option<u64>> {
    let mut state = vec![None; KEYS as usize];
    for n in 1..=applied {
        for key in (0..KEYS).step_by((n % 7 + 1) as usize) {
            state[key as usize] = Some(n);
        }
        state[(n % KEYS) as usize] = None;
    }
    state
}

fn check(engine: &impl Read, applied: u64) {
    for (key, expected) in model(applied).into_iter().enumerate() {
        let value = engine.get(format!("k{key}").as_bytes()).unwrap();
        let value = value.map(|v| u64::from_be_bytes(v[..8].try_into().unwrap()));
        assert_eq!(value, expected, "k{key} in the state {applied}");
    }
}

/// Runs in the child until it is killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(ROLE) else { return };
    let options = EngineOptions::new(1 << 20);
    let mut engine = DiskEngine::open(Path::new(&dir), GROUP, 1, true, &options).unwrap();
    let mut applied = number(&engine, "applied").unwrap_or(0);
    let (tell, told) = channel();
    let _thread = EngineThread::start(&engine, move |event| drop(tell.send(event))).unwrap();
    loop {
        applied += 1;
        apply(&mut engine, applied);
        engine.publish();
        if applied.is_multiple_of(3) {
            engine.seal(applied).unwrap();
        }
        let pause = engine.usage().sealed_tables == MAX_SEALED_TABLES;
        let waited = pause.then(|| told.recv().unwrap());
        for event in waited.into_iter().chain(told.try_iter()) {
            let EngineEvent::Durable { applied } = event else { panic!("{event:?}") };
            let mut out = std::io::stdout().lock();
            writeln!(out, "durable {applied}").unwrap();
            out.flush().unwrap();
        }
    }
}

/// Starts the child, kills it after `lines` reports, and returns the last one that it printed.
fn run_and_kill(dir: &TempDir, lines: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "engine::tests::crash::child", "--nocapture", "--test-threads=1"])
        .env(ROLE, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reported = 0;
    let mut seen = 0;
    let out = BufReader::new(child.stdout.take().unwrap());
    for line in out.lines() {
        // What it had printed when it died counts too, so the pipe is read to its end.
        let line = line.unwrap();
        let Some((_, applied)) = line.split_once("durable ") else { continue };
        reported = applied.parse().unwrap();
        seen += 1;
        if seen == lines {
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(seen >= lines, "the child ended by itself");
    reported
}

#[test]
fn after_a_kill_the_engine_is_a_checkpoint_not_older_than_the_last_reported() {
    let dir = TempDir::new().unwrap();
    let mut last = 0;
    for round in 0..KILLS {
        let reported = run_and_kill(&dir, 1 + round * 5 % 23);
        let engine = open(&dir, false).unwrap();
        let applied = number(&engine, "applied").unwrap();
        assert!(applied >= reported && applied > last, "{applied} after a report of {reported}");
        assert_eq!(applied % 3, 0, "no state that was sealed");
        check(&engine, applied);
        last = applied;
    }
}
