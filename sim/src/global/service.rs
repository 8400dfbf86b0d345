//! Participants: services that keep an account and a barrier in one local database, and that crash.
//!
//! Each call is one local transaction: the barrier's rows (the spec's 3.2) and the business, both or neither.
//! What has been committed survives a crash; a call that is being answered loses its answer.
//!
//! A branch moves `amount` (negative: away from the account). Where a first phase only reserves, the amount lies
//! in `reserved` until the second. So money is conserved as soon as everything has ended: a transaction that
//! succeeded has moved amounts that sum to nothing, one that failed has moved none.

use std::collections::{BTreeMap, BTreeSet};

use crate::queue::Time;

/// Gid, kind, branch and operation of a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    pub(crate) gid: String,
    pub(crate) kind: String,
    pub(crate) branch_id: String,
    pub(crate) op: String,
}

/// What a call says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) named: Named,
    /// What its payload says is to be moved; the second phase of XA says nothing.
    pub(crate) amount: Option<i64>,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done, now or before.
    Done,
    /// Refused: nothing changed.
    Refused,
}

/// One branch in one service's database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branch {
    pub(crate) amount: i64,
    /// What its business has moved for good.
    pub(crate) moved: i64,
    /// Business that took place, in order. `drop`: a vote of 3pc was given up.
    pub(crate) effects: Vec<String>,
    /// A branch of 3pc that heard nothing for too long went its own way.
    pub(crate) is_own_way: bool,
    /// When it last heard of its coordinator.
    pub(crate) heard: Time,
}

/// A service.
#[derive(Debug, Default)]
pub(crate) struct Service {
    pub(crate) balance: i64,
    pub(crate) reserved: i64,
    pub(crate) is_down: bool,
    /// Number of its present life: answers of an earlier one are lost.
    pub(crate) life: u64,
    /// Its barrier is broken on purpose.
    pub(crate) has_no_barrier: bool,
    /// Calls that the barrier let do nothing.
    pub(crate) kept_out: u64,
    barrier: BTreeSet<(String, String, String)>,
    pub(crate) branches: BTreeMap<(String, String), Branch>,
    /// Local transactions of messages' senders: whether they committed, and what they moved.
    pub(crate) local: BTreeMap<String, (bool, i64)>,
}

impl Service {
    pub(crate) fn new(balance: i64, has_no_barrier: bool) -> Self {
        Self { balance, has_no_barrier, ..Self::default() }
    }

    /// Carries a call out. `refuses`: the business has a reason to say no, where it may.
    pub(crate) fn call(&mut self, asked: &Asked, refuses: bool, now: Time) -> Verdict {
        let Named { gid, op, .. } = &asked.named;
        match op.as_str() {
            "local" => return self.commit_locally(gid, asked.amount.unwrap_or(0), refuses),
            "msg" => return self.checked_back(gid),
            _ => {}
        }
        let key = (gid.clone(), asked.named.branch_id.clone());
        if self.has(asked, "abort") || self.has(asked, "drop") {
            match op.as_str() {
                "pre_commit" | "do_commit" => return Verdict::Refused,
                _ => {}
            }
        }
        if !self.would_act(asked) {
            self.kept_out += 1;
            self.pass_barrier(asked);
            return Verdict::Done;
        }
        let lacks = asked.amount.is_some_and(|amount| self.balance - self.reserved + amount < 0);
        if may_refuse(&asked.named) && (refuses || lacks) {
            return Verdict::Refused;
        }
        self.pass_barrier(asked);
        self.do_business(key, asked, now);
        Verdict::Done
    }

    fn has(&self, asked: &Asked, op: &str) -> bool {
        let Named { gid, branch_id, .. } = &asked.named;
        self.barrier.contains(&(gid.clone(), branch_id.clone(), op.to_owned()))
    }

    /// Whether the barrier lets a call through to the business: it is no repetition, its undoing has not come
    /// before it, and it does not undo what has not been done.
    pub(crate) fn would_act(&self, asked: &Asked) -> bool {
        if self.has_no_barrier {
            return true;
        }
        let undoes_nothing = origin(&asked.named.op).is_some_and(|op| !self.has(asked, op));
        // Commit and confirm end what abort, rollback and cancel would end, too.
        let is_over =
            asked.named.op == "abort" && (self.has(asked, "do_commit") || self.has(asked, "drop"));
        !self.has(asked, &asked.named.op) && !undoes_nothing && !is_over
    }

    fn pass_barrier(&mut self, asked: &Asked) {
        let Named { gid, branch_id, op, .. } = &asked.named;
        let ops = origin(op).into_iter().chain([op.as_str()]);
        let rows = ops.map(|op| (gid.clone(), branch_id.clone(), op.to_owned()));
        self.barrier.extend(rows);
    }

    fn do_business(&mut self, key: (String, String), asked: &Asked, now: Time) {
        let branch = self.branches.entry(key.clone()).or_default();
        if let Some(amount) = asked.amount {
            branch.amount = amount;
        }
        branch.heard = now;
        branch.effects.push(asked.named.op.clone());
        self.book(key, &asked.named.kind, &asked.named.op);
    }

    /// Moves money, or a reservation of it.
    fn book(&mut self, key: (String, String), kind: &str, op: &str) {
        let branch = self.branches.entry(key).or_default();
        let (amount, before) = (branch.amount, self.balance);
        let held = (-amount).max(0);
        match (kind, op) {
            ("tcc", "try") | ("xa", "action") | ("3pc", "can_commit") => self.reserved += held,
            (_, "confirm" | "commit" | "do_commit") => {
                self.reserved -= held;
                self.balance += amount;
            }
            ("tcc", "cancel") | ("xa", "rollback") | ("3pc", "abort" | "drop") => {
                self.reserved -= held;
            }
            ("saga" | "workflow" | "msg", "action") => self.balance += amount,
            ("saga" | "workflow", "compensate" | "rollback") => self.balance -= amount,
            _ => {}
        }
        branch.moved += self.balance - before;
    }

    /// The sender's own transaction, which the message stands for. A check-back that came first has settled that
    /// it never commits.
    fn commit_locally(&mut self, gid: &str, amount: i64, refuses: bool) -> Verdict {
        match self.local.get(gid) {
            Some((true, _)) => return Verdict::Done,
            Some((false, _)) => return Verdict::Refused,
            // Written down, as its application will abort the message: the request may come a second time, late.
            None if refuses || self.balance - self.reserved + amount < 0 => {
                self.local.insert(gid.to_owned(), (false, 0));
                return Verdict::Refused;
            }
            None => {}
        }
        self.balance += amount;
        self.local.insert(gid.to_owned(), (true, amount));
        Verdict::Done
    }

    fn checked_back(&mut self, gid: &str) -> Verdict {
        match self.local.entry(gid.to_owned()).or_insert((false, 0)) {
            (true, _) => Verdict::Done,
            (false, _) => Verdict::Refused,
        }
    }

    /// The rule of 3pc that keeps a participant from blocking: one that hears nothing any more drops what it
    /// has voted for, and commits what was announced. `since`: what it was waiting at.
    pub(crate) fn hears_nothing(&mut self, gid: &str, branch_id: &str, since: Time) -> bool {
        let key = (gid.to_owned(), branch_id.to_owned());
        let Some(branch) = self.branches.get_mut(&key).filter(|b| b.heard == since) else {
            return false;
        };
        let op = match branch.effects.last().map(String::as_str) {
            Some("can_commit") => "drop",
            Some("pre_commit") => "do_commit",
            _ => return false,
        };
        branch.is_own_way = true;
        branch.effects.push(op.to_owned());
        self.barrier.insert((gid.to_owned(), branch_id.to_owned(), op.to_owned()));
        self.book(key, "3pc", op);
        true
    }
}

/// The operation that another one undoes.
fn origin(op: &str) -> Option<&'static str> {
    match op {
        "cancel" => Some("try"),
        "compensate" | "rollback" => Some("action"),
        "abort" => Some("can_commit"),
        _ => None,
    }
}

/// Whether this operation may say no for good.
fn may_refuse(named: &Named) -> bool {
    match named.op.as_str() {
        "try" | "can_commit" => true,
        "action" => named.kind != "msg",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: &str, op: &str, amount: i64) -> Asked {
        let own = |text: &str| text.to_owned();
        let (gid, branch_id) = (own("g"), own("01"));
        let named = Named { gid, kind: own(kind), branch_id, op: own(op) };
        Asked { named, amount: Some(amount) }
    }

    fn effects(service: &Service) -> Vec<&str> {
        let branch = service.branches.get(&("g".to_owned(), "01".to_owned()));
        branch.map_or(Vec::new(), |branch| branch.effects.iter().map(String::as_str).collect())
    }

    fn calls(kind: &str, ops: &[&str]) -> Service {
        let mut service = Service { balance: 100, ..Service::default() };
        for op in ops {
            service.call(&asked(kind, op, -30), false, Time(0));
        }
        service
    }

    #[test]
    fn a_try_after_its_cancel_and_repetitions_do_nothing() {
        let service = calls("tcc", &["cancel", "try", "cancel"]);
        assert_eq!((effects(&service), service.reserved, service.kept_out), (vec![], 0, 3));
        let service = calls("tcc", &["try", "try", "confirm", "confirm"]);
        assert_eq!((effects(&service), service.balance), (vec!["try", "confirm"], 70));
        assert_eq!(service.reserved, 0);
        let service = calls("saga", &["action", "compensate", "compensate", "action"]);
        assert_eq!((effects(&service), service.balance), (vec!["action", "compensate"], 100));
    }

    #[test]
    fn what_is_reserved_cannot_be_spent_twice() {
        let mut service = calls("tcc", &["try"]);
        let mut other = asked("tcc", "try", -80);
        other.named.gid = "h".to_owned();
        assert_eq!(service.call(&other, false, Time(0)), Verdict::Refused);
        service.call(&asked("tcc", "cancel", -30), false, Time(0));
        assert_eq!(service.call(&other, false, Time(0)), Verdict::Done);
    }

    #[test]
    fn a_check_back_settles_that_the_sender_never_commits() {
        let mut service = calls("msg", &["msg", "local"]);
        assert_eq!(service.balance, 100);
        assert_eq!(service.call(&asked("msg", "local", -30), false, Time(0)), Verdict::Refused);
    }

    #[test]
    fn a_participant_of_3pc_goes_its_own_way() {
        let mut service = calls("3pc", &["can_commit"]);
        assert!(!service.hears_nothing("g", "01", Time(9)), "it has heard since");
        assert!(service.hears_nothing("g", "01", Time(0)));
        assert_eq!(
            service.call(&asked("3pc", "pre_commit", -30), false, Time(1)),
            Verdict::Refused
        );
        assert_eq!((service.balance, service.reserved), (100, 0));
        let mut service = calls("3pc", &["can_commit", "pre_commit"]);
        assert!(service.hears_nothing("g", "01", Time(0)));
        service.call(&asked("3pc", "abort", -30), false, Time(1));
        assert_eq!((service.balance, service.reserved), (70, 0));
    }
}
