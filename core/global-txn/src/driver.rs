//! The driver: on the leader, brings transactions to their end.
//!
//! It takes ownership by writing `own/0`; the revision of that write is its *epoch*. From then on it knows of
//! every transaction that has something to do now (`active`), and of those that wait (`agenda`, as far as it
//! reaches into the due index). An active transaction is advanced again and again:
//!
//! ```text
//!          ┌──────────────── applied ◄── Txn(epoch, record unchanged) ◄── transition ◄─┐
//!          ▼                                                                           │ events
//!   plan(record) ──► calls ──► load URL and payload ──► Call … answer ─────────────────┤
//!          │  └────► time out, nothing to call ────────────────────────────────────────┘
//!          └───────► wait: back to the agenda, unless a call is under way
//! ```
//!
//! Invariants: one write at a time for each transaction; no call while there is something to write, so that
//! whatever is called is justified by an applied record; nothing outlives the loss of leadership.
//!
//! Events that could not be written (lost race, overload, unknown outcome) are kept and decided again over the
//! record as it then is. Deciding one twice does no harm: what has ended ends once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_kv::{
    Event as KvEvent, KeyValue, OpResult, RangeResult, Revision, TxnRequest, TxnResult,
};
use quorate_outcall::{CallId, Wire};

use crate::agenda::Agenda;
use crate::api::{Config, Figures, Halt, Now, ReadId, TxnId, TxnOutcome};
use crate::gid::GlobalTxnId;
use crate::kind::Target;
use crate::limits::{MAX_AGENDA, OWN_PAUSE_MS, REFUSED_PAUSE_MS, REJECTED_PAUSE_MS, RESTAMP_MS};
use crate::machine::Context;
use crate::planted::Bug;
use crate::record::{Kind, Record, Status};
use crate::tally::Tally;
use crate::transition::Event;
use crate::write::{self, Found};
use crate::{codec, keys};

mod active;
mod ahead;
mod alert;
mod index;
mod load;

use active::Active;
use index::Index;

/// See the module.
#[derive(Debug)]
pub(crate) struct Driver {
    role: Role,
    active: BTreeMap<GlobalTxnId, Active>,
    agenda: Agenda,
    index: Index,
    calls: BTreeMap<CallId, Calling>,
    txns: BTreeMap<TxnId, Proposed>,
    reads: BTreeMap<ReadId, Reading>,
    /// How many of them are of transactions whose time has come.
    taking: usize,
    /// Active transactions that want to be looked at, by group time in ms.
    wakes: BTreeSet<(u64, GlobalTxnId)>,
    /// Transactions that have not ended though one of their calls failed often.
    stuck: BTreeSet<GlobalTxnId>,
    /// Active transactions whose write was refused, by this process's time.
    pauses: BTreeSet<(Duration, GlobalTxnId)>,
    figures: Figures,
    tally: Tally,
}

/// Whether it drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Another node leads.
    Idle,
    /// This node leads; ownership is to be taken from then on.
    Pausing(Duration),
    /// It is being taken.
    Taking,
    /// It was taken at this revision.
    Driving(Revision),
}

/// What a call is for.
#[derive(Clone, Debug)]
struct Calling {
    gid: GlobalTxnId,
    target: Target,
    wire: Wire,
    url: String,
}

/// What a proposal is for.
#[derive(Clone, Debug)]
enum Proposed {
    Ownership,
    Change(GlobalTxnId),
    Purge,
}

/// What a read is for.
#[derive(Clone, Debug)]
enum Reading {
    /// A record whose time has come.
    Due(GlobalTxnId),
    /// A record after a write of unknown outcome.
    Again(GlobalTxnId, TxnId),
    /// Content and parts for calls.
    Load(GlobalTxnId),
    /// The next page of the due index, up to this time.
    Agenda(u64),
    /// Finished transactions that can be forgotten.
    Old,
}

impl Driver {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            role: Role::Idle,
            active: BTreeMap::new(),
            agenda: Agenda::new(config.bound(MAX_AGENDA, 3)),
            index: Index::default(),
            calls: BTreeMap::new(),
            txns: BTreeMap::new(),
            reads: BTreeMap::new(),
            taking: 0,
            wakes: BTreeSet::new(),
            stuck: BTreeSet::new(),
            pauses: BTreeSet::new(),
            figures: Figures::default(),
            tally: Tally::default(),
        }
    }
}

impl Driver {
    pub(crate) fn lead(&mut self, cx: &mut Context<'_>) {
        self.forget(cx);
        self.role = Role::Pausing(cx.now.mono);
    }

    pub(crate) fn follow(&mut self, cx: &mut Context<'_>) {
        if Self::is_deaf(cx.config) {
            return;
        }
        self.forget(cx);
        self.role = Role::Idle;
    }

    /// Somebody else has taken ownership. If this node leads after all, it takes it back, but not at once.
    fn depose(&mut self, cx: &mut Context<'_>) {
        self.forget(cx);
        self.role = Role::Pausing(cx.now.mono + cx.jittered(OWN_PAUSE_MS));
    }

    /// Everything volatile; counters stay.
    fn forget(&mut self, cx: &mut Context<'_>) {
        std::mem::take(&mut self.calls).into_keys().for_each(|id| cx.cancel(id));
        let (figures, tally) = (self.figures, std::mem::take(&mut self.tally));
        *self = Self { figures, tally, ..Self::new(cx.config) };
    }

    fn take_ownership(&mut self, cx: &mut Context<'_>) {
        let put = write::put(keys::own(), bytes::Bytes::new());
        let txn = cx.txn(TxnRequest { success: vec![put], ..TxnRequest::default() });
        self.txns.insert(txn, Proposed::Ownership);
        self.role = Role::Taking;
    }

    fn ownership(&mut self, cx: &mut Context<'_>, outcome: &TxnOutcome) {
        if self.role != Role::Taking {
            return;
        }
        self.role = match outcome {
            TxnOutcome::Done(result) => Role::Driving(result.revision),
            // If it was applied after all, the next one overwrites it.
            _ => Role::Pausing(cx.now.mono + cx.jittered(OWN_PAUSE_MS)),
        };
    }

    /// Ownership was written at this revision, by whomever.
    pub(crate) fn owned(&mut self, cx: &mut Context<'_>, revision: Revision) {
        let is_deposed = matches!(self.role, Role::Driving(epoch) if revision > epoch);
        if is_deposed && !Self::is_deaf(cx.config) {
            self.depose(cx);
        }
    }

    /// Planted: it does not hear that it is deposed.
    fn is_deaf(config: &Config) -> bool {
        config.is_planted(Bug::GoesOnDeposed) || config.is_planted(Bug::EpochNotCompared)
    }

    fn epoch(&self) -> Option<Revision> {
        match self.role {
            Role::Driving(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// Takes the outcome of a transaction; one of an earlier reign is ignored.
    pub(crate) fn txn(
        &mut self,
        cx: &mut Context<'_>,
        id: TxnId,
        outcome: TxnOutcome,
    ) -> Result<(), Halt> {
        match self.txns.remove(&id) {
            None => Ok(()),
            Some(Proposed::Ownership) => {
                self.ownership(cx, &outcome);
                Ok(())
            }
            Some(Proposed::Purge) => {
                self.purged(cx, &outcome);
                Ok(())
            }
            Some(Proposed::Change(gid)) if self.is_writing(&gid, id) => {
                self.proposed(cx, gid, id, &outcome)
            }
            Some(Proposed::Change(_)) => Ok(()),
        }
    }

    fn proposed(
        &mut self,
        cx: &mut Context<'_>,
        gid: GlobalTxnId,
        id: TxnId,
        outcome: &TxnOutcome,
    ) -> Result<(), Halt> {
        match outcome {
            TxnOutcome::Done(result) => return self.written(cx, &gid, result),
            TxnOutcome::Rejected => self.not_written(cx, &gid, REJECTED_PAUSE_MS),
            TxnOutcome::Refused(_) => self.not_written(cx, &gid, REFUSED_PAUSE_MS),
            TxnOutcome::Unknown => {
                let read = cx.read(write::get(keys::record(&gid)));
                self.reads.insert(read, Reading::Again(gid, id));
            }
        }
        Ok(())
    }

    /// Takes the result of a read; one of an earlier reign is ignored.
    pub(crate) fn range(
        &mut self,
        cx: &mut Context<'_>,
        id: ReadId,
        result: RangeResult,
    ) -> Result<(), Halt> {
        match self.reads.remove(&id) {
            None => Ok(()),
            Some(Reading::Due(gid)) => {
                self.taking -= 1;
                match result.kvs.first() {
                    None => Ok(()),
                    Some(kv) => self.stands(cx, &gid, write::decode(kv)?, kv.mod_revision, None),
                }
            }
            Some(Reading::Again(gid, id)) if self.is_writing(&gid, id) => {
                self.read_again(cx, &gid, Found::of(&result.kvs)?)
            }
            Some(Reading::Again(..)) => Ok(()),
            Some(Reading::Load(gid)) => self.loaded(cx, &gid, &result),
            Some(Reading::Agenda(until_ms)) => self.agenda_read(cx, until_ms, &result),
            Some(Reading::Old) => self.purge(cx, &result),
        }
    }

    /// Counts statuses that are entered: at the member that leads, also before it drives.
    pub(crate) fn count(&mut self, event: &KvEvent) -> Result<(), Halt> {
        let Some((kind, status)) = codec::peek(&event.kv.value) else { return Ok(()) };
        if self.role == Role::Idle {
            return Ok(());
        }
        let before = event.prev_kv.as_ref().and_then(|kv| codec::peek(&kv.value));
        if let Some(begun) = self.figures.begun.get_mut(kind) {
            *begun += u64::from(before.is_none());
        }
        let moved = before.is_none_or(|(_, before)| before != status);
        let entered = self.figures.entered.get_mut(kind).and_then(|kind| kind.get_mut(status));
        if let Some(entered) = entered {
            *entered += u64::from(moved);
        }
        self.count_passed_through(kind, before.map(|(_, before)| before), status);
        self.count_lost(kind, before.map(|(_, before)| before), status);
        if moved && Status::ALL.get(status).is_some_and(|status| status.is_final()) {
            self.tally.ended(&write::decode(&event.kv)?);
        }
        Ok(())
    }

    /// What has nothing to call succeeds in the moment in which it is submitted.
    fn count_passed_through(&mut self, kind: usize, before: Option<usize>, status: usize) {
        let place = |wanted: Status| Status::ALL.iter().position(|status| *status == wanted);
        let (submitted, succeed) = (place(Status::Submitted), place(Status::Succeed));
        let is_end = Some(status) == succeed && before != submitted && before != succeed;
        if is_end && Kind::ALL.get(kind).is_some_and(|kind| *kind != Kind::Workflow) {
            let entered = submitted.and_then(|at| self.figures.entered[kind].get_mut(at));
            *entered.expect("a status is one of all") += 1;
        }
    }

    /// Those that will not happen, by how far they had come.
    fn count_lost(&mut self, kind: usize, before: Option<usize>, status: usize) {
        let named = |place: usize| Status::ALL.get(place).copied();
        let is_lost = matches!(named(status), Some(Status::Aborting | Status::Failed));
        let counts = match before.and_then(named) {
            Some(Status::Prepared) => &mut self.figures.given_up,
            Some(Status::Submitted) => &mut self.figures.turned_back,
            _ => return,
        };
        if let Some(count) = counts.get_mut(kind) {
            *count += u64::from(is_lost);
        }
    }

    /// A record has changed. One that was made under a time that is not the group's is stamped anew: its node's
    /// estimate lagged.
    pub(crate) fn changed(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        kv: &KeyValue,
    ) -> Result<(), Halt> {
        let is_own = self.active.get(gid).is_some_and(|active| active.is_own(&kv.value));
        if self.epoch().is_none() || is_own {
            return Ok(());
        }
        let record = write::decode(kv)?;
        let is_new = kv.create_revision == kv.mod_revision;
        let is_off = is_new && record.created_ms.abs_diff(cx.now.group_ms) > RESTAMP_MS;
        self.stands(cx, gid, record, kv.mod_revision, is_off.then_some(Event::Restamp))
    }

    /// This is how a record stands, and what is to be done to it at once.
    fn stands(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        record: Record,
        revision: Revision,
        event: Option<Event>,
    ) -> Result<(), Halt> {
        if self.active.contains_key(gid) {
            self.refresh(cx, gid, Some(record), revision)?;
            return self.advance(cx, gid);
        }
        match record.due_ms {
            None => {
                self.agenda.forget(gid);
                self.stuck.remove(gid);
            }
            Some(due)
                if (event.is_some() || due <= cx.now.group_ms) && self.has_room(cx.config) =>
            {
                self.agenda.forget(gid);
                let mut active = Active::new(record, revision);
                active.events.extend(event);
                self.active.insert(gid.clone(), active);
                return self.advance(cx, gid);
            }
            Some(due) => self.agenda.note(gid, due),
        }
        Ok(())
    }

    /// A record was forgotten.
    pub(crate) fn deleted(&mut self, cx: &mut Context<'_>, gid: &GlobalTxnId) {
        self.agenda.forget(gid);
        self.drop_active(cx, gid);
    }

    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) -> Result<(), Halt> {
        match self.role {
            Role::Pausing(until) if until <= cx.now.mono => self.take_ownership(cx),
            Role::Driving(_) => self.tick_driving(cx)?,
            _ => {}
        }
        Ok(())
    }

    fn tick_driving(&mut self, cx: &mut Context<'_>) -> Result<(), Halt> {
        while let Some((ms, _)) = self.wakes.first()
            && *ms <= cx.now.group_ms
            && let Some((_, gid)) = self.wakes.pop_first()
        {
            self.active.get_mut(&gid).expect("wakes are of active ones").wake_ms = None;
            self.advance(cx, &gid)?;
        }
        while let Some((until, _)) = self.pauses.first()
            && *until <= cx.now.mono
            && let Some((_, gid)) = self.pauses.pop_first()
        {
            self.active.get_mut(&gid).expect("pauses are of active ones").paused_until = None;
            self.advance(cx, &gid)?;
        }
        self.tick_index(cx);
        Ok(())
    }

    pub(crate) fn next_deadline(&self, config: &Config, now: Now) -> Option<Duration> {
        match self.role {
            Role::Pausing(until) => Some(until),
            Role::Driving(_) => {
                let wake = self.wakes.first().map(|(ms, _)| *ms);
                let group = wake.into_iter().chain(self.index_deadline(config, now.group_ms)).min();
                let group = group
                    .filter(|ms| *ms < u64::MAX)
                    .map(|ms| now.mono + Duration::from_millis(ms.saturating_sub(now.group_ms)));
                group.into_iter().chain(self.pauses.first().map(|(until, _)| *until)).min()
            }
            _ => None,
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            active: self.active.len(),
            waiting: self.agenda.len(),
            calls: self.calls.len(),
            is_driving: self.epoch().is_some(),
            stuck: self.stuck.len(),
            ..self.figures
        }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) fn invariants(&self) {
        self.agenda.invariants();
        let due = self.reads.values().filter(|read| matches!(read, Reading::Due(_))).count();
        assert_eq!(due, self.taking, "reads of due ones are miscounted");
        let busy: usize = self.active.values().map(|active| active.busy.len()).sum();
        assert_eq!(busy, self.calls.len(), "each call belongs to an active transaction");
        for (gid, active) in &self.active {
            active.invariants(gid);
        }
        let waking = self.active.values().filter(|active| active.wake_ms.is_some()).count();
        assert_eq!(waking, self.wakes.len(), "wakes are of active ones");
        let idle = !matches!(self.role, Role::Driving(_));
        assert!(!idle || self.active.is_empty(), "work without ownership");
    }
}

/// The mod revision that the first read of a failed comparison shows; 0: no such key.
fn revision_in(result: &TxnResult, index: usize) -> Result<Revision, Halt> {
    Ok(write::pairs(result, index)?.first().map_or(Revision(0), |kv| kv.mod_revision))
}

/// The revision that a transaction of the driver wrote at.
fn written_at(result: &TxnResult) -> Revision {
    match result.responses.first() {
        Some(OpResult::Put(put)) => put.revision,
        _ => result.revision,
    }
}
