//! The real disk of the log: segment files in one directory, and the lock on a data directory.
//!
//! - A segment is created by reserving its space and then **writing zeros over all of it**: measured, a
//!   4 KiB write and fdatasync takes about 150 µs into space that was written before, 250 µs into
//!   space that is only reserved (`docs/decisions/0003-wal-preallocation.md`).
//! - Writes are `pwrite`, durability is `fdatasync`, names are made durable by `fsync` of the directory.
//! - Errors are values; `ENOSPC` and `EDQUOT` are `NoSpace`.
//!
//! What it leaves out: retries, caching, deciding anything.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_wal::{Disk, DiskError, SegmentId};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};
use rustix::io::Errno;

/// Name of the file in a data directory that its owner holds locked.
pub const LOCK_FILE: &str = "LOCK";

/// Zeros written at a time when a segment is created.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// Why a directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it. Retry after that has stopped.
    #[error("{} is in use by another process", .0.display())]
    Held(PathBuf),
    /// It cannot be created, opened or locked.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Exclusive use of a data directory, until dropped or the process ends (however it ends).
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of `directory`, which exists.
    ///
    /// # Errors
    /// `Held` if another process, or this one, has it; nothing was changed.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(LOCK_FILE);
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        match options.open(&path) {
            Ok(file) => Self::lock(file, directory),
            Err(source) => Err(LockError::Io { path, source }),
        }
    }

    /// Takes the lock without creating its file. `None` where there is none: then nobody has ever used
    /// the directory, or somebody has taken it apart.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn acquire_existing(directory: &Path) -> Result<Option<Self>, LockError> {
        let path = directory.join(LOCK_FILE);
        match File::open(&path) {
            Ok(file) => Self::lock(file, directory).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LockError::Io { path, source }),
        }
    }

    fn lock(file: File, directory: &Path) -> Result<Self, LockError> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held(directory.to_path_buf())),
            Err(errno) => {
                Err(LockError::Io { path: directory.join(LOCK_FILE), source: errno.into() })
            }
        }
    }
}

/// Bytes that an unprivileged process can still use on the file system of `directory`.
///
/// # Errors
/// What the system says.
pub fn free_space(directory: &Path) -> io::Result<u64> {
    let figures = statvfs(directory)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Segment files in a directory. Shared by the threads of the log and by readers.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
    handle: File,
    writable: bool,
    /// Open files; as many as the log has segments.
    open: Mutex<BTreeMap<SegmentId, Arc<File>>>,
}

impl FileDisk {
    /// Opens the directory and creates it, durably, if it does not exist. The caller holds the
    /// [`DirectoryLock`] of the data directory around it.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let missing = directory
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .collect::<Vec<_>>();
        fs::create_dir_all(directory)?;
        for created in missing {
            let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        }
        Self::attach(directory, true)
    }

    /// Opens an existing directory for `quorate inspect`: everything that would write fails.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_read_only(directory: &Path) -> io::Result<Self> {
        Self::attach(directory, false)
    }

    fn attach(directory: &Path, writable: bool) -> io::Result<Self> {
        let handle = File::open(directory)?;
        let open = Mutex::new(BTreeMap::new());
        Ok(Self { directory: directory.to_path_buf(), handle, writable, open })
    }

    fn path(&self, segment: SegmentId) -> PathBuf {
        self.directory.join(segment.file_name())
    }

    fn file(&self, segment: SegmentId) -> Result<Arc<File>, DiskError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&segment) {
            return Ok(Arc::clone(file));
        }
        let options = OpenOptions::new().read(true).write(self.writable).to_owned();
        let file = options.open(self.path(segment)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DiskError::NotFound(segment),
            _ => failed("open", segment, &error),
        })?;
        let file = Arc::new(file);
        open.insert(segment, Arc::clone(&file));
        Ok(file)
    }

    fn forget(&self, segment: SegmentId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&segment);
    }

    fn create_file(&self, segment: SegmentId, bytes: u64) -> io::Result<()> {
        let path = self.path(segment);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut at = 0;
        while at < bytes {
            let len = (bytes - at).min(ZEROS.len() as u64);
            file.write_all_at(&ZEROS[..len as usize], at)?;
            at += len;
        }
        file.sync_all()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(segment, Arc::new(file));
        Ok(())
    }

    fn remove(&self, segment: SegmentId) -> io::Result<()> {
        self.forget(segment);
        match fs::remove_file(self.path(segment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn check_writable(&self) -> Result<(), DiskError> {
        let refused = || DiskError::Io("the directory is opened for reading only".to_owned());
        if self.writable { Ok(()) } else { Err(refused()) }
    }
}

fn failed(what: &str, segment: SegmentId, error: &io::Error) -> DiskError {
    let text = format!("{what} {segment}: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::NoSpace(text),
        _ => DiskError::Io(text),
    }
}

impl Disk for FileDisk {
    fn list(&self) -> Result<Vec<SegmentId>, DiskError> {
        let unreadable = |e: io::Error| DiskError::Io(format!("{}: {e}", self.directory.display()));
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            segments.extend(name.to_str().and_then(SegmentId::parse));
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn len(&self, segment: SegmentId) -> Result<u64, DiskError> {
        let metadata = self.file(segment)?.metadata();
        metadata.map(|m| m.len()).map_err(|error| failed("stat", segment, &error))
    }

    fn read_at(
        &self,
        segment: SegmentId,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError> {
        let file = self.file(segment)?;
        let mut read = 0;
        while read < into.len() {
            match file.read_at(&mut into[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", segment, &error)),
            }
        }
        Ok(read)
    }

    fn create(&self, segment: SegmentId, bytes: u64) -> Result<(), DiskError> {
        self.check_writable()?;
        self.forget(segment);
        self.create_file(segment, bytes).map_err(|error| {
            let error = failed("create", segment, &error);
            if matches!(error, DiskError::NoSpace(_)) {
                // Best effort: what is left of it holds nothing, and is replaced by the next try.
                let _ = self.remove(segment);
            }
            error
        })
    }

    fn write_at(&self, segment: SegmentId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.check_writable()?;
        let file = self.file(segment)?;
        file.write_all_at(bytes, offset).map_err(|error| failed("write", segment, &error))
    }

    fn sync(&self, segment: SegmentId) -> Result<(), DiskError> {
        let file = self.file(segment)?;
        file.sync_data().map_err(|error| failed("fdatasync", segment, &error))
    }

    fn delete(&self, segment: SegmentId) -> Result<(), DiskError> {
        self.check_writable()?;
        self.remove(segment).map_err(|error| failed("delete", segment, &error))
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        let synced = self.handle.sync_all();
        synced
            .map_err(|error| DiskError::Io(format!("fsync {}: {error}", self.directory.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_keep_what_was_written_and_strangers_stay() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("notes.txt"), "mine").unwrap();
        let disk = FileDisk::open(&directory.path().join("a/wal")).unwrap();
        let (one, two) = (SegmentId(1), SegmentId(0x20));
        disk.create(two, 8192).unwrap();
        disk.create(one, 300 << 10).unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(disk.list().unwrap(), [one, two]);
        assert_eq!(disk.len(one).unwrap(), 300 << 10);
        disk.write_at(two, 4096, b"here").unwrap();
        disk.sync(two).unwrap();
        let again = FileDisk::open_read_only(&directory.path().join("a/wal")).unwrap();
        let mut bytes = [1; 8];
        assert_eq!(again.read_at(two, 4094, &mut bytes).unwrap(), 8);
        assert_eq!(&bytes, b"\0\0here\0\0");
        assert_eq!(again.read_at(two, 8190, &mut bytes).unwrap(), 2);
        assert!(matches!(again.write_at(two, 0, b"no"), Err(DiskError::Io(_))));
        assert!(matches!(again.delete(two), Err(DiskError::Io(_))));
        disk.delete(two).unwrap();
        disk.delete(two).unwrap();
        assert_eq!(disk.read_at(two, 0, &mut bytes), Err(DiskError::NotFound(two)));
        assert_eq!(disk.list().unwrap(), [one]);
        assert!(directory.path().join("notes.txt").exists());
    }

    #[test]
    fn a_directory_has_one_owner() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(directory.path()).unwrap();
        let refused = DirectoryLock::acquire(directory.path()).unwrap_err();
        assert!(matches!(refused, LockError::Held(_)), "{refused}");
        assert!(refused.to_string().ends_with("is in use by another process"));
        drop(lock);
        DirectoryLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn free_space_is_known() {
        assert!(free_space(Path::new("/")).unwrap() > 0);
        assert!(free_space(Path::new("/does/not/exist")).is_err());
    }
}
