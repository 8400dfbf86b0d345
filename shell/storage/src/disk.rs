//! The real disk of the log: segment files in one directory.
//!
//! - A segment is created by reserving its space and then **writing zeros over all of it**: measured, a
//!   4 KiB write and fdatasync takes about 150 µs into space that was written before, 250 µs into
//!   space that is only reserved (`docs/decisions/0003-wal-preallocation.md`).
//! - Writes are `pwrite`, durability is `fdatasync`, names are made durable by `fsync` of the directory.
//! - Whole pages are written past the page cache (`O_DIRECT`), where the file system lets us: a third less CPU and latency
//!   a sync. Reads go through the cache, which the kernel keeps coherent.
//! - Errors are values; `ENOSPC` and `EDQUOT` are `NoSpace`.
//!
//! What it leaves out: retries, caching, deciding anything.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_wal::{Disk, DiskError, SegmentId};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

/// What offset, length and memory of a write past the page cache are multiples of, in bytes: no disk asks for more.
const PAGE: usize = 4096;

/// Bytes that are written at a time when a segment is filled with zeros, or when a group does not lie on a page in memory.
const CHUNK: usize = 256 << 10;

/// Longest pause between two chunks of zeros while the log is synced beside.
const MAX_PAUSE: Duration = Duration::from_millis(2);

/// What a deleted segment gives back at a time. File systems that tell the disk what is free do it when they commit, and the
/// disk does nothing else meanwhile: 64 MiB at once held up the log for 11 ms.
const GIVEN_BACK: u64 = 4 << 20;

/// Pause between two of these, while the log is synced beside.
const GIVE_BACK_PAUSE: Duration = Duration::from_millis(5);

/// Ending of the name of a segment that is being given back: it is no segment any more.
const GONE: &str = "gone";

/// Segment files in a directory. Shared by the threads of the log and by readers.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
    handle: File,
    writable: bool,
    /// Open files; as many as the log has segments.
    open: Mutex<BTreeMap<SegmentId, Arc<Segment>>>,
    /// The file system has taken every write past the cache so far.
    takes_direct: AtomicBool,
    /// Where bytes are moved to that do not lie on a page in memory.
    aligned: Mutex<Aligned>,
    /// How often a segment was synced.
    syncs: AtomicU64,
}

/// An open segment.
#[derive(Debug)]
struct Segment {
    file: File,
    /// The same, to be written past the page cache.
    direct: Option<File>,
}

impl Segment {
    fn open(options: &OpenOptions, path: &Path, writable: bool) -> io::Result<Self> {
        let file = options.open(path)?;
        let mut past_cache = OpenOptions::new();
        past_cache.write(true).custom_flags(OFlags::DIRECT.bits().cast_signed());
        let direct = if writable { past_cache.open(path).ok() } else { None };
        Ok(Self { file, direct })
    }
}

/// `CHUNK` bytes of memory that begin with a page.
#[derive(Debug)]
struct Aligned {
    memory: Vec<u8>,
    at: usize,
}

impl Aligned {
    fn new() -> Self {
        let memory = vec![0; CHUNK + PAGE];
        let at = memory.as_ptr().align_offset(PAGE);
        Self { memory, at }
    }

    /// What it holds: zeros, until something is moved there.
    fn bytes(&self) -> &[u8] {
        &self.memory[self.at..][..CHUNK]
    }

    /// A copy of `bytes`, at most `CHUNK`.
    fn copy(&mut self, bytes: &[u8]) -> &[u8] {
        let copy = &mut self.memory[self.at..][..bytes.len()];
        copy.copy_from_slice(bytes);
        copy
    }
}

impl FileDisk {
    /// Opens the directory and creates it, durably, if it does not exist. The caller holds the
    /// [`DirectoryLock`](crate::DirectoryLock) of the data directory around it.
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
        let disk = Self::attach(directory, true)?;
        disk.remove_gone()?;
        Ok(disk)
    }

    /// Deletes what the last process had no time for.
    fn remove_gone(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let path = entry.path();
            let is_gone = path.extension().is_some_and(|ending| ending == GONE);
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let is_ours = is_gone && stem.and_then(SegmentId::parse).is_some();
            if is_ours && entry.file_type()?.is_file() {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Opens an existing directory for `quorate inspect`: everything that would write fails.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_read_only(directory: &Path) -> io::Result<Self> {
        Self::attach(directory, false)
    }

    fn attach(directory: &Path, writable: bool) -> io::Result<Self> {
        Ok(Self {
            directory: directory.to_path_buf(),
            handle: File::open(directory)?,
            writable,
            open: Mutex::new(BTreeMap::new()),
            takes_direct: AtomicBool::new(true),
            aligned: Mutex::new(Aligned::new()),
            syncs: AtomicU64::new(0),
        })
    }

    fn path(&self, segment: SegmentId) -> PathBuf {
        self.directory.join(segment.file_name())
    }

    fn open_ones(&self) -> MutexGuard<'_, BTreeMap<SegmentId, Arc<Segment>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, segment: SegmentId) -> Result<Arc<Segment>, DiskError> {
        let mut open = self.open_ones();
        if let Some(file) = open.get(&segment) {
            return Ok(Arc::clone(file));
        }
        let options = OpenOptions::new().read(true).write(self.writable).to_owned();
        let opened = Segment::open(&options, &self.path(segment), self.writable);
        let file = Arc::new(opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DiskError::NotFound(segment),
            _ => failed("open", segment, &error),
        })?);
        open.insert(segment, Arc::clone(&file));
        Ok(file)
    }

    fn forget(&self, segment: SegmentId) {
        self.open_ones().remove(&segment);
    }

    fn create_file(&self, segment: SegmentId, bytes: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let created = Segment::open(&options, &self.path(segment), true)?;
        match fallocate(&created.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.fill(&created, bytes)?;
        created.file.sync_all()?;
        self.open_ones().insert(segment, Arc::new(created));
        Ok(())
    }

    /// Zeros in chunks. While others wait for syncs of the same disk, it takes at most half of the time.
    fn fill(&self, created: &Segment, bytes: u64) -> io::Result<()> {
        let zeros = Aligned::new();
        let mut at = 0;
        while at < bytes {
            let (begun, syncs) = (Instant::now(), self.syncs.load(Ordering::Relaxed));
            let len = (bytes - at).min(CHUNK as u64);
            self.write(created, &zeros.bytes()[..len as usize], at)?;
            at += len;
            if self.syncs.load(Ordering::Relaxed) != syncs {
                std::thread::sleep(begun.elapsed().min(MAX_PAUSE));
            }
        }
        Ok(())
    }

    /// Past the page cache if it can be, else through it.
    fn write(&self, segment: &Segment, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_whole = offset.is_multiple_of(PAGE as u64) && bytes.len().is_multiple_of(PAGE);
        let takes = self.takes_direct.load(Ordering::Relaxed);
        let Some(direct) = segment.direct.as_ref().filter(|_| is_whole && takes) else {
            return segment.file.write_all_at(bytes, offset);
        };
        match self.write_direct(direct, bytes, offset) {
            // It does not after all; whatever was written of it is written again.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.takes_direct.store(false, Ordering::Relaxed);
                segment.file.write_all_at(bytes, offset)
            }
            written => written,
        }
    }

    fn write_direct(&self, direct: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.as_ptr().align_offset(PAGE) == 0 {
            return direct.write_all_at(bytes, offset);
        }
        let mut aligned = self.aligned.lock().unwrap_or_else(PoisonError::into_inner);
        for (chunk, at) in bytes.chunks(CHUNK).zip((offset..).step_by(CHUNK)) {
            direct.write_all_at(aligned.copy(chunk), at)?;
        }
        Ok(())
    }

    /// Takes the name away first, durably: what is left of a segment is never taken for one. Giving it back in pieces is
    /// a favour to others: where that fails, as a full disk may refuse the new name, it goes in one piece.
    fn remove(&self, segment: SegmentId) -> io::Result<()> {
        let opened = self.open_ones().remove(&segment);
        let (path, gone) = (self.path(segment), format!("{}.{GONE}", segment.file_name()));
        let gone = self.directory.join(gone);
        let left = if fs::rename(&path, &gone).is_ok() { &gone } else { &path };
        // Nobody finds it any more. Who still reads it reads on.
        let is_alone = opened.is_some_and(|opened| Arc::into_inner(opened).is_some());
        if is_alone && left == &gone {
            let _in_one_piece = self.give_back(&gone);
        }
        match fs::remove_file(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Shortens a file until nothing is left of it, once its old name is gone for good.
    fn give_back(&self, gone: &Path) -> io::Result<()> {
        self.handle.sync_all()?;
        let file = OpenOptions::new().write(true).open(gone)?;
        let mut left = file.metadata()?.len();
        while left > 0 {
            let syncs = self.syncs.load(Ordering::Relaxed);
            left = left.saturating_sub(GIVEN_BACK);
            file.set_len(left)?;
            file.sync_all()?;
            if self.syncs.load(Ordering::Relaxed) != syncs {
                std::thread::sleep(GIVE_BACK_PAUSE);
            }
        }
        Ok(())
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
        let metadata = self.segment(segment)?.file.metadata();
        metadata.map(|m| m.len()).map_err(|error| failed("stat", segment, &error))
    }

    fn read_at(
        &self,
        segment: SegmentId,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError> {
        let opened = self.segment(segment)?;
        let mut read = 0;
        while read < into.len() {
            match opened.file.read_at(&mut into[read..], offset + read as u64) {
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
        let written = self.write(&*self.segment(segment)?, bytes, offset);
        written.map_err(|error| failed("write", segment, &error))
    }

    fn sync(&self, segment: SegmentId) -> Result<(), DiskError> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let synced = self.segment(segment)?.file.sync_data();
        synced.map_err(|error| failed("fdatasync", segment, &error))
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
    fn whole_pages_are_written_wherever_they_lie_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(directory.path()).unwrap();
        let one = SegmentId(1);
        let len = 3 * CHUNK;
        disk.create(one, len as u64).unwrap();
        let bytes: Vec<u8> = (0..len + PAGE).map(|at| (at / 7) as u8).collect();
        let page = bytes.as_ptr().align_offset(PAGE);
        let mut found = vec![0; len - PAGE];
        for shift in [page, page + 1] {
            // Both handles see the same bytes, whichever wrote or had read them.
            disk.read_at(one, PAGE as u64, &mut found).unwrap();
            let some = &bytes[shift..][..found.len()];
            disk.write_at(one, PAGE as u64, some).unwrap();
            disk.sync(one).unwrap();
            disk.read_at(one, PAGE as u64, &mut found).unwrap();
            assert!(found == some, "shifted by {shift}");
        }
        disk.write_at(one, 5, b"no page").unwrap();
        disk.read_at(one, 4, &mut found[..9]).unwrap();
        assert_eq!(&found[..9], b"\0no page\0");
    }

    #[test]
    fn a_file_system_without_it_is_written_through_the_cache() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(directory.path()).unwrap();
        let one = SegmentId(1);
        disk.create(one, 1 << 20).unwrap();
        // A file that takes numbers alone refuses a page of zeros as one without direct writes would.
        let path = directory.path().join(one.file_name());
        let refusing = OpenOptions::new().write(true).open("/proc/self/oom_score_adj").unwrap();
        let segment = Segment { file: File::create(&path).unwrap(), direct: Some(refusing) };
        disk.write(&segment, &[0; PAGE], 0).unwrap();
        assert!(!disk.takes_direct.load(Ordering::Relaxed));
        disk.write_at(one, 0, &[1; PAGE]).unwrap();
        let mut found = [0; PAGE];
        disk.read_at(one, 0, &mut found).unwrap();
        assert_eq!(found, [1; PAGE]);
    }

    #[test]
    fn deleted_segments_are_given_back_and_readers_keep_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(directory.path()).unwrap();
        for at in 1..=3 {
            disk.create(SegmentId(at), 2 * GIVEN_BACK + 4096).unwrap();
        }
        let read = disk.segment(SegmentId(2)).unwrap();
        for at in 1..=2 {
            disk.delete(SegmentId(at)).unwrap();
        }
        assert_eq!(disk.list().unwrap(), [SegmentId(3)]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(read.file.metadata().unwrap().len(), 2 * GIVEN_BACK + 4096);
        // A process that died half way.
        let half = directory.path().join(format!("{}.{GONE}", SegmentId(1).file_name()));
        fs::write(&half, "rest").unwrap();
        fs::write(directory.path().join("mine.gone"), "a stranger's").unwrap();
        assert_eq!(disk.list().unwrap(), [SegmentId(3)]);
        drop(FileDisk::open_read_only(directory.path()).unwrap());
        assert!(half.exists());
        drop(FileDisk::open(directory.path()).unwrap());
        assert!(!half.exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        // No new name can be had, and what stands there is not ours.
        let taken = directory.path().join(format!("{}.{GONE}", SegmentId(3).file_name()));
        fs::create_dir(&taken).unwrap();
        disk.delete(SegmentId(3)).unwrap();
        assert_eq!(disk.list().unwrap(), []);
        drop(FileDisk::open(directory.path()).unwrap());
        assert!(taken.exists());
    }
}
