//! Committed entries: handed to the state machine in order, each once; the node that asked answers.
//!
//! A burst applies a bounded number: the replies to these leave while the next ones are applied, instead of
//! all clients waiting for the last one's turn. All events of a run of entries go out before all of its
//! replies, so that no client can learn of its write before the watch hubs have. What concerns the layers'
//! keyspaces goes to them alone (`layers`).

use std::time::Duration;

use quorate_consensus::{self as consensus, Entry, LogStart, Membership, Origin, Payload};
use quorate_engine::Engine;
use quorate_kv::{Applied, At, Command, EventBatch, KeyspaceId, Refusal, Reply as KvReply};

use crate::envelope::{self, Envelope};
use crate::limits::ENTRIES_PER_BURST;
use crate::node::{Halt, Node};
use crate::pending::Waiter;
use crate::{Failure, MemberChange, MemberRefusal, Output, Reply, Stamp, members};

/// What a run of entries leads to, gathered before it is told.
struct Effects<S: quorate_engine::Read> {
    events: Vec<EventBatch>,
    rest: Vec<Output<S>>,
    requests: Vec<(Origin, MemberChange)>,
}

impl<E: Engine> Node<E> {
    /// Applies the next committed entries, as many as fit into a burst.
    pub(crate) fn apply_some(
        &mut self,
        now: Duration,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let mut effects = Effects { events: Vec::new(), rest: Vec::new(), requests: Vec::new() };
        let term = self.applied.term;
        for _ in 0..ENTRIES_PER_BURST {
            let Some(entry) = self.unapplied.pop_front() else { break };
            self.apply_entry(&entry, &mut effects)?;
            self.layers.reckon_anew(now);
        }
        if !effects.events.is_empty() {
            out.push(Output::Events(effects.events));
        }
        out.append(&mut effects.rest);
        if self.applied.term > term {
            self.refuse_superseded(out);
        }
        let index = self.applied.index;
        self.raft(now, consensus::Input::Applied { index }, out)?;
        for (origin, change) in effects.requests {
            self.lead_member_change(now, origin, &change, out)?;
        }
        Ok(())
    }

    /// Commands for leaders of earlier terms will not be applied any more.
    fn refuse_superseded(&mut self, out: &mut Vec<Output<E::Snapshot>>) {
        for waiter in self.pending.take_superseded(self.applied.term) {
            self.fail_waiter(waiter, Failure::LeaderChanged, out);
        }
    }

    fn apply_entry(
        &mut self,
        entry: &Entry,
        effects: &mut Effects<E::Snapshot>,
    ) -> Result<(), Halt> {
        assert_eq!(entry.index, self.applied.index.next(), "entries are applied in order");
        assert!(entry.term >= self.applied.term && entry.time >= self.applied.time);
        let at = At { index: entry.index.0, term: entry.term.0, time_ms: entry.time.0 };
        match &entry.payload {
            Payload::Empty => self.kv.apply_nothing(at),
            Payload::Membership { origin, membership } => {
                self.kv.apply_nothing(at);
                self.membership_applied(*origin, membership, effects);
            }
            Payload::Command { origin, data } => {
                let envelope = envelope::decode(data);
                let envelope = envelope.ok_or(Halt::UnknownCommand(entry.index.0))?;
                self.apply_envelope(at, *origin, envelope, effects)?;
            }
        }
        self.engine.publish();
        self.applied = LogStart { index: entry.index, term: entry.term, time: entry.time };
        Ok(())
    }

    fn apply_envelope(
        &mut self,
        at: At,
        origin: Origin,
        envelope: Envelope,
        effects: &mut Effects<E::Snapshot>,
    ) -> Result<(), Halt> {
        match envelope {
            Envelope::Kv(command) => {
                let applied = self.kv.apply(&mut self.engine, at, &command)?;
                self.command_applied(origin, applied, effects);
            }
            Envelope::MemberRequest(change) => {
                self.kv.apply_nothing(at);
                effects.requests.push((origin, change));
            }
            Envelope::MemberRefused(asked, refusal) => {
                self.kv.apply_nothing(at);
                if self.is_mine(asked)
                    && let Some(Waiter::Member(id, _)) = self.pending.take(asked.seq)
                {
                    let reply = Reply::Failed(refusal.into());
                    effects.rest.push(Output::Reply { id, reply });
                }
                if self.is_mine(origin) {
                    self.pending.take(origin.seq);
                }
            }
        }
        Ok(())
    }

    fn command_applied(
        &mut self,
        origin: Origin,
        applied: Applied,
        effects: &mut Effects<E::Snapshot>,
    ) {
        let keyspace = applied.keyspace;
        if keyspace == quorate_global_txn::KEYSPACE {
            self.layers.applied(applied.events);
        } else {
            effects.events.extend(applied.events);
        }
        if let Ok(KvReply::Compact { .. }) = applied.reply {
            let revision = self.kv.compact_revision(keyspace);
            effects.rest.push(Output::Compacted { keyspace, revision });
            self.next_compaction = Some(Duration::ZERO);
        }
        if !self.is_mine(origin) {
            return;
        }
        let Some(waiter) = self.pending.take(origin.seq) else { return };
        let stamp = self.stamp(keyspace);
        match waiter {
            Waiter::Client(id) => {
                let reply = Reply::Applied { stamp, result: applied.reply };
                effects.rest.push(Output::Reply { id, reply });
            }
            Waiter::Renewals(ids) => {
                let Ok(KvReply::LeaseRenew { ttls_s, .. }) = applied.reply else {
                    unreachable!("renewals are answered with their TTLs, never refused");
                };
                assert_eq!(ids.len(), ttls_s.len(), "one TTL a renewal");
                effects.rest.extend(ids.into_iter().zip(ttls_s).map(|(id, ttl_s)| Output::Reply {
                    id,
                    reply: Reply::LeaseRenewed { stamp, ttl_s },
                }));
            }
            Waiter::Expiry(keyspace, lease) => {
                self.expiring.remove(&(keyspace, lease));
            }
            Waiter::Alarm(id) => {
                self.alarm_proposed = false;
                let reply = Reply::Failed(Refusal::NoSpace.into());
                effects.rest.push(Output::Reply { id, reply });
            }
            Waiter::GlobalTxn(id) => self.layers.txn_done(id, applied.reply),
            Waiter::Member(..) | Waiter::Nobody => {}
        }
    }

    fn membership_applied(
        &mut self,
        origin: Origin,
        membership: &Membership,
        effects: &mut Effects<E::Snapshot>,
    ) {
        self.membership = membership.clone();
        let members = members::infos(membership);
        effects.rest.push(Output::Members(members.clone()));
        if self.is_mine(origin)
            && let Some(Waiter::Member(id, changed)) = self.pending.take(origin.seq)
        {
            let stamp = Stamp { term: self.raft.term(), ..Stamp::default() };
            let reply = Reply::Members { stamp, members, changed: Some(changed) };
            effects.rest.push(Output::Reply { id, reply });
        }
    }

    /// A request for a member change was applied: if this node leads, it acts on it.
    fn lead_member_change(
        &mut self,
        now: Duration,
        origin: Origin,
        change: &MemberChange,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        if !self.raft.is_leader() {
            return Ok(());
        }
        let current = self.raft.membership();
        match members::changed(current, change, |id| self.in_sync(id)) {
            Ok(membership) => {
                self.raft(now, consensus::Input::ChangeMembership { origin, membership }, out)
            }
            Err(refusal) => self.refuse_member_change(now, origin, refusal, out),
        }
    }

    fn refuse_member_change(
        &mut self,
        now: Duration,
        origin: Origin,
        refusal: MemberRefusal,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        if self.is_mine(origin) {
            if let Some(waiter) = self.pending.take(origin.seq) {
                self.fail_waiter(waiter, refusal.into(), out);
            }
            return Ok(());
        }
        let data = envelope::encode_member_refused(origin, refusal);
        self.propose(now, Waiter::Nobody, data, out)
    }

    /// Proposes a command of the node's own.
    pub(crate) fn propose_own(
        &mut self,
        now: Duration,
        waiter: Waiter,
        keyspace: KeyspaceId,
        command: &Command,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        self.propose(now, waiter, envelope::encode_kv(keyspace, command), out)
    }
}
