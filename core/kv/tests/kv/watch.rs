//! Watching, as etcd's robustness tests look at it: random histories, streams that stall, events that
//! reach the hub late, history reads that come back late, compactions, snapshots that jump ahead. The
//! client side keeps what it was sent, and compares it with all that ever happened.
//!
//! Properties: *filter* (nothing that was not asked for), *ordered*, *unique*, *atomic* (a revision in one
//! response, unless fragments were asked for), *reliable* (nothing left out), *resumable* (from the start
//! revision on), *bookmarkable* (after progress R nothing at or below R), *prevKV* (the pair before),
//! *isCreate* (a first version is a creation). And beyond them: a stalled stream holds nobody up, and is
//! handed a bounded number of bytes.

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use quorate_kv::hub::*;
use quorate_kv::limits::{HubLimits, TxnLimits};
use quorate_kv::*;

use crate::generate;
use crate::harness::Server;
use crate::model::Model;

const LIMITS: HubLimits = HubLimits {
    ring_bytes: 500,
    stream_bytes: 400,
    response_bytes: 250,
    fragmented_bytes: 600,
    fragment_bytes: 150,
    history_reads: 2,
    watchers_per_stream: 4,
    turns: 2,
    ring_batches: 3,
};

#[derive(Clone, Debug)]
enum Step {
    Apply {
        keyspace: u32,
        command: Command,
    },
    CompactFully,
    /// The hub sees this many of the inputs that the node has sent it.
    Hear(usize),
    /// A snapshot was installed: what the hub has not heard yet it never will, or only too late.
    Jump {
        late: bool,
    },
    Open {
        keyspace: u32,
        stalls: bool,
    },
    Close(Index),
    Create(Index, WatchCreate),
    Cancel(Index, i64),
    Progress(Index),
    Drain(Index),
    Tick,
    Work,
    AnswerRead(Index),
}

fn create() -> impl Strategy<Value = WatchCreate> {
    let start = prop_oneof![2 => Just(0i64), 3 => -1i64..30];
    let id = prop_oneof![3 => Just(0i64), 1 => 1i64..4];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let filters = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (id, generate::range(), start, flags, filters).prop_map(
        |(id, range, start_revision, (prev_kv, fragment, progress_notify), (no_put, no_delete))| {
            WatchCreate {
                watch_id: WatchId(id),
                range,
                start_revision,
                prev_kv,
                no_put,
                no_delete,
                fragment,
                progress_notify,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let keyspace = || prop_oneof![8 => Just(0u32), 1 => Just(1u32)];
    prop_oneof![
        16 => (keyspace(), generate::command())
            .prop_map(|(keyspace, command)| Step::Apply { keyspace, command }),
        1 => Just(Step::CompactFully),
        6 => (1usize..8).prop_map(Step::Hear),
        1 => any::<bool>().prop_map(|late| Step::Jump { late }),
        2 => (keyspace(), any::<bool>())
            .prop_map(|(keyspace, stalls)| Step::Open { keyspace, stalls }),
        1 => any::<Index>().prop_map(Step::Close),
        8 => (any::<Index>(), create()).prop_map(|(at, create)| Step::Create(at, create)),
        1 => (any::<Index>(), 0i64..4).prop_map(|(at, id)| Step::Cancel(at, id)),
        3 => any::<Index>().prop_map(Step::Progress),
        3 => any::<Index>().prop_map(Step::Drain),
        2 => Just(Step::Tick),
        3 => Just(Step::Work),
        4 => any::<Index>().prop_map(Step::AnswerRead),
    ]
}

/// A watcher as its client knows it.
struct Watcher {
    request: WatchCreate,
    /// First revision whose events it must get.
    from: i64,
    got: Vec<Event>,
    /// Highest revision of which it was told that everything up to it had been sent.
    told: i64,
    /// Whether the last response was a fragment that is not the last.
    in_fragments: bool,
    ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ended {
    Canceled,
    Compacted(i64),
}

struct Client {
    keyspace: KeyspaceId,
    stalls: bool,
    /// Bytes that were sent and not returned.
    undrained: usize,
    /// What was asked for and not answered with created yet.
    asked: VecDeque<WatchCreate>,
    watchers: BTreeMap<WatchId, Watcher>,
    done: Vec<Watcher>,
}

struct Read {
    read: u64,
    keyspace: KeyspaceId,
    range: KeyRange,
    from: Revision,
    max_bytes: usize,
}

#[derive(Default)]
struct World {
    server: Server,
    model: Model,
    hub: Hub,
    unheard: VecDeque<HubInput>,
    clients: BTreeMap<StreamId, Client>,
    opened: u64,
    reads: Vec<Read>,
    out: Vec<HubOutput>,
}

impl World {
    fn new() -> Self {
        Self { hub: Hub::new(LIMITS), ..Self::default() }
    }

    fn feed(&mut self, input: HubInput) {
        self.hub.step(input, &mut self.out);
        self.hub.invariants();
        for output in std::mem::take(&mut self.out) {
            self.take(output);
        }
        let eager = self.clients.iter().filter(|(_, c)| !c.stalls && c.undrained > 0);
        for stream in eager.map(|(stream, _)| *stream).collect::<Vec<_>>() {
            self.drain(stream);
        }
    }

    fn drain(&mut self, stream: StreamId) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        let bytes = std::mem::take(&mut client.undrained);
        self.feed(HubInput::Drained { stream, bytes });
    }

    fn take(&mut self, output: HubOutput) {
        match output {
            HubOutput::ReadHistory { read, keyspace, range, from, max_bytes } => {
                self.reads.push(Read { read, keyspace, range, from, max_bytes });
                assert!(self.reads.len() <= LIMITS.history_reads, "too many reads at a time");
            }
            HubOutput::Response { stream, reply, bytes } => self.response(stream, reply, bytes),
        }
    }

    fn response(&mut self, stream: StreamId, reply: WatchReply, bytes: usize) {
        let client = self.clients.get_mut(&stream).expect("a response on a closed stream");
        let space = self.model.spaces.entry(client.keyspace).or_default();
        if let WatchReplyKind::Events { fragment, .. } = &reply.kind {
            let first = client.watchers.get(&reply.watch_id).is_some_and(|w| !w.in_fragments);
            let full = client.undrained >= LIMITS.stream_bytes;
            assert!(!full || !first, "a stalled stream was handed events");
            let _ = fragment;
        }
        client.undrained += bytes;
        let revision = reply.revision.0;
        match reply.kind {
            WatchReplyKind::Created => {
                let request = client.asked.pop_front().expect("created without being asked");
                let id = reply.watch_id;
                let asked = request.watch_id;
                assert!(asked == WatchId(0) || asked == id, "another id than asked for");
                let from = match request.start_revision {
                    0 => revision + 1,
                    start => start,
                };
                let (got, told) = (Vec::new(), 0);
                let watcher =
                    Watcher { request, from, got, told, in_fragments: false, ended: None };
                assert!(client.watchers.insert(id, watcher).is_none(), "an id was given twice");
            }
            WatchReplyKind::Refused { .. } => {
                assert_eq!(reply.watch_id, WatchId::NONE);
                client.asked.pop_front().expect("refused without being asked");
            }
            WatchReplyKind::Canceled { compact_revision: Revision(0) } => {
                let mut watcher = client.watchers.remove(&reply.watch_id).expect("canceled once");
                watcher.ended.get_or_insert(Ended::Canceled);
                client.done.push(watcher);
            }
            WatchReplyKind::Canceled { compact_revision } => {
                let watcher = client.watchers.get_mut(&reply.watch_id).unwrap();
                assert_eq!(watcher.ended, None, "canceled twice");
                assert!(compact_revision.0 <= space.compacted, "not compacted that far");
                assert!(watcher.told < compact_revision.0, "it had seen that already");
                watcher.ended = Some(Ended::Compacted(compact_revision.0));
            }
            WatchReplyKind::Progress => {
                assert!(revision <= space.revision, "progress into the future");
                let all = reply.watch_id == WatchId::NONE;
                assert!(!all || !client.watchers.is_empty(), "progress of nobody");
                for (id, watcher) in &mut client.watchers {
                    if all || *id == reply.watch_id {
                        assert_eq!(watcher.ended, None, "progress of a canceled watcher");
                        watcher.bookmark(revision, space);
                    }
                }
            }
            WatchReplyKind::Events { events, prev_kv, fragment } => {
                let watcher = client.watchers.get_mut(&reply.watch_id).expect("events for nobody");
                assert_eq!(watcher.request.prev_kv, prev_kv);
                watcher.events(&events, fragment, revision, space);
            }
        }
    }

    fn stream(&self, at: &Index) -> Option<StreamId> {
        let streams: Vec<StreamId> = self.clients.keys().copied().collect();
        (!streams.is_empty()).then(|| *at.get(&streams))
    }

    fn apply(&mut self, keyspace: KeyspaceId, command: &Command) {
        if check::check_command(command, &TxnLimits::default()).is_err() {
            return;
        }
        let before = self.server.kv.compact_revision(keyspace);
        let applied = self.server.apply(keyspace, command, 0);
        let reply = self.model.apply(keyspace, command, self.server.kv.time_ms());
        assert_eq!(applied.reply, reply);
        self.unheard.extend(applied.events.map(HubInput::Events));
        let revision = self.server.kv.compact_revision(keyspace);
        if revision > before {
            self.unheard.push_back(HubInput::Compacted { keyspace, revision });
        }
    }

    fn answer(&mut self, read: Read) {
        let view = self.server.view(read.keyspace);
        let found = match view.history(&read.range, read.from, read.max_bytes) {
            Ok(history) => HistoryFound::Found(history),
            Err(ReadError::Refused(Refusal::Compacted)) => {
                HistoryFound::Compacted(view.compact_revision)
            }
            Err(error) => panic!("{error}"),
        };
        self.feed(HubInput::History { read: read.read, found });
    }

    fn state(&self, keyspace: KeyspaceId) -> HubInput {
        HubInput::State {
            keyspace,
            revision: self.server.kv.revision(keyspace),
            compact_revision: self.server.kv.compact_revision(keyspace),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Apply { keyspace, command } => self.apply(KeyspaceId(keyspace), &command),
            Step::CompactFully => self.server.compact_fully(),
            Step::Hear(count) => {
                for _ in 0..count {
                    let Some(input) = self.unheard.pop_front() else { break };
                    self.feed(input);
                }
            }
            Step::Jump { late } => {
                if !late {
                    self.unheard.clear();
                }
                self.feed(self.state(KeyspaceId(0)));
                self.feed(self.state(KeyspaceId(1)));
            }
            Step::Open { keyspace, stalls } => {
                self.opened += 1;
                let (stream, keyspace) = (StreamId(self.opened), KeyspaceId(keyspace));
                let client = Client {
                    keyspace,
                    stalls,
                    undrained: 0,
                    asked: VecDeque::new(),
                    watchers: BTreeMap::new(),
                    done: Vec::new(),
                };
                self.clients.insert(stream, client);
                self.feed(HubInput::OpenStream { stream, keyspace });
            }
            Step::Work => self.feed(HubInput::Work),
            Step::Tick => self.feed(HubInput::NotifyTick),
            Step::AnswerRead(at) => {
                if !self.reads.is_empty() {
                    let read = self.reads.remove(at.index(self.reads.len()));
                    self.answer(read);
                }
            }
            Step::Close(at)
            | Step::Drain(at)
            | Step::Progress(at)
            | Step::Create(at, _)
            | Step::Cancel(at, _)
                if self.stream(&at).is_none() => {}
            Step::Close(at) => {
                let stream = self.stream(&at).unwrap();
                self.clients.remove(&stream);
                self.feed(HubInput::CloseStream { stream });
            }
            Step::Drain(at) => self.drain(self.stream(&at).unwrap()),
            Step::Progress(at) => {
                self.feed(HubInput::Progress { stream: self.stream(&at).unwrap() });
            }
            Step::Cancel(at, id) => {
                let stream = self.stream(&at).unwrap();
                self.feed(HubInput::Cancel { stream, watch_id: WatchId(id) });
            }
            Step::Create(at, request) => {
                let stream = self.stream(&at).unwrap();
                self.clients.get_mut(&stream).unwrap().asked.push_back(request.clone());
                self.feed(HubInput::Create { stream, request });
            }
        }
    }

    /// Until nothing is left to do but for stalled streams.
    fn settle(&mut self) {
        while let Some(input) = self.unheard.pop_front() {
            self.feed(input);
        }
        loop {
            if let Some(read) = self.reads.pop() {
                self.answer(read);
            } else if self.hub.has_work() {
                self.feed(HubInput::Work);
            } else {
                break;
            }
        }
    }

    fn check(&mut self, with_stalled: bool) {
        for client in self.clients.values() {
            let space = self.model.spaces.entry(client.keyspace).or_default();
            for watcher in client.watchers.values().chain(&client.done) {
                if watcher.ended.is_some() || with_stalled || !client.stalls {
                    watcher.check(space);
                }
            }
        }
    }
}

impl Watcher {
    /// What it has to be sent, up to a revision.
    fn due(&self, until: i64, space: &crate::model::Space) -> Vec<Event> {
        let wants = |event: &Event| match event.kind {
            EventKind::Put => !self.request.no_put,
            EventKind::Delete => !self.request.no_delete,
        };
        let all = space.full_history(&self.request.range, self.from);
        let all = all.into_iter().filter(|(revision, _)| *revision <= until);
        all.flat_map(|(_, events)| events).filter(wants).collect()
    }

    fn events(
        &mut self,
        events: &[Matched],
        fragment: bool,
        header: i64,
        space: &crate::model::Space,
    ) {
        assert_eq!(self.ended, None, "events after the end");
        assert!(!fragment || self.request.fragment, "fragments were not asked for");
        let last = self.got.last().map_or(0, |event| event.kv.mod_revision.0);
        assert!(!events.is_empty(), "an empty response");
        for matched in events {
            assert!(matched.events().next().is_some(), "an empty selection");
            for event in matched.events() {
                let revision = event.kv.mod_revision.0;
                assert_eq!(revision, matched.batch.revision.0);
                assert!(revision > self.told, "an event after its bookmark");
                assert!(self.in_fragments || revision > last, "a revision was split");
                assert!(event.kv.version != 1 || event.kv.create_revision == event.kv.mod_revision);
                let hidden = revision <= space.compacted && event.prev_kv.is_none();
                let mut event = event.clone();
                if hidden {
                    // Compaction may have put the pair before out of reach.
                    event.prev_kv = self
                        .due(revision, space)
                        .into_iter()
                        .rev()
                        .find_map(|due| (due.kv == event.kv).then_some(due.prev_kv).flatten());
                }
                self.got.push(event);
            }
        }
        self.in_fragments = fragment;
        assert!(header >= self.got.last().unwrap().kv.mod_revision.0, "a header from the past");
        if !fragment {
            self.bookmark(header, space);
        }
    }

    /// Everything up to `revision` must have been sent.
    fn bookmark(&mut self, revision: i64, space: &crate::model::Space) {
        assert!(!self.in_fragments, "a bookmark among fragments");
        assert!(self.request.start_revision <= revision, "a bookmark before the start");
        assert_eq!(self.got, self.due(revision, space), "sent up to bookmark {revision}");
        self.told = self.told.max(revision);
    }

    fn check(&self, space: &crate::model::Space) {
        let due = self.due(i64::MAX, space);
        match self.ended {
            None => assert_eq!(self.got, due, "{:?}", self.request),
            Some(Ended::Canceled) => assert!(due.starts_with(&self.got)),
            Some(Ended::Compacted(revision)) => {
                assert!(due.starts_with(&self.got));
                let last = self.got.last().map_or(0, |event| event.kv.mod_revision.0);
                assert!(last < revision && self.from < revision, "it was not behind");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn watchers_get_what_they_are_promised(
        before in vec(generate::command(), 0..30),
        steps in vec(step(), 1..150),
    ) {
        let mut world = World::new();
        for command in &before {
            world.apply(KeyspaceId(0), command);
        }
        world.run(Step::Jump { late: false });
        for step in steps {
            world.run(step);
        }
        world.settle();
        world.check(false);
        for client in world.clients.values_mut() {
            client.stalls = false;
        }
        for stream in world.clients.keys().copied().collect::<Vec<_>>() {
            world.drain(stream);
        }
        world.settle();
        world.check(true);
        // Whoever is left can be told how far it is, and that is all the way.
        for stream in world.clients.keys().copied().collect::<Vec<_>>() {
            let client = &world.clients[&stream];
            let revision = world.server.kv.revision(client.keyspace).0;
            let reached = |w: &Watcher| w.ended.is_none() && w.request.start_revision <= revision;
            let reached = client.watchers.values().all(reached) && !client.watchers.is_empty();
            world.feed(HubInput::Progress { stream });
            let told = |watcher: &Watcher| watcher.told == revision;
            let client = &world.clients[&stream];
            prop_assert!(!reached || client.watchers.values().all(told), "no progress");
        }
    }
}
