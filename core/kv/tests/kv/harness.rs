//! A machine, its engine and its log, as a node would hold them.

use std::ops::Bound;

use bytes::Bytes;
use quorate_engine::{Direction, Engine, MemEngine, MemSnapshot, Read};
use quorate_kv::*;

/// See the module.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) kv: Kv,
    pub(crate) engine: MemEngine,
    log: Vec<(At, Bytes)>,
}

impl Server {
    /// Applies a command at a group time, not before the last.
    pub(crate) fn apply(
        &mut self,
        keyspace: KeyspaceId,
        command: &Command,
        time_ms: u64,
    ) -> Applied {
        let time_ms = time_ms.max(self.kv.time_ms());
        let at = At { index: self.kv.applied() + 1, term: 1, time_ms };
        let bytes = codec::encode(keyspace, command);
        self.log.push((at, bytes.clone()));
        let applied = self.kv.apply(&mut self.engine, at, &bytes).unwrap();
        self.engine.publish();
        assert_eq!(applied.keyspace, keyspace);
        applied
    }

    pub(crate) fn view(&mut self, keyspace: KeyspaceId) -> View<MemSnapshot> {
        let snapshot = self.engine.snapshot();
        self.kv.view(keyspace, snapshot)
    }

    pub(crate) fn compact_step(&mut self, budget: usize) -> bool {
        let more = self.kv.compact_step(&mut self.engine, budget).unwrap();
        self.engine.publish();
        more
    }

    pub(crate) fn compact_fully(&mut self) {
        while self.compact_step(3) {}
    }

    /// Seals what is there, and makes it durable unless the crash is to come first.
    pub(crate) fn checkpoint(&mut self, complete: bool) {
        if self.kv.applied() == 0 {
            return;
        }
        let newest = self.engine.usage().sealed_tables > 0;
        if self.engine.durable_applied() >= self.kv.applied() || newest {
            return;
        }
        self.kv.checkpoint(&mut self.engine).unwrap();
        self.engine.seal(self.kv.applied()).unwrap();
        if complete {
            self.engine.complete_checkpoint();
        }
    }

    /// Loses power, opens what the last checkpoint left, replays the log.
    pub(crate) fn crash(&mut self) {
        let engine = std::mem::take(&mut self.engine).crash();
        self.kv = Kv::open(&engine).unwrap();
        self.engine = engine;
        assert_eq!(self.kv.applied(), self.engine.durable_applied());
        for (at, bytes) in &self.log[self.kv.applied() as usize..] {
            self.kv.apply(&mut self.engine, *at, bytes).unwrap();
        }
        self.engine.publish();
    }

    /// Everything in the engine.
    pub(crate) fn all_pairs(&mut self) -> Vec<(Bytes, Bytes)> {
        let all = self.engine.scan((Bound::Unbounded, Bound::Unbounded), Direction::Forward);
        all.map(|pair| pair.unwrap()).collect()
    }

    /// The same but for what may differ between members: the meta record, and which version a change
    /// replaced.
    pub(crate) fn pairs(&mut self) -> Vec<(Bytes, Bytes)> {
        let strip = |(key, value): (Bytes, Bytes)| match key[0] {
            b'm' => None,
            b'r' => Some((key, value.slice(13..))),
            _ => Some((key, value)),
        };
        self.all_pairs().into_iter().filter_map(strip).collect()
    }

    pub(crate) fn invariants(&mut self) {
        let snapshot = self.engine.snapshot();
        self.kv.engine_invariants(&snapshot).unwrap();
    }
}
