//! Segments around the one being written: the next one ahead of time, the old ones given up.

use super::{Halt, Output, Spare, Writer};
use crate::SegmentId;
use crate::limits::SPARE_AT;

impl Writer {
    /// The sync group under way opens `segment` and ends at `end`.
    pub(super) fn opened(&mut self, segment: SegmentId, end: u64) {
        self.must_open = false;
        self.opened_until = end;
        self.spare = Spare::None;
        self.chain.push_back(segment);
        // The checkpoints in it may be what the oldest segments were kept for.
        self.released = true;
    }

    /// Asks for the next segment, once there is reason to and if it has not been asked for.
    pub(super) fn ask_for_spare(&mut self, out: &mut Vec<Output>) {
        let end = self.tail.map_or(0, |tail| tail.end);
        let soon = end >= self.config.segment_bytes / SPARE_AT;
        if self.spare == Spare::None && (self.must_open || soon) {
            self.create(self.next_segment, out);
            self.next_segment = SegmentId(self.next_segment.0 + 1);
        }
    }

    fn create(&mut self, segment: SegmentId, out: &mut Vec<Output>) {
        self.spare = Spare::Asked(segment);
        out.push(Output::Create { segment, bytes: self.config.segment_bytes });
    }

    pub(super) fn created(
        &mut self,
        segment: SegmentId,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        if self.spare != Spare::Asked(segment) {
            return Err(Halt::Driver("created what was not asked for"));
        }
        self.spare = Spare::Ready(segment);
        if std::mem::take(&mut self.short_of_space) {
            out.push(Output::SpaceFound);
        }
        Ok(())
    }

    pub(super) fn create_no_space(
        &mut self,
        segment: SegmentId,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        if self.spare != Spare::Asked(segment) {
            return Err(Halt::Driver("no space for what was not asked for"));
        }
        self.spare = Spare::NoSpace(segment);
        if !std::mem::replace(&mut self.short_of_space, true) {
            out.push(Output::NoSpace);
        }
        Ok(())
    }

    pub(super) fn retry(&mut self, out: &mut Vec<Output>) {
        if let Spare::NoSpace(segment) = self.spare {
            self.create(segment, out);
        }
    }

    /// Gives up the oldest segments that hold no entry any group still needs. What else they said
    /// stands in the checkpoints of a later segment. Called when nothing is under way, so that
    /// what is known here is durable.
    pub(super) fn delete_released(&mut self, out: &mut Vec<Output>) {
        assert!(self.flight.is_none(), "a release counts once it is durable");
        let Some(&current) = self.chain.back() else { return };
        let oldest = self.groups.values().filter_map(|log| log.oldest_segment()).min();
        let needed = oldest.unwrap_or(current);
        while let Some(&segment) = self.chain.front().filter(|front| **front < needed) {
            assert_ne!(segment, current, "the current segment is needed");
            self.chain.pop_front();
            self.deleting += 1;
            out.push(Output::Delete { segment });
        }
    }
}
