//! The WAL thread over real files, and over a disk that fails or stands still on request.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use quorate_consensus::{Entry, GroupTime, LogStart, Membership, NodeId, Origin, Payload, Term};
use quorate_wal::{
    ClusterId, Config, DiskError, Generation, Identity, SegmentId, create, read_entries, recover,
};

use super::*;
use crate::FileDisk;

const IDENTITY: Identity = Identity { cluster: ClusterId(1), node: NodeId(2) };
const GROUP: GroupId = GroupId(1);
const CONFIG: Config =
    Config { segment_bytes: 256 << 10, group_bytes: 64 << 10, index_stride: 16 << 10 };
const PATIENCE: Duration = Duration::from_secs(20);

fn entry(index: u64, len: usize) -> Record {
    let payload =
        Payload::Command { origin: Origin::default(), data: Bytes::from(vec![index as u8; len]) };
    let entry = Entry { term: Term(1), index: LogIndex(index), time: GroupTime(0), payload };
    Record::Entry { group: GROUP, entry }
}

fn wait_for(events: &Receiver<WalEvent>, wanted: Seq) {
    loop {
        match events.recv_timeout(PATIENCE).expect("an event comes") {
            WalEvent::Persisted { seq } if seq >= wanted => return,
            WalEvent::Persisted { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn start(disk: SharedDisk) -> (WalHandle, WalThread, Receiver<WalEvent>) {
    let writer = create(&*disk, IDENTITY, 5, CONFIG).unwrap();
    let (send, events) = channel();
    let (handle, thread) = start_wal(writer, disk, move |event| drop(send.send(event))).unwrap();
    (handle, thread, events)
}

#[test]
fn what_was_persisted_is_there_after_a_restart_and_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let disk: SharedDisk = Arc::new(FileDisk::open(directory.path()).unwrap());
    let (handle, thread, events) = start(Arc::clone(&disk));
    for index in 1..=400 {
        handle.append(Seq(index), vec![entry(index, 3000)]).unwrap();
    }
    wait_for(&events, Seq(400));
    assert!(handle.segments() > 3, "{} segments", handle.segments());
    assert!(handle.syncs().figures().counts.iter().sum::<u64>() > 0);
    let plan = handle.plan_read(GROUP, LogIndex(120), LogIndex(130)).unwrap();
    let read = read_entries(handle.disk(), &plan, usize::MAX).unwrap();
    assert_eq!(read.iter().map(|e| e.index.0).collect::<Vec<_>>(), (120..130).collect::<Vec<_>>());
    handle.append(Seq(401), vec![entry(401, 10)]).unwrap();
    thread.shutdown().unwrap();
    assert!(handle.append(Seq(402), vec![]).is_err());
    let recovery = recover(&*disk, Some(IDENTITY), 6, CONFIG).unwrap();
    assert_eq!(recovery.groups[&GROUP].recovered.entries.len(), 401);
}

#[test]
fn an_idle_log_is_written_inline() {
    let directory = tempfile::tempdir().unwrap();
    let disk: SharedDisk = Arc::new(FileDisk::open(directory.path()).unwrap());
    let (handle, thread, events) = start(Arc::clone(&disk));
    let mut inline = 0;
    for index in 1..=200 {
        match handle.append_inline(Seq(index), vec![entry(index, 3000)]).unwrap() {
            Some(told) if told.contains(&WalEvent::Persisted { seq: Seq(index) }) => inline += 1,
            Some(told) => {
                assert_eq!(told, [], "a batch that waits for a segment");
                wait_for(&events, Seq(index));
            }
            None => wait_for(&events, Seq(index)),
        }
    }
    assert!(inline > 100, "only {inline} of 200 were written inline");
    thread.shutdown().unwrap();
    let recovery = recover(&*disk, Some(IDENTITY), 6, CONFIG).unwrap();
    assert_eq!(recovery.groups[&GROUP].recovered.entries.len(), 200);
}

/// Files, with a gate in front of each sync once `gate` is set, that may also fail it.
struct Gated {
    files: FileDisk,
    gate: Mutex<Option<(Sender<()>, Receiver<bool>)>>,
    full: Mutex<bool>,
}

impl Disk for Gated {
    fn list(&self) -> Result<Vec<SegmentId>, DiskError> {
        self.files.list()
    }
    fn len(&self, segment: SegmentId) -> Result<u64, DiskError> {
        self.files.len(segment)
    }
    fn read_at(&self, s: SegmentId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        self.files.read_at(s, offset, into)
    }
    fn create(&self, segment: SegmentId, bytes: u64) -> Result<(), DiskError> {
        if *lock(&self.full) {
            return Err(DiskError::NoSpace("test".to_owned()));
        }
        self.files.create(segment, bytes)
    }
    fn write_at(&self, segment: SegmentId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.files.write_at(segment, offset, bytes)
    }
    fn sync(&self, segment: SegmentId) -> Result<(), DiskError> {
        if let Some((begun, go)) = &*lock(&self.gate) {
            begun.send(()).expect("the test listens");
            if !go.recv().expect("the test answers") {
                return Err(DiskError::Io("test".to_owned()));
            }
        }
        self.files.sync(segment)
    }
    fn delete(&self, segment: SegmentId) -> Result<(), DiskError> {
        self.files.delete(segment)
    }
    fn sync_dir(&self) -> Result<(), DiskError> {
        self.files.sync_dir()
    }
}

fn gated() -> (tempfile::TempDir, Arc<Gated>) {
    let directory = tempfile::tempdir().unwrap();
    let files = FileDisk::open(directory.path()).unwrap();
    let gated = Gated { files, gate: Mutex::default(), full: Mutex::default() };
    (directory, Arc::new(gated))
}

#[test]
fn what_arrives_during_a_sync_is_the_next_group() {
    let (_directory, disk) = gated();
    let (handle, thread, events) = start(Arc::clone(&disk) as SharedDisk);
    let (begun, syncs) = channel();
    let (go, allowed) = channel();
    *lock(&disk.gate) = Some((begun, allowed));
    handle.append(Seq(1), vec![entry(1, 10)]).unwrap();
    syncs.recv_timeout(PATIENCE).unwrap();
    for index in 2..=50 {
        let inline = handle.append_inline(Seq(index), vec![entry(index, 10)]).unwrap();
        assert_eq!(inline, None, "a sync is under way");
    }
    assert!(events.try_recv().is_err(), "nothing is durable before the sync returns");
    go.send(true).unwrap();
    syncs.recv_timeout(PATIENCE).unwrap();
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), WalEvent::Persisted { seq: Seq(1) });
    go.send(true).unwrap();
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), WalEvent::Persisted { seq: Seq(50) });
    thread.shutdown().unwrap();
    assert!(syncs.try_recv().is_err(), "49 batches took one sync");
}

#[test]
fn a_failed_sync_stops_the_log() {
    let (_directory, disk) = gated();
    let (handle, thread, events) = start(Arc::clone(&disk) as SharedDisk);
    let (begun, _syncs) = channel();
    let (go, allowed) = channel();
    *lock(&disk.gate) = Some((begun, allowed));
    go.send(false).unwrap();
    handle.append(Seq(1), vec![entry(1, 10)]).unwrap();
    let failed = events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(failed, WalEvent::Failed { .. }), "{failed:?}");
    assert!(handle.append(Seq(2), vec![]).is_err());
    assert!(handle.append_inline(Seq(2), vec![]).is_err());
    assert!(thread.shutdown().is_err());
}

#[test]
fn a_full_disk_is_told_and_clears() {
    let (_directory, disk) = gated();
    let (handle, thread, events) = start(Arc::clone(&disk) as SharedDisk);
    *lock(&disk.full) = true;
    for index in 1..=200 {
        handle.append(Seq(index), vec![entry(index, 3000)]).unwrap();
    }
    let mut told = events.iter();
    assert!(told.any(|event| event == WalEvent::NoSpace));
    *lock(&disk.full) = false;
    handle.retry_space();
    assert!(told.any(|event| event == WalEvent::SpaceFound));
    wait_for(&events, Seq(200));
    thread.shutdown().unwrap();
}

/// The commit record of a snapshot. It has the number of the batch before it, so that no event tells when it
/// is durable: only a quiet log does.
fn installed() -> Record {
    let start = LogStart { index: LogIndex(500), term: Term(1), time: GroupTime(0) };
    let (membership, generation) = (Membership::default(), Generation(2));
    Record::Installed { group: GROUP, start, membership, generation }
}

/// What a crash would leave now. The log is still open, and may remove a segment that was just listed.
fn generation(disk: &dyn Disk) -> Generation {
    let begun = std::time::Instant::now();
    loop {
        match recover(disk, Some(IDENTITY), 6, CONFIG) {
            Ok(recovery) => return recovery.groups[&GROUP].generation,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

fn until_quiet(handle: &WalHandle) {
    let begun = std::time::Instant::now();
    while !handle.is_quiet() {
        assert!(begun.elapsed() < PATIENCE, "the log is never quiet");
        std::thread::yield_now();
    }
}

#[test]
fn a_log_that_syncs_a_snapshots_record_is_not_quiet() {
    let (_directory, disk) = gated();
    let (handle, thread, events) = start(Arc::clone(&disk) as SharedDisk);
    let (begun, syncs) = channel();
    let (go, allowed) = channel();
    *lock(&disk.gate) = Some((begun, allowed));
    handle.append(Seq(1), vec![entry(1, 10)]).unwrap();
    syncs.recv_timeout(PATIENCE).unwrap();
    assert!(!handle.is_quiet());
    let inline = handle.append_inline(Seq(1), vec![installed()]).unwrap();
    assert_eq!(inline, None, "the log is not idle");
    go.send(true).unwrap();
    wait_for(&events, Seq(1));
    syncs.recv_timeout(PATIENCE).unwrap();
    assert!(!handle.is_quiet(), "the batch before is durable, the record is not");
    go.send(true).unwrap();
    until_quiet(&handle);
    // What is on the disk now is what a crash would leave.
    *lock(&disk.gate) = None;
    assert_eq!(generation(&*disk), Generation(2));
    thread.shutdown().unwrap();
}

#[test]
fn a_log_that_has_no_segment_for_a_snapshots_record_is_not_quiet() {
    let (_directory, disk) = gated();
    let (handle, thread, events) = start(Arc::clone(&disk) as SharedDisk);
    *lock(&disk.full) = true;
    for index in 1..=200 {
        handle.append(Seq(index), vec![entry(index, 3000)]).unwrap();
    }
    let mut told = events.iter();
    assert!(told.any(|event| event == WalEvent::NoSpace));
    let inline = handle.append_inline(Seq(200), vec![installed()]).unwrap();
    assert!(inline.unwrap_or_default().is_empty(), "nothing of it can be durable");
    assert!(!handle.is_quiet());
    *lock(&disk.full) = false;
    handle.retry_space();
    until_quiet(&handle);
    assert_eq!(generation(&*disk), Generation(2));
    thread.shutdown().unwrap();
}
