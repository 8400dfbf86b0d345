//! Keys of the engine (`docs/internals/kv-format.md` gives every byte).
//!
//! One prefix byte a kind of record, then the keyspace in four bytes, so that a keyspace's records
//! of one kind are one contiguous run. Numbers are big-endian. A user's key stands last, or behind
//! its own length: versions of one key must stand together, newest first, but keys among each other
//! need an order only in `h/`, and so nothing is ever escaped.

use std::ops::Bound;

use bytes::Bytes;
use quorate_engine::EngineError;

use crate::error::corrupt;
use crate::limits::MAX_KEY;
use crate::types::{KeyRange, KeyspaceId, LeaseId, Revision};

const META: u8 = b'm';
const HEAD: u8 = b'h';
const VERSION: u8 = b'v';
const REVISION: u8 = b'r';
const LEASE: u8 = b'l';
const ATTACHMENT: u8 = b'a';

/// Bytes before what is particular to a record.
const PREFIX: usize = 5;

/// Position of a change: its revision, and its place among the changes of that revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) revision: Revision,
    pub(crate) sub: u32,
}

impl Position {
    /// The first position of a revision.
    pub(crate) fn first_of(revision: Revision) -> Self {
        Self { revision, sub: 0 }
    }

    /// The last position of a revision.
    pub(crate) fn last_of(revision: Revision) -> Self {
        Self { revision, sub: u32::MAX }
    }

    /// The position right after this one.
    pub(crate) fn next(self) -> Self {
        match self.sub.checked_add(1) {
            Some(sub) => Self { revision: self.revision, sub },
            None => Self::first_of(self.revision.next()),
        }
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.revision.0.to_be_bytes());
        out.extend_from_slice(&self.sub.to_be_bytes());
    }

    pub(crate) fn take(bytes: &[u8; 12]) -> Self {
        let revision = i64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
        let sub = u32::from_be_bytes(bytes[8..].try_into().expect("4 bytes"));
        Self { revision: Revision(revision), sub }
    }
}

/// The meta record's key.
pub(crate) fn meta() -> Vec<u8> {
    vec![META]
}

/// Key of the newest version of a key.
pub(crate) fn head(keyspace: KeyspaceId, key: &[u8]) -> Vec<u8> {
    let mut out = prefix(HEAD, keyspace, key.len());
    out.extend_from_slice(key);
    out
}

/// Key of an older version.
pub(crate) fn version(keyspace: KeyspaceId, key: &[u8], at: Position) -> Vec<u8> {
    let mut out = versions(keyspace, key);
    out.extend_from_slice(&(!at.revision.0.cast_unsigned()).to_be_bytes());
    out.extend_from_slice(&(!at.sub).to_be_bytes());
    out
}

/// What the keys of all older versions of a key begin with.
pub(crate) fn versions(keyspace: KeyspaceId, key: &[u8]) -> Vec<u8> {
    assert!(key.len() <= MAX_KEY, "a key of {} bytes reached the layout", key.len());
    let mut out = prefix(VERSION, keyspace, 2 + key.len() + 12);
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Bounds of the older versions of `key` at or before `at`, newest first.
pub(crate) fn versions_up_to(
    keyspace: KeyspaceId,
    key: &[u8],
    at: Position,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut end = versions(keyspace, key);
    end.extend_from_slice(&[0xff; 12]);
    (Bound::Included(version(keyspace, key, at)), Bound::Included(end))
}

/// Key of a change in order of revisions.
pub(crate) fn change(keyspace: KeyspaceId, at: Position) -> Vec<u8> {
    let mut out = prefix(REVISION, keyspace, 12);
    at.put(&mut out);
    out
}

/// The position that a key of [`change`] says.
pub(crate) fn change_position(key: &[u8]) -> Result<Position, EngineError> {
    let rest = key.get(PREFIX..).and_then(|rest| rest.try_into().ok());
    rest.map(Position::take).ok_or_else(|| corrupt("key of a change"))
}

/// Key of a lease's record.
pub(crate) fn lease(keyspace: KeyspaceId, id: LeaseId) -> Vec<u8> {
    let mut out = prefix(LEASE, keyspace, 8);
    out.extend_from_slice(&ordered(id.0));
    out
}

/// The keyspace and lease that a key of [`lease`] names.
pub(crate) fn lease_of(key: &[u8]) -> Result<(KeyspaceId, LeaseId), EngineError> {
    let parts: &[u8; PREFIX + 8] = key.try_into().map_err(|_| corrupt("key of a lease"))?;
    let keyspace = u32::from_be_bytes(parts[1..5].try_into().expect("4 bytes"));
    let id = u64::from_be_bytes(parts[5..].try_into().expect("8 bytes"));
    Ok((KeyspaceId(keyspace), LeaseId((id ^ (1 << 63)).cast_signed())))
}

/// Bounds of the records of all leases of all keyspaces.
pub(crate) fn all_leases() -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (Bound::Included(vec![LEASE]), Bound::Excluded(vec![LEASE + 1]))
}

/// Bounds of the records of a keyspace's leases.
pub(crate) fn leases(keyspace: KeyspaceId) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (Bound::Included(prefix(LEASE, keyspace, 0)), Bound::Excluded(prefix_end(LEASE, keyspace)))
}

/// Key that says that `key` is attached to a lease.
pub(crate) fn attachment(keyspace: KeyspaceId, id: LeaseId, key: &[u8]) -> Vec<u8> {
    let mut out = prefix(ATTACHMENT, keyspace, 8 + key.len());
    out.extend_from_slice(&ordered(id.0));
    out.extend_from_slice(key);
    out
}

/// Bounds of the attachments of a lease.
pub(crate) fn attachments(keyspace: KeyspaceId, id: LeaseId) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let end = match id.0.checked_add(1) {
        Some(next) => attachment(keyspace, LeaseId(next), &[]),
        None => prefix_end(ATTACHMENT, keyspace),
    };
    (Bound::Included(attachment(keyspace, id, &[])), Bound::Excluded(end))
}

/// Bounds of all attachments of a keyspace.
pub(crate) fn all_attachments(keyspace: KeyspaceId) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = prefix(ATTACHMENT, keyspace, 0);
    (Bound::Included(start), Bound::Excluded(prefix_end(ATTACHMENT, keyspace)))
}

/// The user's key in a key of [`attachment`].
pub(crate) fn attached_key(key: &Bytes) -> Result<Bytes, EngineError> {
    tail(key, PREFIX + 8)
}

/// Bounds of the heads of a range.
pub(crate) fn heads(keyspace: KeyspaceId, range: &KeyRange) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = Bound::Included(head(keyspace, &range.key));
    if range.is_single() {
        return (start.clone(), start);
    }
    if range.is_open_ended() {
        return (start, Bound::Excluded(prefix_end(HEAD, keyspace)));
    }
    (start, Bound::Excluded(head(keyspace, &range.range_end)))
}

/// The user's key in a key of [`head`].
pub(crate) fn head_key(key: &Bytes) -> Result<Bytes, EngineError> {
    tail(key, PREFIX)
}

/// Bounds of the changes from one position to another, both inclusive.
pub(crate) fn changes(
    keyspace: KeyspaceId,
    from: Position,
    to: Position,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (Bound::Included(change(keyspace, from)), Bound::Included(change(keyspace, to)))
}

/// Borrows bounds for the engine.
pub(crate) fn borrow(bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (bounds.0.as_ref().map(Vec::as_slice), bounds.1.as_ref().map(Vec::as_slice))
}

/// Sorts like the number, negative ones first.
fn ordered(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn prefix(kind: u8, keyspace: KeyspaceId, more: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX + more);
    out.push(kind);
    out.extend_from_slice(&keyspace.0.to_be_bytes());
    out
}

/// The least key above all keys of this kind and keyspace.
fn prefix_end(kind: u8, keyspace: KeyspaceId) -> Vec<u8> {
    match keyspace.0.checked_add(1) {
        Some(next) => prefix(kind, KeyspaceId(next), 0),
        None => vec![kind + 1],
    }
}

fn tail(key: &Bytes, from: usize) -> Result<Bytes, EngineError> {
    if key.len() < from {
        return Err(corrupt("key too short"));
    }
    Ok(key.slice(from..))
}
