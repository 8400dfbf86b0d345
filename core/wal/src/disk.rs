//! The small synchronous disk that recovery reads from and that carries out the writer's operations.
//!
//! Two implementations: files in `quorate-storage`, and `SimDisk` in `quorate-sim`. Errors are
//! values; nobody retries them. A disk knows segments by number only: what else lies in the
//! directory (lock file, strangers) it neither lists nor touches.

use std::fmt;

/// Number of a segment file. Numbers only grow; gaps are normal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// Name of the file: sixteen hexadecimal digits and `.wal`.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{:016x}.wal", self.0)
    }

    /// The number in a file name, if it is exactly one that [`Self::file_name`] makes.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".wal")?;
        let id = Self(u64::from_str_radix(digits, 16).ok()?);
        (id.file_name() == name).then_some(id)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file_name())
    }
}

/// Why an operation of a disk failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space is left. Only [`Disk::create`] may be tried again, and only once there is space.
    #[error("no space left on device: {0}")]
    NoSpace(String),
    /// The segment does not exist (any more). Nothing changed.
    #[error("no such segment: {0}")]
    NotFound(SegmentId),
    /// Anything else. What reached the disk is unknown; never retried.
    #[error("{0}")]
    Io(String),
}

/// A directory of segments.
pub trait Disk {
    /// All segments that exist, in ascending order.
    ///
    /// # Errors
    /// `Io`.
    fn list(&self) -> Result<Vec<SegmentId>, DiskError>;

    /// Length in bytes, preallocated space included.
    ///
    /// # Errors
    /// `NotFound` or `Io`.
    fn len(&self, segment: SegmentId) -> Result<u64, DiskError>;

    /// Fills `into` from `offset`; returns how many bytes there were, less than asked for only at
    /// the end of the segment.
    ///
    /// # Errors
    /// `NotFound` or `Io`.
    fn read_at(&self, segment: SegmentId, offset: u64, into: &mut [u8])
    -> Result<usize, DiskError>;

    /// Creates the segment with `bytes` zero bytes for which the space is reserved, replacing one
    /// that exists, and returns once its content is durable (its name is after `sync_dir`).
    ///
    /// # Errors
    /// `NoSpace` (what was created is removed again as far as possible) or `Io`.
    fn create(&self, segment: SegmentId, bytes: u64) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `offset`; durable only after `sync`.
    ///
    /// # Errors
    /// `NoSpace`, `NotFound` or `Io`: the writer halts on each.
    fn write_at(&self, segment: SegmentId, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes everything written to the segment durable (fdatasync).
    ///
    /// # Errors
    /// `NotFound` or `Io`: what is durable is unknown, and a second sync would lie.
    fn sync(&self, segment: SegmentId) -> Result<(), DiskError>;

    /// Removes the segment; durable only after `sync_dir`, and may be undone by a crash before.
    ///
    /// # Errors
    /// `Io`. A segment that does not exist is no error.
    fn delete(&self, segment: SegmentId) -> Result<(), DiskError>;

    /// Makes creations and deletions durable.
    ///
    /// # Errors
    /// `Io`.
    fn sync_dir(&self) -> Result<(), DiskError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_round_trip_and_strangers_are_ignored() {
        for id in [0, 1, 0xabc, u64::MAX] {
            assert_eq!(SegmentId::parse(&SegmentId(id).file_name()), Some(SegmentId(id)));
        }
        for name in ["LOCK", "1.wal", "000000000000000A.wal", "+00000000000000a.wal", ".wal"] {
            assert_eq!(SegmentId::parse(name), None, "{name}");
        }
    }
}
