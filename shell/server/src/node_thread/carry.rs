//! Carrying the node's outputs out.

use std::time::Duration;

use quorate_consensus::{NodeId, Role, Term};
use quorate_node::{Input, Output};
use quorate_wal::{Generation, Record};

use super::log_reader::Order;
use super::{Driver, on_wal_event};
use crate::Snapshot;
use crate::handle;
use crate::limits::{MAX_INLINE_SYNC, MAX_INLINE_SYNC_BYTES, MAX_INLINE_SYNC_RECORDS};
use crate::mailbox::Delivery;
use crate::outcall;

impl Driver {
    /// Everything of the burst, in the node's order. Records are gathered for `write_log`.
    pub(super) fn carry_out(&mut self) -> Result<(), String> {
        for output in std::mem::take(&mut self.out) {
            self.carry_out_one(output)?;
        }
        Ok(())
    }

    fn carry_out_one(&mut self, output: Output<Snapshot>) -> Result<(), String> {
        match output {
            Output::Reply { id, reply } => {
                let (runtime, slot) = handle::address(id);
                self.deliveries[runtime].push(Delivery::Reply { slot, reply });
            }
            Output::Persist { group, persist } => {
                assert!(persist.seq > self.appended, "the log's numbers go back");
                self.appended = persist.seq;
                Record::push_persist(group, persist, &mut self.records);
            }
            Output::Events(batches) => {
                for deliveries in &mut self.deliveries {
                    deliveries.push(Delivery::Events(batches.clone()));
                }
            }
            Output::Compacted { keyspace, revision } => {
                for deliveries in &mut self.deliveries {
                    deliveries.push(Delivery::Compacted { keyspace, revision });
                }
            }
            Output::Jumped { keyspace, revision, compact_revision } => {
                for deliveries in &mut self.deliveries {
                    deliveries.push(Delivery::State { keyspace, revision, compact_revision });
                }
            }
            Output::Send { to, message, .. } => self.parts.peers.send(to, message),
            Output::Release { group, start, membership, generation } => {
                self.records.push(Record::Release {
                    group,
                    start,
                    membership,
                    generation: Generation(generation),
                    applied: start.index,
                });
            }
            Output::ReadLog { to, group, from, until, max_bytes } => {
                self.reader.order(Order { to, group, from, until, max_bytes });
            }
            Output::SendSnapshot { to, group, start, membership, snapshot } => {
                self.parts.peers.send_snapshot(to, group, start, membership, snapshot);
            }
            Output::Install { group, start, membership, generation } => {
                self.begin_installing(group, start, membership, generation);
            }
            Output::DropSnapshot { generation } => self.drop_snapshot(generation)?,
            Output::Members(members) => self.parts.peers.set_members(members),
            Output::Leader { term, leader, role } => self.leader_changed(term, leader, role),
            Output::Attempt { attempt, call, address, timeout } => {
                let lane = outcall::lane_of(&call, self.deliveries.len());
                self.deliveries[lane].push(Delivery::Attempt { attempt, call, address, timeout });
            }
            // Seldom, and whoever does not know the attempt ignores it: nobody has to remember where it went.
            Output::AbortAttempt { attempt } => {
                for deliveries in &mut self.deliveries {
                    deliveries.push(Delivery::AbortAttempt { attempt });
                }
            }
            // The engine's thread has been woken by the sealing itself.
            Output::Sealed => {}
            Output::Defragment => self.parts.engine_thread.merge_all(),
        }
        Ok(())
    }

    fn leader_changed(&self, term: Term, leader: Option<NodeId>, role: Role) {
        self.parts.shared.set_leader(term, leader);
        let leader = leader.map_or_else(|| "none".to_owned(), |id| format!("{:x}", id.0));
        tracing::info!(%term, leader, ?role, "leadership changed");
    }

    /// Hands the burst's records to the log. If this thread has written them itself, what the log
    /// says about it goes into `inputs`.
    pub(super) fn write_log(&mut self, inputs: &mut Vec<Input>) -> Result<(), String> {
        if self.records.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.records);
        let wal = &self.parts.wal;
        let seq = self.appended;
        if !self.may_write_inline(&records) {
            return wal.append(seq, records).map_err(|error| error.to_string());
        }
        let said = wal.append_inline(seq, records).map_err(|error| error.to_string())?;
        inputs.extend(said.into_iter().flatten().filter_map(on_wal_event));
        Ok(())
    }

    fn may_write_inline(&self, records: &[Record]) -> bool {
        let short = records.len() <= MAX_INLINE_SYNC_RECORDS
            && records.iter().map(Record::size).sum::<usize>() <= MAX_INLINE_SYNC_BYTES;
        let recent = Duration::from_micros(self.parts.wal.syncs().recent_us());
        short && recent <= MAX_INLINE_SYNC && !self.parts.node.has_unapplied()
    }
}
