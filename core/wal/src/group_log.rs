//! What the writer remembers about one group's log: its checkpoint, and where its entries lie.
//!
//! Entries are found through *points*: "from this index on, the entries stand from this place on".
//! A segment gets one at its first entry of the group, another every `INDEX_STRIDE` bytes, and one
//! wherever the log is cut and rewritten; so the first entry with a given index behind a point, and
//! before the index of the next point, is the live one.

use std::collections::VecDeque;

use quorate_consensus::{Entry, HardState, LogIndex, LogStart, Membership};

use crate::SegmentId;
use crate::record::{Checkpoint, Generation, Record};

/// A place in the log: of a record, or of a sync group (then `record` is 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// Offset of the sync group in it, in bytes.
    pub(crate) group: u64,
    /// Offset of the record in the sync group, in bytes.
    pub(crate) record: u32,
}

/// From `first` on, the entries stand from `place` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// Index of the entry at `place`.
    pub(crate) first: LogIndex,
    /// Where it stands.
    pub(crate) place: Place,
}

/// Why a record does not continue a log: a bug when writing, corruption when reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misplaced(pub(crate) String);

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), Misplaced> {
    if holds { Ok(()) } else { Err(Misplaced(why())) }
}

/// One group's log, without the entries themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupLog {
    /// Everything but the entries.
    pub(crate) checkpoint: Checkpoint,
    /// Ascending by index and by place; the first covers the first entry.
    points: VecDeque<Point>,
}

impl GroupLog {
    /// A log as a segment's checkpoint describes it; nothing is known about where its entries are.
    pub(crate) fn from_checkpoint(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, points: VecDeque::new() }
    }

    /// The next durable fact, standing at `place`.
    pub(crate) fn apply(
        &mut self,
        record: &Record,
        place: Place,
        stride: u64,
    ) -> Result<(), Misplaced> {
        match record {
            Record::Entry { entry, .. } => self.append(entry, place, stride),
            Record::HardState { hard_state, .. } => self.set_hard_state(*hard_state),
            Record::Release { start, membership, generation, applied, .. } => {
                self.release(*start, membership, *generation, *applied)
            }
            Record::Installed { start, membership, generation, .. } => {
                self.install(*start, membership, *generation)
            }
        }
    }

    /// A commit index never runs ahead of the entries: recovery would take whatever stands there,
    /// entries of an older leader included, for committed.
    fn set_hard_state(&mut self, hard_state: HardState) -> Result<(), Misplaced> {
        let Checkpoint { hard_state: known, last, .. } = self.checkpoint;
        ensure(hard_state.term >= known.term, || {
            format!("term goes back from {} to {}", known.term, hard_state.term)
        })?;
        ensure(
            hard_state.term > known.term || known.vote.is_none_or(|v| hard_state.vote == Some(v)),
            || format!("another vote in term {}", known.term),
        )?;
        ensure(hard_state.commit <= last, || {
            format!("commit {} of a log that ends at {last}", hard_state.commit)
        })?;
        self.checkpoint.hard_state = hard_state;
        Ok(())
    }

    fn append(&mut self, entry: &Entry, place: Place, stride: u64) -> Result<(), Misplaced> {
        let Checkpoint { start, last, .. } = self.checkpoint;
        let index = entry.index;
        ensure(index > start.index && index <= last.next(), || {
            format!("entry {index} does not continue a log from {} to {last}", start.index)
        })?;
        let cuts = index <= last;
        if cuts {
            let commit = self.checkpoint.hard_state.commit;
            ensure(index > commit, || {
                format!("entry {index} replaces one, but {commit} is committed")
            })?;
            self.cut(index);
        } else {
            let Checkpoint { last_term, last_time, .. } = self.checkpoint;
            ensure(entry.term >= last_term && entry.time >= last_time, || {
                format!("entry {index} goes back in term or time")
            })?;
        }
        if cuts || self.wants_point(place, stride) {
            self.points.push_back(Point { first: index, place });
        }
        self.checkpoint.last = index;
        self.checkpoint.last_term = entry.term;
        self.checkpoint.last_time = entry.time;
        Ok(())
    }

    fn wants_point(&self, place: Place, stride: u64) -> bool {
        self.points.back().is_none_or(|last| {
            last.place.segment != place.segment || place.group - last.place.group >= stride
        })
    }

    /// Forgets the entries from `index` on.
    fn cut(&mut self, index: LogIndex) {
        while self.points.back().is_some_and(|point| point.first >= index) {
            self.points.pop_back();
        }
    }

    fn release(
        &mut self,
        start: LogStart,
        membership: &Membership,
        generation: Generation,
        applied: LogIndex,
    ) -> Result<(), Misplaced> {
        let Checkpoint { start: from, last, .. } = self.checkpoint;
        ensure(start.index >= from.index && start.index <= last, || {
            format!("release up to {} of a log from {} to {last}", start.index, from.index)
        })?;
        ensure(applied >= start.index && applied <= last, || {
            format!("release up to {} of a log that ends at {last}, applied {applied}", start.index)
        })?;
        self.set_start(start, membership, generation, applied)?;
        let first = start.index.next();
        while self.points.get(1).is_some_and(|second| second.first <= first) {
            self.points.pop_front();
        }
        if start.index == last {
            self.points.clear();
        }
        Ok(())
    }

    fn install(
        &mut self,
        start: LogStart,
        membership: &Membership,
        generation: Generation,
    ) -> Result<(), Misplaced> {
        let from = self.checkpoint.start.index;
        ensure(start.index >= from, || {
            format!("snapshot of {} for a log that starts at {from}", start.index)
        })?;
        self.set_start(start, membership, generation, start.index)?;
        self.points.clear();
        self.checkpoint.last = start.index;
        self.checkpoint.last_term = start.term;
        self.checkpoint.last_time = start.time;
        Ok(())
    }

    fn set_start(
        &mut self,
        start: LogStart,
        membership: &Membership,
        generation: Generation,
        applied: LogIndex,
    ) -> Result<(), Misplaced> {
        let known = self.checkpoint.generation;
        ensure(generation >= known, || {
            format!("engine generation goes back from {} to {}", known.0, generation.0)
        })?;
        self.checkpoint.start = start;
        self.checkpoint.membership = membership.clone();
        self.checkpoint.generation = generation;
        self.checkpoint.applied = applied;
        Ok(())
    }

    /// The oldest segment that holds an entry of this log, if it has entries.
    pub(crate) fn oldest_segment(&self) -> Option<SegmentId> {
        self.points.front().map(|point| point.place.segment)
    }

    /// The points that cover `[from, until)`, each with the index before which it ends.
    pub(crate) fn points_of(
        &self,
        from: LogIndex,
        until: LogIndex,
    ) -> impl Iterator<Item = (Point, LogIndex)> + '_ {
        let begin = self.points.partition_point(|point| point.first <= from).saturating_sub(1);
        let end = self.points.partition_point(|point| point.first < until);
        (begin..end).map(move |at| {
            let next = self.points.get(at + 1).map_or(until, |point| point.first.min(until));
            (self.points[at], next)
        })
    }

    /// Entries, points and positions agree with each other.
    pub(crate) fn invariants(&self) {
        let Checkpoint { start, last, last_term, last_time, .. } = self.checkpoint;
        assert!(start.index <= last, "a log's start is not behind its end");
        assert!(start.term <= last_term && start.time <= last_time, "terms and times ascend");
        assert!(self.checkpoint.applied >= start.index, "what is released was applied");
        if start.index == last {
            assert!(self.points.is_empty(), "no points into an empty log");
        }
        for (one, next) in self.points.iter().zip(self.points.iter().skip(1)) {
            assert!(one.first < next.first && one.place < next.place, "points ascend");
        }
        assert!(self.points.back().is_none_or(|p| p.first <= last), "points lie in the log");
    }
}
