//! The writer of the log, as a machine: batches of records go in, operations of a disk come out.
//!
//! - One sync group is under way at a time: a `Write`, then a `Sync`. Whatever is appended meanwhile
//!   becomes the next group, so group k+1 is written only after the sync of k was `Done`.
//! - The next segment is asked for (`Create`) long before it is needed, and old ones are given up
//!   (`Delete`). These run beside the sync groups; a driver may carry them out on another thread.
//! - A segment opens with a checkpoint of every consensus group, in the same sync group as the first
//!   records: if that group is torn, the whole segment counts as never written.
//! - Any failure is a [`Halt`], with one exception: when the space for the *next* segment cannot be
//!   had, nothing that was promised is at stake. The writer says `NoSpace`, goes on in the segment
//!   that it has, and asks again on `Input::Retry`. If it fills up first, appends wait.
//!
//! What it leaves out: carrying anything out (`execute.rs`), reading back (`read.rs`).

mod group;
mod segments;

pub(crate) use group::Begin;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_consensus::{GroupId, Seq};

use crate::SegmentId;
use crate::frame::{Builder, framed_len};
use crate::group_log::{GroupLog, Place};
use crate::limits;
use crate::planted::PlantedBug;
use crate::record::{Identity, Predecessor, Record};

/// Sizes of a log; the defaults are those of `limits.rs`, simulation takes smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Size of a segment, in bytes, a multiple of 4096.
    pub segment_bytes: u64,
    /// A sync group takes no further record once it has this many bytes.
    pub group_bytes: usize,
    /// Distance of the points by which entries are found again, in bytes.
    pub index_stride: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: limits::SEGMENT_BYTES,
            group_bytes: limits::GROUP_BYTES,
            index_stride: limits::INDEX_STRIDE,
        }
    }
}

/// What the driver tells the writer.
#[derive(Clone, Debug)]
pub enum Input {
    /// Make these durable, in this order. `Persisted` with at least `seq` will follow, or `Halt`.
    /// The numbers ascend; a batch that nobody waits for repeats the one before it.
    Append {
        /// Its place in the FIFO.
        seq: Seq,
        /// The records; none is allowed.
        records: Vec<Record>,
    },
    /// The oldest unanswered `Write` or `Sync` is done.
    Done,
    /// This `Create` is done: space reserved, content and name durable.
    Created {
        /// The segment.
        segment: SegmentId,
    },
    /// There was no space for this `Create`; nothing is left of it, or a file without content.
    CreateNoSpace {
        /// The segment.
        segment: SegmentId,
    },
    /// This `Delete` is done.
    Deleted {
        /// The segment.
        segment: SegmentId,
    },
    /// There may be space again: ask once more for the segment that could not be created.
    Retry,
    /// An operation failed. Nothing is retried.
    Failed {
        /// Which, and how.
        what: String,
    },
}

/// What the writer wants done. `Write` and `Sync` are carried out in the order in which they come
/// out and each is answered by `Done`; `Create` and `Delete` may run beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes; whole pages.
    Write {
        /// The segment.
        segment: SegmentId,
        /// Offset in it, in bytes, a multiple of 4096.
        offset: u64,
        /// The bytes. Dropping them gives the buffer back to the writer.
        bytes: Bytes,
    },
    /// Make what was written durable.
    Sync {
        /// The segment.
        segment: SegmentId,
    },
    /// Create a segment of this size, durably: space, content and name.
    Create {
        /// The segment.
        segment: SegmentId,
        /// Its size in bytes.
        bytes: u64,
    },
    /// Remove a segment, durably.
    Delete {
        /// The segment.
        segment: SegmentId,
    },
    /// Everything appended up to `seq` is durable.
    Persisted {
        /// The last durable batch.
        seq: Seq,
    },
    /// The next segment could not be created for want of space. What has been appended is safe or
    /// waits; refuse new proposals until `SpaceFound`.
    NoSpace,
    /// The segment could be created after all.
    SpaceFound,
}

/// The process must stop; nothing that this step put out may be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The disk failed. What of the last sync group is durable is unknown: a restart finds out.
    #[error("the log's disk failed: {0}")]
    Disk(String),
    /// A record that does not continue its log was appended: a bug, stopped before it was written.
    #[error("refusing to write a wrong log (group {group}): {what}")]
    Misplaced {
        /// The consensus group.
        group: GroupId,
        /// In which way it is wrong.
        what: String,
    },
    /// The driver answered something that was not asked, or stepped a halted writer: a bug.
    #[error("the log's driver is out of step: {0}")]
    Driver(&'static str),
}

/// The segment after the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    None,
    Asked(SegmentId),
    Ready(SegmentId),
    NoSpace(SegmentId),
}

/// A record that waits, or only the end of a batch.
#[derive(Debug)]
struct Pending {
    record: Option<Record>,
    /// The batch that ends here.
    ends: Option<Seq>,
}

/// The sync group under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    /// Write and Sync that are not answered.
    unanswered: u8,
    /// The last batch that it completes.
    completes: Option<Seq>,
    /// Where it stands: what is before is durable.
    at: Place,
}

/// The writer.
#[derive(Debug)]
pub struct Writer {
    identity: Identity,
    boot: u64,
    config: Config,
    /// Where the log ends: the next sync group goes there. `None` before the first.
    tail: Option<Predecessor>,
    /// The next sync group opens a segment, whatever the space (a start, or no room for it).
    must_open: bool,
    /// End of the sync group that opened the current segment: one that holds no more is not left.
    opened_until: u64,
    /// Above all segments that ever existed.
    next_segment: SegmentId,
    /// Segments of the log, oldest first, the one being written last.
    chain: VecDeque<SegmentId>,
    spare: Spare,
    /// `NoSpace` was said, `SpaceFound` not yet.
    short_of_space: bool,
    /// `Delete`s that are not answered.
    deleting: usize,
    groups: BTreeMap<GroupId, GroupLog>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    builder: Builder,
    flight: Option<Flight>,
    /// Whether segments may have become superfluous with the group under way.
    released: bool,
    appended: Seq,
    persisted: Seq,
    halted: bool,
    planted: Option<PlantedBug>,
}

impl Writer {
    /// One step. Outputs are appended to `out`, to be carried out in their order.
    ///
    /// # Errors
    /// Any `Halt` is final: nothing of this step may be carried out, and every later step fails.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) -> Result<(), Halt> {
        if self.halted {
            return Err(Halt::Driver("stepped after a halt"));
        }
        let before = out.len();
        let result = self.handle(input, out);
        if result.is_err() {
            self.halted = true;
            out.truncate(before);
        }
        result
    }

    fn handle(&mut self, input: Input, out: &mut Vec<Output>) -> Result<(), Halt> {
        match input {
            Input::Append { seq, records } => self.append(seq, records)?,
            Input::Done => self.done(out)?,
            Input::Created { segment } => self.created(segment, out)?,
            Input::CreateNoSpace { segment } => self.create_no_space(segment, out)?,
            Input::Deleted { .. } => {
                self.deleting =
                    self.deleting.checked_sub(1).ok_or(Halt::Driver("nothing was deleted"))?;
            }
            Input::Retry => self.retry(out),
            Input::Failed { what } => return Err(Halt::Disk(what)),
        }
        self.form_group(out)?;
        self.ask_for_spare(out);
        Ok(())
    }

    fn append(&mut self, seq: Seq, records: Vec<Record>) -> Result<(), Halt> {
        if seq < self.appended {
            return Err(Halt::Driver("a batch's number goes back"));
        }
        if let Some(record) = records.iter().find(|r| framed_len(r) > limits::MAX_RECORD_BYTES) {
            let what = format!("a record of {} bytes", framed_len(record));
            return Err(Halt::Misplaced { group: record.group(), what });
        }
        self.appended = seq;
        self.pending_bytes += records.iter().map(framed_len).sum::<usize>();
        let before = self.pending.len();
        self.pending.extend(records.into_iter().map(|r| Pending { record: Some(r), ends: None }));
        if self.pending.len() == before {
            self.pending.push_back(Pending { record: None, ends: None });
        }
        self.pending.back_mut().expect("one was pushed").ends = Some(seq);
        Ok(())
    }

    /// The oldest operation of the sync group is done; with the last one its batches are durable.
    fn done(&mut self, out: &mut Vec<Output>) -> Result<(), Halt> {
        let flight = self.flight.as_mut().ok_or(Halt::Driver("nothing was under way"))?;
        flight.unanswered -= 1;
        if flight.unanswered > 0 {
            return Ok(());
        }
        let completes = flight.completes;
        self.flight = None;
        if let Some(seq) = completes {
            assert!(seq >= self.persisted, "durability goes forward");
            self.persisted = seq;
            out.push(Output::Persisted { seq });
        }
        if std::mem::take(&mut self.released) {
            self.delete_released(out);
        }
        Ok(())
    }

    /// Breaks a rule from now on.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, bug: Option<PlantedBug>) {
        self.planted = bug;
    }

    /// Whether nothing is under way or waiting: a batch appended now is written at once.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flight.is_none() && self.pending.is_empty()
    }

    /// Whether more than `MAX_PENDING_BYTES` wait: append no more until `Persisted`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending_bytes >= limits::MAX_PENDING_BYTES
    }

    /// Bytes of the records that wait.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// The last durable batch.
    #[must_use]
    pub fn persisted(&self) -> Seq {
        self.persisted
    }

    /// Segments that the log consists of, oldest first. The node releases when they grow many.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = SegmentId> + '_ {
        self.chain.iter().copied()
    }

    /// Whose log this is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// One group's log.
    pub(crate) fn log(&self, group: GroupId) -> Option<&GroupLog> {
        self.groups.get(&group)
    }

    /// What stands before this place is durable.
    pub(crate) fn durable_end(&self) -> Option<Place> {
        let end = self.tail.map(|t| Place { segment: t.segment, group: t.end, record: 0 });
        self.flight.map(|flight| flight.at).or(end)
    }

    /// Runs every check that must hold between steps.
    pub fn invariants(&self) {
        let end = self.tail.map_or(0, |tail| tail.end);
        assert_eq!(end % limits::ALIGNMENT, 0, "sync groups are aligned");
        if !self.must_open {
            assert!(self.opened_until <= end, "a segment begins with its opening");
            let current = self.tail.map(|tail| tail.segment);
            assert_eq!(
                self.chain.back().copied(),
                current,
                "the chain ends in the current segment"
            );
        }
        assert!(self.chain.iter().is_sorted(), "segments ascend");
        assert!(self.persisted <= self.appended, "only what was appended is durable");
        let waiting = self.pending.iter().filter_map(|p| p.record.as_ref());
        let bytes = waiting.map(framed_len).sum::<usize>();
        assert_eq!(bytes, self.pending_bytes, "the bytes that wait are counted");
        for log in self.groups.values() {
            log.invariants();
            let oldest = log.oldest_segment();
            assert!(oldest.is_none_or(|s| self.chain.contains(&s)), "live entries are on disk");
        }
    }
}
