//! Watch streams through the real hub of each server: what clients do (`streams.rs`) and what reaches them.

use quorate_consensus::NodeId;
use quorate_kv::hub::{
    HistoryFound, HubInput, HubOutput, StreamId, WatchCreate, WatchId, WatchReply, WatchReplyKind,
};
use quorate_kv::limits::HubLimits;
use quorate_kv::{EventKind, History, KeyRange, KeyspaceId, ReadError, Refusal, Revision};

use crate::check::Property;
use crate::faults::FaultKind;
use crate::planted::Planted;
use crate::streams::{Place, Watch, WatchClient};
use crate::world::{Event, World};

/// Planted: what history would say if compaction took the tombstones of its own revision.
fn lose_tombstones(history: &mut History, compacted: Revision) {
    for batch in history.batches.iter_mut().filter(|batch| batch.revision <= compacted) {
        let kept = batch.events.iter().filter(|event| event.kind == EventKind::Put);
        batch.events = kept.cloned().collect();
    }
    history.batches.retain(|batch| !batch.events.is_empty());
}

/// A response in a few words.
fn brief_response(reply: &WatchReply) -> String {
    let header = reply.revision.0;
    match &reply.kind {
        WatchReplyKind::Events { events, fragment, .. } => {
            let revisions: Vec<String> =
                events.iter().map(|matched| matched.batch.revision.0.to_string()).collect();
            format!("events {} (header {header}, fragment {fragment})", revisions.join(" "))
        }
        other => format!("{other:?} (header {header})"),
    }
}

impl World {
    pub(crate) fn populate_watchers(&mut self) {
        for number in 0..self.options.streams {
            let rng = self.rng_work.split(1_000 + number as u64);
            self.watch_clients.push(WatchClient::new(&self.options, rng));
            let us = self.rng_work.below(8_000_000);
            self.queue.after_us(us, Event::WatchConnect(number));
            self.queue.after_us(us + 1_000_000, Event::WatchTick(number));
        }
    }

    /// Small bounds, so that every place of a watcher in the hub is visited.
    pub(crate) fn hub_limits(&mut self) -> HubLimits {
        let rng = &mut self.rng_work;
        HubLimits {
            ring_bytes: rng.between(512, 32_768) as usize,
            stream_bytes: rng.between(512, 16_384) as usize,
            response_bytes: rng.between(256, 8_192) as usize,
            fragmented_bytes: rng.between(256, 8_192) as usize,
            fragment_bytes: rng.between(256, 8_192) as usize,
            history_reads: rng.between(1, 4) as usize,
            turns: rng.between(1, 64) as usize,
            ring_batches: rng.between(1, 64) as usize,
            ..HubLimits::default()
        }
    }

    pub(crate) fn watch_connects(&mut self, number: usize) {
        if self.watch_clients[number].connected {
            return;
        }
        let up = self.servers.iter().filter(|(_, server)| server.is_up() && !server.outside);
        let up: Vec<(NodeId, u64)> = up.map(|(id, server)| (*id, server.life)).collect();
        if up.is_empty() {
            return self.queue.after_us(300_000, Event::WatchConnect(number));
        }
        self.last_stream += 1;
        let stream = self.last_stream;
        let client = &mut self.watch_clients[number];
        let server = *client.rng.pick(&up);
        client.connect(server, stream);
        let (now, id) = (self.now(), server.0);
        self.trace.line(now, || format!("stream {number} connects to node {id}"));
        let stream = StreamId(stream);
        self.hub(id, HubInput::OpenStream { stream, keyspace: KeyspaceId::ETCD });
        self.create_watches(number, false);
    }

    /// Creates watchers that are not on the stream; all of them or most.
    fn create_watches(&mut self, number: usize, all: bool) {
        let floor = self.checks.revisions.floor();
        let skip = i64::from(self.is_planted(Planted::SkipOnResume));
        let client = &mut self.watch_clients[number];
        let (id, stream) = (client.server, StreamId(client.stream));
        let missing = client.missing(all);
        let mut requests: Vec<WatchCreate> =
            missing.into_iter().map(|at| client.create(at, floor, skip)).collect();
        requests.extend(client.create_double());
        for request in requests {
            let now = self.now();
            self.trace.line(now, || {
                let (watch, start) = (request.watch_id.0, request.start_revision);
                format!("stream {number} asks for watcher {watch} at {start}")
            });
            self.hub(id, HubInput::Create { stream, request });
        }
    }

    /// Cancels a watcher, and goes on without it.
    fn cancel_watch(&mut self, number: usize, compacted: bool) {
        let client = &mut self.watch_clients[number];
        let (id, stream) = (client.server, StreamId(client.stream));
        let Some(watch_id) = client.cancel(compacted) else { return };
        let now = self.now();
        self.trace.line(now, || format!("stream {number} cancels watcher {}", watch_id.0));
        if !compacted {
            self.tally.faults.hit(FaultKind::WatchCancel);
        }
        if !self.spoil_cancel(stream, watch_id) {
            self.hub(id, HubInput::Cancel { stream, watch_id });
        }
    }

    /// Steps a server's hub and carries out what it wants.
    pub(crate) fn hub(&mut self, id: NodeId, input: HubInput) {
        let server = self.servers.get_mut(&id).expect("exists");
        let life = server.life;
        let Some(up) = server.up_mut() else { return };
        let mut outputs = Vec::new();
        up.hub.step(input, &mut outputs);
        while up.hub.has_work() {
            up.hub.step(HubInput::Work, &mut outputs);
        }
        up.hub.invariants();
        for output in outputs {
            match output {
                HubOutput::Response { stream, reply, bytes } => {
                    self.watch_response(stream.0, reply, bytes);
                }
                HubOutput::ReadHistory { read, keyspace, range, from, max_bytes } => {
                    let found = self.read_history(id, keyspace, &range, from, max_bytes);
                    let us = self.rng_work.between(50, 3_000);
                    self.queue.after_us(us, Event::History { id, life, read, found });
                }
            }
        }
    }

    fn read_history(
        &mut self,
        id: NodeId,
        keyspace: KeyspaceId,
        range: &KeyRange,
        from: Revision,
        max_bytes: usize,
    ) -> HistoryFound {
        let planted = self.planted;
        let up = self.server(id).up_mut().expect("its hub has just spoken");
        let snapshot = quorate_engine::Engine::snapshot(up.node.engine_mut());
        let view = up.node.kv().view(keyspace, snapshot);
        match view.history(range, from, max_bytes) {
            Ok(mut history) => {
                if planted == Some(Planted::LoseTombstone) {
                    lose_tombstones(&mut history, view.compact_revision);
                }
                HistoryFound::Found(history)
            }
            Err(ReadError::Refused(Refusal::Compacted)) => {
                HistoryFound::Compacted(view.compact_revision)
            }
            Err(error) => unreachable!("the in-memory engine does not fail: {error}"),
        }
    }

    pub(crate) fn history_read(&mut self, id: NodeId, life: u64, read: u64, found: HistoryFound) {
        if self.server(id).life == life {
            self.hub(id, HubInput::History { read, found });
        }
    }

    /// A response leaves the server; the connection keeps their order.
    fn watch_response(&mut self, stream: u64, reply: WatchReply, bytes: usize) {
        let (now, us) = (self.now(), self.rng_work.between(50, 500));
        let client = self.watch_clients.iter().position(|client| client.stream == stream);
        let Some(client) = client else { return };
        let last = &mut self.watch_clients[client].last_arrival;
        *last = now.after_us(us).max(*last);
        let at = *last;
        self.queue.at(at, Event::WatchArrive { client, stream, reply, bytes });
    }

    pub(crate) fn watch_arrives(
        &mut self,
        number: usize,
        stream: u64,
        reply: WatchReply,
        bytes: usize,
    ) {
        let now = self.now();
        let client = &mut self.watch_clients[number];
        if client.stream != stream || !client.connected {
            return;
        }
        client.arrived.push_back((reply, bytes));
        if !client.taking {
            client.taking = true;
            let at = now.max(client.stalled_until);
            self.queue.at(at, Event::WatchTake { client: number, stream });
        }
    }

    pub(crate) fn watch_takes(&mut self, number: usize, stream: u64) {
        let now = self.now();
        let client = &mut self.watch_clients[number];
        if client.stream != stream || !client.connected {
            return;
        }
        client.taking = false;
        let Some((reply, bytes)) = client.arrived.pop_front() else { return };
        let (id, life) = (client.server, client.life);
        self.watch_checks(number, &reply);
        if self.server(id).life == life {
            let stream = StreamId(stream);
            self.hub(id, HubInput::Drained { stream, bytes });
        }
        let client = &mut self.watch_clients[number];
        if !client.arrived.is_empty() && client.connected && !client.taking {
            client.taking = true;
            let at = now.after_us(20).max(client.stalled_until);
            self.queue.at(at, Event::WatchTake { client: number, stream });
        }
    }

    fn watch_checks(&mut self, number: usize, reply: &WatchReply) {
        let now = self.now();
        let machine = &self.checks.machine;
        let truth = (machine.events(), machine.compact_revision());
        let client = &mut self.watch_clients[number];
        let (header, id) = (reply.revision.0, reply.watch_id.0);
        self.trace.mark(now, &[number as u64, id as u64, header as u64]);
        self.trace
            .line(now, || format!("stream {number}, watcher {id} gets {}", brief_response(reply)));
        let before = client.delivered();
        let result = client.judge(reply, truth);
        self.tally.watch_events += client.delivered() - before;
        let server = client.server;
        let result = result.map_err(|what| format!("stream {number} at node {server}: {what}"));
        self.checks.note(Property::Watch, now, result);
        if self.healed.is_some() && matches!(reply.kind, WatchReplyKind::Canceled { .. }) {
            // Time may be short: it goes on at once.
            self.cancel_watch(number, true);
            self.create_watches(number, true);
        }
    }

    /// The client goes away and comes back.
    fn watch_leaves(&mut self, number: usize, back_after_us: u64) {
        let client = &mut self.watch_clients[number];
        let (id, life, stream) = (client.server, client.life, StreamId(client.stream));
        client.disconnect();
        if self.server(id).life == life {
            self.hub(id, HubInput::CloseStream { stream });
        }
        self.queue.after_us(back_after_us, Event::WatchConnect(number));
    }

    /// A server is gone, and with it the streams on it.
    pub(crate) fn watches_break(&mut self, id: NodeId) {
        for number in 0..self.watch_clients.len() {
            let client = &mut self.watch_clients[number];
            if client.connected && client.server == id {
                client.disconnect();
                let us = client.rng.between(10_000, 800_000);
                self.queue.after_us(us, Event::WatchConnect(number));
            }
        }
    }

    pub(crate) fn watch_ticks(&mut self, number: usize) {
        let now = self.now();
        let stalls = self.faults_may_happen(FaultKind::WatchStall);
        let cancels = self.faults_may_happen(FaultKind::WatchCancel);
        let client = &mut self.watch_clients[number];
        let us = client.rng.between(200_000, 1_500_000);
        let choice = client.rng.below(12);
        let (id, life, stream) = (client.server, client.life, StreamId(client.stream));
        let connected = client.connected;
        self.queue.after_us(us, Event::WatchTick(number));
        if !connected || self.server(id).life != life {
            return;
        }
        self.create_watches(number, self.healed.is_some());
        match choice {
            0 | 1 if stalls => {
                self.tally.faults.hit(FaultKind::WatchStall);
                let client = &mut self.watch_clients[number];
                client.stalled_until = now.after_ms(client.rng.between(200, 5_000));
                self.trace.line(now, || format!("stream {number} stalls"));
            }
            2 if stalls => {
                self.tally.faults.hit(FaultKind::WatchStall);
                self.watch_leaves(number, us / 2);
            }
            3 => self.hub(id, HubInput::NotifyTick),
            4 | 5 if cancels => self.cancel_watch(number, false),
            6 => self.watch_leaves_compaction(number),
            _ => {
                self.spoil_progress(id, stream);
                self.hub(id, HubInput::Progress { stream });
            }
        }
        // Its id is free again, and the stream's progress is told again, only then.
        self.cancel_watch(number, true);
    }

    /// Compaction has passed a watcher: some clients begin the whole stream anew.
    fn watch_leaves_compaction(&mut self, number: usize) {
        let passed = |watch: &Watch| matches!(watch.place, Place::Compacted(_));
        if self.watch_clients[number].watches.iter().any(passed) {
            self.watch_leaves(number, 1_000);
        }
    }

    /// Planted: the client is told of the end of its watcher, and the hub is not.
    fn spoil_cancel(&mut self, stream: StreamId, watch_id: WatchId) -> bool {
        if !self.is_planted(Planted::DeafToCancel) {
            return false;
        }
        let kind = WatchReplyKind::Canceled { compact_revision: Revision(0) };
        let reply = WatchReply { watch_id, revision: Revision(0), kind };
        self.watch_response(stream.0, reply, 0);
        true
    }

    /// Planted: progress is told up to the server's revision, whatever has been sent.
    fn spoil_progress(&mut self, id: NodeId, stream: StreamId) {
        if !self.is_planted(Planted::ProgressEarly) {
            return;
        }
        let Some(up) = self.server(id).up() else { return };
        let revision = up.node.kv().revision(KeyspaceId::ETCD);
        let kind = WatchReplyKind::Progress;
        self.watch_response(stream.0, WatchReply { watch_id: WatchId::NONE, revision, kind }, 0);
    }

    /// At the end nothing that was committed may be missing.
    pub(crate) fn check_watches_at_the_end(&mut self) {
        let (now, last) = (self.now(), self.checks.machine.revision());
        for (number, client) in self.watch_clients.iter_mut().enumerate() {
            for (at, watch) in client.watches.iter_mut().enumerate() {
                let Some(check) = &mut watch.check else { continue };
                let result = check.progress(self.checks.machine.events(), last);
                let result = result
                    .map_err(|what| format!("watcher {at} of stream {number} at the end: {what}"));
                self.checks.note(Property::Watch, now, result);
            }
        }
    }
}
