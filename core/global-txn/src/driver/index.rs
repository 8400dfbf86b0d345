//! The indexes: takes up what is due, reads ahead, and forgets what is old.

use quorate_kv::{KeyRange, RangeRequest, RangeResult, TxnRequest};

use crate::api::{Config, Halt, TxnOutcome};
use crate::keys;
use crate::limits::{
    AGENDA_WINDOW_MS, INDEX_PAGE, MAX_ACTIVE, MAX_CALLS, PURGE_BATCH, PURGE_INTERVAL_MS,
};
use crate::machine::Context;
use crate::planted::Bug;
use crate::write;

use super::{Driver, Proposed, Reading};

/// Transactions that are taken up in one step; the step is to stay short.
const TAKEN_PER_STEP: usize = 128;

/// Where the reading of indexes stands.
#[derive(Debug, Default)]
pub(super) struct Index {
    is_reading: bool,
    /// Group time, in ms, of the next look for old transactions.
    purge_ms: u64,
    is_purging: bool,
}

impl Driver {
    /// Whether one more transaction can be worked on. Those that are being read have their place already: what is
    /// read in vain has to be read again.
    pub(super) fn has_room(&self, config: &Config) -> bool {
        let taken = self.active.len() + self.taking;
        taken < config.bound(MAX_ACTIVE, 2) && self.calls.len() < MAX_CALLS
    }

    pub(super) fn tick_index(&mut self, cx: &mut Context<'_>) {
        for _ in 0..TAKEN_PER_STEP {
            if !self.has_room(cx.config) {
                break;
            }
            let Some(gid) = self.agenda.pop_due(cx.now.group_ms) else { break };
            let read = cx.read(write::get(keys::record(&gid)));
            self.reads.insert(read, Reading::Due(gid));
            self.taking += 1;
        }
        if self.wants_agenda(cx.config, cx.now.group_ms) && !cx.config.is_planted(Bug::IndexNotRead)
        {
            self.read_agenda(cx);
        }
        if !self.index.is_purging && self.index.purge_ms <= cx.now.group_ms {
            self.look_for_old(cx);
        }
    }

    /// When there is something to do about the indexes next, in ms of group time.
    pub(super) fn index_deadline(&self, config: &Config, now_ms: u64) -> Option<u64> {
        if self.wants_agenda(config, now_ms) && !config.is_planted(Bug::IndexNotRead) {
            return Some(now_ms);
        }
        let due = self.agenda.first_ms().filter(|_| self.has_room(config));
        let ahead = self.agenda.horizon().map(|(ms, _)| ms.saturating_sub(AGENDA_WINDOW_MS / 2));
        let ahead = ahead.filter(|_| !self.index.is_reading && self.has_room_to_read(config));
        let purge = (!self.index.is_purging).then_some(self.index.purge_ms);
        due.into_iter().chain(ahead).chain(purge).min()
    }

    /// Whether the agenda shall reach further, and can.
    fn wants_agenda(&self, config: &Config, now_ms: u64) -> bool {
        let reaches = |ms: &u64| *ms > now_ms.saturating_add(AGENDA_WINDOW_MS / 2);
        let is_short = self.agenda.horizon().is_none_or(|(ms, _)| !reaches(ms));
        is_short && !self.index.is_reading && self.has_room_to_read(config)
    }

    fn has_room_to_read(&self, config: &Config) -> bool {
        self.agenda.has_room_for(config.bound(INDEX_PAGE, 1))
    }

    fn read_agenda(&mut self, cx: &mut Context<'_>) {
        let until_ms = cx.now.group_ms.saturating_add(AGENDA_WINDOW_MS);
        let range = keys::due_range(self.agenda.horizon(), until_ms);
        let limit = cx.config.bound(INDEX_PAGE, 1) as i64;
        let request = RangeRequest { range, limit, keys_only: true, ..RangeRequest::default() };
        let read = cx.read(request);
        self.index.is_reading = true;
        self.reads.insert(read, Reading::Agenda(until_ms));
    }

    pub(super) fn agenda_read(
        &mut self,
        cx: &mut Context<'_>,
        until_ms: u64,
        result: &RangeResult,
    ) -> Result<(), Halt> {
        self.index.is_reading = false;
        let mut last = None;
        for kv in &result.kvs {
            let entry = keys::of_index(&kv.key);
            let (ms, gid) = entry.ok_or_else(|| Halt("an entry of the due index".to_owned()))?;
            if !self.active.contains_key(&gid) {
                self.agenda.read(&gid, ms);
            }
            last = Some((ms, Some(gid)));
        }
        let horizon = last.filter(|_| result.more).unwrap_or((until_ms, None));
        self.agenda.reach(horizon);
        self.tick_index(cx);
        Ok(())
    }

    fn look_for_old(&mut self, cx: &mut Context<'_>) {
        let Some(until_ms) = cx.now.group_ms.checked_sub(cx.config.retention_ms) else {
            self.index.purge_ms = cx.now.group_ms + PURGE_INTERVAL_MS;
            return;
        };
        let range = keys::done_range(until_ms);
        let limit = PURGE_BATCH as i64;
        let request = RangeRequest { range, limit, keys_only: true, ..RangeRequest::default() };
        let read = cx.read(request);
        self.index.is_purging = true;
        self.reads.insert(read, Reading::Old);
    }

    pub(super) fn purge(&mut self, cx: &mut Context<'_>, result: &RangeResult) -> Result<(), Halt> {
        self.index.purge_ms = cx.now.group_ms + PURGE_INTERVAL_MS;
        let Some(epoch) = self.epoch().filter(|_| !result.kvs.is_empty()) else {
            self.index.is_purging = false;
            return Ok(());
        };
        let mut txn = TxnRequest::default();
        txn.compare.push(write::stands_at(keys::own(), epoch));
        for kv in &result.kvs {
            let entry = keys::of_index(&kv.key);
            let (_, gid) = entry.ok_or_else(|| Halt("an entry of the done index".to_owned()))?;
            txn.success.push(write::delete(KeyRange::single(kv.key.clone())));
            txn.success.push(write::delete(KeyRange::single(keys::record(&gid))));
            let rest = [keys::content_and_parts, keys::results, keys::calls, keys::audits];
            txn.success.extend(rest.map(|range| write::delete(range(&gid))));
        }
        if result.more {
            self.index.purge_ms = cx.now.group_ms;
        }
        let id = cx.txn(txn);
        self.txns.insert(id, Proposed::Purge);
        Ok(())
    }

    /// A purge is through. What was refused is found again at the next look.
    pub(super) fn purged(&mut self, cx: &mut Context<'_>, outcome: &TxnOutcome) {
        self.index.is_purging = false;
        if !matches!(outcome, TxnOutcome::Done(result) if result.succeeded) {
            self.index.purge_ms = cx.now.group_ms + PURGE_INTERVAL_MS;
        }
    }
}
