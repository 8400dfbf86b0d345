//! Opening a tree, with the checks that the table layer does not make itself.
//!
//! - It creates an empty store where it finds no file `current`: so we look first, and create only where
//!   the log says that nothing can be lost.
//! - It recovers from a manifest without checking it, though `current` holds its checksum: a flipped byte
//!   in it gave wrong data without an error. We check it.
//! - It leaves its temporary files behind after a crash, and does not sync the parent of what it creates.
//! - It has no lock. The caller holds that of the data directory: a second open would delete files.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, SequenceNumberCounter, Tree,
};
use quorate_consensus::GroupId;
use quorate_engine::EngineError;
use xxhash_rust::xxh3::xxh3_128;

use super::failure;
use super::limits::{MAX_MANIFEST_BYTES, OPEN_FILES};
use crate::latency::LatencyHistogram;

/// The file that names the manifest in force.
const CURRENT: &str = "current";
/// Its length: manifest id (u64), xxh3-128 of the manifest (u128), kind of checksum (u8, 0), little-endian.
const CURRENT_BYTES: usize = 25;
/// The folder of table files.
const TABLES: &str = "tables";
/// How names of temporary files begin.
pub(super) const TEMPORARY: &str = ".tmp";

/// What is the operator's choice, and what operators are told of all generations together.
#[derive(Clone)]
pub struct EngineOptions {
    pub(super) cache: Arc<Cache>,
    pub(super) checkpoints: Arc<LatencyHistogram>,
}

impl EngineOptions {
    /// Default size of the block cache, in bytes.
    pub const CACHE_BYTES: u64 = 128 << 20;

    /// A block cache of `cache_bytes`, shared by all engines that are opened with copies of this.
    #[must_use]
    pub fn new(cache_bytes: u64) -> Self {
        let cache = Arc::new(Cache::with_capacity_bytes(cache_bytes));
        Self { cache, checkpoints: Arc::default() }
    }

    /// How long checkpoints of the engines that are opened with copies of this took.
    #[must_use]
    pub fn checkpoints(&self) -> Arc<LatencyHistogram> {
        Arc::clone(&self.checkpoints)
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self::new(Self::CACHE_BYTES)
    }
}

/// An open tree and its counter of sequence numbers, which stands behind the highest one in the files.
pub(super) struct OpenTree {
    pub(super) tree: Tree,
    pub(super) seqno: SequenceNumberCounter,
}

/// Where the tree of a group and a generation lives.
#[must_use]
pub fn engine_dir(root: &Path, group: GroupId, generation: u64) -> PathBuf {
    root.join("engine").join(group.to_string()).join(generation.to_string())
}

/// Deletes a generation that the log no longer names; fine if there is none.
///
/// # Errors
/// `Io`.
pub fn remove_generation(root: &Path, group: GroupId, generation: u64) -> Result<(), EngineError> {
    let dir = engine_dir(root, group, generation);
    // `current` goes first: what a crash leaves of the rest can then not be opened as a tree.
    for outcome in [fs::remove_file(dir.join(CURRENT)), fs::remove_dir_all(&dir)] {
        match outcome {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&dir, &error)),
            _ => {}
        }
    }
    match dir.parent() {
        Some(parent) if parent.exists() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Deletes every generation but the one that the log names: what a crash has left of snapshots that were
/// not installed, and of engines that were left for one.
///
/// # Errors
/// `Io`.
pub fn remove_other_generations(root: &Path, group: GroupId, kept: u64) -> Result<(), EngineError> {
    let kept = engine_dir(root, group, kept);
    let Some(parent) = kept.parent().filter(|parent| parent.exists()) else { return Ok(()) };
    for entry in fs::read_dir(parent).map_err(|error| at(parent, &error))? {
        let path = entry.map_err(|error| at(parent, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        // Other names are not ours.
        let generation = name.and_then(|name| name.parse().ok());
        if let Some(generation) = generation.filter(|_| path != kept) {
            remove_generation(root, group, generation)?;
        }
    }
    Ok(())
}

pub(super) fn open_tree(
    dir: &Path,
    may_create: bool,
    options: &EngineOptions,
) -> Result<OpenTree, EngineError> {
    prepare(dir, may_create)?;
    let seqno = SequenceNumberCounter::default();
    let config = Config::new(dir, seqno.clone(), SequenceNumberCounter::default())
        .use_cache(Arc::clone(&options.cache))
        .use_descriptor_table(Some(Arc::new(DescriptorTable::new(OPEN_FILES))));
    // Some of its checks of what it reads are assertions. To us they are the same as its errors.
    let tree = catch_unwind(AssertUnwindSafe(|| config.open()))
        .map_err(|_| corrupt(dir, "the tree cannot be recovered"))?
        .map_err(failure)?;
    let AnyTree::Standard(tree) = tree else {
        return Err(corrupt(dir, "is a tree of another kind"));
    };
    seqno.set(tree.get_highest_seqno().map_or(1, |highest| highest + 1));
    Ok(OpenTree { tree, seqno })
}

/// Everything that must hold before the table layer looks at the directory.
fn prepare(dir: &Path, may_create: bool) -> Result<(), EngineError> {
    if !dir.join(CURRENT).exists() {
        if !may_create {
            return Err(corrupt(dir, "the file `current` is missing"));
        }
        // It is written before any table is, so tables without it have lost it.
        if fs::read_dir(dir.join(TABLES)).is_ok_and(|mut files| files.next().is_some()) {
            return Err(corrupt(dir, "the file `current` is missing, but there are tables"));
        }
        return create_dirs(dir);
    }
    delete_temporary_files(dir)?;
    check_manifest(dir)
}

/// Creates the directory and the three above it, each durably.
fn create_dirs(dir: &Path) -> Result<(), EngineError> {
    let levels: Vec<_> = dir.ancestors().take(3).collect();
    for level in levels.into_iter().rev() {
        match fs::create_dir(level) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(at(level, &error));
            }
            _ => {}
        }
        // Also when it existed: the crash that we come from may have been between the two.
        sync_dir(level.parent().ok_or_else(|| corrupt(level, "has no parent"))?)?;
    }
    delete_temporary_files(dir)
}

fn delete_temporary_files(dir: &Path) -> Result<(), EngineError> {
    for entry in fs::read_dir(dir).map_err(|error| at(dir, &error))? {
        let entry = entry.map_err(|error| at(dir, &error))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            fs::remove_file(entry.path()).map_err(|error| at(&entry.path(), &error))?;
        }
    }
    Ok(())
}

fn check_manifest(dir: &Path) -> Result<(), EngineError> {
    let path = dir.join(CURRENT);
    let current = read_bounded(&path, CURRENT_BYTES as u64)?;
    let current: [u8; CURRENT_BYTES] =
        current.try_into().map_err(|_| corrupt(&path, "does not have its length"))?;
    let (id, rest) = current.split_first_chunk::<8>().expect("8 of 25 bytes");
    let (sum, kind) = rest.split_first_chunk::<16>().expect("16 of 17 bytes");
    if kind != [0] {
        return Err(corrupt(&path, "names an unknown kind of checksum"));
    }
    let manifest = dir.join(format!("v{}", u64::from_le_bytes(*id)));
    let content = match read_bounded(&manifest, MAX_MANIFEST_BYTES) {
        Err(_) if !manifest.exists() => return Err(corrupt(&manifest, "is missing")),
        content => content?,
    };
    if xxh3_128(&content) != u128::from_le_bytes(*sum) {
        return Err(corrupt(&manifest, "does not have the checksum that `current` holds"));
    }
    Ok(())
}

fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, EngineError> {
    let mut content = Vec::new();
    let file = File::open(path).map_err(|error| at(path, &error))?;
    file.take(most + 1).read_to_end(&mut content).map_err(|error| at(path, &error))?;
    if content.len() as u64 > most {
        return Err(corrupt(path, "is longer than it can be"));
    }
    Ok(content)
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), EngineError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| at(dir, &error))
}

pub(super) fn at(path: &Path, error: &io::Error) -> EngineError {
    EngineError::Io(format!("{}: {error}", path.display()))
}

pub(super) fn corrupt(path: &Path, what: &str) -> EngineError {
    EngineError::Corrupt(format!("{}: {what}", path.display()))
}
