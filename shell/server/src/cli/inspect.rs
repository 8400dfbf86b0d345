//! `quorate inspect DIR`: what a data directory holds and whether a start would accept it. Changes
//! nothing in it; the engine's files are opened only while no server uses them, through a stand-in for
//! their directory ([`Peek`]).

use std::path::Path;

use quorate_consensus::GroupId;
use quorate_kv::Kv;
use quorate_storage::{DirectoryLock, EngineOptions, FileDisk, LockError, Peek};
use quorate_wal::{GroupReport, Inspection, SegmentReport};
use serde_json::{Value, json};

use crate::config::flags;
use crate::data_dir::WAL_DIR;
use crate::exit::Fatal;
use crate::terminal::say;

/// What was found out about the engine of a group.
struct EngineReport {
    group: GroupId,
    generation: u64,
    state: Result<EngineState, Unchecked>,
}

/// Why nothing is known about an engine's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unchecked {
    #[error("in use by a server, not checked: stop it first")]
    InUse,
    #[error("{0}")]
    Broken(String),
}

struct EngineState {
    applied: u64,
    disk_bytes: u64,
    files: usize,
}

/// Checks a directory and says what it found.
pub(super) fn inspect(args: &[String]) -> Result<(), Fatal> {
    let usage = || Fatal::Usage("inspect takes one directory: quorate inspect DIR [--json]".into());
    let (directory, options) = args.split_first().ok_or_else(usage)?;
    if directory.starts_with('-') {
        return Err(usage());
    }
    let mut as_json = false;
    for given in flags::split(options)? {
        match (given.name.as_str(), given.value) {
            ("json", None) => as_json = true,
            _ => return Err(usage()),
        }
    }
    let root = Path::new(directory);
    let report = inspect_log(root)?;
    let engines = inspect_engines(root, &report);
    if as_json {
        say(format_args!("{}", to_json(&report, &engines)));
    } else {
        print(root, &report, &engines);
    }
    verdict(&report, &engines)
}

fn inspect_log(root: &Path) -> Result<Inspection, Fatal> {
    let path = root.join(WAL_DIR);
    let failed = |error: &dyn std::fmt::Display| {
        Fatal::Runtime(format!("{} cannot be read: {error}", path.display()))
    };
    let disk = FileDisk::open_read_only(&path).map_err(|error| failed(&error))?;
    quorate_wal::inspect(&disk).map_err(|error| failed(&error))
}

/// Opening an engine checks its manifest; its blocks carry checksums of their own, read by read.
fn inspect_engines(root: &Path, report: &Inspection) -> Vec<EngineReport> {
    let lock = DirectoryLock::acquire_existing(root);
    let check = |(group, found): (&GroupId, &GroupReport)| EngineReport {
        group: *group,
        generation: found.generation.0,
        state: match &lock {
            Ok(_) => open_engine(root, *group, found).map_err(Unchecked::Broken),
            Err(LockError::Held(_)) => Err(Unchecked::InUse),
            Err(error) => Err(Unchecked::Broken(error.to_string())),
        },
    };
    report.groups.iter().map(check).collect()
}

fn open_engine(root: &Path, group: GroupId, found: &GroupReport) -> Result<EngineState, String> {
    let options = EngineOptions::default();
    let peek =
        Peek::open(root, group, found.generation.0, &options).map_err(|error| error.to_string())?;
    let engine = peek.engine();
    let kv = Kv::open(engine).map_err(|halt| halt.to_string())?;
    let (applied, start, last) = (kv.applied(), found.start.0, found.last.0);
    if applied < start || applied > last {
        return Err(format!(
            "stands at entry {applied}, but the log has entries {start} to {last}"
        ));
    }
    let figures = engine.figures();
    Ok(EngineState { applied, disk_bytes: figures.disk_bytes, files: figures.table_files })
}

fn verdict(report: &Inspection, engines: &[EngineReport]) -> Result<(), Fatal> {
    if let Some(problem) = &report.problem {
        return Err(Fatal::Refused(problem.to_string()));
    }
    match engines.iter().find_map(|engine| engine.state.as_ref().err()) {
        None => Ok(()),
        Some(Unchecked::InUse) => {
            Err(Fatal::Runtime(format!("the engine is {}", Unchecked::InUse)))
        }
        Some(why) => Err(Fatal::Refused(format!("the engine: {why}"))),
    }
}

fn print(root: &Path, report: &Inspection, engines: &[EngineReport]) {
    say(format_args!("{}", root.display()));
    if let Some(identity) = report.identity {
        say(format_args!("  cluster {:x}, member {:x}", identity.cluster.0, identity.node.0));
    }
    let bytes: u64 = report.segments.iter().map(|segment| segment.len).sum();
    say(format_args!("  log: {} segments, {} KiB", report.segments.len(), bytes / 1024));
    for SegmentReport { segment, sync_groups, records, end, .. } in &report.segments {
        match sync_groups {
            None => say(format_args!("    {segment}: empty")),
            Some((first, last)) => say(format_args!(
                "    {segment}: sync groups {first} to {last}, {records} records, used {} KiB",
                end / 1024
            )),
        }
    }
    for (group, found) in &report.groups {
        let hard = found.hard_state;
        say(format_args!(
            "  group {group}: term {}, committed to {}, entries after {} to {}",
            hard.term, hard.commit, found.start, found.last
        ));
    }
    if let Some(cut) = &report.cut {
        say(format_args!(
            "  torn end of {}: {} records from byte {} on will be cut (never acknowledged)",
            cut.segment, cut.lost, cut.offset
        ));
    }
    for EngineReport { group, generation, state } in engines {
        match state {
            Ok(EngineState { applied, disk_bytes, files }) => say(format_args!(
                "  engine of group {group}, generation {generation}: checkpoint at entry {applied}, \
                 {files} files, {} KiB",
                disk_bytes / 1024
            )),
            Err(why) => {
                say(format_args!("  engine of group {group}, generation {generation}: {why}"))
            }
        }
    }
    if report.problem.is_none() && engines.iter().all(|engine| engine.state.is_ok()) {
        say(format_args!("  a start would accept it"));
    }
}

fn to_json(report: &Inspection, engines: &[EngineReport]) -> Value {
    let segments: Vec<Value> = report
        .segments
        .iter()
        .map(|segment| {
            json!({
                "file": segment.segment.file_name(),
                "bytes": segment.len,
                "used_bytes": segment.end,
                "first_sync_group": segment.sync_groups.map(|(first, _)| first),
                "last_sync_group": segment.sync_groups.map(|(_, last)| last),
                "records": segment.records,
            })
        })
        .collect();
    let groups: Vec<Value> = report
        .groups
        .iter()
        .map(|(group, found)| {
            json!({
                "group": group.0,
                "term": found.hard_state.term.0,
                "commit": found.hard_state.commit.0,
                "start": found.start.0,
                "last": found.last.0,
                "generation": found.generation.0,
            })
        })
        .collect();
    let engines: Vec<Value> = engines
        .iter()
        .map(|engine| match &engine.state {
            Ok(state) => json!({
                "group": engine.group.0,
                "generation": engine.generation,
                "applied": state.applied,
                "bytes": state.disk_bytes,
                "files": state.files,
            }),
            Err(why) => json!({ "group": engine.group.0, "problem": why.to_string() }),
        })
        .collect();
    json!({
        "cluster_id": report.identity.map(|identity| format!("{:x}", identity.cluster.0)),
        "member_id": report.identity.map(|identity| format!("{:x}", identity.node.0)),
        "segments": segments,
        "groups": groups,
        "engines": engines,
        "torn_records": report.cut.as_ref().map(|cut| cut.lost),
        "problem": report.problem.as_ref().map(ToString::to_string),
    })
}
