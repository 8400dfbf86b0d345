//! Global transactions: what the committed log makes of them, what clients were told, what participants did.
//!
//! - *Calls*: a call leaves a server only when the record that justifies it has been applied there, and not after
//!   the server has applied that somebody else owns the shard. What was answered is written down by the owner alone.
//! - *Decisions*: each step from record to record is lawful; what a client was told stands, whatever crashed since;
//!   a message was delivered exactly if its sender committed; nothing but an operator forces anything.
//! - *Atomicity*: all or nothing by what the participants' databases say; nothing both confirmed and cancelled, no
//!   empty compensation, no try after its cancel; money is conserved. 3pc may split, but only where a branch that
//!   heard nothing went its own way. What an operator forced is his.
//! - *End*: what was accepted ends when the faults have.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_consensus::{NodeId, Origin};
use quorate_global_txn::{GlobalTxnId, Kind, Op, Record, Reply, Request, RowStatus, Status, keys};
use quorate_kv::{EventBatch, EventKind};

use super::Property;
use crate::global::GlobalTally;
use crate::global::service::{Branch, Named, Service};

/// Changes in the layers' keyspace.
#[derive(Clone, Debug)]
pub struct Internal {
    /// The entry's index.
    pub index: u64,
    /// Who proposed it.
    pub origin: Origin,
    /// The changes.
    pub batch: EventBatch,
}

/// A result of a check.
pub(super) type Verdict = (Property, Result<(), String>);

/// See the module.
#[derive(Debug, Default)]
pub struct GlobalTxns {
    learned: usize,
    histories: BTreeMap<String, History>,
    owners: Vec<(u64, Origin)>,
    operated: BTreeSet<String>,
    claims: Vec<(String, Claim)>,
}

#[derive(Debug)]
struct History {
    last: Record,
    /// Each status, and the entry that led to it.
    entered: Vec<(u64, Status)>,
    is_forgotten: bool,
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It is there.
    Accepted,
    /// It shall happen.
    Submitted,
    /// It shall not.
    Aborted,
    /// It has ended like this.
    Ended(Status),
}

impl GlobalTxns {
    /// Learns what has been committed since.
    pub fn learn(&mut self, all: &[Internal]) -> Vec<Verdict> {
        let fresh = &all[self.learned..];
        self.learned = all.len();
        fresh.iter().flat_map(|internal| self.learn_one(internal)).collect()
    }

    fn learn_one(&mut self, internal: &Internal) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for event in internal.batch.events.iter() {
            let key = &event.kv.key[..];
            if let Some(gid) = keys::gid_of_record(key) {
                let result = match event.kind {
                    EventKind::Put => self.put(internal.index, &gid, &event.kv.value),
                    EventKind::Delete => self.forgotten(&gid),
                };
                verdicts.push((Property::GlobalDecisions, result));
            } else if key == b"own/0" {
                self.owners.push((internal.index, internal.origin));
            } else if key.starts_with(b"log/") && event.kind == EventKind::Put {
                verdicts.push((Property::GlobalCalls, self.written_down(internal)));
            }
        }
        verdicts
    }

    /// What a call was answered is written by whoever owns the shard at that place of the log.
    fn written_down(&self, internal: &Internal) -> Result<(), String> {
        let owner = self.owners.last().map(|(_, origin)| (origin.node, origin.boot));
        let by = (internal.origin.node, internal.origin.boot);
        if owner == Some(by) {
            return Ok(());
        }
        Err(format!("at {} {by:?} writes an answer down, but {owner:?} owns", internal.index))
    }

    fn put(&mut self, index: u64, gid: &GlobalTxnId, value: &Bytes) -> Result<(), String> {
        let next = Record::decode(value).map_err(|cause| format!("{gid}: {cause}"))?;
        consistent(gid, &next)?;
        if next.is_forced && !self.operated.contains(gid.as_str()) {
            return Err(format!("{gid} was forced, by nobody"));
        }
        let Some(history) = self.histories.get_mut(gid.as_str()) else {
            let entered = vec![(index, next.status)];
            let history = History { last: next, entered, is_forgotten: false };
            self.histories.insert(gid.to_string(), history);
            return Ok(());
        };
        if history.is_forgotten {
            return Err(format!("{gid} was forgotten and begins again"));
        }
        lawful(gid, &history.last, &next)?;
        if history.last.status != next.status {
            history.entered.push((index, next.status));
        }
        history.last = next;
        Ok(())
    }

    fn forgotten(&mut self, gid: &GlobalTxnId) -> Result<(), String> {
        let Some(history) = self.histories.get_mut(gid.as_str()) else { return Ok(()) };
        history.is_forgotten = true;
        match history.last.status.is_final() {
            true => Ok(()),
            false => Err(format!("{gid} was forgotten in status {:?}", history.last.status)),
        }
    }

    /// An operator is about to do something to it.
    pub fn operated(&mut self, gid: &str) {
        self.operated.insert(gid.to_owned());
    }

    /// A server calls a participant. `applied`: before this turn of it and now.
    ///
    /// # Errors
    /// Nothing that it has applied justifies that.
    pub(crate) fn may_call(
        &self,
        node: NodeId,
        (before, now): (u64, u64),
        named: &Named,
    ) -> Result<(), String> {
        let owner = self.owners.iter().rev().find(|(index, _)| *index <= before);
        let took =
            self.owners.iter().any(|(i, origin)| *i <= now && *i > before && origin.node == node);
        if !took && owner.is_none_or(|(_, origin)| origin.node != node) {
            return Err(format!("node {node} at {now} calls {named:?}, but {owner:?} owns"));
        }
        let entered = self.histories.get(&named.gid).map_or(&[][..], |history| &history.entered);
        let wanted: &[Status] = match named.op.as_str() {
            "cancel" | "rollback" | "compensate" | "abort" => &[Status::Aborting],
            "confirm" | "commit" | "action" | "can_commit" | "pre_commit" | "do_commit" => {
                &[Status::Submitted]
            }
            _ => &[Status::Prepared],
        };
        let is_justified =
            entered.iter().any(|(index, status)| *index <= now && wanted.contains(status));
        match is_justified {
            true => Ok(()),
            false => Err(format!("node {node} at {now} calls {named:?}; the log says {entered:?}")),
        }
    }

    /// A client is answered.
    ///
    /// # Errors
    /// The log does not say so.
    pub fn told(&mut self, request: &Request, reply: &Reply) -> Result<(), String> {
        let Some((gid, claim)) = claim(request, reply) else { return Ok(()) };
        if matches!(request, Request::Operate { .. } | Request::ForceStop { .. }) {
            return Ok(());
        }
        self.claims.push((gid.clone(), claim));
        self.holds(&gid, claim)
    }

    fn holds(&self, gid: &str, claim: Claim) -> Result<(), String> {
        let Some(history) = self.histories.get(gid) else {
            return Err(format!("{gid}: a client was told {claim:?}, the log knows nothing of it"));
        };
        let Record { kind, status, is_forced, .. } = history.last;
        let may_go_back = matches!(kind, Kind::Saga | Kind::ThreePhase);
        let holds = match claim {
            Claim::Accepted => true,
            Claim::Submitted => {
                matches!(status, Status::Submitted | Status::Succeed)
                    || may_go_back && status != Status::Prepared
            }
            Claim::Aborted => matches!(status, Status::Aborting | Status::Failed),
            Claim::Ended(end) => status == end,
        };
        if holds || is_forced {
            return Ok(());
        }
        Err(format!("{gid}: a client was told {claim:?}, it went {:?}", history.entered))
    }

    /// What has been accepted and has not ended.
    #[must_use]
    pub fn unfinished(&self) -> Option<String> {
        let open = self.histories.iter().filter(|(_, history)| !history.last.status.is_final());
        let mut open = open.map(|(gid, history)| {
            let Record { status, due_ms, .. } = history.last;
            let rows = history.last.rows.iter();
            let rows =
                rows.map(|row| (row.branch_id.as_str(), row.op.name(), row.status, &row.tries));
            format!("{gid} is {status:?}, due at {due_ms:?}, rows {:?}", rows.collect::<Vec<_>>())
        });
        open.next()
    }

    /// Counts what became of all.
    pub(crate) fn count(&self, tally: &mut GlobalTally) {
        let of = |status| {
            let with = self.histories.values().filter(|history| history.last.status == status);
            with.count() as u64
        };
        tally.begun = self.histories.len() as u64;
        (tally.succeeded, tally.failed) = (of(Status::Succeed), of(Status::Failed));
        let forced = self.histories.values().filter(|history| history.last.is_forced);
        tally.forced = forced.count() as u64;
        tally.reigns = self.owners.len() as u64;
    }

    /// What the participants' databases say, and what clients were told, against how everything ended.
    pub(crate) fn at_the_end(&self, services: &[Service], money: i64) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = Vec::new();
        for (gid, claim) in &self.claims {
            verdicts.push((Property::GlobalDecisions, self.holds(gid, *claim)));
        }
        let mut effects: BTreeMap<&str, BTreeMap<&str, &Branch>> = BTreeMap::new();
        for service in services {
            for ((gid, branch_id), branch) in &service.branches {
                effects.entry(gid).or_default().insert(branch_id, branch);
            }
        }
        let mut excused = 0;
        let mut holds_back = false;
        for (gid, branches) in &effects {
            let Some(history) = self.histories.get(*gid) else {
                let result = Err(format!("{gid} is in no log, its branches saw {branches:?}"));
                verdicts.push((Property::GlobalAtomicity, result));
                continue;
            };
            let is_split = branches.values().any(|branch| branch.is_own_way);
            let is_forced = history.last.is_forced;
            if is_forced || is_split {
                excused += branches.values().map(|branch| branch.moved).sum::<i64>();
                holds_back |= is_forced;
            }
        }
        for (gid, history) in &self.histories {
            let none = BTreeMap::new();
            let branches = effects.get(gid.as_str()).unwrap_or(&none);
            if history.last.is_forced {
                excused += sender_moved(services, gid);
                continue;
            }
            verdicts.push((Property::GlobalAtomicity, all_or_nothing(gid, history, branches)));
            verdicts.push((Property::GlobalDecisions, sender_agrees(services, gid, history)));
        }
        // What a sender took for a message that is in no log was taken for nothing.
        let unknown = services.iter().flat_map(|service| service.local.iter());
        let unknown =
            unknown.filter(|(gid, (is_done, _))| *is_done && !self.histories.contains_key(*gid));
        for (gid, _) in unknown {
            let result = Err(format!("{gid}: its sender committed, and it is in no log"));
            verdicts.push((Property::GlobalDecisions, result));
        }
        verdicts
            .push((Property::GlobalAtomicity, conserved(services, money + excused, holds_back)));
        verdicts
    }
}

/// What an answer promises.
fn claim(request: &Request, reply: &Reply) -> Option<(String, Claim)> {
    let (gid, on_success) = match request {
        Request::Prepare(body) | Request::PrepareWorkflow(body) => (&body.gid, Claim::Accepted),
        Request::RegisterBranch(branch) => (&branch.gid, Claim::Accepted),
        Request::Abort { gid, .. } => (gid, Claim::Aborted),
        Request::Submit(body) => {
            let waited = body.options.wait_result.then_some(Claim::Ended(Status::Succeed));
            let end = body.outcome.as_ref().and_then(|outcome| Status::named(&outcome.status));
            let claim = end.map(Claim::Ended).or(waited).unwrap_or(Claim::Submitted);
            (&body.gid, claim)
        }
        Request::ForceStop { gid } | Request::RetryNow { gid } | Request::Operate { gid, .. } => {
            (gid, Claim::Accepted)
        }
        _ => return None,
    };
    let claim = match reply {
        Reply::Done => on_success,
        Reply::Progress(progress) if progress.record.status.is_final() => {
            Claim::Ended(progress.record.status)
        }
        Reply::Progress(_) => Claim::Accepted,
        Reply::Refused(refused) => {
            let end = refused.status.filter(|status| status.is_final() && !refused.is_unknown);
            Claim::Ended(end?)
        }
    };
    Some((gid.clone(), claim))
}

/// What no step may do, written from the diagram of statuses and not from its code.
fn lawful(gid: &GlobalTxnId, before: &Record, after: &Record) -> Result<(), String> {
    let (from, to) = (before.status, after.status);
    let may_go_back = matches!(after.kind, Kind::Saga | Kind::ThreePhase) || after.is_forced;
    let is_lawful = match (from, to) {
        (a, b) if a == b => true,
        (Status::Succeed | Status::Failed, _) | (_, Status::Prepared) => false,
        (Status::Aborting, to) => to == Status::Failed,
        (Status::Submitted, Status::Aborting | Status::Failed) => may_go_back,
        _ => true,
    };
    let ended_once = before.rows.iter().zip(&after.rows).all(|(old, new)| {
        (&old.branch_id, &old.op) == (&new.branch_id, &new.op)
            && (old.status == RowStatus::Prepared || old.status == new.status)
    });
    let has_joined = after.rows.len() > before.rows.len();
    let is_decided = !matches!(from, Status::Prepared);
    let kept_kind = before.kind == after.kind && after.rows.len() >= before.rows.len();
    if is_lawful && ended_once && kept_kind && !(has_joined && is_decided) {
        return Ok(());
    }
    Err(format!("{gid} went from {before:?} to {after:?}"))
}

/// No branch is both confirmed and cancelled, and what is decided by hand is in the audit.
fn consistent(gid: &GlobalTxnId, record: &Record) -> Result<(), String> {
    let is_done = |branch: &str, op: &Op| {
        let mut rows = record.rows.iter().filter(|row| row.branch_id == branch && row.op == *op);
        rows.any(|row| row.status == RowStatus::Succeed)
    };
    let pairs = [(Op::Confirm, Op::Cancel), (Op::Commit, Op::Rollback)];
    let both = record.rows.iter().find(|row| {
        let branch = &row.branch_id;
        pairs.iter().any(|(yes, no)| is_done(branch, yes) && is_done(branch, no))
    });
    match both {
        Some(row) => Err(format!("{gid}: branch {} is told yes and no", row.branch_id)),
        None => Ok(()),
    }
}

fn all_or_nothing(
    gid: &str,
    history: &History,
    branches: &BTreeMap<&str, &Branch>,
) -> Result<(), String> {
    let record = &history.last;
    let all: BTreeSet<&str> = record.rows.iter().map(|row| row.branch_id.as_str()).collect();
    let strangers = branches.keys().filter(|branch| !all.contains(**branch));
    let empty = Branch::default();
    for branch_id in all.iter().chain(strangers) {
        let branch = branches.get(branch_id).copied().unwrap_or(&empty);
        let effects: Vec<&str> = branch.effects.iter().map(String::as_str).collect();
        let has_succeeded = record.status == Status::Succeed;
        let fits = allowed(record.kind, has_succeeded).contains(&effects.as_slice());
        let own_way: &[&[&str]] = match has_succeeded {
            true => &[&["can_commit", "pre_commit", "do_commit"]],
            false => &[&["can_commit", "drop"], &["can_commit", "pre_commit", "do_commit"]],
        };
        if !(fits || branch.is_own_way && own_way.contains(&effects.as_slice())) {
            return Err(format!(
                "{gid} went {:?}, its branch {branch_id} saw {effects:?}",
                history.entered
            ));
        }
    }
    Ok(())
}

/// What a branch may have seen in the end, business alone.
fn allowed(kind: Kind, has_succeeded: bool) -> &'static [&'static [&'static str]] {
    match (kind, has_succeeded) {
        (Kind::Tcc, true) => &[&["try", "confirm"]],
        (Kind::Tcc, false) => &[&[], &["try", "cancel"]],
        (Kind::Saga | Kind::Msg | Kind::Workflow, true) => &[&["action"]],
        (Kind::Saga, false) => &[&[], &["action", "compensate"]],
        (Kind::Xa, true) => &[&["action", "commit"]],
        (Kind::Xa | Kind::Workflow, false) => &[&[], &["action", "rollback"]],
        (Kind::ThreePhase, true) => &[&["can_commit", "pre_commit", "do_commit"]],
        (Kind::ThreePhase, false) => {
            &[&[], &["can_commit", "abort"], &["can_commit", "pre_commit", "abort"]]
        }
        (Kind::Msg, false) => &[&[]],
    }
}

/// A message was delivered exactly if its sender committed.
fn sender_agrees(services: &[Service], gid: &str, history: &History) -> Result<(), String> {
    if history.last.kind != Kind::Msg {
        return Ok(());
    }
    let has_committed =
        services.iter().any(|service| service.local.get(gid).is_some_and(|(done, _)| *done));
    let is_delivered = history.last.status == Status::Succeed;
    if has_committed == is_delivered {
        return Ok(());
    }
    Err(format!("{gid} went {:?}; its sender committed: {has_committed}", history.entered))
}

fn sender_moved(services: &[Service], gid: &str) -> i64 {
    let local = services.iter().filter_map(|service| service.local.get(gid));
    local.filter(|(is_done, _)| *is_done).map(|(_, amount)| *amount).sum()
}

/// Nothing was made or lost, and nothing is held back for transactions that have ended.
fn conserved(services: &[Service], expected: i64, may_hold_back: bool) -> Result<(), String> {
    let money: i64 = services.iter().map(|service| service.balance).sum();
    let reserved: i64 = services.iter().map(|service| service.reserved).sum();
    if money != expected {
        return Err(format!("there are {money} in all, there should be {expected}"));
    }
    if reserved != 0 && !may_hold_back {
        return Err(format!("{reserved} are held back for nobody"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
