//! Watch streams through the real hub: connect, read, stall, ask for progress, go away and come back at
//! the revision after the last. What arrives is checked at once (`check/watch.rs`).

use std::collections::VecDeque;

use quorate_consensus::NodeId;
use quorate_kv::hub::{
    HistoryFound, HubInput, HubOutput, StreamId, WatchCreate, WatchId, WatchReply, WatchReplyKind,
};
use quorate_kv::limits::HubLimits;
use quorate_kv::{EventKind, History, KeyRange, KeyspaceId, ReadError, Refusal, Revision};

use crate::check::{Property, WatchCheck, WatchWanted};
use crate::faults::FaultKind;
use crate::planted::Planted;
use crate::queue::Time;
use crate::rng::Rng;
use crate::world::{Event, World};

/// The watcher's id on each of its streams.
const WATCH_ID: WatchId = WatchId(1);

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

/// One watcher over all its connections.
#[derive(Debug)]
pub(crate) struct Watcher {
    rng: Rng,
    wanted: WatchWanted,
    fragment: bool,
    /// Known once the first `Created` has come.
    check: Option<WatchCheck>,
    /// Revision asked for by the connection under way.
    start: i64,
    server: NodeId,
    life: u64,
    stream: u64,
    connected: bool,
    arrived: VecDeque<(WatchReply, usize)>,
    last_arrival: Time,
    taking: bool,
    stalled_until: Time,
}

impl World {
    pub(crate) fn populate_watchers(&mut self) {
        for number in 0..self.options.watchers {
            let mut rng = self.rng_work.split(1_000 + number as u64);
            let everything = KeyRange { key: "a".into(), range_end: "z".into() };
            let range = match rng.below(4) {
                0 => KeyRange::single("k00".into()),
                1 => KeyRange { key: "a".into(), range_end: "b".into() },
                _ => everything,
            };
            let wanted = WatchWanted {
                range,
                no_put: rng.chance(100),
                no_delete: rng.chance(100),
                prev_kv: rng.chance(600),
            };
            let watcher = Watcher {
                fragment: rng.chance(400),
                wanted,
                check: None,
                start: 0,
                server: NodeId(1),
                life: 0,
                stream: 0,
                connected: false,
                arrived: VecDeque::new(),
                last_arrival: Time(0),
                taking: false,
                stalled_until: Time(0),
                rng,
            };
            self.watchers.push(watcher);
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
        if self.watchers[number].connected {
            return;
        }
        let up = self.servers.iter().filter(|(_, server)| server.is_up() && !server.outside);
        let up: Vec<(NodeId, u64)> = up.map(|(id, server)| (*id, server.life)).collect();
        if up.is_empty() {
            return self.queue.after_us(300_000, Event::WatchConnect(number));
        }
        self.last_stream += 1;
        let (stream, floor) = (self.last_stream, self.checks.revisions.floor());
        let skip = i64::from(self.is_planted(Planted::SkipOnResume));
        let watcher = &mut self.watchers[number];
        (watcher.server, watcher.life) = *watcher.rng.pick(&up);
        watcher.start = match &mut watcher.check {
            Some(check) => check.resume_at() + skip,
            None => match watcher.rng.below(4) {
                0 => 1,
                1 => (floor - 20).max(1),
                2 => floor + 10,
                _ => 0,
            },
        };
        (watcher.stream, watcher.connected) = (stream, true);
        (watcher.taking, watcher.last_arrival) = (false, Time(0));
        watcher.arrived.clear();
        let WatchWanted { range, no_put, no_delete, prev_kv } = watcher.wanted.clone();
        let request = WatchCreate {
            watch_id: WATCH_ID,
            range,
            start_revision: watcher.start,
            prev_kv,
            no_put,
            no_delete,
            fragment: watcher.fragment,
            progress_notify: true,
        };
        let (id, start) = (watcher.server, watcher.start);
        let now = self.now();
        self.trace.line(now, || format!("watcher {number} connects to node {id} at {start}"));
        let stream = StreamId(stream);
        self.hub(id, HubInput::OpenStream { stream, keyspace: KeyspaceId::ETCD });
        self.hub(id, HubInput::Create { stream, request });
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
        let watcher = self.watchers.iter().position(|watcher| watcher.stream == stream);
        let Some(watcher) = watcher else { return };
        let last = &mut self.watchers[watcher].last_arrival;
        *last = now.after_us(us).max(*last);
        let at = *last;
        self.queue.at(at, Event::WatchArrive { watcher, stream, reply, bytes });
    }

    pub(crate) fn watch_arrives(
        &mut self,
        number: usize,
        stream: u64,
        reply: WatchReply,
        bytes: usize,
    ) {
        let now = self.now();
        let watcher = &mut self.watchers[number];
        if watcher.stream != stream || !watcher.connected {
            return;
        }
        watcher.arrived.push_back((reply, bytes));
        if !watcher.taking {
            watcher.taking = true;
            let at = now.max(watcher.stalled_until);
            self.queue.at(at, Event::WatchTake { watcher: number, stream });
        }
    }

    pub(crate) fn watch_takes(&mut self, number: usize, stream: u64) {
        let now = self.now();
        let watcher = &mut self.watchers[number];
        if watcher.stream != stream || !watcher.connected {
            return;
        }
        watcher.taking = false;
        let Some((reply, bytes)) = watcher.arrived.pop_front() else { return };
        let (id, life) = (watcher.server, watcher.life);
        self.watch_checks(number, &reply);
        if self.server(id).life == life {
            let stream = StreamId(stream);
            self.hub(id, HubInput::Drained { stream, bytes });
        }
        let watcher = &mut self.watchers[number];
        if !watcher.arrived.is_empty() && watcher.connected && !watcher.taking {
            watcher.taking = true;
            let at = now.after_us(20).max(watcher.stalled_until);
            self.queue.at(at, Event::WatchTake { watcher: number, stream });
        }
    }

    fn watch_checks(&mut self, number: usize, reply: &WatchReply) {
        let now = self.now();
        let truth = self.checks.machine.events();
        let compacted = self.checks.machine.compact_revision();
        let watcher = &mut self.watchers[number];
        let header = reply.revision.0;
        self.trace.mark(now, &[number as u64, header as u64]);
        self.trace.line(now, || format!("watcher {number} gets {}", brief_response(reply)));
        let Some(check) = &mut watcher.check else {
            if matches!(reply.kind, WatchReplyKind::Created) {
                let next = if watcher.start == 0 { header + 1 } else { watcher.start };
                watcher.check = Some(WatchCheck::new(watcher.wanted.clone(), next));
            }
            return;
        };
        let before = check.delivered();
        let mut gone = false;
        let result = match &reply.kind {
            WatchReplyKind::Created => Ok(()),
            WatchReplyKind::Events { events, fragment, .. } => {
                check.events(truth, compacted, events, *fragment)
            }
            WatchReplyKind::Progress => check.progress(truth, header),
            WatchReplyKind::Canceled { compact_revision } => {
                gone = true;
                check.cancelled(compact_revision.0, compacted)
            }
            WatchReplyKind::Refused { reason } => Err(format!("refused: {reason}")),
        };
        self.tally.watch_events += check.delivered() - before;
        let server = watcher.server;
        let result = result.map_err(|what| format!("watcher {number} of node {server}: {what}"));
        self.checks.note(Property::Watch, now, result);
        if gone {
            self.watch_leaves(number, 1_000);
        }
    }

    /// The client goes away and comes back.
    fn watch_leaves(&mut self, number: usize, back_after_us: u64) {
        let watcher = &mut self.watchers[number];
        let (id, life, stream) = (watcher.server, watcher.life, StreamId(watcher.stream));
        watcher.connected = false;
        watcher.arrived.clear();
        if self.server(id).life == life {
            self.hub(id, HubInput::CloseStream { stream });
        }
        self.queue.after_us(back_after_us, Event::WatchConnect(number));
    }

    /// A server is gone, and with it the streams on it.
    pub(crate) fn watches_break(&mut self, id: NodeId) {
        for number in 0..self.watchers.len() {
            let watcher = &mut self.watchers[number];
            if watcher.connected && watcher.server == id {
                watcher.connected = false;
                watcher.arrived.clear();
                let us = watcher.rng.between(10_000, 800_000);
                self.queue.after_us(us, Event::WatchConnect(number));
            }
        }
    }

    pub(crate) fn watch_ticks(&mut self, number: usize) {
        let now = self.now();
        let stalls = self.faults_may_happen(FaultKind::WatchStall);
        let watcher = &mut self.watchers[number];
        let us = watcher.rng.between(200_000, 1_500_000);
        let choice = watcher.rng.below(10);
        let (id, life, stream) = (watcher.server, watcher.life, StreamId(watcher.stream));
        let connected = watcher.connected;
        self.queue.after_us(us, Event::WatchTick(number));
        if !connected || self.server(id).life != life {
            return;
        }
        match choice {
            0 | 1 if stalls => {
                self.tally.faults.hit(FaultKind::WatchStall);
                let watcher = &mut self.watchers[number];
                watcher.stalled_until = now.after_ms(watcher.rng.between(200, 5_000));
                self.trace.line(now, || format!("watcher {number} stalls"));
            }
            2 if stalls => {
                self.tally.faults.hit(FaultKind::WatchStall);
                self.watch_leaves(number, us / 2);
            }
            3 => self.hub(id, HubInput::NotifyTick),
            _ => {
                self.spoil_progress(id, stream);
                self.hub(id, HubInput::Progress { stream });
            }
        }
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
        for number in 0..self.watchers.len() {
            let Some(check) = &mut self.watchers[number].check else { continue };
            let result = check.progress(self.checks.machine.events(), last);
            let result = result.map_err(|what| format!("watcher {number} at the end: {what}"));
            self.checks.note(Property::Watch, now, result);
        }
    }
}
