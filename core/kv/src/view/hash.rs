//! Hashes of the logical content, to compare members with.
//!
//! Two members that have applied the same entries give the same hash for the same revision and compact
//! revision, however far each has physically compacted: only versions that compaction keeps are
//! hashed, by the rule of `machine::compact`. Nothing local goes in: no cursor, no replaced position.

use quorate_engine::{Direction, EngineError, Read};

use crate::error::ReadError;
use crate::layout::{self, Position};
use crate::read::Keys;
use crate::record::Version;
use crate::types::{KeyRange, Revision};

use super::View;

/// A hash of a keyspace, and what it covers: compare hashes of equal revisions only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C of all kept versions up to `revision`.
    pub hash: u32,
    /// Up to which revision.
    pub revision: Revision,
    /// The compact revision; -1: never compacted.
    pub compact_revision: Revision,
}

impl<S: Read> View<S> {
    /// Hash of all versions at or before `revision` (<= 0: the latest) that compaction keeps. Walks
    /// over the whole keyspace, its history included.
    ///
    /// # Errors
    /// `Compacted` or `FutureRevision` refused; or the engine failed.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash, ReadError> {
        let at = self.resolve(revision)?.unwrap_or(self.revision);
        let hash = self.hash_keys(at)?;
        Ok(KvHash { hash, revision: at, compact_revision: self.compact_revision })
    }

    /// Hash of everything that is replicated of the keyspace: keys and their history, leases,
    /// attachments, revisions.
    ///
    /// # Errors
    /// The engine failed.
    pub fn hash(&self) -> Result<u32, EngineError> {
        let mut crc = self.hash_keys(self.revision)?;
        crc = crc32c::crc32c_append(crc, &self.revision.0.to_be_bytes());
        crc = crc32c::crc32c_append(crc, &self.compact_revision.0.to_be_bytes());
        let (leases, attachments) =
            (layout::leases(self.keyspace), layout::all_attachments(self.keyspace));
        for bounds in [leases, attachments] {
            for pair in self.snapshot.scan(layout::borrow(&bounds), Direction::Forward) {
                let (key, value) = pair?;
                crc = append(append(crc, &key), &value);
            }
        }
        Ok(crc)
    }

    fn hash_keys(&self, until: Revision) -> Result<u32, EngineError> {
        let all = KeyRange { key: "".into(), range_end: "\0".into() };
        let keys = self.keys();
        let mut scratch = Vec::new();
        let mut crc = 0;
        for head in keys.heads(&all, Direction::Forward) {
            let (key, head) = head?;
            for version in self.kept(&keys, &key, head, until)? {
                scratch.clear();
                version.put(&mut scratch);
                crc = append(append(crc, &key), &scratch);
            }
        }
        Ok(crc)
    }

    /// Versions of a key at or before `until` that compaction keeps, newest first.
    fn kept(
        &self,
        keys: &Keys<'_, S>,
        key: &[u8],
        head: Version,
        until: Revision,
    ) -> Result<Vec<Version>, EngineError> {
        let mut kept = Vec::new();
        let older = keys.older(key, Position::last_of(until))?;
        for version in std::iter::once(Ok(head)).chain(older) {
            let version = version?;
            if version.at.revision > until {
                continue;
            }
            if version.at.revision >= self.compact_revision {
                kept.push(version);
                continue;
            }
            let replaced =
                kept.last().is_some_and(|by: &Version| by.at.revision == self.compact_revision);
            if !replaced && version.live.is_some() {
                kept.push(version);
            }
            break;
        }
        Ok(kept)
    }
}

/// Appends a length and the bytes, so that no two contents look alike.
fn append(crc: u32, bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc, &(bytes.len() as u64).to_be_bytes());
    crc32c::crc32c_append(crc, bytes)
}
