//! What consensus wants done, turned into the node's own outputs.

use std::time::Duration;

use quorate_consensus::{self as consensus, Origin, Refusal as Refused, RoleChange};
use quorate_engine::Engine;
use quorate_kv::Refusal;

use crate::node::{Halt, Node};
use crate::pending::Waiter;
use crate::{Failure, MemberRefusal, Output, Reply, Stamp, envelope};

impl<E: Engine> Node<E> {
    /// Steps the log's machine and carries out what it wants.
    pub(crate) fn raft(
        &mut self,
        now: Duration,
        input: consensus::Input,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let mut wanted = Vec::new();
        self.raft.step(now, input, &mut wanted)?;
        for output in wanted {
            self.carry_out(now, output, out)?;
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        now: Duration,
        output: consensus::Output,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let group = self.config.group;
        match output {
            consensus::Output::Persist(persist) => out.push(Output::Persist { group, persist }),
            consensus::Output::Send { to, after, message } => {
                let free = self.outbox.offer(to, after, message);
                out.extend(free.map(|message| Output::Send { to, group, message }));
            }
            consensus::Output::Apply { entries } => self.unapplied.extend(entries),
            consensus::Output::ReadReady { id, index } => self.reads.confirmed(id, index),
            consensus::Output::ReadRefused { id, reason } => {
                for read in self.reads.refused(id) {
                    self.fail(read.id, to_failure(reason), out);
                }
            }
            consensus::Output::Refused { origin, reason } => {
                return self.refused(now, origin, reason, out);
            }
            consensus::Output::Role(change) => self.role_changed(change, out),
            consensus::Output::ReadLog { to, from, until, max_bytes } => {
                out.push(Output::ReadLog { to, group, from, until, max_bytes });
            }
            consensus::Output::SendSnapshot { to } => return self.send_snapshot(to, out),
        }
        Ok(())
    }

    fn refused(
        &mut self,
        now: Duration,
        origin: Origin,
        reason: Refused,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        if !self.is_mine(origin) {
            // A member change that another node asked for, refused here where its leader is.
            let refusal = MemberRefusal::ChangePending;
            let data = envelope::encode_member_refused(origin, refusal);
            return self.propose(now, Waiter::Nobody, data, out);
        }
        if let Some(waiter) = self.pending.take(origin.seq) {
            self.pending.failed += 1;
            self.fail_waiter(waiter, to_failure(reason), out);
        }
        Ok(())
    }

    /// Tells whoever waited that it was not done, or that nobody knows.
    pub(crate) fn fail_waiter(
        &mut self,
        waiter: Waiter,
        failure: Failure,
        out: &mut Vec<Output<E::Snapshot>>,
    ) {
        match waiter {
            Waiter::Client(id) | Waiter::Member(id, _) => self.fail(id, failure, out),
            Waiter::Renewals(ids) => ids.into_iter().for_each(|id| self.fail(id, failure, out)),
            Waiter::Expiry(keyspace, lease) => {
                self.expiring.remove(&(keyspace, lease));
            }
            Waiter::Alarm(id) => {
                self.alarm_proposed = false;
                self.fail(id, Refusal::NoSpace.into(), out);
            }
            Waiter::GlobalTxn(id) => self.layers.txn_failed(id, failure),
            Waiter::Nobody => {}
        }
    }

    fn role_changed(&mut self, change: RoleChange, out: &mut Vec<Output<E::Snapshot>>) {
        let RoleChange { role, term, leader } = change;
        if leader.is_some() && leader != self.leader.1 {
            self.leader_changes += 1;
        }
        self.leader = (term, leader, role);
        self.layers.role_changed();
        out.push(Output::Leader { term, leader, role });
        if let Some(transfer) = self.transfer
            && leader == Some(transfer.to)
        {
            self.transfer = None;
            let stamp = Stamp { term, ..Stamp::default() };
            out.push(Output::Reply { id: transfer.id, reply: Reply::Done { stamp } });
        }
    }
}

/// The client's words for the log's refusal. In each case nothing was appended.
fn to_failure(reason: Refused) -> Failure {
    match reason {
        Refused::NoLeader | Refused::Transferring => Failure::NoLeader,
        Refused::LeaderChanged => Failure::LeaderChanged,
        Refused::Overloaded => Failure::Overloaded,
        Refused::NotLeader => Failure::NotLeader,
        Refused::ChangePending | Refused::InvalidChange => MemberRefusal::ChangePending.into(),
    }
}
