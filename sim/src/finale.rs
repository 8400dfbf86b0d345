//! The end of a run: the faults stop, work must go on, everybody must agree, and the whole history is
//! judged.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_consensus::NodeId;
use quorate_engine::Engine;
use quorate_kv::hub::HubInput;
use quorate_kv::{KeyRange, KeyValue, KeyspaceId, LeaseId, RangeRequest, Reply};
use quorate_wal::Input as WalInput;

use crate::check::{Property, check_final_state, check_truth, linearizability};
use crate::history::{Action, Outcome};
use crate::queue::Time;
use crate::world::{END_MS, ENOUGH_ACKNOWLEDGED, Event, LATEST_END_MS, World};

/// From the clients' last operation to the end, in milliseconds.
const QUIET_MS: u64 = 2_500;
/// By then all servers must agree, in milliseconds after the clients' last operation.
const AGREE_MS: u64 = 25_000;

impl World {
    /// All faults end.
    pub(crate) fn heal(&mut self) {
        let now = self.now();
        self.trace.line(now, || "all faults end".to_owned());
        self.retire(false);
        self.healed = Some(now);
        self.network.calm();
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        for id in ids {
            let server = self.server(id);
            server.disk.clear_fault();
            server.disk.set_capacity(u64::MAX);
            self.usual_syncs(id);
            self.resume(id);
            self.step_writer(id, WalInput::Retry);
            self.queue.after_us(50_000, Event::Start(id));
        }
        self.services_heal();
    }

    /// Ends the run when time and work are enough, the clients have been quiet, and all agree.
    pub(crate) fn is_it_over(&mut self) {
        let now = self.now();
        self.retire(true);
        let enough = self.tally.acknowledged >= ENOUGH_ACKNOWLEDGED && self.tally.recovery_ms > 0;
        let next = match self.quiet_since {
            None if enough => {
                self.quiet_since = Some(now);
                QUIET_MS
            }
            None if now >= Time::from_ms(LATEST_END_MS) => {
                let (done, after) = (self.tally.acknowledged, self.tally.recovery_ms);
                let what = format!(
                    "{done} operations acknowledged; first write after healing: {after} ms (0: none){}",
                    self.standing()
                );
                return self.violated(Property::Liveness, what);
            }
            None => 500,
            Some(since) => {
                let apart = self.who_disagrees();
                let open = self.global_unfinished();
                let is_late = now >= since.after_ms(AGREE_MS);
                self.over = apart.is_none() && open.is_none() || is_late;
                if is_late && let Some(open) = open {
                    let what = open + &self.standing();
                    self.violated(Property::GlobalEnd, what);
                }
                if is_late && let Some(apart) = apart {
                    let what = apart + &self.standing();
                    self.violated(Property::Liveness, what);
                }
                300
            }
        };
        self.queue.after_us(next * 1_000, Event::End);
    }

    /// How all servers stand: what a violation of liveness is understood by.
    fn standing(&self) -> String {
        let mut text = String::new();
        for (id, server) in self.servers.iter().filter(|(_, server)| !server.outside) {
            let Some(up) = server.up() else {
                text += &format!("\nnode {id}: does not run, damaged: {}", server.is_dead());
                continue;
            };
            let raft = up.node.raft_machine();
            let (role, term, commit) = (raft.role(), raft.term(), raft.commit());
            let (start, last) = (raft.log_start().index, raft.last_index());
            text += &format!(
                "\nnode {id}: {role:?} of term {term}, log from {start} to {last}, durable {}, \
                 committed {commit}, applied {}, waiting inputs {}",
                raft.persisted(),
                raft.applied(),
                up.inbox.len()
            );
            for (peer, progress) in raft.progress() {
                let (matched, next, flow) = (progress.matched, progress.next, progress.flow);
                text += &format!("\n  peer {peer}: matched {matched}, next {next}, {flow:?}");
            }
        }
        text
    }

    /// Live members that have not applied what the leader has committed; or no leader.
    fn who_disagrees(&self) -> Option<String> {
        let leader = self.leader();
        let Some(leader) = leader else { return Some("no leader".to_owned()) };
        let up = self.servers[&leader].up()?;
        let raft = up.node.raft_machine();
        let commit = raft.commit().0;
        let members: Vec<NodeId> = raft.membership().members.iter().map(|m| m.id).collect();
        let apart = members.into_iter().find(|id| {
            let server = &self.servers[id];
            let applied = server.up().map(|up| up.node.kv().applied());
            applied != Some(commit) && !server.is_dead()
        });
        if let Some(id) = apart {
            let at = self.servers[&id].up().map(|up| up.node.kv().applied());
            return Some(format!("node {id} has applied {at:?}, the leader committed {commit}"));
        }
        let last = up.node.raft_machine().last_index().0;
        (last != commit).then(|| format!("the leader has {last} entries and committed {commit}"))
    }

    pub(crate) fn check_at_the_end(&mut self) {
        self.check_hashes();
        self.check_final_states();
        self.finish_watches();
        self.check_watches_at_the_end();
        self.check_leases_at_the_end();
        self.check_quota();
        self.check_global();
        self.check_linearizability();
    }

    /// Members that run.
    pub(crate) fn running(&self) -> Vec<NodeId> {
        let leader = self.leader().and_then(|id| self.servers[&id].up());
        let Some(leader) = leader else { return Vec::new() };
        let members = leader.node.raft_machine().membership().members.iter();
        members.map(|member| member.id).filter(|id| self.servers[id].is_up()).collect()
    }

    fn check_hashes(&mut self) {
        let now = self.now();
        let expected = self.checks.machine.view().hash();
        let expected = expected.expect("the in-memory engine does not fail");
        for id in self.running() {
            let up = self.server(id).up_mut().expect("it runs");
            let snapshot = up.node.engine_mut().snapshot();
            let hash = up.node.kv().view(KeyspaceId::ETCD, snapshot).hash();
            let hash = hash.expect("the in-memory engine does not fail");
            let result = match hash == expected {
                true => Ok(()),
                false => Err(format!("node {id} has hash {hash:08x}, expected {expected:08x}")),
            };
            self.checks.note(Property::StateMachineSafety, now, result);
        }
    }

    fn check_final_states(&mut self) {
        let now = self.now();
        for id in self.running() {
            let up = self.server(id).up_mut().expect("it runs");
            let snapshot = up.node.engine_mut().snapshot();
            let view = up.node.kv().view(KeyspaceId::ETCD, snapshot);
            let all = KeyRange { key: "\0".into(), range_end: "\0".into() };
            let all = RangeRequest { range: all, ..RangeRequest::default() };
            let found = view.range(&all).expect("the latest revision can be read");
            let pairs: BTreeMap<Bytes, KeyValue> =
                found.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
            let machine = &self.checks.machine;
            let result = check_final_state(
                &self.history,
                view.revision.0,
                |key| pairs.get(key).cloned(),
                |key, revision| machine.deleted_after(key, revision),
            );
            let result = result.map_err(|what| format!("node {id}: {what}"));
            self.checks.note(Property::Durability, now, result);
        }
    }

    /// Whatever the hubs still hold back is let through.
    fn finish_watches(&mut self) {
        for id in self.running() {
            self.hub(id, HubInput::NotifyTick);
        }
    }

    fn check_leases_at_the_end(&mut self) {
        let (now, healed) = (self.now(), self.healed.unwrap_or_default());
        let mut last: BTreeMap<LeaseId, Time> = BTreeMap::new();
        for op in &self.history {
            let id = match (&op.action, &op.outcome) {
                (Action::KeepAlive(id), _) => *id,
                (_, Outcome::Replied { result: Ok(Reply::LeaseGrant { id, .. }), .. }) => *id,
                _ => continue,
            };
            let end = op.end.unwrap_or_else(|| op.start.after_ms(8_000));
            let known = last.entry(id).or_default();
            *known = end.max(*known);
        }
        for lease in self.checks.machine.leases() {
            let renewed = last.get(&lease.id).copied().unwrap_or_default();
            let leases = &self.checks.leases;
            let result = leases.check_gone(lease.id, lease.ttl_s, renewed, healed, now);
            self.checks.note(Property::LeaseExpiry, now, result);
        }
    }

    fn check_quota(&mut self) {
        let (now, result) = (self.now(), self.checks.quota.check(&self.history));
        self.checks.note(Property::Quota, now, result);
    }

    fn check_linearizability(&mut self) {
        let now = self.now();
        let hints = self.checks.machine.hints();
        let compactions = self.checks.compaction.known();
        let result = linearizability::check(&self.history, &hints, compactions);
        let result = result.map(|witness| {
            self.tally.holes = witness.holes;
            self.tally.guesses = witness.guesses;
            witness.model
        });
        let result = match result {
            Ok(model) => {
                let truth = check_truth(self.checks.machine.events(), &model);
                self.checks.note(Property::Watch, now, truth);
                Ok(())
            }
            Err(what) => Err(what),
        };
        self.checks.note(Property::Linearizability, now, result);
    }
}

const _: () = assert!(END_MS < LATEST_END_MS);
