//! Bodies of records as bytes (`docs/internals/wal-format.md`): little-endian, fixed widths, no
//! optional fields. What can be encoded decodes to the same value, and no bytes make it panic.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_consensus::{
    Entry, GroupId, GroupTime, HardState, LogIndex, LogStart, Member, Membership, NodeId, Origin,
    Payload, Term,
};

use crate::SegmentId;
use crate::limits::{MAX_GROUPS, MAX_MEMBERS};
use crate::record::{Checkpoint, Generation, Opening, Predecessor, Record};

/// Kinds of records; the numbers are the format.
pub(crate) mod kind {
    pub(crate) const OPENING: u8 = 1;
    pub(crate) const CHECKPOINT: u8 = 2;
    pub(crate) const ENTRY: u8 = 3;
    pub(crate) const HARD_STATE: u8 = 4;
    pub(crate) const RELEASE: u8 = 5;
    pub(crate) const INSTALLED: u8 = 6;
}

const PAYLOAD_EMPTY: u8 = 0;
const PAYLOAD_COMMAND: u8 = 1;
const PAYLOAD_MEMBERSHIP: u8 = 2;

/// Any record of a segment, the ones that only the writer makes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Opening(Opening),
    Checkpoint { group: GroupId, checkpoint: Checkpoint },
    Record(Record),
}

/// Why a body whose checksum is right cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// A kind that this version does not know.
    UnknownKind(u8),
    /// Not what any version writes.
    Malformed(&'static str),
}

/// The kind byte and the group field of a record's header.
pub(crate) fn kind_and_group(record: &Record) -> (u8, GroupId) {
    let kind = match record {
        Record::Entry { .. } => kind::ENTRY,
        Record::HardState { .. } => kind::HARD_STATE,
        Record::Release { .. } => kind::RELEASE,
        Record::Installed { .. } => kind::INSTALLED,
    };
    (kind, record.group())
}

/// Length that [`put_record`] appends, in bytes.
pub(crate) fn record_len(record: &Record) -> usize {
    match record {
        Record::Entry { entry, .. } => entry_len(entry),
        Record::HardState { .. } => HARD_STATE_LEN,
        Record::Release { membership, .. } => START_LEN + 16 + membership_len(membership),
        Record::Installed { membership, .. } => START_LEN + 8 + membership_len(membership),
    }
}

/// Appends the body of `record`: a payload's bytes are copied once, to here.
pub(crate) fn put_record(out: &mut BytesMut, record: &Record) {
    match record {
        Record::Entry { entry, .. } => put_entry(out, entry),
        Record::HardState { hard_state, .. } => put_hard_state(out, hard_state),
        Record::Release { start, membership, generation, applied, .. } => {
            put_start(out, start);
            out.put_u64_le(generation.0);
            out.put_u64_le(applied.0);
            put_membership(out, membership);
        }
        Record::Installed { start, membership, generation, .. } => {
            put_start(out, start);
            out.put_u64_le(generation.0);
            put_membership(out, membership);
        }
    }
}

/// Length that [`put_checkpoint`] appends, in bytes.
pub(crate) fn checkpoint_len(checkpoint: &Checkpoint) -> usize {
    HARD_STATE_LEN + START_LEN + 16 + 24 + membership_len(&checkpoint.membership)
}

/// Appends the body of a checkpoint.
pub(crate) fn put_checkpoint(out: &mut BytesMut, checkpoint: &Checkpoint) {
    put_hard_state(out, &checkpoint.hard_state);
    put_start(out, &checkpoint.start);
    out.put_u64_le(checkpoint.generation.0);
    out.put_u64_le(checkpoint.applied.0);
    out.put_u64_le(checkpoint.last.0);
    out.put_u64_le(checkpoint.last_term.0);
    out.put_u64_le(checkpoint.last_time.0);
    put_membership(out, &checkpoint.membership);
}

/// Length that [`put_opening`] appends, in bytes.
pub(crate) const OPENING_LEN: usize = 29;

/// Appends the body of a segment's first record.
pub(crate) fn put_opening(out: &mut BytesMut, opening: &Opening) {
    let none = Predecessor { segment: SegmentId(0), last_group: 0, end: 0 };
    let from = opening.predecessor.unwrap_or(none);
    out.put_u8(u8::from(opening.predecessor.is_some()));
    out.put_u64_le(from.segment.0);
    out.put_u64_le(from.last_group);
    out.put_u64_le(from.end);
    out.put_u32_le(opening.checkpoints);
}

const HARD_STATE_LEN: usize = 25;
const START_LEN: usize = 24;
const ORIGIN_LEN: usize = 24;
const ENTRY_FIXED_LEN: usize = 25;

fn put_hard_state(out: &mut BytesMut, hard_state: &HardState) {
    out.put_u64_le(hard_state.term.0);
    out.put_u8(u8::from(hard_state.vote.is_some()));
    out.put_u64_le(hard_state.vote.unwrap_or_default().0);
    out.put_u64_le(hard_state.commit.0);
}

fn put_start(out: &mut BytesMut, start: &LogStart) {
    out.put_u64_le(start.index.0);
    out.put_u64_le(start.term.0);
    out.put_u64_le(start.time.0);
}

fn put_origin(out: &mut BytesMut, origin: Origin) {
    out.put_u64_le(origin.node.0);
    out.put_u64_le(origin.boot);
    out.put_u64_le(origin.seq);
}

fn entry_len(entry: &Entry) -> usize {
    ENTRY_FIXED_LEN
        + match &entry.payload {
            Payload::Empty => 0,
            Payload::Command { data, .. } => ORIGIN_LEN + data.len(),
            Payload::Membership { membership, .. } => ORIGIN_LEN + membership_len(membership),
        }
}

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    out.put_u64_le(entry.term.0);
    out.put_u64_le(entry.index.0);
    out.put_u64_le(entry.time.0);
    match &entry.payload {
        Payload::Empty => out.put_u8(PAYLOAD_EMPTY),
        Payload::Command { origin, data } => {
            out.put_u8(PAYLOAD_COMMAND);
            put_origin(out, *origin);
            out.extend_from_slice(data);
        }
        Payload::Membership { origin, membership } => {
            out.put_u8(PAYLOAD_MEMBERSHIP);
            put_origin(out, *origin);
            put_membership(out, membership);
        }
    }
}

fn membership_len(membership: &Membership) -> usize {
    let members = membership.members.iter().map(|m| 13 + m.context.len()).sum::<usize>();
    8 + members + 8 * membership.removed.len()
}

fn put_membership(out: &mut BytesMut, membership: &Membership) {
    assert!(membership.members.len() <= MAX_MEMBERS, "bound of members");
    assert!(membership.removed.len() <= MAX_MEMBERS, "bound of removed members");
    out.put_u32_le(u32_len(membership.members.len()));
    for member in &membership.members {
        out.put_u64_le(member.id.0);
        out.put_u8(u8::from(member.learner));
        out.put_u32_le(u32_len(member.context.len()));
        out.extend_from_slice(&member.context);
    }
    out.put_u32_le(u32_len(membership.removed.len()));
    for id in &membership.removed {
        out.put_u64_le(id.0);
    }
}

fn u32_len(len: usize) -> u32 {
    u32::try_from(len).expect("bounded by MAX_RECORD_BYTES")
}

/// Decodes a body whose checksum was right.
///
/// # Errors
/// `UnknownKind` of a later version; `Malformed` if no version writes this.
pub(crate) fn decode(kind: u8, group: GroupId, body: &[u8]) -> Result<Stored, Undecodable> {
    let mut from = Reader(body);
    let stored = match kind {
        kind::OPENING => Stored::Opening(from.opening()?),
        kind::CHECKPOINT => Stored::Checkpoint { group, checkpoint: from.checkpoint()? },
        kind::ENTRY => Stored::Record(Record::Entry { group, entry: from.entry()? }),
        kind::HARD_STATE => {
            Stored::Record(Record::HardState { group, hard_state: from.hard_state()? })
        }
        kind::RELEASE => Stored::Record(from.release(group)?),
        kind::INSTALLED => Stored::Record(from.installed(group)?),
        other => return Err(Undecodable::UnknownKind(other)),
    };
    if from.0.is_empty() { Ok(stored) } else { Err(Undecodable::Malformed("bytes left over")) }
}

/// Takes values off the front of a body.
struct Reader<'a>(&'a [u8]);

type Decoded<T> = Result<T, Undecodable>;

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or(Undecodable::Malformed("body too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Decoded<u8> {
        Ok(self.bytes(1)?[0])
    }

    fn flag(&mut self) -> Decoded<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Undecodable::Malformed("a flag is neither 0 nor 1")),
        }
    }

    fn u32(&mut self) -> Decoded<u32> {
        let bytes = self.bytes(4)?.try_into().expect("four bytes were taken");
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Decoded<u64> {
        let bytes = self.bytes(8)?.try_into().expect("eight bytes were taken");
        Ok(u64::from_le_bytes(bytes))
    }

    fn rest(&mut self) -> Bytes {
        Bytes::copy_from_slice(std::mem::take(&mut self.0))
    }

    fn opening(&mut self) -> Decoded<Opening> {
        let present = self.flag()?;
        let segment = SegmentId(self.u64()?);
        let from = Predecessor { segment, last_group: self.u64()?, end: self.u64()? };
        let checkpoints = self.u32()?;
        if checkpoints as usize > MAX_GROUPS {
            return Err(Undecodable::Malformed("too many checkpoints"));
        }
        Ok(Opening { predecessor: present.then_some(from), checkpoints })
    }

    fn hard_state(&mut self) -> Decoded<HardState> {
        let term = Term(self.u64()?);
        let voted = self.flag()?;
        let vote = NodeId(self.u64()?);
        let commit = LogIndex(self.u64()?);
        Ok(HardState { term, vote: voted.then_some(vote), commit })
    }

    fn start(&mut self) -> Decoded<LogStart> {
        let index = LogIndex(self.u64()?);
        let term = Term(self.u64()?);
        Ok(LogStart { index, term, time: GroupTime(self.u64()?) })
    }

    fn checkpoint(&mut self) -> Decoded<Checkpoint> {
        Ok(Checkpoint {
            hard_state: self.hard_state()?,
            start: self.start()?,
            generation: Generation(self.u64()?),
            applied: LogIndex(self.u64()?),
            last: LogIndex(self.u64()?),
            last_term: Term(self.u64()?),
            last_time: GroupTime(self.u64()?),
            membership: self.membership()?,
        })
    }

    fn release(&mut self, group: GroupId) -> Decoded<Record> {
        let start = self.start()?;
        let generation = Generation(self.u64()?);
        let applied = LogIndex(self.u64()?);
        let membership = self.membership()?;
        Ok(Record::Release { group, start, membership, generation, applied })
    }

    fn installed(&mut self, group: GroupId) -> Decoded<Record> {
        let start = self.start()?;
        let generation = Generation(self.u64()?);
        let membership = self.membership()?;
        Ok(Record::Installed { group, start, membership, generation })
    }

    fn origin(&mut self) -> Decoded<Origin> {
        Ok(Origin { node: NodeId(self.u64()?), boot: self.u64()?, seq: self.u64()? })
    }

    fn entry(&mut self) -> Decoded<Entry> {
        let term = Term(self.u64()?);
        let index = LogIndex(self.u64()?);
        let time = GroupTime(self.u64()?);
        let payload = match self.u8()? {
            PAYLOAD_EMPTY => Payload::Empty,
            PAYLOAD_COMMAND => Payload::Command { origin: self.origin()?, data: self.rest() },
            PAYLOAD_MEMBERSHIP => {
                let origin = self.origin()?;
                Payload::Membership { origin, membership: self.membership()? }
            }
            _ => return Err(Undecodable::Malformed("unknown payload of an entry")),
        };
        Ok(Entry { term, index, time, payload })
    }

    fn membership(&mut self) -> Decoded<Membership> {
        let count = self.count()?;
        let mut membership = Membership::default();
        for _ in 0..count {
            let id = NodeId(self.u64()?);
            let learner = self.flag()?;
            let len = self.u32()? as usize;
            let context = Bytes::copy_from_slice(self.bytes(len)?);
            membership.members.push(Member { id, learner, context });
        }
        for _ in 0..self.count()? {
            membership.removed.push(NodeId(self.u64()?));
        }
        Ok(membership)
    }

    /// A count of members: bounded, so that damage cannot ask for memory.
    fn count(&mut self) -> Decoded<usize> {
        let count = self.u32()? as usize;
        if count > MAX_MEMBERS {
            return Err(Undecodable::Malformed("too many members"));
        }
        Ok(count)
    }
}
