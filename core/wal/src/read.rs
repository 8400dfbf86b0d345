//! Reading entries back, for a follower that lags behind the cache (contract 9).
//!
//! The writer plans (it knows where entries lie and what is durable), anyone reads: the plan stays
//! good until its segments are deleted, and then reading says `Gone`.

use quorate_consensus::{Entry, GroupId, LogIndex};

use crate::codec::Stored;
use crate::frame::{BadRecord, Peek, Records};
use crate::group_log::Place;
use crate::limits::MAX_READ_SPANS;
use crate::record::Record;
use crate::walk::SegmentReader;
use crate::{Disk, DiskError, SegmentId, Writer};

/// Why entries could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The segment has been deleted since the plan was made: send a snapshot.
    #[error("the entries are no longer in the log")]
    Gone,
    /// Stored bytes are not what was written: the process must stop.
    #[error("{segment} is corrupt at offset {offset}: an entry of group {group} is damaged")]
    Corrupt {
        /// The file.
        segment: SegmentId,
        /// Offset in bytes.
        offset: u64,
        /// The consensus group.
        group: GroupId,
    },
    /// The disk failed: the process must stop.
    #[error("the log's disk failed: {0}")]
    Disk(String),
}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::NotFound(_) => Self::Gone,
            other => Self::Disk(other.to_string()),
        }
    }
}

/// Where consecutive entries stand.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    place: Place,
    /// Index before which it ends.
    until: LogIndex,
    /// Offset in the segment at which what is durable ends.
    end: u64,
}

/// How to read a range of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    group: GroupId,
    from: LogIndex,
    spans: Vec<Span>,
}

impl Writer {
    /// How to read the durable entries of `[from, until)`, or a first part of them; `None` if the
    /// first of them is not in the log or not durable yet.
    #[must_use]
    pub fn plan_read(&self, group: GroupId, from: LogIndex, until: LogIndex) -> Option<ReadPlan> {
        let log = self.log(group)?;
        let known = &log.checkpoint;
        let until = until.min(known.last.next());
        if from <= known.start.index || from >= until {
            return None;
        }
        let durable = self.durable_end()?;
        let spans = log
            .points_of(from, until)
            .take_while(|(point, _)| point.place < durable)
            .take(MAX_READ_SPANS)
            .map(|(point, until)| {
                let current = point.place.segment == durable.segment;
                Span {
                    place: point.place,
                    until,
                    end: if current { durable.group } else { u64::MAX },
                }
            })
            .collect::<Vec<_>>();
        (!spans.is_empty()).then_some(ReadPlan { group, from, spans })
    }
}

/// Carries a plan out: consecutive entries from its first on, as many as `max_bytes` (counted by
/// `Entry::size`) allow, and at least one unless none is durable.
///
/// # Errors
/// See [`ReadError`].
pub fn read_entries(
    disk: &dyn Disk,
    plan: &ReadPlan,
    max_bytes: usize,
) -> Result<Vec<Entry>, ReadError> {
    let mut found =
        Found { next: plan.from, group: plan.group, room: max_bytes, entries: Vec::new() };
    for span in &plan.spans {
        let ended = read_span(disk, span, &mut found)?;
        if ended {
            break;
        }
    }
    Ok(found.entries)
}

struct Found {
    group: GroupId,
    next: LogIndex,
    room: usize,
    entries: Vec<Entry>,
}

impl Found {
    /// Takes the entry if it is the next one; false if there is no room for it.
    fn offer(&mut self, group: GroupId, entry: Entry) -> bool {
        if group != self.group || entry.index != self.next {
            return true;
        }
        let size = entry.size();
        if size > self.room && !self.entries.is_empty() {
            return false;
        }
        self.room = self.room.saturating_sub(size);
        self.next = entry.index.next();
        self.entries.push(entry);
        true
    }
}

/// Returns whether reading ends here: no room, or nothing more is durable.
fn read_span(disk: &dyn Disk, span: &Span, found: &mut Found) -> Result<bool, ReadError> {
    let segment = span.place.segment;
    let group_id = found.group;
    let damaged = |offset| ReadError::Corrupt { segment, offset, group: group_id };
    let mut reader = SegmentReader::open(disk, segment)?;
    let mut offset = span.place.group;
    let mut skip = span.place.record;
    while found.next < span.until && offset < span.end {
        let header = match reader.peek(offset)? {
            Peek::Header(header) if header.segment == segment => header,
            _ => return Err(damaged(offset)),
        };
        let group = reader.group(offset, header)?;
        let mut records = Records::new(&header, group.body).skip_to(std::mem::take(&mut skip));
        while found.next < span.until {
            let at = offset + u64::from(records.offset());
            match records.next() {
                None => break,
                Some(Err(BadRecord::Checksum | BadRecord::Undecodable(_))) => {
                    return Err(damaged(at));
                }
                Some(Ok(Stored::Record(Record::Entry { group, entry }))) => {
                    if !found.offer(group, entry) {
                        return Ok(true);
                    }
                }
                Some(Ok(_)) => {}
            }
        }
        offset += header.extent();
    }
    Ok(found.next < span.until)
}
