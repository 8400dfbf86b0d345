//! Going on before a success is written.
//!
//! Once a transaction is decided, every branch has to be told whatever the others answer. So the record that justifies the
//! next call is the decision, not the success of the call before, and that success need not be durable before the next
//! call leaves: it is written with those that follow, at the latest with the end. A crash in between forgets that a
//! branch has acknowledged, and it is told once more, as after a lost reply.
//!
//! A saga's actions are another matter: what has been called is what will have to be compensated, and that is read from
//! the record. Nor does anything but a success wait: an error moves the next try, and the end is what clients wait for.

use crate::api::{Config, Now};
use crate::kind::{self, Plan};
use crate::limits::MAX_AHEAD_MS;
use crate::planted::Bug;
use crate::record::{Kind, Record, Status};
use crate::transition::{Event, Stamp, transition};

use super::active::Active;

/// A record as it will be when what has succeeded is written.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) record: Record,
    /// How many events it contains.
    events: usize,
    /// Group time, in ms, until which nothing need be written.
    pub(super) until_ms: u64,
}

impl Active {
    /// The record as this driver knows it: as applied last, or what it will be.
    pub(super) fn latest(&self) -> &Record {
        self.ahead.as_ref().map_or(&self.record, |ahead| &ahead.record)
    }

    /// Takes what has happened since into account without writing it; false if it has to be written.
    pub(super) fn goes_ahead(&mut self, config: &Config, now: Now) -> bool {
        if self.events.is_empty() {
            return true;
        }
        // Nothing of a success is spread.
        let at = Stamp { group_ms: now.group_ms, wall_ms: now.wall_ms, random: 0 };
        if !may_go_ahead(config, &self.record) {
            return false;
        }
        let (from, until_ms) = match &self.ahead {
            Some(ahead) => (ahead.events, ahead.until_ms),
            None => (0, at.group_ms.saturating_add(MAX_AHEAD_MS)),
        };
        if at.group_ms >= until_ms {
            return false;
        }
        let mut record = self.latest().clone();
        for event in self.events.iter().skip(from) {
            if !matches!(event, Event::Answered { answer: None, .. }) {
                return false;
            }
            let next = transition(config, &record, event, at);
            record = next.expect("what the driver sees is never refused");
        }
        let is_end = record.status.is_final();
        let is_under_way = !self.busy.is_empty() || is_callable(config, &record, at);
        self.ahead = Some(Ahead { record, events: self.events.len(), until_ms });
        !is_end && is_under_way
    }
}

fn may_go_ahead(config: &Config, record: &Record) -> bool {
    let is_planted = config.is_planted(Bug::CallAheadUndecided)
        && (record.kind, record.status) == (Kind::Saga, Status::Submitted);
    kind::is_decided(record) || is_planted
}

/// Whether something can be called at once.
fn is_callable(config: &Config, record: &Record, at: Stamp) -> bool {
    matches!(kind::plan(config, record, at.group_ms, &[].into()), Plan::Call(_))
}
