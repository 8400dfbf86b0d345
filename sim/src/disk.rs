//! SimDisk: a directory of segments whose crashes are as bad as POSIX allows.
//!
//! - Writes go to a page cache of 512-byte sectors. A power loss keeps any subset of the sectors that
//!   were not synced, so a write may be lost, torn, or overtaken by a later one.
//! - Names are durable only after `sync_dir`; before, each creation and deletion may or may not
//!   survive, in any combination.
//! - A killed process loses nothing that it wrote: the cache survives, still not synced.
//! - On request: an operation at which the power fails or an error comes back, a full disk, flipped
//!   bits, slow syncs.
//!
//! Everything random comes from the seed. What it leaves out: sectors that tear inside (no disk that
//! promises 512-byte atomicity does) and writes to the wrong place.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use quorate_rng::Rng;
use quorate_wal::{Disk, DiskError, SegmentId};

/// Unit in which a write is atomic, in bytes.
pub const SECTOR: usize = 512;

/// How a run of the simulated process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the machine goes on and the page cache stays.
    Kill,
    /// The machine dies: of what was not synced, some survives.
    PowerLoss,
}

/// What happens at an operation chosen in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The crash comes in the middle of it; every later operation fails until [`SimDisk::crash`].
    Crash,
    /// It fails (and, if it is a sync, what was to be synced is dropped from the cache, as Linux
    /// may); later ones work.
    Error,
}

/// How often a thing happened, so that a simulation can say what it tested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations of any kind, reading excepted.
    pub operations: u64,
    /// Sectors that a power loss took.
    pub sectors_lost: u64,
    /// Creations and deletions that a power loss took back.
    pub names_lost: u64,
    /// Operations that failed on request.
    pub errors: u64,
    /// Creations and writes refused for want of space.
    pub no_space: u64,
}

/// How long operations take, in microseconds; for drivers that schedule by simulated time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// A usual sync, up to twice this.
    pub sync_us: u64,
    /// One sync in this many is slow; 0 = none.
    pub slow_one_in: u64,
    /// A slow sync.
    pub slow_us: u64,
}

/// A simulated directory. Cheap to read, deterministic by its seed.
#[derive(Debug)]
pub struct SimDisk {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct SimFile {
    /// What is on the disk; bytes behind its end, up to `len`, are zero.
    durable: Vec<u8>,
    /// What a reader sees.
    cached: Vec<u8>,
    /// Length in bytes.
    len: u64,
    /// Sectors in which the two may differ.
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
struct Inner {
    random: Rng,
    files: BTreeMap<u64, SimFile>,
    names: BTreeMap<SegmentId, u64>,
    durable_names: BTreeMap<SegmentId, u64>,
    next_file: u64,
    fault: Option<(u64, Fault)>,
    crashed: bool,
    capacity: u64,
    latency: Latency,
    counts: Counts,
}

impl SimDisk {
    /// An empty directory.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            random: Rng::new(seed),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            next_file: 1,
            fault: None,
            crashed: false,
            capacity: u64::MAX,
            latency: Latency { sync_us: 100, slow_one_in: 0, slow_us: 0 },
            counts: Counts::default(),
        };
        Self { inner: RefCell::new(inner) }
    }

    /// Lets `fault` happen at the operation that comes after `operations` others (0: the next).
    pub fn plan_fault(&self, operations: u64, fault: Fault) {
        self.inner.borrow_mut().fault = Some((operations, fault));
    }

    /// Takes a planned fault back.
    pub fn clear_fault(&self) {
        self.inner.borrow_mut().fault = None;
    }

    /// Whether a planned crash has come: nothing works until `crash`.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.inner.borrow().crashed
    }

    /// Ends the process or the machine; afterwards the directory can be used again.
    pub fn crash(&self, crash: Crash) {
        let mut inner = self.inner.borrow_mut();
        inner.crashed = false;
        inner.fault = None;
        if crash == Crash::PowerLoss {
            inner.lose_power();
        }
    }

    /// Bytes that all files together may have; `u64::MAX`: no bound.
    pub fn set_capacity(&self, bytes: u64) {
        self.inner.borrow_mut().capacity = bytes;
    }

    /// Sum of the files' lengths, in bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.borrow().used()
    }

    /// Turns one bit around, on the disk and in the cache. Nothing if the file does not exist.
    pub fn flip_bit(&self, segment: SegmentId, offset: u64, bit: u8) {
        let mut inner = self.inner.borrow_mut();
        let Some(file) = inner.names.get(&segment).copied() else { return };
        let file = inner.files.get_mut(&file).expect("a name has a file");
        let at = offset as usize;
        for bytes in [&mut file.durable, &mut file.cached] {
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] ^= 1 << (bit % 8);
        }
    }

    /// Sets how long operations take.
    pub fn set_latency(&self, latency: Latency) {
        self.inner.borrow_mut().latency = latency;
    }

    /// How long the next sync takes, in microseconds, drawn from the seed.
    #[must_use]
    pub fn sync_us(&self) -> u64 {
        let mut inner = self.inner.borrow_mut();
        let Latency { sync_us, slow_one_in, slow_us } = inner.latency;
        if slow_one_in > 0 && inner.random.below(slow_one_in) == 0 {
            return slow_us;
        }
        sync_us + inner.random.below(sync_us.max(1))
    }

    /// How often what happened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.borrow().counts
    }
}

impl Inner {
    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[file].len).sum()
    }

    /// Counts an operation; `Ok(true)`: it is the one in which the crash comes, so it happens in
    /// part and then fails.
    fn begin(&mut self) -> Result<bool, DiskError> {
        if self.crashed {
            return Err(crashed());
        }
        self.counts.operations += 1;
        match &mut self.fault {
            Some((0, Fault::Crash)) => {
                self.crashed = true;
                Ok(true)
            }
            Some((0, Fault::Error)) => {
                self.fault = None;
                self.counts.errors += 1;
                Err(DiskError::Io("simulated error".to_owned()))
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    fn file(&mut self, segment: SegmentId) -> Result<&mut SimFile, DiskError> {
        let file = self.names.get(&segment).ok_or(DiskError::NotFound(segment))?;
        Ok(self.files.get_mut(file).expect("a name has a file"))
    }

    fn lose_power(&mut self) {
        // A share of survivors for this crash: often all or none, else something between.
        let share = match self.random.below(4) {
            0 => 0,
            1 => 100,
            _ => self.random.below(101),
        };
        let numbers = self.files.keys().copied().collect::<Vec<_>>();
        for number in numbers {
            let mut file = self.files.remove(&number).expect("listed");
            for sector in std::mem::take(&mut file.dirty) {
                if self.random.percent(share) {
                    file.persist(sector);
                } else {
                    self.counts.sectors_lost += 1;
                }
            }
            file.cached = file.durable.clone();
            self.files.insert(number, file);
        }
        self.lose_names(share);
    }

    fn lose_names(&mut self, share: u64) {
        let mut all =
            self.names.keys().chain(self.durable_names.keys()).copied().collect::<Vec<_>>();
        all.sort_unstable();
        all.dedup();
        for segment in all {
            if self.names.get(&segment) == self.durable_names.get(&segment) {
                continue;
            }
            if self.random.percent(share) {
                continue; // the change survives
            }
            self.counts.names_lost += 1;
            match self.durable_names.get(&segment) {
                Some(file) => self.names.insert(segment, *file),
                None => self.names.remove(&segment),
            };
        }
        self.commit_names();
    }

    fn commit_names(&mut self) {
        self.durable_names = self.names.clone();
        let named = self.names.values().copied().collect::<BTreeSet<_>>();
        self.files.retain(|file, _| named.contains(file));
    }
}

impl SimFile {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[offset..end].copy_from_slice(bytes);
        self.len = self.len.max(end as u64);
        if !bytes.is_empty() {
            self.dirty.extend(offset / SECTOR..=(end - 1) / SECTOR);
        }
    }

    /// One sector reaches the disk.
    fn persist(&mut self, sector: usize) {
        let from = (sector * SECTOR).min(self.cached.len());
        let until = (from + SECTOR).min(self.cached.len());
        if self.durable.len() < until {
            self.durable.resize(until, 0);
        }
        self.durable[from..until].copy_from_slice(&self.cached[from..until]);
    }
}

fn crashed() -> DiskError {
    DiskError::Io("simulated crash".to_owned())
}

impl Disk for SimDisk {
    fn list(&self) -> Result<Vec<SegmentId>, DiskError> {
        Ok(self.inner.borrow().names.keys().copied().collect())
    }

    fn len(&self, segment: SegmentId) -> Result<u64, DiskError> {
        Ok(self.inner.borrow_mut().file(segment)?.len)
    }

    fn read_at(
        &self,
        segment: SegmentId,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError> {
        let mut inner = self.inner.borrow_mut();
        let file = inner.file(segment)?;
        let there = usize::try_from(file.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = into.len().min(there);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.cached.len());
        let until = (from + len).min(file.cached.len());
        into[..until - from].copy_from_slice(&file.cached[from..until]);
        into[until - from..len].fill(0);
        Ok(len)
    }

    fn create(&self, segment: SegmentId, bytes: u64) -> Result<(), DiskError> {
        let mut inner = self.inner.borrow_mut();
        let crashes = inner.begin()?;
        if inner.used().saturating_add(bytes) > inner.capacity {
            inner.counts.no_space += 1;
            return Err(DiskError::NoSpace(segment.file_name()));
        }
        let number = inner.next_file;
        inner.next_file += 1;
        let len = if crashes { inner.random.below(bytes + 1) } else { bytes };
        inner.files.insert(number, SimFile { len, ..SimFile::default() });
        inner.names.insert(segment, number);
        if crashes { Err(crashed()) } else { Ok(()) }
    }

    fn write_at(&self, segment: SegmentId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut inner = self.inner.borrow_mut();
        let crashes = inner.begin()?;
        let end = offset + bytes.len() as u64;
        let grows = end.saturating_sub(inner.file(segment)?.len);
        if grows > 0 && inner.used().saturating_add(grows) > inner.capacity {
            inner.counts.no_space += 1;
            return Err(DiskError::NoSpace(segment.file_name()));
        }
        let part =
            if crashes { inner.random.below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
        inner.file(segment)?.write(offset as usize, &bytes[..part]);
        if crashes { Err(crashed()) } else { Ok(()) }
    }

    fn sync(&self, segment: SegmentId) -> Result<(), DiskError> {
        let mut inner = self.inner.borrow_mut();
        let begun = inner.begin();
        let file = inner.file(segment)?;
        match begun {
            Ok(false) => {
                for sector in std::mem::take(&mut file.dirty) {
                    file.persist(sector);
                }
                Ok(())
            }
            Ok(true) => Err(crashed()),
            Err(error) => {
                // The kernel says "failed" once and takes the pages for clean: a second sync would
                // succeed without a byte written.
                if inner.crashed {
                    return Err(error);
                }
                inner.file(segment)?.dirty.clear();
                Err(error)
            }
        }
    }

    fn delete(&self, segment: SegmentId) -> Result<(), DiskError> {
        let mut inner = self.inner.borrow_mut();
        let crashes = inner.begin()?;
        inner.names.remove(&segment);
        if crashes { Err(crashed()) } else { Ok(()) }
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        let mut inner = self.inner.borrow_mut();
        if inner.begin()? {
            return Err(crashed());
        }
        inner.commit_names();
        Ok(())
    }
}
