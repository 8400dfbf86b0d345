//! Values of the engine: versions of keys, changes, leases and the meta record
//! (`docs/internals/kv-format.md` gives every byte).
//!
//! Decoding is total: whatever the bytes, the answer is a record or `Corrupt`. A version's value is
//! a slice of the engine's buffer, never a copy.

use bytes::Bytes;
use quorate_engine::EngineError;

use crate::codec::wire::{Reader, Writer};
use crate::error::corrupt;
use crate::layout::Position;
use crate::types::{
    Alarm, AlarmKind, EventKind, KeyValue, KeyspaceId, LeaseId, LeaseStatus, Revision,
};

const PUT: u8 = 1;
const PUT_WITH_LEASE: u8 = 2;
const TOMBSTONE: u8 = 3;
const LEASE_RECORD: u8 = 1;
/// Format of everything this crate stores; in the meta record, checked when it is opened.
const FORMAT: u8 = 1;

/// One version of a key, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) at: Position,
    /// `None` for a tombstone.
    pub(crate) live: Option<Live>,
}

/// What a version that is not a tombstone holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) create_revision: Revision,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    pub(crate) value: Bytes,
}

impl Version {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(match &self.live {
            None => TOMBSTONE,
            Some(live) if live.lease == LeaseId::NONE => PUT,
            Some(_) => PUT_WITH_LEASE,
        });
        self.at.put(out);
        let Some(live) = &self.live else { return };
        out.extend_from_slice(&live.create_revision.0.to_be_bytes());
        out.extend_from_slice(&live.version.to_be_bytes());
        if live.lease != LeaseId::NONE {
            out.extend_from_slice(&live.lease.0.to_be_bytes());
        }
        out.extend_from_slice(&live.value);
    }

    pub(crate) fn take(bytes: &Bytes) -> Result<Self, EngineError> {
        let at = bytes.get(1..13).and_then(|at| at.try_into().ok()).map(Position::take);
        let (Some(kind), Some(at)) = (bytes.first().copied(), at) else {
            return Err(corrupt("version too short"));
        };
        let live = match kind {
            PUT => Some(Live::take(bytes, None)?),
            PUT_WITH_LEASE => Some(Live::take(bytes, Some(number(bytes, 29)?))?),
            TOMBSTONE if bytes.len() == 13 => None,
            _ => return Err(corrupt("kind of a version")),
        };
        Ok(Self { at, live })
    }
}

impl Live {
    fn take(bytes: &Bytes, lease: Option<i64>) -> Result<Self, EngineError> {
        let create_revision = Revision(number(bytes, 13)?);
        let version = number(bytes, 21)?;
        let value = bytes.slice(if lease.is_some() { 37 } else { 29 }..);
        Ok(Self { create_revision, version, lease: LeaseId(lease.unwrap_or(0)), value })
    }

    /// The pair as clients see it.
    pub(crate) fn with_key(self, key: Bytes, at: Position) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision,
            mod_revision: at.revision,
            version: self.version,
            value: self.value,
            lease: self.lease,
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Result<i64, EngineError> {
    let eight = bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok());
    eight.map(i64::from_be_bytes).ok_or_else(|| corrupt("version too short"))
}

/// A change, as the history keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: EventKind,
    /// Where the version stands that it replaced, a tombstone perhaps; `None`: there was none. It may
    /// have been compacted since.
    pub(crate) replaced: Option<Position>,
    pub(crate) key: Bytes,
}

impl Change {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            EventKind::Put => PUT,
            EventKind::Delete => TOMBSTONE,
        });
        self.replaced.unwrap_or_default().put(out);
        out.extend_from_slice(&self.key);
    }

    pub(crate) fn take(bytes: &Bytes) -> Result<Self, EngineError> {
        let kind = match bytes.first() {
            Some(&PUT) => EventKind::Put,
            Some(&TOMBSTONE) => EventKind::Delete,
            _ => return Err(corrupt("kind of a change")),
        };
        let replaced = bytes.get(1..13).and_then(|at| at.try_into().ok()).map(Position::take);
        let replaced = replaced.ok_or_else(|| corrupt("change too short"))?;
        // No change has ever been made at revision 0, so it can say "none".
        let replaced = (replaced != Position::default()).then_some(replaced);
        Ok(Self { kind, replaced, key: bytes.slice(13..) })
    }
}

/// Encodes a lease's record.
pub(crate) fn put_lease(lease: &LeaseStatus, out: &mut Vec<u8>) {
    out.push(LEASE_RECORD);
    out.extend_from_slice(&lease.ttl_s.to_be_bytes());
    out.extend_from_slice(&lease.deadline_ms.to_be_bytes());
}

/// Decodes the record of lease `id`.
pub(crate) fn take_lease(id: LeaseId, bytes: &[u8]) -> Result<LeaseStatus, EngineError> {
    let bytes: &[u8; 17] = bytes.try_into().map_err(|_| corrupt("length of a lease"))?;
    if bytes[0] != LEASE_RECORD {
        return Err(corrupt("kind of a lease"));
    }
    let ttl_s = i64::from_be_bytes(bytes[1..9].try_into().expect("8 bytes"));
    let deadline_ms = u64::from_be_bytes(bytes[9..].try_into().expect("8 bytes"));
    Ok(LeaseStatus { id, ttl_s, deadline_ms })
}

/// What the machine remembers beside keys and leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) applied: u64,
    pub(crate) term: u64,
    pub(crate) time_ms: u64,
    pub(crate) keyspaces: Vec<KeyspaceMeta>,
    pub(crate) alarms: Vec<Alarm>,
}

/// A keyspace in the meta record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyspaceMeta {
    pub(crate) id: KeyspaceId,
    pub(crate) revision: Revision,
    pub(crate) compact_revision: Revision,
    /// Physical compaction has dealt with every change before this.
    pub(crate) cursor: Position,
}

impl Meta {
    pub(crate) fn put(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.byte(FORMAT);
        out.number(self.applied);
        out.number(self.term);
        out.number(self.time_ms);
        out.number(self.keyspaces.len() as u64);
        for keyspace in &self.keyspaces {
            out.number(u64::from(keyspace.id.0));
            out.signed(keyspace.revision.0);
            out.signed(keyspace.compact_revision.0);
            out.signed(keyspace.cursor.revision.0);
            out.number(u64::from(keyspace.cursor.sub));
        }
        out.number(self.alarms.len() as u64);
        for alarm in &self.alarms {
            put_alarm(alarm, &mut out);
        }
        out.into_vec()
    }

    pub(crate) fn take(bytes: &Bytes) -> Result<Self, EngineError> {
        if bytes.first() != Some(&FORMAT) {
            return Err(corrupt("format of the meta record: written by a newer version?"));
        }
        Self::take_fields(bytes).map_err(|cause| corrupt(&format!("meta record: {cause}")))
    }

    fn take_fields(bytes: &Bytes) -> Result<Self, crate::codec::DecodeError> {
        let mut from = Reader::new(bytes);
        from.byte()?;
        let mut meta = Self {
            applied: from.number()?,
            term: from.number()?,
            time_ms: from.number()?,
            ..Self::default()
        };
        for _ in 0..from.count()? {
            meta.keyspaces.push(KeyspaceMeta {
                id: KeyspaceId(from.small()?),
                revision: Revision(from.signed()?),
                compact_revision: Revision(from.signed()?),
                cursor: Position { revision: Revision(from.signed()?), sub: from.small()? },
            });
        }
        for _ in 0..from.count()? {
            meta.alarms.push(take_alarm(&mut from)?);
        }
        from.end()?;
        Ok(meta)
    }
}

/// Encodes an alarm.
pub(crate) fn put_alarm(alarm: &Alarm, out: &mut Writer) {
    out.number(alarm.member);
    out.byte(match alarm.kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    });
}

/// Decodes an alarm.
pub(crate) fn take_alarm(from: &mut Reader<'_>) -> Result<Alarm, crate::codec::DecodeError> {
    let member = from.number()?;
    let kind = match from.byte()? {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        _ => return Err(crate::codec::DecodeError::Tag),
    };
    Ok(Alarm { member, kind })
}
