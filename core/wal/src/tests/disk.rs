//! A disk in memory that loses nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::{Disk, DiskError, SegmentId};

#[derive(Debug, Default)]
pub(super) struct MemDisk {
    pub(super) files: RefCell<BTreeMap<SegmentId, Vec<u8>>>,
    pub(super) full: RefCell<bool>,
}

impl MemDisk {
    fn with<T>(
        &self,
        segment: SegmentId,
        then: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, DiskError> {
        let mut files = self.files.borrow_mut();
        files.get_mut(&segment).map(then).ok_or(DiskError::NotFound(segment))
    }

    /// Overwrites bytes behind the log's back.
    pub(super) fn patch(&self, segment: SegmentId, offset: usize, bytes: &[u8]) {
        self.with(segment, |file| file[offset..offset + bytes.len()].copy_from_slice(bytes))
            .unwrap();
    }
}

impl Disk for MemDisk {
    fn list(&self) -> Result<Vec<SegmentId>, DiskError> {
        Ok(self.files.borrow().keys().copied().collect())
    }

    fn len(&self, segment: SegmentId) -> Result<u64, DiskError> {
        self.with(segment, |file| file.len() as u64)
    }

    fn read_at(
        &self,
        segment: SegmentId,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError> {
        self.with(segment, |file| {
            let from = &file[(offset as usize).min(file.len())..];
            let len = into.len().min(from.len());
            into[..len].copy_from_slice(&from[..len]);
            len
        })
    }

    fn create(&self, segment: SegmentId, bytes: u64) -> Result<(), DiskError> {
        if *self.full.borrow() {
            return Err(DiskError::NoSpace("test".to_owned()));
        }
        self.files.borrow_mut().insert(segment, vec![0; bytes as usize]);
        Ok(())
    }

    fn write_at(&self, segment: SegmentId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.with(segment, |file| {
            let (from, until) = (offset as usize, offset as usize + bytes.len());
            file.resize(file.len().max(until), 0);
            file[from..until].copy_from_slice(bytes);
        })
    }

    fn sync(&self, segment: SegmentId) -> Result<(), DiskError> {
        self.with(segment, |_| ())
    }

    fn delete(&self, segment: SegmentId) -> Result<(), DiskError> {
        self.files.borrow_mut().remove(&segment);
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        Ok(())
    }
}
