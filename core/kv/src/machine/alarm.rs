//! Alarms: replicated switches that make commands refused (contract 20).
//!
//! NOSPACE refuses what makes the store grow: puts, transactions with a put in any branch, grants. Not in the keyspaces of
//! the server's own machines: what they have accepted has to come to its end; they take in nothing new by themselves.
//! CORRUPT refuses whatever changes keys or leases, and every read of keys (`View::range`). Renewals are
//! excepted: a lease that its owner keeps alive must not be lost to an alarm that is cleared a minute later.

use crate::types::{Alarm, AlarmKind, Command, KeyspaceId, Op, Refusal, Reply, TxnRequest};

use super::Kv;

impl Kv {
    /// The alarms that stand, in order.
    pub fn alarms(&self) -> impl Iterator<Item = Alarm> + '_ {
        self.alarms.iter().copied()
    }

    /// Whether anybody's alarm of this kind stands.
    #[must_use]
    pub fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    pub(super) fn refused_by_alarm(&self, id: KeyspaceId, command: &Command) -> Option<Refusal> {
        if self.alarms.is_empty() {
            return None;
        }
        if self.has_alarm(AlarmKind::Corrupt) && changes_state(command) {
            return Some(Refusal::Corrupt);
        }
        let is_full = self.has_alarm(AlarmKind::NoSpace) && takes_space(command);
        (is_full && id.keeps_history()).then_some(Refusal::NoSpace)
    }

    pub(super) fn raise(&mut self, keyspace: KeyspaceId, alarm: Alarm) -> Reply {
        self.alarms.insert(alarm);
        Reply::Alarm { revision: self.revision(keyspace), alarms: vec![alarm] }
    }

    pub(super) fn clear(&mut self, keyspace: KeyspaceId, which: Alarm) -> Reply {
        let meant = |alarm: &Alarm| {
            alarm.kind == which.kind && (which.member == 0 || alarm.member == which.member)
        };
        let alarms: Vec<Alarm> = self.alarms.iter().copied().filter(meant).collect();
        self.alarms.retain(|alarm| !meant(alarm));
        Reply::Alarm { revision: self.revision(keyspace), alarms }
    }
}

fn changes_state(command: &Command) -> bool {
    !matches!(command, Command::AlarmRaise(_) | Command::AlarmClear(_) | Command::LeaseRenew { .. })
}

fn takes_space(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant { .. } => true,
        Command::Txn(txn) => has_put(txn),
        _ => false,
    }
}

fn has_put(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Put(_) => true,
        Op::Txn(txn) => has_put(txn),
        Op::Range(_) | Op::Delete(_) => false,
    })
}
