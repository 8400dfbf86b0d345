//! What a log may say, kept in the dumbest way: every record in order, and the state that they add
//! up to.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_consensus::{
    Entry, GroupId, GroupTime, HardState, LogIndex, LogStart, Member, Membership, NodeId, Origin,
    Payload, Persist, Seq, Term,
};
use quorate_rng::Rng;
use quorate_wal::{Generation, Record, RecoveredGroup};

use crate::disk::Crash;

/// How the node goes down.
pub(super) fn crash(random: &mut Rng) -> Crash {
    if random.below(3) == 0 { Crash::Kill } else { Crash::PowerLoss }
}

pub(super) fn groups() -> impl Iterator<Item = GroupId> {
    (1..=2).map(GroupId)
}

/// One of [`groups`].
pub(super) fn group(random: &mut Rng) -> GroupId {
    GroupId(1 + random.below(2) as u32)
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Log {
    hard_state: HardState,
    start: LogStart,
    membership: Membership,
    generation: Generation,
    applied: LogIndex,
    entries: BTreeMap<LogIndex, Entry>,
}

impl Log {
    fn last(&self) -> LogIndex {
        self.entries.keys().next_back().copied().unwrap_or(self.start.index)
    }

    fn apply(&mut self, record: &Record) {
        match record.clone() {
            Record::Entry { entry, .. } => {
                self.entries.split_off(&entry.index);
                self.entries.insert(entry.index, entry);
            }
            Record::HardState { hard_state, .. } => self.hard_state = hard_state,
            Record::Release { start, membership, generation, applied, .. } => {
                self.entries = self.entries.split_off(&start.index.next());
                (self.start, self.membership) = (start, membership);
                (self.generation, self.applied) = (generation, applied);
            }
            Record::Installed { start, membership, generation, .. } => {
                self.entries.clear();
                (self.start, self.membership) = (start, membership);
                (self.generation, self.applied) = (generation, start.index);
            }
        }
    }

    fn matches(&self, found: &RecoveredGroup) -> bool {
        let mut hard_state = self.hard_state;
        hard_state.commit = hard_state.commit.max(self.start.index);
        let last_term = self.entries.values().next_back().map_or(self.start.term, |e| e.term);
        if last_term > hard_state.term {
            (hard_state.term, hard_state.vote) = (last_term, None);
        }
        let recovered = &found.recovered;
        recovered.hard_state == hard_state
            && recovered.start == self.start
            && recovered.membership == self.membership
            && recovered.applied == self.applied
            && found.generation == self.generation
            && recovered.entries.iter().eq(self.entries.values())
    }
}

type State = BTreeMap<GroupId, Log>;

fn apply(state: &mut State, record: &Record) {
    state.entry(record.group()).or_default().apply(record);
}

/// What is durable for certain, and what was appended since.
#[derive(Default)]
pub(super) struct Model {
    durable: State,
    /// Records in order, each with the number of its batch.
    since: Vec<(Seq, Record)>,
    /// Both together.
    now: State,
    seq: Seq,
    /// Makes every entry different.
    serial: u64,
}

impl Model {
    pub(super) fn persisted(&mut self, seq: Seq) {
        assert!(seq <= self.seq, "only what was appended is durable");
        let durable = self.since.partition_point(|(batch, _)| *batch <= seq);
        for (_, record) in self.since.drain(..durable) {
            apply(&mut self.durable, &record);
        }
    }

    /// The states that recovery may find: what is durable, and every prefix of the rest.
    pub(super) fn recovered(&mut self, found: &BTreeMap<GroupId, RecoveredGroup>) {
        let mut state = self.durable.clone();
        let mut records = std::mem::take(&mut self.since).into_iter();
        loop {
            let same = state.len() == found.len()
                && state
                    .iter()
                    .all(|(group, log)| found.get(group).is_some_and(|f| log.matches(f)));
            if same {
                break;
            }
            let (_, record) = records.next().unwrap_or_else(|| {
                panic!("not a prefix: found {found:#?}, durable {:#?}", self.durable)
            });
            apply(&mut state, &record);
        }
        self.now = state.clone();
        self.durable = state;
        self.seq = Seq(0); // a new writer counts anew
    }

    pub(super) fn range(&self, group: GroupId) -> (LogIndex, LogIndex) {
        let none = Log::default();
        let log = self.now.get(&group).unwrap_or(&none);
        (log.start.index.next(), log.last().next())
    }

    pub(super) fn has(&self, group: GroupId, index: LogIndex) -> bool {
        self.now.get(&group).is_some_and(|log| log.entries.contains_key(&index))
    }

    pub(super) fn check_read(
        &self,
        group: GroupId,
        from: LogIndex,
        until: LogIndex,
        entries: &[Entry],
    ) {
        let indices = entries.iter().map(|e| e.index.0);
        assert!(indices.eq(from.0..from.0 + entries.len() as u64), "consecutive from {from}");
        assert!(entries.iter().all(|e| e.index < until), "before {until}");
        let mut state = self.durable.clone();
        let holds = |state: &State| {
            let log = state.get(&group);
            entries.iter().all(|e| log.is_some_and(|log| log.entries.get(&e.index) == Some(e)))
        };
        let mut later = self.since.iter();
        while !(entries.is_empty() || holds(&state)) {
            let (_, record) = later.next().expect("what was read was never the log's content");
            apply(&mut state, record);
        }
    }

    /// The next batch that a correct consensus machine could hand over.
    pub(super) fn batch(&mut self, random: &mut Rng) -> (Seq, Vec<Record>) {
        let group = group(random);
        let log = self.now.get(&group).cloned().unwrap_or_default();
        let mut records = Vec::new();
        match random.below(16) {
            0 => records.extend(release(group, &log, random)),
            1 if random.below(4) == 0 => records.push(install(group, &log, random)),
            2 => {}
            _ => Record::push_persist(group, self.persist(&log, random), &mut records),
        }
        self.seq = Seq(self.seq.0 + random.below(3));
        // A number that was reported durable is not used again for something that must be.
        if !records.is_empty() {
            self.seq = Seq(self.seq.0 + 1);
        }
        records.iter().for_each(|record| apply(&mut self.now, record));
        self.since.extend(records.iter().map(|record| (self.seq, record.clone())));
        (self.seq, records)
    }

    fn persist(&mut self, log: &Log, random: &mut Rng) -> Persist {
        let last_term = log.entries.values().next_back().map_or(log.start.term, |e| e.term);
        let known = log.hard_state.term.max(last_term);
        let term = Term(known.0.max(1) + u64::from(random.below(6) == 0));
        let commit = log.hard_state.commit.max(log.start.index);
        let cuts = term > known && random.below(2) == 0;
        let free = log.last().0 - commit.0;
        let from =
            if cuts && free > 0 { commit.0 + 1 + random.below(free) } else { log.last().0 + 1 };
        let count = random.below(6);
        let time = log.entries.get(&LogIndex(from - 1)).map_or(log.start.time, |e| e.time);
        let entries = (from..from + count).map(|index| self.entry(index, term, time, random));
        let entries = entries.collect::<Vec<_>>();
        let last = entries.last().map_or_else(|| log.last(), |e| e.index);
        let commit = LogIndex(commit.0 + random.below(last.0 - commit.0 + 1));
        let same = term == log.hard_state.term;
        let vote = if same { log.hard_state.vote } else { Some(NodeId(random.below(3))) };
        let hard_state = (random.below(3) == 0 || term > known || cuts).then_some(HardState {
            term,
            vote,
            commit,
        });
        Persist { seq: Seq(0), hard_state, entries }
    }

    fn entry(&mut self, index: u64, term: Term, time: GroupTime, random: &mut Rng) -> Entry {
        self.serial += 1;
        let len = match random.below(20) {
            0 => random.below(20_000),
            1..4 => random.below(3_000),
            _ => random.below(200),
        };
        let origin = Origin { node: NodeId(1), boot: 2, seq: self.serial };
        let payload = match random.below(10) {
            0 => Payload::Empty,
            1 => Payload::Membership { origin, membership: membership(self.serial) },
            _ => Payload::Command {
                origin,
                data: Bytes::from(vec![self.serial as u8; len as usize]),
            },
        };
        Entry { term, index: LogIndex(index), time, payload }
    }
}

fn membership(serial: u64) -> Membership {
    let member = Member { id: NodeId(serial), learner: false, context: Bytes::from_static(b"ctx") };
    Membership { members: vec![member], removed: vec![NodeId(serial + 1)] }
}

fn release(group: GroupId, log: &Log, random: &mut Rng) -> Option<Record> {
    let commit = log.hard_state.commit.max(log.start.index);
    let applied = LogIndex(log.start.index.0 + random.below(commit.0 - log.start.index.0 + 1));
    let index = LogIndex(log.start.index.0 + random.below(applied.0 - log.start.index.0 + 1));
    let entry = log.entries.get(&index)?;
    let start = LogStart { index, term: entry.term, time: entry.time };
    let generation = log.generation;
    Some(Record::Release { group, start, membership: membership(index.0), generation, applied })
}

fn install(group: GroupId, log: &Log, random: &mut Rng) -> Record {
    let index = LogIndex(log.last().0 + 1 + random.below(50));
    let term = log.entries.values().next_back().map_or(log.start.term, |e| e.term);
    let start = LogStart { index, term: term.max(log.hard_state.term), time: GroupTime(index.0) };
    let generation = Generation(log.generation.0 + 1);
    Record::Installed { group, start, membership: membership(index.0), generation }
}
