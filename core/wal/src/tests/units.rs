//! Round trips, refusals that no script can write, bounds, and bytes that mean nothing.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use quorate_consensus::{
    Entry, GroupId, GroupTime, HardState, LogIndex, LogStart, Member, Membership, NodeId, Origin,
    Payload, Persist, Seq, Term,
};

use super::disk::MemDisk;
use crate::codec::{self, Stored};
use crate::frame::{Builder, HEADER_LEN, Header, MAGIC, Peek};
use crate::limits::MAX_RECORD_BYTES;
use crate::walk::SegmentReader;
use crate::{
    Checkpoint, ClusterId, Config, Disk, Generation, Halt, Identity, Input, Opening, Output,
    Predecessor, Record, RecoveryError, SegmentId, Writer, create, drive, inspect, recover,
};

const GROUP: GroupId = GroupId(1);
const IDENTITY: Identity = Identity { cluster: ClusterId(3), node: NodeId(4) };
const FIRST: SegmentId = SegmentId(1);

fn small() -> Config {
    Config { segment_bytes: 64 << 10, group_bytes: 16 << 10, index_stride: 4096 }
}

fn command(index: u64, len: usize) -> Record {
    let data = Bytes::from(vec![index as u8; len]);
    let payload = Payload::Command { origin: Origin::default(), data };
    let entry = Entry { term: Term(1), index: LogIndex(index), time: GroupTime(0), payload };
    Record::Entry { group: GROUP, entry }
}

fn log_of(entries: u64) -> (MemDisk, Writer) {
    let disk = MemDisk::default();
    let mut writer = create(&disk, IDENTITY, 9, small()).unwrap();
    for index in 1..=entries {
        let records = vec![command(index, 100)];
        drive(&disk, &mut writer, Input::Append { seq: Seq(index), records }).unwrap();
    }
    (disk, writer)
}

fn membership() -> impl Strategy<Value = Membership> {
    let member = (any::<u64>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..20));
    let member = member.prop_map(|(id, learner, context)| Member {
        id: NodeId(id),
        learner,
        context: context.into(),
    });
    let removed = prop::collection::vec(any::<u64>().prop_map(NodeId), 0..4);
    (prop::collection::vec(member, 0..4), removed)
        .prop_map(|(members, removed)| Membership { members, removed })
}

fn start() -> impl Strategy<Value = LogStart> {
    any::<[u64; 3]>().prop_map(|[index, term, time]| LogStart {
        index: LogIndex(index),
        term: Term(term),
        time: GroupTime(time),
    })
}

fn hard_state() -> impl Strategy<Value = HardState> {
    (any::<[u64; 2]>(), any::<Option<u64>>()).prop_map(|([term, commit], vote)| HardState {
        term: Term(term),
        vote: vote.map(NodeId),
        commit: LogIndex(commit),
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    let origin =
        any::<[u64; 3]>().prop_map(|[node, boot, seq]| Origin { node: NodeId(node), boot, seq });
    let data = prop::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from);
    prop_oneof![
        Just(Payload::Empty),
        (origin.clone(), data).prop_map(|(origin, data)| Payload::Command { origin, data }),
        (origin, membership())
            .prop_map(|(origin, membership)| Payload::Membership { origin, membership }),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let group = any::<u32>().prop_map(GroupId);
    let numbers = any::<[u64; 2]>();
    prop_oneof![
        (group.clone(), start(), payload()).prop_map(|(group, at, payload)| {
            let entry = Entry { term: at.term, index: at.index, time: at.time, payload };
            Record::Entry { group, entry }
        }),
        (group.clone(), hard_state())
            .prop_map(|(group, hard_state)| Record::HardState { group, hard_state }),
        (group.clone(), start(), membership(), numbers).prop_map(
            |(group, start, membership, [generation, applied])| Record::Release {
                group,
                start,
                membership,
                generation: Generation(generation),
                applied: LogIndex(applied),
            }
        ),
        (group, start(), membership(), any::<u64>()).prop_map(
            |(group, start, membership, generation)| Record::Installed {
                group,
                start,
                membership,
                generation: Generation(generation),
            }
        ),
    ]
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    (hard_state(), start(), start(), membership(), any::<[u64; 2]>()).prop_map(
        |(hard_state, start, last, membership, [generation, applied])| Checkpoint {
            hard_state,
            start,
            membership,
            generation: Generation(generation),
            applied: LogIndex(applied),
            last: last.index,
            last_term: last.term,
            last_time: last.time,
        },
    )
}

proptest! {
    #[test]
    fn a_sync_group_round_trips(
        records in prop::collection::vec(record(), 0..8),
        checkpoints in prop::collection::btree_map(any::<u32>().prop_map(GroupId), checkpoint(), 0..3),
        predecessor in any::<Option<[u64; 3]>>(),
    ) {
        let predecessor = predecessor.map(|[segment, last_group, end]| {
            Predecessor { segment: SegmentId(segment), last_group, end }
        });
        let opening = Opening { predecessor, checkpoints: checkpoints.len() as u32 };
        let mut builder = Builder::default();
        builder.begin(100);
        builder.opening(&opening);
        checkpoints.iter().for_each(|(group, checkpoint)| builder.checkpoint(*group, checkpoint));
        records.iter().for_each(|record| builder.record(record));
        let bytes = builder.seal(IDENTITY, 5, FIRST, 17, true);
        prop_assert_eq!(bytes.len() % 4096, 0);

        let disk = MemDisk::default();
        disk.create(FIRST, 0).unwrap();
        disk.write_at(FIRST, 0, &bytes).unwrap();
        let mut reader = SegmentReader::open(&disk, FIRST).unwrap();
        let Peek::Header(header) = reader.peek(0).unwrap() else { panic!("a header") };
        prop_assert_eq!((header.identity, header.boot, header.number), (IDENTITY, 5, 17));
        prop_assert_eq!(header.extent(), bytes.len() as u64);
        let parsed = reader.group(0, header).unwrap().parse();
        prop_assert_eq!(parsed.bad, None);
        prop_assert_eq!(parsed.opening, Some(opening));
        prop_assert_eq!(parsed.checkpoints, checkpoints);
        let found = parsed.records.into_iter().map(|(_, record)| record).collect::<Vec<_>>();
        prop_assert_eq!(found, records);
    }

    #[test]
    fn lengths_are_as_announced(record in record()) {
        let mut out = BytesMut::new();
        codec::put_record(&mut out, &record);
        prop_assert_eq!(out.len(), codec::record_len(&record));
        let (kind, group) = codec::kind_and_group(&record);
        prop_assert_eq!(codec::decode(kind, group, &out), Ok(Stored::Record(record)));
    }

    #[test]
    fn no_bytes_make_a_body_panic(kind in 0u8..9, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = codec::decode(kind, GROUP, &body);
    }

    #[test]
    fn garbage_in_a_segment_never_panics_and_is_never_a_log(
        bytes in prop::collection::vec(any::<u8>(), 0..10_000),
        magic in any::<bool>(),
    ) {
        let disk = MemDisk::default();
        let mut bytes = bytes;
        if magic && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&MAGIC);
        }
        disk.files.borrow_mut().insert(FIRST, bytes);
        prop_assert!(matches!(recover(&disk, None, 1, small()), Err(RecoveryError::Nothing)));
        inspect(&disk).unwrap();
    }

    #[test]
    fn a_shortened_log_is_cut_or_refused(len in 0usize..65_536, zeros in any::<bool>()) {
        let (disk, _) = log_of(12);
        let mut bytes = disk.files.borrow()[&FIRST].clone();
        bytes.truncate(len);
        if zeros {
            bytes.resize(65_536, 0);
        }
        disk.files.borrow_mut().insert(FIRST, bytes);
        let whole = (len / 4096) as u64;
        match recover(&disk, Some(IDENTITY), 1, small()) {
            Ok(recovery) => {
                let kept = recovery.groups.get(&GROUP).map_or(0, |g| g.recovered.entries.len());
                // An entry takes a part of its page, so a torn page may still hold all of it.
                prop_assert!(kept as u64 + 1 >= whole.min(13) && kept as u64 <= whole.min(12));
            }
            Err(error) => prop_assert!(whole == 0, "{error}"),
        }
    }
}

/// Rewrites the header at `offset` with another version, checksum included.
fn set_version(disk: &MemDisk, offset: usize, version: u16) {
    let mut header = disk.files.borrow()[&FIRST][offset..offset + HEADER_LEN].to_vec();
    header[4..6].copy_from_slice(&version.to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..64].copy_from_slice(&crc.to_le_bytes());
    disk.patch(FIRST, offset, &header);
}

#[test]
fn a_newer_format_is_named() {
    let (disk, _) = log_of(2);
    set_version(&disk, 0, 2);
    let refused = recover(&disk, Some(IDENTITY), 1, small()).unwrap_err();
    assert_eq!(refused, RecoveryError::NewerFormat { segment: FIRST, version: 2 });
    assert!(matches!(create(&disk, IDENTITY, 1, small()), Err(RecoveryError::Exists)));
}

#[test]
fn an_unknown_kind_is_refused_even_in_the_last_group() {
    let (disk, _) = log_of(1);
    let Peek::Header(header) = Header::peek(&disk.files.borrow()[&FIRST][4096..4160]) else {
        panic!("a header");
    };
    let mut framed = disk.files.borrow()[&FIRST][4160..4160 + header.body_len as usize].to_vec();
    framed[8] = 77;
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(header.crc, &framed[..4]), &framed[8..]);
    framed[4..8].copy_from_slice(&crc.to_le_bytes());
    disk.patch(FIRST, 4160, &framed);
    let refused = recover(&disk, Some(IDENTITY), 1, small()).unwrap_err();
    assert_eq!(refused, RecoveryError::UnknownRecord { segment: FIRST, offset: 4160, kind: 77 });
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let (disk, _) = log_of(2);
    let bytes = disk.files.borrow_mut().remove(&FIRST).unwrap();
    disk.files.borrow_mut().insert(SegmentId(8), bytes);
    let refused = recover(&disk, Some(IDENTITY), 1, small());
    assert!(matches!(refused, Err(RecoveryError::Corrupt { .. })));
}

#[test]
fn survivors_are_copied_whole_whatever_the_configuration() {
    let disk = MemDisk::default();
    let mut writer = create(&disk, IDENTITY, 9, small()).unwrap();
    let records = (1..=10).map(|index| command(index, 1000)).collect();
    drive(&disk, &mut writer, Input::Append { seq: Seq(1), records }).unwrap();
    let tiny = Config { group_bytes: 500, ..small() };
    for boot in 10..13 {
        let recovery = recover(&disk, Some(IDENTITY), boot, tiny).unwrap();
        assert_eq!(recovery.groups[&GROUP].recovered.entries.len(), 10);
    }
    assert_eq!(disk.list().unwrap().len(), 1, "the last copy replaces all before it");
}

#[test]
fn a_batch_larger_than_a_group_is_durable_with_its_last_part() {
    let disk = MemDisk::default();
    let mut writer = create(&disk, IDENTITY, 9, small()).unwrap();
    let records = (1..=20).map(|index| command(index, 3000)).collect();
    let mut out = Vec::new();
    writer.step(Input::Append { seq: Seq(1), records }, &mut out).unwrap();
    let mut writes = 0;
    let mut persisted = 0;
    while !out.is_empty() {
        for output in std::mem::take(&mut out) {
            writes += usize::from(matches!(output, Output::Write { .. }));
            if output == (Output::Persisted { seq: Seq(1) }) {
                persisted += 1;
                assert_eq!(writer.pending_bytes(), 0);
            }
            if let Some(answer) = crate::perform(&disk, &output) {
                writer.step(answer, &mut out).unwrap();
            }
        }
    }
    assert_eq!((writes, persisted), (4, 1));
}

#[test]
fn everything_appended_during_a_sync_is_the_next_group() {
    let (disk, mut writer) = log_of(0);
    let mut out = Vec::new();
    writer.step(Input::Append { seq: Seq(1), records: vec![command(1, 10)] }, &mut out).unwrap();
    assert!(matches!(out[..], [Output::Write { .. }, Output::Sync { .. }]));
    out.clear();
    for index in 2..=9 {
        let records = vec![command(index, 10)];
        writer.step(Input::Append { seq: Seq(index), records }, &mut out).unwrap();
    }
    assert_eq!(out, [], "the group under way is not done");
    assert!(!writer.is_idle());
    writer.step(Input::Done, &mut out).unwrap();
    assert_eq!(out, [], "written, not synced");
    writer.step(Input::Done, &mut out).unwrap();
    assert!(matches!(
        out[..],
        [Output::Persisted { seq: Seq(1) }, Output::Write { .. }, Output::Sync { .. }]
    ));
    assert_eq!(writer.plan_read(GROUP, LogIndex(5), LogIndex(9)), None, "under way");
    drop(disk);
}

#[test]
fn a_halted_writer_takes_and_says_nothing() {
    let (_disk, mut writer) = log_of(0);
    let mut out = Vec::new();
    writer.step(Input::Append { seq: Seq(1), records: vec![command(1, 10)] }, &mut out).unwrap();
    out.clear();
    let halt = writer.step(Input::Failed { what: "sync".to_owned() }, &mut out).unwrap_err();
    assert_eq!(halt, Halt::Disk("sync".to_owned()));
    assert!(writer.step(Input::Done, &mut out).is_err());
    assert_eq!(out, []);
}

#[test]
fn a_driver_out_of_step_is_stopped() {
    for input in [
        Input::Done,
        Input::Created { segment: SegmentId(9) },
        Input::CreateNoSpace { segment: SegmentId(9) },
        Input::Deleted { segment: FIRST },
    ] {
        let (_disk, mut writer) = log_of(0);
        let halted = writer.step(input, &mut Vec::new());
        assert!(matches!(halted, Err(Halt::Driver(_))), "{halted:?}");
    }
    let (_disk, mut writer) = log_of(3);
    let back = writer.step(Input::Append { seq: Seq(2), records: vec![] }, &mut Vec::new());
    assert!(matches!(back, Err(Halt::Driver(_))));
}

#[test]
fn a_record_above_its_bound_is_refused() {
    let (disk, mut writer) = log_of(0);
    let fits = vec![command(1, MAX_RECORD_BYTES - 65)];
    drive(&disk, &mut writer, Input::Append { seq: Seq(1), records: fits }).unwrap();
    let recovery = recover(&disk, Some(IDENTITY), 1, small()).unwrap();
    assert_eq!(recovery.groups[&GROUP].recovered.entries.len(), 1);
    let mut writer = recovery.writer;
    let records = vec![command(2, MAX_RECORD_BYTES - 64)];
    let refused = writer.step(Input::Append { seq: Seq(1), records }, &mut Vec::new());
    assert!(matches!(refused, Err(Halt::Misplaced { .. })));
}

#[test]
fn a_persist_puts_its_hard_state_last() {
    let Record::Entry { entry, .. } = command(1, 1) else { unreachable!() };
    let hard_state = Some(HardState { term: Term(1), vote: None, commit: LogIndex(1) });
    let persist = Persist { seq: Seq(1), hard_state, entries: vec![entry] };
    let mut records = Vec::new();
    Record::push_persist(GROUP, persist, &mut records);
    assert!(matches!(records[..], [Record::Entry { .. }, Record::HardState { .. }]));
}

#[test]
fn no_space_at_the_start_is_named_and_harmless() {
    let (disk, _) = log_of(3);
    *disk.full.borrow_mut() = true;
    let before = disk.files.borrow().clone();
    assert_eq!(recover(&disk, None, 1, small()).unwrap_err(), RecoveryError::NoSpace);
    assert_eq!(*disk.files.borrow(), before);
    *disk.full.borrow_mut() = false;
    assert_eq!(recover(&disk, None, 1, small()).unwrap().groups[&GROUP].recovered.entries.len(), 3);
}

/// A log with a record of every kind, always the same.
fn sample() -> Vec<u8> {
    let disk = MemDisk::default();
    let mut writer = create(&disk, IDENTITY, 9, small()).unwrap();
    let origin = Origin { node: NodeId(4), boot: 5, seq: 6 };
    let member = Member { id: NodeId(4), learner: true, context: Bytes::from_static(b"context") };
    let membership = Membership { members: vec![member], removed: vec![NodeId(2)] };
    let entry = |index, payload| {
        let (term, index) = (Term(2), LogIndex(index));
        Record::Entry { group: GROUP, entry: Entry { term, index, time: GroupTime(7), payload } }
    };
    let hard_state = HardState { term: Term(2), vote: Some(NodeId(4)), commit: LogIndex(3) };
    let at = |index| LogStart { index: LogIndex(index), term: Term(2), time: GroupTime(7) };
    let (one, two) = (Generation(1), Generation(2));
    let batches = [
        vec![
            entry(1, Payload::Membership { origin, membership: membership.clone() }),
            entry(2, Payload::Command { origin, data: Bytes::from_static(b"data") }),
            entry(3, Payload::Empty),
            Record::HardState { group: GROUP, hard_state },
        ],
        vec![Record::Release {
            group: GROUP,
            start: at(1),
            membership: membership.clone(),
            generation: one,
            applied: LogIndex(2),
        }],
        vec![Record::Installed { group: GroupId(2), start: at(9), membership, generation: two }],
        vec![entry(4, Payload::Empty)],
    ];
    for (seq, records) in (1..).zip(batches) {
        drive(&disk, &mut writer, Input::Append { seq: Seq(seq), records }).unwrap();
    }
    let end = writer.durable_end().unwrap().group as usize;
    disk.files.borrow()[&FIRST][..end].to_vec()
}

/// The golden file is what version 1 wrote; it changes never. A later version adds its own.
#[test]
fn version_1_is_written_and_read_as_it_was() {
    let golden = include_bytes!("../../testdata/version-1.wal");
    assert_eq!(sample(), golden, "the bytes of version 1");
    let disk = MemDisk::default();
    disk.files.borrow_mut().insert(FIRST, golden.to_vec());
    let found = recover(&disk, Some(IDENTITY), 1, small()).unwrap();
    assert_eq!((found.cut, found.sync_groups), (None, 5));
    let one = &found.groups[&GROUP];
    assert_eq!((one.recovered.applied, one.generation), (LogIndex(2), Generation(1)));
    let entries = one.recovered.entries.iter().map(|entry| entry.index.0);
    assert!(entries.eq([2, 3, 4]));
    assert_eq!(found.groups[&GroupId(2)].recovered.start.index, LogIndex(9));
}
