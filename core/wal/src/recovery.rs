//! Starting: reading the log that a directory holds, deciding what of it counts, and making that
//! durable before anything is promised (contract 7).
//!
//! What counts is decided by `survey.rs`, which writes nothing. Then the last sync group, which may
//! exist in the page cache only, is copied into a new segment; that segment, its name included, is
//! made durable; and only then is the writer handed out.

use std::collections::BTreeMap;

use quorate_consensus::{GroupId, Seq};

use crate::execute::drive;
#[cfg(feature = "planted")]
use crate::planted::PlantedBug;
use crate::record::Identity;
use crate::replay::RecoveredGroup;
use crate::survey::{Survey, survey};
use crate::writer::{Begin, Config, Input, Writer};
use crate::{Disk, DiskError, Halt, SegmentId};

/// Why a log is not opened. Nothing was changed unless it says so. All but `Disk` and `Nothing` mean
/// "data refused" (exit code 3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// There is no log: no segment, or one whose creation never finished. `create` may be called,
    /// unless something else (an engine's checkpoint) says that there was a log.
    #[error("there is no write-ahead log in this directory")]
    Nothing,
    /// `create` found a log.
    #[error("there already is a write-ahead log in this directory")]
    Exists,
    /// The log of another cluster.
    #[error("the log belongs to cluster {found}, this node to cluster {expected}")]
    OtherCluster {
        /// In the log.
        found: crate::ClusterId,
        /// Asked for.
        expected: crate::ClusterId,
    },
    /// The log of another node.
    #[error("the log belongs to node {found:x}, this is node {expected:x}")]
    OtherNode {
        /// In the log.
        found: u64,
        /// Asked for.
        expected: u64,
    },
    /// Written by a newer version of this program.
    #[error(
        "{segment} has log format {version}, this program reads up to {}: start the newer program",
        crate::FORMAT_VERSION
    )]
    NewerFormat {
        /// Where.
        segment: SegmentId,
        /// What it says.
        version: u16,
    },
    /// A record of a kind that only a newer version knows.
    #[error(
        "{segment} has a record of unknown kind {kind} at offset {offset}: start the newer program that wrote it"
    )]
    UnknownRecord {
        /// Where.
        segment: SegmentId,
        /// Offset in bytes.
        offset: u64,
        /// What it says.
        kind: u8,
    },
    /// Stored bytes are not what was written, and it is not the torn end of the log. Guessing on
    /// could lose or fork acknowledged data.
    #[error(
        "{segment} is corrupt at offset {offset}: {what}; nothing was changed: remove this member from the cluster and add it again as a new one, or restore a backup"
    )]
    Corrupt {
        /// The file.
        segment: SegmentId,
        /// Offset in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The disk failed while reading, or while writing the new segment.
    #[error("the log's disk failed: {0}")]
    Disk(String),
    /// There was no space for a new segment; what was there is unharmed.
    #[error("no space for a new log segment: free some and start again")]
    NoSpace,
}

impl From<DiskError> for RecoveryError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error.to_string())
    }
}

impl From<Halt> for RecoveryError {
    fn from(halt: Halt) -> Self {
        Self::Disk(halt.to_string())
    }
}

/// The torn end of a log: what a crash left of the last sync group's write. Never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: SegmentId,
    /// Offset of the first byte that was given up.
    pub offset: u64,
    /// Number of the sync group.
    pub group: u64,
    /// Records of it that were kept.
    pub kept: u32,
    /// Records of it that were given up.
    pub lost: u32,
}

/// An opened log.
#[derive(Debug)]
pub struct Recovery {
    /// Ready: everything recovered is durable.
    pub writer: Writer,
    /// Whose log it is.
    pub identity: Identity,
    /// What it says, by group.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// Segments that were read.
    pub segments: usize,
    /// Sync groups that were read.
    pub sync_groups: u64,
    /// The torn end, if there was one; for a line in the server's log.
    pub cut: Option<Cut>,
}

/// Begins the log of a fresh node. What an unfinished `create` left is replaced.
///
/// `boot` is a random number of this run, also for `recover`.
///
/// # Errors
/// `Exists` if there is any log, even one that recovery refuses; `NoSpace`; `Disk`.
pub fn create(
    disk: &dyn Disk,
    identity: Identity,
    boot: u64,
    config: Config,
) -> Result<Writer, RecoveryError> {
    match survey(disk, None, config, None) {
        Err(RecoveryError::Nothing) => {}
        Err(failed @ RecoveryError::Disk(_)) => return Err(failed),
        Ok(_) | Err(_) => return Err(RecoveryError::Exists),
    }
    let leftovers = disk.list()?;
    let next_segment = after(&leftovers);
    let writer = Writer::begin(identity, boot, config, Begin { next_segment, ..Begin::default() });
    open_segment(disk, writer, leftovers)
}

/// Opens the log in a directory.
///
/// # Errors
/// See [`RecoveryError`]. Whatever it is, starting again gives the same answer until the cause is gone.
pub fn recover(
    disk: &dyn Disk,
    expected: Option<Identity>,
    boot: u64,
    config: Config,
) -> Result<Recovery, RecoveryError> {
    recover_from(disk, survey(disk, expected, config, None)?, boot, config)
}

/// [`recover`] with a bug on purpose, which the writer has, too.
///
/// # Errors
/// See [`RecoveryError`].
#[cfg(feature = "planted")]
pub fn recover_planted(
    disk: &dyn Disk,
    expected: Option<Identity>,
    boot: u64,
    config: Config,
    bug: Option<PlantedBug>,
) -> Result<Recovery, RecoveryError> {
    let found = survey(disk, expected, config, bug)?;
    let mut recovery = recover_from(disk, found, boot, config)?;
    recovery.writer.plant(bug);
    Ok(recovery)
}

fn recover_from(
    disk: &dyn Disk,
    found: Survey,
    boot: u64,
    config: Config,
) -> Result<Recovery, RecoveryError> {
    let Survey { identity, begin, groups, segments, sync_groups, cut, .. } = found;
    let mut superfluous = disk.list()?;
    superfluous.retain(|segment| !begin.chain.contains(segment));
    let writer = Writer::begin(identity, boot, config, begin);
    let writer = open_segment(disk, writer, superfluous)?;
    Ok(Recovery { writer, identity, groups, segments, sync_groups, cut })
}

/// Above every segment in the directory, so that no file is ever written by two runs.
pub(crate) fn after(segments: &[SegmentId]) -> SegmentId {
    SegmentId(segments.last().map_or(1, |last| last.0 + 1))
}

/// Makes the writer's first sync group durable, then removes segments that no longer belong to the log.
fn open_segment(
    disk: &dyn Disk,
    mut writer: Writer,
    superfluous: Vec<SegmentId>,
) -> Result<Writer, RecoveryError> {
    drive(disk, &mut writer, Input::Append { seq: Seq(0), records: Vec::new() })?;
    if !writer.is_idle() {
        return Err(RecoveryError::NoSpace);
    }
    writer.invariants();
    for segment in &superfluous {
        disk.delete(*segment)?;
    }
    if !superfluous.is_empty() {
        disk.sync_dir()?;
    }
    Ok(writer)
}
