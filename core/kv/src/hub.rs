//! The watch hub: events of the node in, responses of watch streams out (contract 12).
//!
//! Each runtime of the shell steps one hub. A watcher is at heart a single number, the next revision it
//! has not seen, and is in one of four places:
//!
//! - *live*: it has seen all that the hub has; the index finds it by the key of an event. A start in the
//!   future is a live watcher that ignores what comes before.
//! - *behind*: it gets turns, each served from the ring of recent revisions;
//! - *reading*: the ring does not reach back that far, and history is being read for it;
//! - *compacted*: history does not reach back that far either: cancelled.
//!
//! A stream whose connection does not drain gets nothing more; its watchers fall behind as events for
//! them come, and take turns again once it drains. So a stalled stream costs what was handed to it
//! before (`stream_bytes` and one response), and nobody else notices. Turns are bounded per step; the
//! caller steps `Work` as long as `has_work()`.
//!
//! What a watcher can rely on (etcd's robustness tests name these): only events of its range that pass
//! its filters; in order, each once, those of a revision together (unless it takes fragments), none left
//! out; from its start revision on; `prev_kv` exactly the pair before, absent only at the compact
//! revision; progress R only after everything up to R.
//!
//! Left out: encoding, timers, permissions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::HubLimits;
use crate::types::{EventBatch, KeyRange, KeyspaceId, Revision};
use crate::view::History;

mod api;
mod catch_up;
mod deliver;
mod intervals;
mod invariants;
mod space;
mod stream;

pub use api::{
    HistoryFound, HubInput, HubOutput, Matched, StreamId, WatchCreate, WatchId, WatchReply,
    WatchReplyKind, Which,
};
use deliver::control;
use space::{Name, Space};
use stream::{Place, Stream, Watcher};

const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const NEGATIVE_START: &str = "etcdserver: mvcc: required revision has been compacted";
const TOO_MANY: &str = "etcdserver: too many watchers on the stream";

/// The machine. See the module.
#[derive(Debug, Default)]
pub struct Hub {
    limits: HubLimits,
    spaces: BTreeMap<KeyspaceId, Space>,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams with room and a watcher that is behind.
    ready: VecDeque<StreamId>,
    /// Streams whose next watcher waits until fewer reads are under way.
    waiting: BTreeSet<StreamId>,
    /// Reads of history under way; `None`: the watcher is gone.
    reads: BTreeMap<u64, Option<Name>>,
    last_read: u64,
    /// Watchers that want progress told.
    notified: BTreeSet<Name>,
}

impl Hub {
    /// A hub without streams.
    #[must_use]
    pub fn new(limits: HubLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether `Work` would do anything now.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether a stream's connection is so far behind that the shell should read no more requests
    /// from it.
    #[must_use]
    pub fn is_stalled(&self, stream: StreamId) -> bool {
        self.streams
            .get(&stream)
            .is_some_and(|stream| stream.outstanding >= self.limits.stream_bytes)
    }

    /// Streams and watchers, for metrics.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.streams.len(), self.streams.values().map(|stream| stream.watchers.len()).sum())
    }

    /// Takes one input. What names a stream or a watcher that does not exist (any more) is ignored.
    ///
    /// # Panics
    /// When `Events` leaves out a revision: watchers would miss it.
    pub fn step(&mut self, input: HubInput, out: &mut Vec<HubOutput>) {
        match input {
            HubInput::State { keyspace, revision, compact_revision } => {
                self.jump(keyspace, revision);
                self.compacted(keyspace, compact_revision);
            }
            HubInput::Events(batch) => self.events(batch, out),
            HubInput::Compacted { keyspace, revision } => self.compacted(keyspace, revision),
            HubInput::OpenStream { stream, keyspace } => {
                self.space(keyspace);
                let old = self.streams.insert(stream, Stream::new(keyspace));
                assert!(old.is_none(), "stream {stream:?} was opened twice");
            }
            HubInput::CloseStream { stream } => self.close(stream),
            HubInput::Create { stream, request } => self.create(stream, request, out),
            HubInput::Cancel { stream, watch_id } => self.cancel(stream, watch_id, out),
            HubInput::Progress { stream } => self.progress(stream, out),
            HubInput::History { read, found } => self.history(read, found, out),
            HubInput::Drained { stream, bytes } => self.drained(stream, bytes),
            HubInput::NotifyTick => self.tick(out),
            HubInput::Work => {}
        }
        for _ in 0..self.limits.turns {
            let Some(stream) = self.ready.pop_front() else { break };
            self.turn(stream, out);
        }
    }

    fn space(&mut self, keyspace: KeyspaceId) -> &mut Space {
        self.spaces.entry(keyspace).or_insert_with(Space::empty)
    }

    /// New events: to live watchers whose stream has room; the others fall behind.
    fn events(&mut self, batch: EventBatch, out: &mut Vec<HubOutput>) {
        let ring_bytes = self.limits.ring_bytes;
        let is_new = !self.spaces.contains_key(&batch.keyspace);
        let space = self.space(batch.keyspace);
        if is_new {
            // Nobody watches it yet: what came before is history.
            space.jump(Revision(batch.revision.0 - 1));
        }
        if batch.revision <= space.revision {
            // `State` has said so before; who missed it reads history.
            return;
        }
        space.push(batch.clone(), ring_bytes);
        for concerned in deliver::concerned(space, &batch).chunk_by(|a, b| a.0 == b.0) {
            let name = concerned[0].0;
            let places = concerned.iter().map(|(_, place)| *place);
            let (stream, watcher) = self.watcher(name).expect("the index names living watchers");
            if batch.revision < watcher.start {
                continue;
            }
            let Some(matched) = deliver::matched(watcher, &batch, places) else { continue };
            if stream.outstanding >= self.limits.stream_bytes {
                self.fall_behind(name, batch.revision);
            } else {
                self.send(name, vec![matched], batch.revision, out);
            }
        }
    }

    fn watcher(&self, name: Name) -> Option<(&Stream, &Watcher)> {
        let stream = self.streams.get(&name.0)?;
        Some((stream, stream.watchers.get(&name.1)?))
    }

    fn watcher_mut(&mut self, name: Name) -> Option<&mut Watcher> {
        self.streams.get_mut(&name.0)?.watchers.get_mut(&name.1)
    }

    fn send(
        &mut self,
        name: Name,
        events: Vec<Matched>,
        revision: Revision,
        out: &mut Vec<HubOutput>,
    ) {
        let bound = self.limits.fragment_bytes;
        let watcher = self.watcher_mut(name).expect("sent to by its name");
        watcher.sent = true;
        let responses = deliver::pack(name, watcher, events, revision, bound);
        responses.into_iter().for_each(|response| self.emit(response, out));
    }

    fn emit(&mut self, output: HubOutput, out: &mut Vec<HubOutput>) {
        if let HubOutput::Response { stream, bytes, .. } = &output {
            let stream = self.streams.get_mut(stream).expect("responses go to open streams");
            stream.outstanding += bytes;
        }
        out.push(output);
    }

    /// A live watcher has to see everything from `next` on later.
    fn fall_behind(&mut self, name: Name, next: Revision) {
        let stream = self.streams.get_mut(&name.0).expect("the stream of a watcher");
        let watcher = stream.watchers.get_mut(&name.1).expect("a watcher by its name");
        watcher.place = Place::Behind(next.max(watcher.start));
        stream.behind.push_back(name.1);
        let (keyspace, range) = (stream.keyspace, watcher.range.clone());
        self.space(keyspace).unwatch(&range, name);
        self.wake(name.0);
    }

    fn create(&mut self, id: StreamId, mut request: WatchCreate, out: &mut Vec<HubOutput>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (revision, compact_revision) = {
            let space = &self.spaces[&stream.keyspace];
            (space.revision, space.compact_revision)
        };
        if request.range.key.is_empty() {
            request.range.key = "\0".into();
        }
        let watch_id = match accept(stream, &request, self.limits.watchers_per_stream) {
            Ok(watch_id) => watch_id,
            Err(reason) => {
                let kind = WatchReplyKind::Refused { reason };
                return self.emit(control(id, WatchId::NONE, revision, kind), out);
            }
        };
        let name = (id, watch_id);
        if request.progress_notify {
            self.notified.insert(name);
        }
        let start = Revision(request.start_revision);
        let (keyspace, range) = (stream.keyspace, request.range.clone());
        stream.watchers.insert(watch_id, Watcher::new(request, Place::Live));
        self.emit(control(id, watch_id, revision, WatchReplyKind::Created), out);
        self.space(keyspace).watch(&range, name);
        if start.0 == 0 || start > revision {
            return;
        }
        self.fall_behind(name, start);
        if start < compact_revision {
            self.cancel_compacted(name, out);
        }
    }

    fn cancel(&mut self, id: StreamId, watch_id: WatchId, out: &mut Vec<HubOutput>) {
        if !self.remove((id, watch_id)) {
            return;
        }
        let revision = self.spaces[&self.streams[&id].keyspace].revision;
        let kind = WatchReplyKind::Canceled { compact_revision: Revision(0) };
        self.emit(control(id, watch_id, revision, kind), out);
    }

    /// Forgets a watcher; whether there was one.
    fn remove(&mut self, name: Name) -> bool {
        let Some(stream) = self.streams.get_mut(&name.0) else { return false };
        let keyspace = stream.keyspace;
        let Some(watcher) = stream.watchers.remove(&name.1) else { return false };
        self.notified.remove(&name);
        self.leave(keyspace, name, watcher.place, &watcher.range);
        true
    }

    /// Takes a watcher out of wherever its place has put it.
    fn leave(&mut self, keyspace: KeyspaceId, name: Name, place: Place, range: &KeyRange) {
        match place {
            Place::Live => self.space(keyspace).unwatch(range, name),
            Place::Reading(_, read) => {
                // Its answer, if it is still to come, is for nobody.
                self.reads.get_mut(&read).into_iter().for_each(|reader| *reader = None);
            }
            Place::Behind(_) => {
                let stream = self.streams.get_mut(&name.0);
                stream.into_iter().for_each(|stream| stream.behind.retain(|id| *id != name.1));
            }
            Place::Compacted => {}
        }
    }

    fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let names: Vec<Name> = stream.watchers.keys().map(|watch_id| (id, *watch_id)).collect();
        self.streams.get_mut(&id).expect("just found").behind.clear();
        for name in names {
            self.remove(name);
        }
        self.streams.remove(&id);
        self.ready.retain(|ready| *ready != id);
        self.waiting.remove(&id);
    }

    fn progress(&mut self, id: StreamId, out: &mut Vec<HubOutput>) {
        let Some(stream) = self.streams.get(&id) else { return };
        let revision = self.spaces[&stream.keyspace].revision;
        if stream.is_past(revision) {
            self.emit(control(id, WatchId::NONE, revision, WatchReplyKind::Progress), out);
        }
    }

    fn tick(&mut self, out: &mut Vec<HubOutput>) {
        for name in self.notified.clone() {
            let (stream, watcher) = self.watcher(name).expect("notified watchers exist");
            let revision = self.spaces[&stream.keyspace].revision;
            let room = stream.outstanding < self.limits.stream_bytes;
            let idle = !watcher.sent && watcher.is_past(revision) && room;
            self.watcher_mut(name).expect("just found").sent = false;
            if idle {
                self.emit(control(name.0, name.1, revision, WatchReplyKind::Progress), out);
            }
        }
    }

    fn drained(&mut self, id: StreamId, bytes: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        assert!(stream.outstanding >= bytes, "more was drained than was sent");
        stream.outstanding -= bytes;
        self.wake(id);
    }

    fn compacted(&mut self, keyspace: KeyspaceId, revision: Revision) {
        let space = self.space(keyspace);
        space.compact_revision = space.compact_revision.max(revision);
    }

    /// The hub will not see what lies between: live watchers read it.
    fn jump(&mut self, keyspace: KeyspaceId, revision: Revision) {
        let space = self.space(keyspace);
        let missed = space.revision.next();
        if revision < missed {
            return;
        }
        space.jump(revision);
        let of_keyspace = self.streams.iter().filter(|(_, stream)| stream.keyspace == keyspace);
        let live = of_keyspace.flat_map(|(id, stream)| {
            let live = stream.watchers.iter().filter(|(_, w)| w.is_past(revision));
            live.map(|(watch_id, _)| (*id, *watch_id))
        });
        for name in live.collect::<Vec<_>>() {
            self.fall_behind(name, missed);
        }
    }
}

/// The id of a new watcher, or why there will be none.
fn accept(
    stream: &mut Stream,
    request: &WatchCreate,
    most: usize,
) -> Result<WatchId, &'static str> {
    if request.start_revision < 0 {
        return Err(NEGATIVE_START);
    }
    let range = &request.range;
    if !range.is_single() && !range.is_open_ended() && range.key >= range.range_end {
        return Err(EMPTY_RANGE);
    }
    if stream.watchers.len() >= most {
        return Err(TOO_MANY);
    }
    stream.choose_id(request.watch_id).ok_or(DUPLICATE_ID)
}
