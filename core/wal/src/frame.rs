//! Sync groups as bytes: the header, the records behind it, the padding; how one is built and how one
//! is taken apart again. The layout is specified in `docs/internals/wal-format.md`.
//!
//! A record's checksum starts from the checksum of its group's header: no record is valid anywhere
//! but in the group that it was written in.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_consensus::{GroupId, NodeId};

use crate::SegmentId;
use crate::codec::{self, Stored, Undecodable};
use crate::limits::{ALIGNMENT, MAX_GROUP_BYTES};
use crate::record::{Checkpoint, ClusterId, Identity, Opening, Record};

/// Length of a group's header, in bytes; the same in every version of the format.
pub(crate) const HEADER_LEN: usize = 64;
/// Length of a record's header, in bytes.
pub(crate) const RECORD_HEADER_LEN: usize = 16;
/// What a group begins with.
pub(crate) const MAGIC: [u8; 4] = *b"QSYN";
/// The version that this code writes, and the newest that it reads.
pub(crate) const VERSION: u16 = 1;
/// Flag: the first group of a segment, which begins with an `Opening`.
const FLAG_OPENS: u16 = 1;

/// `len` rounded up to the alignment of sync groups.
pub(crate) fn aligned(len: u64) -> u64 {
    len.next_multiple_of(ALIGNMENT)
}

/// Position of a sync group in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Whose log.
    pub(crate) identity: Identity,
    /// Random number of the run of the server that wrote it: bytes inside a payload cannot guess it
    /// and pass for a group.
    pub(crate) boot: u64,
    /// The segment that it was written to.
    pub(crate) segment: SegmentId,
    /// Its number: consecutive over the whole life of the log.
    pub(crate) number: u64,
    /// Whether it opens the segment.
    pub(crate) opens: bool,
    /// Length of its records, in bytes, without header and padding.
    pub(crate) body_len: u32,
    /// How many records.
    pub(crate) records: u32,
    /// Its own checksum, where those of its records start.
    pub(crate) crc: u32,
}

/// What stands where a header could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peek {
    /// A valid header.
    Header(Header),
    /// A valid header of a format that is newer than this code.
    Newer(u16),
    /// Neither.
    Nothing,
}

impl Header {
    /// Bytes that the group takes in the segment, header and padding included.
    pub(crate) fn extent(&self) -> u64 {
        aligned(HEADER_LEN as u64 + u64::from(self.body_len))
    }

    fn encode(&mut self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let flags = if self.opens { FLAG_OPENS } else { 0 };
        out[0..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&flags.to_le_bytes());
        out[8..16].copy_from_slice(&self.identity.cluster.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.identity.node.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.boot.to_le_bytes());
        out[32..40].copy_from_slice(&self.segment.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.number.to_le_bytes());
        out[48..52].copy_from_slice(&self.body_len.to_le_bytes());
        out[52..56].copy_from_slice(&self.records.to_le_bytes());
        self.crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    /// Reads a header; `bytes` has `HEADER_LEN` bytes.
    pub(crate) fn peek(bytes: &[u8]) -> Peek {
        let crc = u32_at(bytes, 60);
        if bytes[0..4] != MAGIC || crc32c::crc32c(&bytes[..60]) != crc {
            return Peek::Nothing;
        }
        let version = u16_at(bytes, 4);
        if version > VERSION {
            return Peek::Newer(version);
        }
        let (flags, body_len) = (u16_at(bytes, 6), u32_at(bytes, 48));
        let reserved = u32_at(bytes, 56);
        if version == 0 || flags & !FLAG_OPENS != 0 || reserved != 0 {
            return Peek::Nothing;
        }
        if body_len as usize > MAX_GROUP_BYTES {
            return Peek::Nothing;
        }
        Peek::Header(Self {
            identity: Identity {
                cluster: ClusterId(u64_at(bytes, 8)),
                node: NodeId(u64_at(bytes, 16)),
            },
            boot: u64_at(bytes, 24),
            segment: SegmentId(u64_at(bytes, 32)),
            number: u64_at(bytes, 40),
            opens: flags & FLAG_OPENS != 0,
            body_len,
            records: u32_at(bytes, 52),
            crc,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Bytes that a record takes in a group, its header included.
pub(crate) fn framed_len(record: &Record) -> usize {
    RECORD_HEADER_LEN + codec::record_len(record)
}

/// Bytes that the records which open a segment take.
pub(crate) fn opening_len<'a>(checkpoints: impl Iterator<Item = &'a Checkpoint>) -> usize {
    let each = checkpoints.map(|c| RECORD_HEADER_LEN + codec::checkpoint_len(c)).sum::<usize>();
    RECORD_HEADER_LEN + codec::OPENING_LEN + each
}

/// Builds one sync group after the other in the same buffer.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    buffer: BytesMut,
    records: u32,
}

impl Builder {
    /// Starts a group; `expected` is about how many bytes its records will take.
    pub(crate) fn begin(&mut self, expected: usize) {
        assert!(self.buffer.is_empty(), "a group is under way");
        // Takes the memory of the last group back if its write has dropped it.
        self.buffer.reserve(aligned((HEADER_LEN + expected) as u64) as usize);
        self.buffer.put_bytes(0, HEADER_LEN);
        self.records = 0;
    }

    /// Offset in the group at which the next record will stand.
    pub(crate) fn position(&self) -> u32 {
        u32::try_from(self.buffer.len()).expect("bounded by MAX_GROUP_BYTES")
    }

    /// Adds a segment's first record.
    pub(crate) fn opening(&mut self, opening: &Opening) {
        self.frame(codec::kind::OPENING, GroupId(0), codec::OPENING_LEN, |out| {
            codec::put_opening(out, opening);
        });
    }

    /// Adds a group's checkpoint.
    pub(crate) fn checkpoint(&mut self, group: GroupId, checkpoint: &Checkpoint) {
        let len = codec::checkpoint_len(checkpoint);
        self.frame(codec::kind::CHECKPOINT, group, len, |out| {
            codec::put_checkpoint(out, checkpoint);
        });
    }

    /// Adds a record.
    pub(crate) fn record(&mut self, record: &Record) {
        let (kind, group) = codec::kind_and_group(record);
        self.frame(kind, group, codec::record_len(record), |out| codec::put_record(out, record));
    }

    fn frame(&mut self, kind: u8, group: GroupId, len: usize, put: impl FnOnce(&mut BytesMut)) {
        let body_len = u32::try_from(len).expect("bounded by MAX_RECORD_BYTES");
        self.buffer.put_u32_le(body_len);
        self.buffer.put_u32_le(0); // the checksum, in `seal`
        self.buffer.put_u32_le(u32::from(kind));
        self.buffer.put_u32_le(group.0);
        let body_at = self.buffer.len();
        put(&mut self.buffer);
        assert_eq!(self.buffer.len() - body_at, len, "a body is as long as announced");
        self.records += 1;
    }

    /// Ends the group: fills in header, checksums and padding, and returns all of its bytes.
    pub(crate) fn seal(
        &mut self,
        identity: Identity,
        boot: u64,
        segment: SegmentId,
        number: u64,
        opens: bool,
    ) -> Bytes {
        let body_len = self.buffer.len() - HEADER_LEN;
        assert!(body_len <= MAX_GROUP_BYTES, "a group within its bound: {body_len}");
        let mut header = Header {
            identity,
            boot,
            segment,
            number,
            opens,
            body_len: u32::try_from(body_len).expect("bounded by MAX_GROUP_BYTES"),
            records: self.records,
            crc: 0,
        };
        let bytes = header.encode();
        self.buffer[..HEADER_LEN].copy_from_slice(&bytes);
        self.checksum_records(header.crc);
        let padding = header.extent() as usize - self.buffer.len();
        self.buffer.put_bytes(0, padding);
        self.buffer.split().freeze()
    }

    fn checksum_records(&mut self, seed: u32) {
        let mut at = HEADER_LEN;
        while at < self.buffer.len() {
            let end = at + RECORD_HEADER_LEN + u32_at(&self.buffer, at) as usize;
            let crc = record_crc(seed, &self.buffer[at..end]);
            self.buffer[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
            at = end;
        }
    }
}

/// The checksum of a framed record: over its length, kind, group and body, from its group's own.
fn record_crc(seed: u32, framed: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed, &framed[..4]);
    crc32c::crc32c_append(crc, &framed[8..])
}

/// The records of a group, one after the other, until the end or the first bad one.
pub(crate) struct Records<'a> {
    seed: u32,
    body: &'a [u8],
    at: usize,
}

/// Why a record, and with it the rest of its group, cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRecord {
    /// The bytes are not what was written.
    Checksum,
    /// They are, but make no sense to this version.
    Undecodable(Undecodable),
}

impl<'a> Records<'a> {
    /// Over the body of a group, of which less than `body_len` bytes may be there.
    pub(crate) fn new(header: &Header, body: &'a [u8]) -> Self {
        let len = body.len().min(header.body_len as usize);
        Self { seed: header.crc, body: &body[..len], at: 0 }
    }

    /// Continues at `offset`, counted from the beginning of the group.
    pub(crate) fn skip_to(mut self, offset: u32) -> Self {
        self.at = (offset as usize).saturating_sub(HEADER_LEN).min(self.body.len());
        self
    }

    /// Offset in the group of the next record.
    pub(crate) fn offset(&self) -> u32 {
        u32::try_from(HEADER_LEN + self.at).expect("bounded by MAX_GROUP_BYTES")
    }

    fn framed(&self) -> Option<&'a [u8]> {
        let rest = &self.body[self.at..];
        let len = u32_at(rest.get(..RECORD_HEADER_LEN)?, 0) as usize;
        let framed = rest.get(..RECORD_HEADER_LEN.checked_add(len)?)?;
        (record_crc(self.seed, framed) == u32_at(framed, 4)).then_some(framed)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Stored, BadRecord>;

    /// After an error the iterator stays where it is.
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.body.len() {
            return None;
        }
        let Some(framed) = self.framed() else { return Some(Err(BadRecord::Checksum)) };
        let Ok(kind) = u8::try_from(u32_at(framed, 8)) else {
            let why = Undecodable::Malformed("reserved bytes are set");
            return Some(Err(BadRecord::Undecodable(why)));
        };
        let group = GroupId(u32_at(framed, 12));
        match codec::decode(kind, group, &framed[RECORD_HEADER_LEN..]) {
            Ok(stored) => {
                self.at += framed.len();
                Some(Ok(stored))
            }
            Err(why) => Some(Err(BadRecord::Undecodable(why))),
        }
    }
}
