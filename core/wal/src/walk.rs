//! Walking through a segment: one sync group after the other, and what stands where they end.

use std::collections::BTreeMap;

use quorate_consensus::GroupId;

use crate::codec::{Stored, Undecodable};
use crate::frame::{BadRecord, HEADER_LEN, Header, Peek, Records};
use crate::limits::{ALIGNMENT, READ_AHEAD};
use crate::record::{Checkpoint, Opening, Record};
use crate::{Disk, DiskError, SegmentId};

/// Reads a segment through a window, so that small sync groups do not cost a system call each.
pub(crate) struct SegmentReader<'a> {
    disk: &'a dyn Disk,
    segment: SegmentId,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// A header and its body, as far as the segment goes, with what could be made of it.
pub(crate) struct Group<'a> {
    pub(crate) header: Header,
    /// The header's body without padding; shorter than announced if the segment ends before.
    pub(crate) body: &'a [u8],
    /// What follows the body up to the next group: zeros.
    pub(crate) padding: &'a [u8],
}

/// A group taken apart, up to its end or its first bad record.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// How the segment begins, if this group opens it.
    pub(crate) opening: Option<Opening>,
    /// The checkpoints that follow.
    pub(crate) checkpoints: BTreeMap<GroupId, Checkpoint>,
    /// The other records, with their offsets in the group.
    pub(crate) records: Vec<(u32, Record)>,
    /// What is wrong first, with its offset in the group; nothing if the group is whole.
    pub(crate) bad: Option<(u32, BadRecord)>,
}

impl Parsed {
    fn add(&mut self, offset: u32, stored: Stored, header: &Header) -> Result<(), BadRecord> {
        const MISPLACED: BadRecord =
            BadRecord::Undecodable(Undecodable::Malformed("a record where it does not belong"));
        match stored {
            Stored::Opening(opening) if header.opens && self.opening.is_none() => {
                self.opening = Some(opening);
            }
            Stored::Checkpoint { group, checkpoint } if self.checkpoints_left() > 0 => {
                self.checkpoints.insert(group, checkpoint);
            }
            Stored::Record(record) if self.checkpoints_left() == 0 => {
                self.records.push((offset, record));
            }
            _ => return Err(MISPLACED),
        }
        if header.opens && self.opening.is_none() { Err(MISPLACED) } else { Ok(()) }
    }

    fn checkpoints_left(&self) -> usize {
        let announced = self.opening.map_or(0, |opening| opening.checkpoints as usize);
        announced.saturating_sub(self.checkpoints.len())
    }

    /// Records of every kind.
    pub(crate) fn count(&self) -> u32 {
        let count =
            usize::from(self.opening.is_some()) + self.checkpoints.len() + self.records.len();
        u32::try_from(count).expect("a group's length is bounded")
    }
}

impl Group<'_> {
    pub(crate) fn parse(&self) -> Parsed {
        let mut parsed = Parsed::default();
        let mut records = Records::new(&self.header, self.body);
        loop {
            let offset = records.offset();
            let added = match records.next() {
                Some(Ok(stored)) => parsed.add(offset, stored, &self.header),
                Some(Err(bad)) => Err(bad),
                None => break,
            };
            if let Err(bad) = added {
                parsed.bad = Some((offset, bad));
                return parsed;
            }
        }
        let whole = self.body.len() == self.header.body_len as usize
            && parsed.count() == self.header.records
            && parsed.checkpoints_left() == 0
            && parsed.opening.is_some() == self.header.opens
            && self.padding.iter().all(|byte| *byte == 0);
        parsed.bad = (!whole).then(|| (records.offset(), BadRecord::Checksum));
        parsed
    }
}

impl<'a> SegmentReader<'a> {
    pub(crate) fn open(disk: &'a dyn Disk, segment: SegmentId) -> Result<Self, DiskError> {
        let len = disk.len(segment)?;
        Ok(Self { disk, segment, len, window: Vec::new(), window_at: 0 })
    }

    pub(crate) fn segment(&self) -> SegmentId {
        self.segment
    }

    /// Bytes `[offset, offset + want)`, fewer at the end of the segment.
    fn bytes(&mut self, offset: u64, want: usize) -> Result<&[u8], DiskError> {
        let want = want.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(want));
        let end = offset + want as u64;
        if offset < self.window_at || end > self.window_at + self.window.len() as u64 {
            self.fill(offset, want)?;
        }
        let from = (offset - self.window_at) as usize;
        Ok(&self.window[from..(from + want).min(self.window.len())])
    }

    fn fill(&mut self, offset: u64, want: usize) -> Result<(), DiskError> {
        let rest = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.window.resize(want.max(READ_AHEAD).min(rest), 0);
        self.window_at = offset;
        let read = self.disk.read_at(self.segment, offset, &mut self.window)?;
        self.window.truncate(read);
        Ok(())
    }

    /// What stands at `offset` where a header could be.
    pub(crate) fn peek(&mut self, offset: u64) -> Result<Peek, DiskError> {
        let bytes = self.bytes(offset, HEADER_LEN)?;
        Ok(if bytes.len() < HEADER_LEN { Peek::Nothing } else { Header::peek(bytes) })
    }

    /// The group whose valid header stands at `offset`.
    pub(crate) fn group(&mut self, offset: u64, header: Header) -> Result<Group<'_>, DiskError> {
        let extent = header.extent() as usize;
        let bytes = self.bytes(offset, extent)?;
        let bytes = &bytes[HEADER_LEN.min(bytes.len())..];
        let (body, padding) = bytes.split_at((header.body_len as usize).min(bytes.len()));
        Ok(Group { header, body, padding })
    }

    /// The first header from `offset` on that `wanted` takes.
    pub(crate) fn find(
        &mut self,
        offset: u64,
        wanted: impl Fn(&Peek) -> bool,
    ) -> Result<Option<u64>, DiskError> {
        let mut at = offset.next_multiple_of(ALIGNMENT);
        while at < self.len {
            let found = self.peek(at)?;
            if wanted(&found) {
                return Ok(Some(at));
            }
            at += ALIGNMENT;
        }
        Ok(None)
    }
}
