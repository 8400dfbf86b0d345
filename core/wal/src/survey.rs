//! Reading a log and deciding what of it counts, without writing a byte.
//!
//! 1. The *head* is the newest segment whose opening sync group is whole. Newer files hold nothing that
//!    was promised (a spare, a torn opening); if they do, the opening has rotted and that is corruption.
//! 2. From the head the predecessors are followed to the oldest that exists. Each must be good up to
//!    where its successor says that it ended.
//! 3. The head ends at its last good sync group. A bad one followed by a good one with a higher number
//!    is corruption, since k+1 is written only after the sync of k; a bad last one is a torn write,
//!    of which the records before the first bad one survive.
//! 4. In the end every entry of every group must be there: a segment that is missing shows as a gap.

use std::collections::{BTreeMap, VecDeque};

use quorate_consensus::GroupId;

use crate::codec::Undecodable;
use crate::frame::{BadRecord, Header, Peek};
use crate::group_log::{Misplaced, Place};
use crate::limits::ALIGNMENT;
use crate::planted::PlantedBug;
use crate::record::{Checkpoint, Identity, Predecessor, Record};
use crate::recovery::{Cut, RecoveryError, after};
use crate::replay::{RecoveredGroup, Replay};
use crate::walk::{Parsed, SegmentReader};
use crate::writer::{Begin, Config};
use crate::{Disk, SegmentId};

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) identity: Identity,
    pub(crate) begin: Begin,
    pub(crate) groups: BTreeMap<GroupId, RecoveredGroup>,
    pub(crate) segments: usize,
    pub(crate) sync_groups: u64,
    pub(crate) cut: Option<Cut>,
}

/// The sync group that opens a segment, whole.
#[derive(Clone, Debug)]
struct Opened {
    header: Header,
    predecessor: Option<Predecessor>,
    checkpoints: BTreeMap<GroupId, Checkpoint>,
}

/// Reads everything.
pub(crate) fn survey(
    disk: &dyn Disk,
    expected: Option<Identity>,
    config: Config,
    planted: Option<PlantedBug>,
) -> Result<Survey, RecoveryError> {
    let existing = disk.list()?;
    let chain = find_chain(disk, expected, &existing)?;
    let head = chain.last().ok_or(RecoveryError::Nothing)?;
    let mut reading = Reading {
        disk,
        stride: config.index_stride,
        identity: head.header.identity,
        replay: Replay::from_checkpoints(chain[0].checkpoints.clone()),
        sync_groups: 0,
        planted,
    };
    for pair in chain.windows(2) {
        reading.interior(&pair[0], &pair[1])?;
    }
    let (last, cut) = reading.head(head)?;
    let (tail, count) = match last.offset {
        0 => (head.predecessor, chain.len() - 1),
        end => {
            let (segment, last_group) = (head.header.segment, last.number - 1);
            (Some(Predecessor { segment, last_group, end }), chain.len())
        }
    };
    let begin = Begin {
        tail,
        chain: chain[..count].iter().map(|opened| opened.header.segment).collect::<VecDeque<_>>(),
        next_segment: after(&existing),
        groups: reading.replay.logs(),
        survivors: last.records.iter().map(|(_, record)| record.clone()).collect(),
    };
    reading.apply(head.header.segment, last.offset, last.records)?;
    if let Some((group, index)) = reading.replay.missing() {
        let what =
            format!("entry {index} of group {group} is in no segment: one before is missing");
        return Err(RecoveryError::Corrupt { segment: chain[0].header.segment, offset: 0, what });
    }
    Ok(Survey {
        identity: reading.identity,
        begin,
        segments: chain.len(),
        sync_groups: reading.sync_groups,
        groups: reading.replay.finish(),
        cut,
    })
}

/// The segments of the log, oldest first; none if nothing was ever promised here.
fn find_chain(
    disk: &dyn Disk,
    expected: Option<Identity>,
    existing: &[SegmentId],
) -> Result<Vec<Opened>, RecoveryError> {
    let mut chain = Vec::new();
    for segment in existing.iter().rev() {
        if let Some(opened) = read_opening(disk, *segment)? {
            check_identity(expected, opened.header.identity)?;
            chain.push(opened);
            break;
        }
        refuse_lost_opening(disk, *segment)?;
    }
    while let Some(from) = chain.last().and_then(|opened| opened.predecessor) {
        if existing.binary_search(&from.segment).is_err() {
            break;
        }
        let successor = chain.last().expect("it named its predecessor").header;
        let opened = read_opening(disk, from.segment)?
            .ok_or_else(|| corrupt(from.segment, 0, "the group that opens it is damaged"))?;
        check_identity(Some(successor.identity), opened.header.identity)?;
        if from.segment >= successor.segment || from.last_group + 1 != successor.number {
            return Err(corrupt(successor.segment, 0, "it does not continue its predecessor"));
        }
        chain.push(opened);
    }
    chain.reverse();
    Ok(chain)
}

/// The segment's opening if it is whole.
fn read_opening(disk: &dyn Disk, segment: SegmentId) -> Result<Option<Opened>, RecoveryError> {
    let mut reader = SegmentReader::open(disk, segment)?;
    let header = match reader.peek(0)? {
        Peek::Header(header) => header,
        Peek::Newer(version) => return Err(RecoveryError::NewerFormat { segment, version }),
        Peek::Nothing => return Ok(None),
    };
    if header.segment != segment {
        return Err(corrupt(
            segment,
            0,
            &format!("it holds what was written to {}", header.segment),
        ));
    }
    if !header.opens {
        return Err(corrupt(segment, 0, "it begins with a sync group that opens nothing"));
    }
    let parsed = reader.group(0, header)?.parse();
    match (parsed.bad, parsed.opening) {
        (Some((at, BadRecord::Undecodable(why))), _) => {
            Err(undecodable(segment, u64::from(at), why))
        }
        (None, Some(opening)) => {
            let checkpoints = parsed.checkpoints;
            Ok(Some(Opened { header, predecessor: opening.predecessor, checkpoints }))
        }
        _ => Ok(None),
    }
}

/// A segment without a whole opening must hold nothing else.
fn refuse_lost_opening(disk: &dyn Disk, segment: SegmentId) -> Result<(), RecoveryError> {
    let later = |peek: &Peek| matches!(peek, Peek::Header(h) if h.segment == segment && !h.opens);
    match SegmentReader::open(disk, segment)?.find(ALIGNMENT, later)? {
        None => Ok(()),
        Some(at) => {
            let what = format!("the group that opens it is damaged, but one at {at} is good");
            Err(corrupt(segment, 0, &what))
        }
    }
}

fn check_identity(expected: Option<Identity>, found: Identity) -> Result<(), RecoveryError> {
    let Some(expected) = expected else { return Ok(()) };
    if expected.cluster != found.cluster {
        let (found, expected) = (found.cluster, expected.cluster);
        return Err(RecoveryError::OtherCluster { found, expected });
    }
    if expected.node != found.node {
        let (found, expected) = (found.node.0, expected.node.0);
        return Err(RecoveryError::OtherNode { found, expected });
    }
    Ok(())
}

fn corrupt(segment: SegmentId, offset: u64, what: &str) -> RecoveryError {
    RecoveryError::Corrupt { segment, offset, what: what.to_owned() }
}

fn undecodable(segment: SegmentId, offset: u64, why: Undecodable) -> RecoveryError {
    match why {
        Undecodable::UnknownKind(kind) => RecoveryError::UnknownRecord { segment, offset, kind },
        Undecodable::Malformed(what) => corrupt(segment, offset, what),
    }
}

/// The last sync group of the log: what of it survives is not durable yet.
struct Last {
    offset: u64,
    number: u64,
    records: Vec<(u32, Record)>,
}

struct Reading<'a> {
    disk: &'a dyn Disk,
    stride: u64,
    identity: Identity,
    replay: Replay,
    sync_groups: u64,
    planted: Option<PlantedBug>,
}

impl Reading<'_> {
    /// A segment that has a successor: good up to where that says it ended.
    fn interior(&mut self, opened: &Opened, successor: &Opened) -> Result<(), RecoveryError> {
        let segment = opened.header.segment;
        let end = successor.predecessor.expect("it led here");
        self.check_checkpoints(opened)?;
        let mut reader = SegmentReader::open(self.disk, segment)?;
        let (mut offset, mut number) = (0, opened.header.number);
        while offset < end.end || self.reads_on(&mut reader, offset, opened, number)? {
            let header =
                self.expect_header(&mut reader, offset, opened, number)?.ok_or_else(|| {
                    corrupt(segment, offset, &format!("sync group {number} is damaged"))
                })?;
            let parsed = reader.group(offset, header)?.parse();
            self.refuse_bad(segment, offset, number, &parsed)?;
            self.sync_groups += 1;
            self.apply(segment, offset, parsed.records)?;
            offset += header.extent();
            number += 1;
        }
        if offset != end.end || number != end.last_group + 1 {
            return Err(corrupt(segment, end.end, "it does not end where its successor says"));
        }
        Ok(())
    }

    /// Never, but for a bug on purpose: what stands behind the end belongs to nobody.
    fn reads_on(
        &self,
        reader: &mut SegmentReader<'_>,
        offset: u64,
        opened: &Opened,
        number: u64,
    ) -> Result<bool, RecoveryError> {
        Ok(PlantedBug::ReadBehindEnd.is(self.planted)
            && self.expect_header(reader, offset, opened, number)?.is_some())
    }

    /// The newest segment: ends at its last good group, or within a torn one.
    fn head(&mut self, opened: &Opened) -> Result<(Last, Option<Cut>), RecoveryError> {
        let segment = opened.header.segment;
        self.check_checkpoints(opened)?;
        let mut reader = SegmentReader::open(self.disk, segment)?;
        let (mut offset, mut number) = (0, opened.header.number);
        let mut last: Option<Last> = None;
        while let Some(header) = self.expect_header(&mut reader, offset, opened, number)? {
            let parsed = reader.group(offset, header)?.parse();
            self.sync_groups += 1;
            // This one was written, so the one before was durable.
            if let Some(durable) = last.take() {
                self.apply(segment, durable.offset, durable.records)?;
            }
            let cut = self.torn(&mut reader, offset, opened, &header, &parsed)?;
            last = Some(Last { offset, number, records: parsed.records });
            if cut.is_some() {
                return Ok((last.expect("just set"), cut));
            }
            offset += header.extent();
            number += 1;
        }
        self.refuse_later(&mut reader, offset, opened, number)?;
        Ok((last.expect("a whole opening was found before"), None))
    }

    /// The header at `offset` if it is valid and the one that must stand here.
    fn expect_header(
        &self,
        reader: &mut SegmentReader<'_>,
        offset: u64,
        opened: &Opened,
        number: u64,
    ) -> Result<Option<Header>, RecoveryError> {
        match reader.peek(offset)? {
            Peek::Header(header) => {
                let belongs = same_run(&header, &opened.header)
                    && header.number == number
                    && header.opens == (offset == 0);
                Ok(belongs.then_some(header))
            }
            Peek::Newer(version) => {
                Err(RecoveryError::NewerFormat { segment: reader.segment(), version })
            }
            Peek::Nothing => Ok(None),
        }
    }

    /// Whether the group at `offset` is torn; an error if it cannot be, because a later one is good.
    fn torn(
        &self,
        reader: &mut SegmentReader<'_>,
        offset: u64,
        opened: &Opened,
        header: &Header,
        parsed: &Parsed,
    ) -> Result<Option<Cut>, RecoveryError> {
        let Some((at, bad)) = parsed.bad else { return Ok(None) };
        let segment = reader.segment();
        let at = offset + u64::from(at);
        if let BadRecord::Undecodable(why) = bad {
            return Err(undecodable(segment, at, why));
        }
        self.refuse_later(reader, offset + ALIGNMENT, opened, header.number + 1).map_err(
            |error| match error {
                RecoveryError::Corrupt { what, .. } => corrupt(segment, at, &what),
                other => other,
            },
        )?;
        let kept = parsed.count();
        let lost = header.records.saturating_sub(kept);
        Ok(Some(Cut { segment, offset: at, group: header.number, kept, lost }))
    }

    /// Nothing good with number `number` or above stands at `offset` or behind.
    fn refuse_later(
        &self,
        reader: &mut SegmentReader<'_>,
        offset: u64,
        opened: &Opened,
        number: u64,
    ) -> Result<(), RecoveryError> {
        let later = |peek: &Peek| matches!(peek, Peek::Header(h) if same_run(h, &opened.header) && h.number >= number);
        match reader.find(offset, later)? {
            None => Ok(()),
            Some(at) => {
                let what = format!("damaged before the good sync group at {at}");
                Err(corrupt(reader.segment(), offset, &what))
            }
        }
    }

    fn refuse_bad(
        &self,
        segment: SegmentId,
        offset: u64,
        number: u64,
        parsed: &Parsed,
    ) -> Result<(), RecoveryError> {
        match parsed.bad {
            None => Ok(()),
            Some((at, BadRecord::Undecodable(why))) => {
                Err(undecodable(segment, offset + u64::from(at), why))
            }
            Some((at, BadRecord::Checksum)) => {
                let what = format!("a record of sync group {number} is damaged");
                Err(corrupt(segment, offset + u64::from(at), &what))
            }
        }
    }

    /// Every segment opens with what the segments before it add up to.
    fn check_checkpoints(&self, opened: &Opened) -> Result<(), RecoveryError> {
        if self.replay.agrees(&opened.checkpoints) {
            return Ok(());
        }
        Err(corrupt(
            opened.header.segment,
            0,
            "its checkpoints are not what the log before it says",
        ))
    }

    fn apply(
        &mut self,
        segment: SegmentId,
        group: u64,
        records: Vec<(u32, Record)>,
    ) -> Result<(), RecoveryError> {
        for (at, record) in records {
            let place = Place { segment, group, record: at };
            self.replay
                .apply(record, place, self.stride)
                .map_err(|Misplaced(what)| corrupt(segment, group + u64::from(at), &what))?;
        }
        Ok(())
    }
}

/// Same log, same run of the server, same segment.
fn same_run(one: &Header, other: &Header) -> bool {
    one.identity == other.identity && one.boot == other.boot && one.segment == other.segment
}
