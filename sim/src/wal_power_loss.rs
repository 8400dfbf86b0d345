//! Power-loss simulation of the log: random appends, cuts, releases and snapshots over SimDisk, a
//! crash at any operation (during recovery too), and after each recovery the question whether the log
//! is what it may be: every record that was reported durable, then a prefix of the rest, and
//! nothing else.

mod model;

use std::collections::VecDeque;

use quorate_consensus::{LogIndex, NodeId, Seq};
use quorate_rng::Rng;
use quorate_wal::{
    ClusterId, Config, Identity, Input, Output, Recovery, RecoveryError, Writer, create, drive,
    inspect, perform, read_entries, recover,
};

use crate::disk::{Fault, SimDisk};
use model::{Model, crash, group, groups};

const IDENTITY: Identity = Identity { cluster: ClusterId(0xc1), node: NodeId(7) };
const CONFIG: Config =
    Config { segment_bytes: 48 << 10, group_bytes: 6 << 10, index_stride: 8 << 10 };

/// One node's log, its disk, and what the log may say.
struct World {
    random: Rng,
    disk: SimDisk,
    model: Model,
    writer: Writer,
    boot: u64,
    /// `Write` and `Sync`, in order.
    log_lane: VecDeque<Output>,
    /// `Create` and `Delete`, which run beside them.
    file_lane: VecDeque<Output>,
    last_write: Option<(quorate_wal::SegmentId, u64)>,
    no_space: u64,
    cuts: u64,
    deleted: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed ^ 0x5eed);
        let mut random = Rng::new(seed);
        let mut boot = 1;
        let writer = loop {
            if random.below(4) == 0 {
                disk.plan_fault(random.below(4), Fault::Crash);
            }
            match create(&disk, IDENTITY, boot, CONFIG) {
                Ok(writer) => break writer,
                // The crash came after the new segment was whole: it is there, and empty.
                Err(RecoveryError::Exists) => match recover(&disk, Some(IDENTITY), boot, CONFIG) {
                    Ok(recovery) => break recovery.writer,
                    Err(error) => assert!(disk.is_crashed(), "{error}"),
                },
                Err(error) => assert!(disk.is_crashed(), "{error}"),
            }
            boot += 1;
            disk.crash(crash(&mut random));
        };
        disk.clear_fault();
        let model = Model::default();
        Self {
            random,
            disk,
            model,
            writer,
            boot,
            log_lane: VecDeque::new(),
            file_lane: VecDeque::new(),
            last_write: None,
            no_space: 0,
            cuts: 0,
            deleted: 0,
        }
    }

    fn input(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.writer.step(input, &mut outputs).expect("the disk works");
        self.writer.invariants();
        for output in outputs {
            match output {
                Output::Write { segment, offset, .. } => {
                    assert!(self.log_lane.is_empty(), "one sync group at a time");
                    self.last_write = Some((segment, offset));
                    self.log_lane.push_back(output);
                }
                Output::Sync { .. } => self.log_lane.push_back(output),
                Output::Create { .. } => self.file_lane.push_back(output),
                Output::Delete { .. } => {
                    self.deleted += 1;
                    self.file_lane.push_back(output);
                }
                Output::Persisted { seq } => self.model.persisted(seq),
                Output::NoSpace => self.no_space += 1,
                Output::SpaceFound => self.no_space -= 1,
            }
        }
    }

    fn append(&mut self) {
        let (seq, records) = self.model.batch(&mut self.random);
        self.input(Input::Append { seq, records });
    }

    /// Carries one operation out; false if the crash came.
    fn operate(&mut self) -> bool {
        let log = !self.log_lane.is_empty();
        let files = !self.file_lane.is_empty();
        let lane = match (log, files) {
            (false, false) => return true,
            (true, true) if self.random.below(3) == 0 => &mut self.file_lane,
            (true, _) => &mut self.log_lane,
            (false, true) => &mut self.file_lane,
        };
        let output = lane.pop_front().expect("not empty");
        let answer = perform(&self.disk, &output).expect("an operation has an answer");
        if self.disk.is_crashed() {
            return false;
        }
        self.input(answer);
        true
    }

    fn finish(&mut self) {
        while !(self.log_lane.is_empty() && self.file_lane.is_empty()) {
            assert!(self.operate(), "no crash is planned");
        }
    }

    /// Runs until the crash, or for a while.
    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            if self.random.below(3) == 0 && !self.writer.is_full() {
                self.append();
            } else if !self.operate() {
                return;
            }
            if self.random.below(8) == 0 {
                self.read_back();
            }
        }
    }

    /// Crashes, and recovers in spite of further crashes.
    fn restart(&mut self) {
        self.log_lane.clear();
        self.file_lane.clear();
        self.disk.crash(crash(&mut self.random));
        let recovery = loop {
            self.boot += 1;
            if self.random.below(2) == 0 {
                self.disk.plan_fault(self.random.below(8), Fault::Crash);
            }
            match recover(&self.disk, Some(IDENTITY), self.boot, CONFIG) {
                Ok(recovery) => break recovery,
                Err(error) => assert!(self.disk.is_crashed(), "{error}"),
            }
            self.disk.crash(crash(&mut self.random));
        };
        self.disk.clear_fault();
        let Recovery { writer, groups, cut, .. } = recovery;
        self.cuts += u64::from(cut.is_some());
        writer.invariants();
        self.writer = writer;
        self.last_write = None;
        self.model.recovered(&groups);
    }

    /// What is read back is what some moment since the last durable one says.
    fn read_back(&mut self) {
        let group = group(&mut self.random);
        let (first, last) = self.model.range(group);
        let from = LogIndex(first.0 + self.random.below(last.0 - first.0 + 1));
        let until = LogIndex(from.0 + 1 + self.random.below(20));
        let Some(plan) = self.writer.plan_read(group, from, until) else { return };
        let bytes = self.random.below(9000) as usize;
        let entries = read_entries(&self.disk, &plan, bytes).expect("planned just now");
        self.model.check_read(group, from, until, &entries);
    }

    /// With nothing under way, every live entry can be read back.
    fn read_all(&mut self) {
        for group in groups() {
            let (mut from, last) = self.model.range(group);
            while from <= last {
                let until = LogIndex(last.0 + 1);
                let Some(plan) = self.writer.plan_read(group, from, until) else {
                    assert!(!self.model.has(group, from), "entry {from} cannot be found");
                    break;
                };
                let entries = read_entries(&self.disk, &plan, 4000).expect("planned just now");
                assert!(!entries.is_empty(), "a plan yields at least one entry");
                self.model.check_read(group, from, until, &entries);
                from = LogIndex(from.0 + entries.len() as u64);
            }
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("QUORATE_WAL_SEEDS").ok().and_then(|text| text.parse().ok());
    0..count.unwrap_or(1500)
}

#[test]
fn what_was_reported_durable_survives_every_crash() {
    let (mut lost, mut names, mut cuts, mut deleted) = (0, 0, 0, 0);
    for seed in seeds() {
        let mut world = World::new(seed);
        for _ in 0..4 {
            let at = world.random.below(60);
            world.disk.plan_fault(at, Fault::Crash);
            world.run(150);
            world.restart();
        }
        world.run(40);
        world.finish();
        world.read_all();
        let counts = world.disk.counts();
        lost += u64::from(counts.sectors_lost > 0);
        names += u64::from(counts.names_lost > 0);
        cuts += u64::from(world.cuts > 0);
        deleted += u64::from(world.deleted > 0);
    }
    // Each kind of thing happened in a fair share of the runs, else this shows little.
    let runs = seeds().count() as u64;
    for (what, count) in [("sectors", lost), ("names", names), ("cuts", cuts), ("deletes", deleted)]
    {
        assert!(count * 20 >= runs, "{what}: in {count} of {runs} runs");
    }
}

#[test]
fn a_crash_at_each_operation_in_turn() {
    for seed in 0..6 {
        for at in 0..120 {
            let mut world = World::new(seed);
            world.disk.plan_fault(at, Fault::Crash);
            world.run(300);
            world.restart();
            world.run(20);
            world.finish();
            world.read_all();
        }
    }
}

#[test]
fn a_flipped_bit_below_the_last_group_is_refused() {
    let mut flipped = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        world.run(150);
        world.finish();
        let Some((head, last)) = world.last_write else { continue };
        let report = inspect(&world.disk).expect("the directory can be read");
        assert_eq!(report.problem, None);
        for at in 0..report.segments.len() {
            let next = report.segments[at + 1..].iter().find_map(|s| s.predecessor);
            let segment = report.segments[at].segment;
            let end = if segment == head { last } else { next.map_or(0, |next| next.end) };
            if end == 0 {
                continue; // a spare, or a segment that only the last group opened
            }
            for _ in 0..8 {
                let (offset, bit) = (world.random.below(end), world.random.below(8) as u8);
                world.disk.flip_bit(segment, offset, bit);
                let refused = recover(&world.disk, Some(IDENTITY), 99, CONFIG);
                assert!(
                    matches!(refused, Err(RecoveryError::Corrupt { .. })),
                    "seed {seed}: bit {bit} of {segment} at {offset}: {refused:?}"
                );
                assert!(inspect(&world.disk).expect("readable").problem.is_some());
                world.disk.flip_bit(segment, offset, bit);
                flipped += 1;
            }
        }
        recover(&world.disk, Some(IDENTITY), 99, CONFIG).expect("whole again");
    }
    assert!(flipped > 1000, "only {flipped} bits were flipped");
}

#[test]
fn an_error_halts_the_writer_and_what_was_durable_survives() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.run(30);
        world.finish();
        world.disk.plan_fault(0, Fault::Error);
        let (seq, records) = world.model.batch(&mut world.random);
        let halted = drive(&world.disk, &mut world.writer, Input::Append { seq, records });
        if halted.is_ok() {
            continue; // a batch without records asks for no operation
        }
        let again = world.writer.step(Input::Append { seq, records: vec![] }, &mut Vec::new());
        assert!(again.is_err(), "a halted writer takes nothing");
        world.restart();
        world.run(20);
        world.finish();
        world.read_all();
    }
}

#[test]
fn a_full_disk_stops_nothing_that_was_promised() {
    let mut refused = 0;
    for seed in 0..200 {
        let mut world = World::new(seed);
        world.disk.set_capacity(world.disk.used() + CONFIG.segment_bytes);
        world.run(250);
        world.finish();
        refused += world.no_space;
        world.disk.set_capacity(u64::MAX);
        world.input(Input::Retry);
        world.finish();
        assert_eq!(world.no_space, 0, "space was found");
        assert!(world.writer.is_idle(), "everything that waited was written");
        world.read_all();
        world.restart();
    }
    assert!(refused > 50, "only {refused} runs filled the disk");
}

#[test]
fn a_seed_replays_to_the_byte() {
    let run = || {
        let mut world = World::new(42);
        for _ in 0..4 {
            world.disk.plan_fault(30, Fault::Crash);
            world.run(120);
            world.restart();
        }
        (inspect(&world.disk).expect("readable"), world.disk.counts(), world.random.next())
    };
    assert_eq!(run(), run());
}

#[test]
fn the_log_of_another_is_refused() {
    let disk = SimDisk::new(1);
    let unborn = recover(&disk, Some(IDENTITY), 1, CONFIG);
    assert!(matches!(unborn, Err(RecoveryError::Nothing)));
    let mut writer = create(&disk, IDENTITY, 1, CONFIG).expect("an empty directory");
    let batch = Input::Append { seq: Seq(1), records: vec![] };
    drive(&disk, &mut writer, batch).expect("the disk works");
    assert!(matches!(create(&disk, IDENTITY, 2, CONFIG), Err(RecoveryError::Exists)));
    let other = Identity { node: NodeId(8), ..IDENTITY };
    let refused = recover(&disk, Some(other), 2, CONFIG);
    assert!(matches!(refused, Err(RecoveryError::OtherNode { found: 7, expected: 8 })));
    let other = Identity { cluster: ClusterId(1), ..IDENTITY };
    let refused = recover(&disk, Some(other), 2, CONFIG);
    assert!(matches!(refused, Err(RecoveryError::OtherCluster { .. })));
    let anybodys = recover(&disk, None, 2, CONFIG).expect("no identity is asked for");
    assert!(anybodys.groups.is_empty());
}
