//! Taking over a snapshot from a peer: the record first, the new engine when it is durable (contract 9).

use std::sync::Arc;

use quorate_consensus::{GroupId, LogStart, Membership, Seq};
use quorate_storage::{DiskEngine, EngineThread, WalEvent, remove_generation};
use quorate_wal::{Generation, Record};

use super::{Driver, on_engine_event};

/// A snapshot whose record has not been written yet.
#[derive(Clone, Debug)]
pub(super) struct Installing {
    group: GroupId,
    start: LogStart,
    membership: Membership,
    generation: u64,
    /// What must be durable before: the record is written when nothing else is under way.
    after: Seq,
}

impl Driver {
    pub(super) fn begin_installing(
        &mut self,
        group: GroupId,
        start: LogStart,
        membership: Membership,
        generation: u64,
    ) {
        let after = self.appended;
        self.installing = Some(Installing { group, start, membership, generation, after });
    }

    /// Writes the record once everything before it is durable, and goes over to the new engine. The
    /// node appends nothing meanwhile, so the log is idle then and this thread writes it itself.
    pub(super) fn go_on_installing(&mut self) -> Result<(), String> {
        let ready = |installing: &mut Installing| installing.after <= self.persisted;
        let Some(installing) = self.installing.take_if(ready) else { return Ok(()) };
        let Installing { group, start, membership, generation, after } = installing;
        let record =
            Record::Installed { group, start, membership, generation: Generation(generation) };
        let said = self.parts.wal.append_inline(after, vec![record]);
        let said = said.map_err(|error| error.to_string())?.unwrap_or_default();
        if !said.contains(&WalEvent::Persisted { seq: after }) {
            return Err("the log could not record an installed snapshot at once".to_owned());
        }
        self.switch_engine(group, generation)?;
        tracing::info!(index = %start.index, generation, "installed a snapshot of a peer");
        self.burst(&mut Vec::new())
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
        let now = self.started.elapsed();
        parts.node.install(now, engine, &mut self.out).map_err(|halt| halt.to_string())?;
        let left = std::mem::replace(&mut parts.generation, generation);
        remove_generation(root, group, left).map_err(|error| error.to_string())
    }

    pub(super) fn drop_snapshot(&self, generation: u64) -> Result<(), String> {
        remove_generation(&self.parts.data_dir, crate::GROUP, generation)
            .map_err(|error| error.to_string())
    }
}
