//! What clients ask: checked, then proposed, or put among the reads. Everything that could change a
//! result and is not replicated (limits, quota, minimum TTL, a free lease id) is settled here, before
//! the log (contract 3).

use std::time::Duration;

use bytes::Bytes;
use quorate_consensus::{self as consensus, NodeId};
use quorate_engine::Engine;
use quorate_kv::limits::TxnLimits;
use quorate_kv::{Alarm, AlarmKind, Command, KeyspaceId, Op, Refusal, check};

use crate::envelope;
use crate::limits::{MAX_PENDING, MAX_SEALED_TABLES, MAX_UNAPPLIED, MAX_WAITING_READS};
use crate::node::{Halt, Node};
use crate::pending::Waiter;
use crate::reads::{Read, ReadKind, Transfer};
use crate::{Failure, MemberChange, Output, Reply, Request, RequestId, Stamp};

impl<E: Engine> Node<E> {
    pub(crate) fn request(
        &mut self,
        now: Duration,
        id: RequestId,
        request: Request,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let taken = match request {
            Request::Command { keyspace, command } => {
                self.command(now, id, keyspace, command, out)?
            }
            Request::LeaseKeepAlive { keyspace, id: lease } => self.keep_alive(id, keyspace, lease),
            Request::View { keyspace, linearizable } => {
                self.read(id, ReadKind::View(keyspace), linearizable)
            }
            Request::LeaseTimeToLive { keyspace, id: lease } => {
                self.read(id, ReadKind::Lease(keyspace, lease), true)
            }
            Request::Leases { keyspace } => self.read(id, ReadKind::Leases(keyspace), true),
            Request::Members { linearizable } => self.read(id, ReadKind::Members, linearizable),
            Request::Status => {
                let status = Box::new(self.status());
                out.push(Output::Reply { id, reply: Reply::Status(status) });
                Ok(())
            }
            Request::LayerFigures => {
                let figures = Box::new(self.layers.all_figures());
                out.push(Output::Reply { id, reply: Reply::LayerFigures(figures) });
                Ok(())
            }
            Request::ChangeMember(change) => self.change_member(now, id, &change, out)?,
            Request::MoveLeader { to } => self.move_leader(now, id, to, out)?,
            Request::GlobalTxn(request) => self.global_txn(id, *request),
            Request::Defragment => self.defragment(now, id),
            Request::FinishCompaction => self.finish_compaction(id),
        };
        if let Err(failure) = taken {
            self.fail(id, failure, out);
        }
        Ok(())
    }

    pub(crate) fn fail(
        &mut self,
        id: RequestId,
        failure: Failure,
        out: &mut Vec<Output<E::Snapshot>>,
    ) {
        out.push(Output::Reply { id, reply: Reply::Failed(failure) });
    }

    fn command(
        &mut self,
        now: Duration,
        id: RequestId,
        keyspace: KeyspaceId,
        command: Command,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<Result<(), Failure>, Halt> {
        let command = match self.prepare(keyspace, command) {
            Ok(command) => command,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        if let Err(failure) = self.admit(&command) {
            return Ok(Err(failure));
        }
        if grows(&command) && self.is_quota_used_up() {
            return self.raise_no_space(now, id, out);
        }
        let data = envelope::encode_kv(keyspace, &command);
        if data.len() > self.config.max_request_bytes {
            return Ok(Err(Refusal::TooLarge.into()));
        }
        self.propose(now, Waiter::Client(id), data, out)?;
        Ok(Ok(()))
    }

    /// Hands a command to the log; `waiter` is answered when it is applied, refused or out of time.
    pub(crate) fn propose(
        &mut self,
        now: Duration,
        waiter: Waiter,
        data: Bytes,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let seq = self.pending.add(now + self.config.request_timeout, waiter);
        let origin = self.origin(seq);
        self.raft(now, consensus::Input::Propose { origin, data }, out)?;
        self.pending.addressed(seq, self.raft.term());
        Ok(())
    }

    /// Settles what the entry must carry, and refuses what can be refused without the log.
    fn prepare(&mut self, keyspace: KeyspaceId, mut command: Command) -> Result<Command, Refusal> {
        if let Command::LeaseGrant { id, ttl_s } = &mut command {
            *id = id.some().unwrap_or_else(|| self.free_lease_id(keyspace));
            *ttl_s = (*ttl_s).max(self.shortest_lease_s());
        }
        check::check_command(&command, &TxnLimits { max_ops: self.config.max_txn_ops })?;
        Ok(command)
    }

    /// Whether there is room for the command: in the tables, in the log, on the disk.
    fn admit(&self, command: &Command) -> Result<(), Failure> {
        self.admit_any()?;
        let no_space = self.disk_full || self.kv.has_alarm(AlarmKind::NoSpace);
        if grows(command) && no_space {
            return Err(Refusal::NoSpace.into());
        }
        Ok(())
    }

    /// Whether a command can be taken at all.
    pub(crate) fn admit_any(&self) -> Result<(), Failure> {
        if self.is_learner() {
            return Err(Failure::Learner);
        }
        let usage = self.engine.usage();
        let tables_full = usage.sealed_tables >= MAX_SEALED_TABLES
            && usage.active_bytes >= self.config.table_bytes;
        let behind = self.unapplied.len() >= MAX_UNAPPLIED;
        if tables_full || behind || self.pending.len() >= MAX_PENDING {
            return Err(Failure::Overloaded);
        }
        Ok(())
    }

    pub(crate) fn is_quota_used_up(&self) -> bool {
        let quota = self.config.quota_bytes;
        quota > 0 && self.engine.usage().total_bytes() >= quota
    }

    /// The quota is used up: every member is to know, until an operator disarms it. The client that found
    /// out is told when the alarm stands, so that it can look at it; others at once.
    fn raise_no_space(
        &mut self,
        now: Duration,
        id: RequestId,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<Result<(), Failure>, Halt> {
        if std::mem::replace(&mut self.alarm_proposed, true) {
            return Ok(Err(Refusal::NoSpace.into()));
        }
        let alarm = Alarm { member: self.config.id.0, kind: AlarmKind::NoSpace };
        let data = envelope::encode_kv(KeyspaceId::ETCD, &Command::AlarmRaise(alarm));
        self.propose(now, Waiter::Alarm(id), data, out)?;
        Ok(Ok(()))
    }

    fn read(&mut self, id: RequestId, kind: ReadKind, linearizable: bool) -> Result<(), Failure> {
        if linearizable && self.is_learner() {
            return Err(Failure::Learner);
        }
        if self.reads.len() >= MAX_WAITING_READS {
            return Err(Failure::Overloaded);
        }
        let read = Read { id, kind };
        if linearizable {
            self.reads.gather(read)
        } else {
            self.reads.ready(read)
        }
        Ok(())
    }

    fn change_member(
        &mut self,
        now: Duration,
        id: RequestId,
        change: &MemberChange,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<Result<(), Failure>, Halt> {
        if self.is_learner() && !matches!(change, MemberChange::Publish { .. }) {
            return Ok(Err(Failure::Learner));
        }
        let data = envelope::encode_member_request(change);
        self.propose(now, Waiter::Member(id, change.id()), data, out)?;
        Ok(Ok(()))
    }

    fn move_leader(
        &mut self,
        now: Duration,
        id: RequestId,
        to: NodeId,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<Result<(), Failure>, Halt> {
        if !self.raft.is_leader() {
            return Ok(Err(Failure::NotLeader));
        }
        if !self.raft.membership().is_voter(to) {
            return Ok(Err(Failure::BadTransferee));
        }
        if to == self.config.id {
            let stamp = Stamp { term: self.raft.term(), ..Stamp::default() };
            out.push(Output::Reply { id, reply: Reply::Done { stamp } });
            return Ok(Ok(()));
        }
        if let Some(earlier) = self.transfer.take() {
            self.fail(earlier.id, Failure::TransferTimeout, out);
        }
        let deadline = now + self.config.election_timeout;
        self.transfer = Some(Transfer { id, to, deadline });
        self.raft(now, consensus::Input::TransferLeadership { to }, out)?;
        Ok(Ok(()))
    }
}

/// Whether a command adds data, so that a full disk or a quota refuses it. Deletes, compactions,
/// revocations and renewals pass: they are how space comes back.
pub(crate) fn grows(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant { .. } => true,
        Command::Txn(txn) => txn.success.iter().chain(&txn.failure).any(op_grows),
        _ => false,
    }
}

fn op_grows(op: &Op) -> bool {
    match op {
        Op::Put(_) => true,
        Op::Txn(txn) => txn.success.iter().chain(&txn.failure).any(op_grows),
        Op::Range(_) | Op::Delete(_) => false,
    }
}
