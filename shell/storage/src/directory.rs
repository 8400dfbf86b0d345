//! A data directory as its one owner has it: the lock, and the space that is left.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::Errno;

/// Name of the file in a data directory that its owner holds locked.
pub const LOCK_FILE: &str = "LOCK";

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

#[cfg(test)]
mod tests {
    use super::*;

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
