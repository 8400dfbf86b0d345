//! Participants: services that keep accounts and a barrier (the spec's 3.2), all or nothing in one local
//! transaction, and that crash at any point.
//!
//! Each branch moves `amount` between a service's account and the transaction's own purse. So money is
//! conserved as a whole once everything has ended: a transaction that succeeded has moved all of its amounts, one
//! that failed has moved none.

use std::collections::{BTreeMap, BTreeSet};

use crate::gid::GlobalTxnId;

/// The gid, branch and operation of a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) gid: GlobalTxnId,
    pub(super) branch_id: String,
    pub(super) op: String,
}

impl Named {
    /// From a call's URL.
    pub(super) fn of(url: &str) -> Self {
        let query = url.split_once('?').unwrap().1;
        let get = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next_back().unwrap()
        };
        Self {
            gid: GlobalTxnId::parse(get("gid")).unwrap(),
            branch_id: get("branch_id").to_owned(),
            op: get("op").to_owned(),
        }
    }
}

/// All services with one store, each branch its own row.
#[derive(Debug, Default)]
pub(super) struct Participants {
    barrier: BTreeSet<Named>,
    /// Effects that took place, in order, business calls only.
    pub(super) effects: BTreeMap<(GlobalTxnId, String), Vec<String>>,
}

impl Participants {
    /// Carries out a call once its business agrees. Whether the call did anything is not told, as over a network.
    pub(super) fn call(&mut self, named: &Named) {
        if self.passes(named) {
            let branch = (named.gid.clone(), named.branch_id.clone());
            self.effects.entry(branch).or_default().push(named.op.clone());
        }
    }

    /// Whether a call would do anything: asks the barrier, without a trace.
    pub(super) fn would_act(&self, named: &Named) -> bool {
        !self.barrier.contains(named)
    }

    fn passes(&mut self, named: &Named) -> bool {
        let origin = match named.op.as_str() {
            "cancel" => Some("try"),
            "compensate" | "rollback" => Some("action"),
            "abort" => Some("can_commit"),
            _ => None,
        };
        let came_first = origin
            .is_some_and(|op| self.barrier.insert(Named { op: op.to_owned(), ..named.clone() }));
        // A participant of 3pc that has dropped what it held goes no further.
        let goes_on = matches!(named.op.as_str(), "pre_commit" | "do_commit");
        let was_undone =
            goes_on && self.barrier.contains(&Named { op: "abort".to_owned(), ..named.clone() });
        let is_new = self.barrier.insert(named.clone());
        is_new && !came_first && !was_undone
    }

    /// What a branch has seen.
    pub(super) fn of(&self, gid: &GlobalTxnId, branch_id: &str) -> &[String] {
        let effects = self.effects.get(&(gid.clone(), branch_id.to_owned()));
        effects.map_or(&[], Vec::as_slice)
    }
}
