//! Taking over a snapshot from a peer: the record first, the new engine when it is durable (contract 9).
//!
//! The record has the number of the batch before it, so no `Persisted` tells it apart: it counts as durable
//! when the log is quiet, that is, when everything that was ever handed to it is on the disk.
//!
//! Views of the old engine live on: readers scan them on their own threads. So its directory is deleted when the
//! last of them has gone, at the latest when the next process starts (`data_dir.rs`).

use std::sync::Arc;
use std::time::Instant;

use quorate_consensus::{GroupId, LogStart, Membership, Seq};
use quorate_node::Input;
use quorate_storage::{DiskEngine, EngineThread, EngineUse, remove_generation};
use quorate_wal::{Generation, Record};

use super::{Driver, on_engine_event, on_wal_event};
use crate::limits::INSTALL_POLL;

/// A snapshot that the node has accepted.
#[derive(Clone, Debug)]
pub(super) struct Installing {
    group: GroupId,
    start: LogStart,
    membership: Membership,
    generation: u64,
    /// What must be durable before the record is written.
    after: Seq,
    /// Whether the record has been handed to the log.
    recorded: bool,
}

/// An engine that the node has left.
pub(super) struct Left {
    group: GroupId,
    generation: u64,
    readers: EngineUse,
}

impl Driver {
    pub(super) fn begin_installing(
        &mut self,
        group: GroupId,
        start: LogStart,
        membership: Membership,
        generation: u64,
    ) {
        let (after, recorded) = (self.appended, false);
        self.installing =
            Some(Installing { group, start, membership, generation, after, recorded });
    }

    /// When the loop must come round even if nothing arrives.
    pub(super) fn installing_deadline(&self) -> Option<Instant> {
        self.installing.as_ref().map(|_| Instant::now() + INSTALL_POLL)
    }

    /// Writes the record once everything before it is durable, and goes over to the new engine once the
    /// record is.
    pub(super) fn go_on_installing(&mut self) -> Result<(), String> {
        self.remove_left()?;
        let Some(installing) = &mut self.installing else { return Ok(()) };
        if installing.after > self.persisted {
            return Ok(());
        }
        if !installing.recorded {
            installing.recorded = true;
            let (group, start, after) = (installing.group, installing.start, installing.after);
            let generation = Generation(installing.generation);
            let membership = installing.membership.clone();
            self.record(after, Record::Installed { group, start, membership, generation })?;
        }
        if !self.parts.wal.is_quiet() {
            return Ok(());
        }
        let Some(installing) = self.installing.take() else { return Ok(()) };
        let Installing { group, generation, start, .. } = installing;
        self.switch_engine(group, generation)?;
        self.parts.shared.count_snapshot();
        tracing::info!(index = %start.index, generation, "installed a snapshot of a peer");
        self.burst(&mut Vec::new())
    }

    fn record(&mut self, seq: Seq, record: Record) -> Result<(), String> {
        let said = self.parts.wal.append_inline(seq, vec![record]);
        let said = said.map_err(|error| error.to_string())?.unwrap_or_default();
        // What it says about durability is known: the number is that of the batch before.
        let news = said.into_iter().filter_map(on_wal_event);
        for input in news.filter(|input| !matches!(input, Input::Persisted { .. })) {
            self.step(input)?;
        }
        Ok(())
    }

    fn switch_engine(&mut self, group: GroupId, generation: u64) -> Result<(), String> {
        let parts = &mut self.parts;
        let root = &parts.data_dir;
        let engine = DiskEngine::open(root, group, generation, false, &parts.engine_options)
            .map_err(|error| error.to_string())?;
        let inbox = Arc::clone(&parts.inbox);
        let thread = EngineThread::start(&engine, move |event| on_engine_event(&inbox, event))
            .map_err(|error| error.to_string())?;
        let old = std::mem::replace(&mut parts.engine_thread, thread);
        old.stop();
        let readers = parts.node.engine_mut().in_use();
        let now = self.started.elapsed();
        parts.node.install(now, engine, &mut self.out).map_err(|halt| halt.to_string())?;
        let generation = std::mem::replace(&mut parts.generation, generation);
        self.left.push(Left { group, generation, readers });
        Ok(())
    }

    /// Deletes the engines that nobody reads any more.
    fn remove_left(&mut self) -> Result<(), String> {
        let root = &self.parts.data_dir;
        for left in self.left.extract_if(.., |left| !left.readers.is_used()) {
            remove_generation(root, left.group, left.generation)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(super) fn drop_snapshot(&self, generation: u64) -> Result<(), String> {
        remove_generation(&self.parts.data_dir, crate::GROUP, generation)
            .map_err(|error| error.to_string())
    }
}
