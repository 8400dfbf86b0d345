//! Forming a sync group out of what waits, and beginning a log.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_consensus::{GroupId, Seq};

use super::{Config, Flight, Halt, Output, Pending, Spare, Writer};
use crate::SegmentId;
use crate::frame::{self, Builder, HEADER_LEN, aligned, framed_len};
use crate::group_log::{GroupLog, Place};
use crate::limits;
use crate::planted::PlantedBug;
use crate::record::{Identity, Opening, Predecessor, Record};

/// Where a writer begins: after recovery, or (with nothing in it) in an empty directory.
#[derive(Debug, Default)]
pub(crate) struct Begin {
    /// Where the log ends, and the last sync group that is known to be durable.
    pub(crate) tail: Option<Predecessor>,
    /// The segments up to there, oldest first.
    pub(crate) chain: VecDeque<SegmentId>,
    /// Above all segments that exist.
    pub(crate) next_segment: SegmentId,
    /// The logs as of `tail`.
    pub(crate) groups: BTreeMap<GroupId, GroupLog>,
    /// What survived behind `tail`; goes into the sync group that opens the new segment.
    pub(crate) survivors: Vec<Record>,
}

/// What goes into the next sync group.
struct Selected {
    items: usize,
    bytes: usize,
}

impl Writer {
    /// A writer whose first sync group opens a new segment, before anything else is promised.
    /// Step it with an empty `Append` to get it going.
    pub(crate) fn begin(identity: Identity, boot: u64, config: Config, begin: Begin) -> Self {
        assert_eq!(config.segment_bytes % limits::ALIGNMENT, 0, "a segment is whole pages");
        let mut pending = VecDeque::new();
        let pending_bytes = begin.survivors.iter().map(framed_len).sum();
        pending
            .extend(begin.survivors.into_iter().map(|r| Pending { record: Some(r), ends: None }));
        Self {
            identity,
            boot,
            config,
            tail: begin.tail,
            must_open: true,
            opened_until: 0,
            next_segment: begin.next_segment,
            chain: begin.chain,
            spare: Spare::None,
            short_of_space: false,
            deleting: 0,
            groups: begin.groups,
            pending,
            pending_bytes,
            builder: Builder::default(),
            flight: None,
            released: false,
            appended: Seq(0),
            persisted: Seq(0),
            halted: false,
            planted: None,
        }
    }

    /// Puts the next sync group out if none is under way and there is something to write.
    pub(super) fn form_group(&mut self, out: &mut Vec<Output>) -> Result<(), Halt> {
        if self.flight.is_some() {
            return Ok(());
        }
        let selected = self.select();
        if selected.bytes == 0 && !self.must_open {
            self.complete_empty(out);
            return Ok(());
        }
        self.must_open |= !self.fits(selected.bytes);
        let (segment, offset) = match (self.must_open, self.spare, self.tail) {
            (true, Spare::Ready(spare), _) => (spare, 0),
            (true, ..) => return Ok(()), // waits for `Created`
            (false, _, Some(tail)) => (tail.segment, tail.end),
            (false, _, None) => unreachable!("a log without a segment must open one"),
        };
        let place = Place { segment, group: offset, record: 0 };
        let bytes = self.build(&selected, place)?;
        out.push(Output::Write { segment, offset, bytes });
        out.push(Output::Sync { segment });
        Ok(())
    }

    /// As many records as the bound allows: at least one if any waits, and the ends of batches
    /// that stand right behind them.
    fn select(&self) -> Selected {
        // What opens a segment after recovery must hold every survivor: half of them would replace
        // the whole of the sync group that they come from.
        let bound = if self.is_beginning() { usize::MAX } else { self.config.group_bytes };
        let mut selected = Selected { items: 0, bytes: 0 };
        for pending in &self.pending {
            let bytes = pending.record.as_ref().map_or(0, framed_len);
            if bytes > 0 && selected.bytes >= bound {
                break;
            }
            selected.items += 1;
            selected.bytes += bytes;
        }
        selected
    }

    /// Nothing has been written by this writer yet.
    fn is_beginning(&self) -> bool {
        self.opened_until == 0
    }

    fn fits(&self, bytes: usize) -> bool {
        let end = self.tail.map_or(0, |tail| tail.end);
        let extent = aligned((HEADER_LEN + bytes) as u64);
        end == self.opened_until || end + extent <= self.config.segment_bytes
    }

    /// Batches without records are as durable as what was before them.
    fn complete_empty(&mut self, out: &mut Vec<Output>) {
        let last = self.pending.drain(..).filter_map(|pending| pending.ends).last();
        if let Some(seq) = last {
            self.persisted = seq;
            out.push(Output::Persisted { seq });
        }
    }

    fn build(&mut self, selected: &Selected, at: Place) -> Result<Bytes, Halt> {
        let opens = self.must_open;
        let checkpoints = self.groups.values().map(|log| &log.checkpoint);
        let opening = if opens { frame::opening_len(checkpoints) } else { 0 };
        self.builder.begin(selected.bytes + opening);
        if opens {
            self.put_opening();
        }
        let completes = self.put_records(selected.items, at)?;
        let number = self.tail.map_or(1, |tail| tail.last_group + 1);
        let bytes = self.builder.seal(self.identity, self.boot, at.segment, number, opens);
        let end = at.group + bytes.len() as u64;
        self.tail = Some(Predecessor { segment: at.segment, last_group: number, end });
        self.flight = Some(Flight { unanswered: 2, completes, at });
        if opens {
            self.opened(at.segment, end);
        }
        Ok(bytes)
    }

    fn put_opening(&mut self) {
        let checkpoints = u32::try_from(self.groups.len()).expect("bounded by MAX_GROUPS");
        self.builder.opening(&Opening { predecessor: self.tail, checkpoints });
        let forgets = PlantedBug::ForgetVoteWithSegment.is(self.planted);
        for (group, log) in &self.groups {
            if forgets {
                let mut checkpoint = log.checkpoint.clone();
                checkpoint.hard_state.vote = None;
                self.builder.checkpoint(*group, &checkpoint);
            } else {
                self.builder.checkpoint(*group, &log.checkpoint);
            }
        }
    }

    /// Takes the first `items` that wait; returns the last batch that ends among them.
    fn put_records(&mut self, items: usize, at: Place) -> Result<Option<Seq>, Halt> {
        let mut completes = None;
        for pending in self.pending.drain(..items) {
            completes = pending.ends.or(completes);
            let Some(record) = pending.record else { continue };
            self.pending_bytes -= framed_len(&record);
            let group = record.group();
            let log = self.groups.entry(group).or_default();
            let place = Place { record: self.builder.position(), ..at };
            log.apply(&record, place, self.config.index_stride)
                .map_err(|why| Halt::Misplaced { group, what: why.0 })?;
            self.builder.record(&record);
            self.released |= matches!(record, Record::Release { .. } | Record::Installed { .. });
        }
        if self.groups.len() > limits::MAX_GROUPS {
            return Err(Halt::Driver("more than MAX_GROUPS groups"));
        }
        Ok(completes)
    }
}
