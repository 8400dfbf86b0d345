//! The groups' logs as they are read: every record in order, entries kept, conflicts cut.

use std::collections::{BTreeMap, VecDeque};

use quorate_consensus::{Entry, GroupId, LogIndex, Recovered};

use crate::group_log::{GroupLog, Misplaced, Place};
use crate::record::{Checkpoint, Generation, Record};

/// What recovery found for one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The consensus machine's starting point. If an entry survived whose term did not (both were
    /// behind the last durable sync group), `hard_state.term` is that entry's, without a vote:
    /// none was promised in it.
    pub recovered: Recovered,
    /// The engine directory in force.
    pub generation: Generation,
}

/// One group's log with its entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupReplay {
    pub(crate) log: GroupLog,
    /// Consecutive, up to the last one of the log. Those before it may be missing while replaying:
    /// they were in a segment that has been given up.
    entries: VecDeque<Entry>,
}

impl GroupReplay {
    fn from_checkpoint(checkpoint: Checkpoint) -> Self {
        Self { log: GroupLog::from_checkpoint(checkpoint), entries: VecDeque::new() }
    }

    fn apply(&mut self, record: Record, place: Place, stride: u64) -> Result<(), Misplaced> {
        self.log.apply(&record, place, stride)?;
        match record {
            Record::Entry { entry, .. } => {
                self.cut(entry.index);
                self.entries.push_back(entry);
            }
            Record::Release { start, .. } => {
                while self.entries.front().is_some_and(|e| e.index <= start.index) {
                    self.entries.pop_front();
                }
            }
            Record::Installed { .. } => self.entries.clear(),
            Record::HardState { .. } => {}
        }
        Ok(())
    }

    fn cut(&mut self, index: LogIndex) {
        while self.entries.back().is_some_and(|e| e.index >= index) {
            self.entries.pop_back();
        }
    }

    /// The first entry that should be there and is not.
    fn missing(&self) -> Option<LogIndex> {
        let Checkpoint { start, last, .. } = self.log.checkpoint;
        let first = self.entries.front().map_or_else(|| last.next(), |e| e.index);
        (first != start.index.next()).then(|| start.index.next())
    }

    fn finish(self) -> RecoveredGroup {
        let Checkpoint {
            mut hard_state, start, membership, generation, applied, last_term, ..
        } = self.log.checkpoint;
        hard_state.commit = hard_state.commit.max(start.index);
        if last_term > hard_state.term {
            hard_state.term = last_term;
            hard_state.vote = None;
        }
        let entries = self.entries.into();
        let recovered = Recovered { hard_state, start, membership, entries, applied };
        RecoveredGroup { recovered, generation }
    }
}

/// All groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replay {
    pub(crate) groups: BTreeMap<GroupId, GroupReplay>,
}

impl Replay {
    /// Starts from the checkpoints of the oldest segment.
    pub(crate) fn from_checkpoints(checkpoints: BTreeMap<GroupId, Checkpoint>) -> Self {
        let groups = checkpoints.into_iter();
        Self { groups: groups.map(|(g, c)| (g, GroupReplay::from_checkpoint(c))).collect() }
    }

    /// Whether a later segment opens with exactly what is known here.
    pub(crate) fn agrees(&self, checkpoints: &BTreeMap<GroupId, Checkpoint>) -> bool {
        let known = self.groups.iter().map(|(group, replay)| (group, &replay.log.checkpoint));
        known.eq(checkpoints.iter())
    }

    pub(crate) fn apply(
        &mut self,
        record: Record,
        place: Place,
        stride: u64,
    ) -> Result<(), Misplaced> {
        self.groups.entry(record.group()).or_default().apply(record, place, stride)
    }

    /// What the writer needs to know.
    pub(crate) fn logs(&self) -> BTreeMap<GroupId, GroupLog> {
        self.groups.iter().map(|(group, replay)| (*group, replay.log.clone())).collect()
    }

    /// The first entry that is missing, of any group.
    pub(crate) fn missing(&self) -> Option<(GroupId, LogIndex)> {
        self.groups.iter().find_map(|(group, replay)| Some((*group, replay.missing()?)))
    }

    pub(crate) fn finish(self) -> BTreeMap<GroupId, RecoveredGroup> {
        self.groups.into_iter().map(|(group, replay)| (group, replay.finish())).collect()
    }
}
