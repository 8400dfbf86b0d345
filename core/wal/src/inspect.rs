//! Looking at a log without opening it: what `quorate inspect` prints. Writes nothing, needs no
//! lock, and goes on after a problem as far as bytes can be trusted.

use std::collections::BTreeMap;

use quorate_consensus::{GroupId, HardState, LogIndex};

use crate::frame::Peek;
use crate::record::{Generation, Identity, Predecessor};
use crate::recovery::{Cut, RecoveryError};
use crate::survey::survey;
use crate::walk::SegmentReader;
use crate::writer::Config;
use crate::{Disk, DiskError, SegmentId};

/// One segment, walked on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The segment.
    pub segment: SegmentId,
    /// Its length in bytes, preallocated space included.
    pub len: u64,
    /// What it continues, if its opening says so.
    pub predecessor: Option<Predecessor>,
    /// Numbers of its first and last sync group; `None`: it holds none.
    pub sync_groups: Option<(u64, u64)>,
    /// Records in them.
    pub records: u64,
    /// Offset behind the last good sync group, in bytes.
    pub end: u64,
}

/// One group of consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// Position before the first entry.
    pub start: LogIndex,
    /// Last entry.
    pub last: LogIndex,
    /// The engine directory in force.
    pub generation: Generation,
    /// The engine's applied index, as last released.
    pub applied: LogIndex,
}

/// What a directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Whose log it is, if it can be read.
    pub identity: Option<Identity>,
    /// All segments, spares and superseded ones included, oldest first.
    pub segments: Vec<SegmentReport>,
    /// The groups; empty if the log is refused.
    pub groups: BTreeMap<GroupId, GroupReport>,
    /// What the next start would cut off; harmless.
    pub cut: Option<Cut>,
    /// Why the next start would refuse the log.
    pub problem: Option<RecoveryError>,
}

/// Looks at everything.
///
/// # Errors
/// The disk's, if even the directory cannot be read; all else is in the report.
pub fn inspect(disk: &dyn Disk) -> Result<Inspection, DiskError> {
    let mut report = Inspection::default();
    for segment in disk.list()? {
        let (found, identity) = inspect_segment(disk, segment)?;
        report.identity = identity.or(report.identity);
        report.segments.push(found);
    }
    match survey(disk, None, Config::default(), None) {
        Ok(survey) => {
            report.identity = Some(survey.identity);
            report.cut = survey.cut;
            report.groups =
                survey.groups.into_iter().map(|(id, group)| (id, describe(&group))).collect();
        }
        Err(problem) => report.problem = Some(problem),
    }
    Ok(report)
}

fn describe(group: &crate::RecoveredGroup) -> GroupReport {
    let recovered = &group.recovered;
    let start = recovered.start.index;
    GroupReport {
        hard_state: recovered.hard_state,
        start,
        last: recovered.entries.last().map_or(start, |entry| entry.index),
        generation: group.generation,
        applied: recovered.applied,
    }
}

fn inspect_segment(
    disk: &dyn Disk,
    segment: SegmentId,
) -> Result<(SegmentReport, Option<Identity>), DiskError> {
    let len = disk.len(segment)?;
    let mut report =
        SegmentReport { segment, len, predecessor: None, sync_groups: None, records: 0, end: 0 };
    let mut identity = None;
    let mut reader = SegmentReader::open(disk, segment)?;
    while let Peek::Header(header) = reader.peek(report.end)? {
        let parsed = reader.group(report.end, header)?.parse();
        let expected = report.sync_groups.map_or(header.number, |(_, last)| last + 1);
        if parsed.bad.is_some() || header.segment != segment || header.number != expected {
            break;
        }
        identity = Some(header.identity);
        let opening = parsed.opening.and_then(|opening| opening.predecessor);
        report.predecessor = report.predecessor.or(opening);
        let first = report.sync_groups.map_or(header.number, |(first, _)| first);
        report.sync_groups = Some((first, header.number));
        report.records += u64::from(parsed.count());
        report.end += header.extent();
    }
    Ok((report, identity))
}
