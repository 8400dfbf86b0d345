//! Watchers that are behind: turns, the ring, reads of history, cancellation by compaction.
//!
//! Streams with room take turns, and within a stream its watchers do. A turn moves one watcher on by
//! one response at most, or asks for one read.

use crate::types::{EventBatch, Revision};

use super::deliver::{control, filtered, size};
use super::space::Name;
use super::stream::Place;
use super::{History, HistoryFound, Hub, HubOutput, Matched, StreamId, WatchReplyKind};

/// What a turn found for a watcher.
struct Served {
    events: Vec<Matched>,
    next: Revision,
}

impl Hub {
    /// Queues a stream if it has room and a watcher that is behind.
    pub(super) fn wake(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let room = stream.outstanding < self.limits.stream_bytes;
        if room && !stream.behind.is_empty() && !stream.queued && !self.waiting.contains(&id) {
            stream.queued = true;
            self.ready.push_back(id);
        }
    }

    /// One turn of one stream.
    pub(super) fn turn(&mut self, id: StreamId, out: &mut Vec<HubOutput>) {
        let stream = self.streams.get_mut(&id).expect("streams that close leave the queue");
        stream.queued = false;
        if stream.outstanding >= self.limits.stream_bytes {
            return;
        }
        let Some(watch_id) = stream.behind.pop_front() else { return };
        self.serve((id, watch_id), out);
        self.wake(id);
    }

    fn serve(&mut self, name: Name, out: &mut Vec<HubOutput>) {
        let (stream, watcher) = self.watcher(name).expect("watchers that leave are not behind");
        let Place::Behind(next) = watcher.place else {
            unreachable!("a watcher in the queue is behind")
        };
        let space = &self.spaces[&stream.keyspace];
        let most = match watcher.fragment {
            true => self.limits.fragmented_bytes,
            false => self.limits.response_bytes,
        };
        let served = space.recent(next).map(|recent| {
            let recent = recent.take(self.limits.ring_batches);
            gather_until(recent, next, most, watcher.prev_kv, |batch| filtered(watcher, batch))
        });
        let compacted = next < space.compact_revision;
        match served {
            Some(served) => self.advance(name, served, out),
            None if compacted => self.cancel_compacted(name, out),
            None => self.read(name, next, most, out),
        }
    }

    /// Sends what a turn found and moves the watcher on.
    fn advance(&mut self, name: Name, served: Served, out: &mut Vec<HubOutput>) {
        let (stream, _) = self.watcher(name).expect("it has just been served");
        let keyspace = stream.keyspace;
        let current = self.spaces[&keyspace].revision;
        let caught_up = served.next > current;
        if !served.events.is_empty() {
            // The header speaks for the whole store only if nothing is left to send.
            let header = if caught_up { current } else { Revision(served.next.0 - 1) };
            self.send(name, served.events, header, out);
        }
        let stream = self.streams.get_mut(&name.0).expect("still open");
        let watcher = stream.watchers.get_mut(&name.1).expect("still there");
        if caught_up {
            watcher.place = Place::Live;
            let range = watcher.range.clone();
            self.space(keyspace).watch(&range, name);
        } else {
            watcher.place = Place::Behind(served.next);
            stream.behind.push_back(name.1);
        }
    }

    fn read(&mut self, name: Name, from: Revision, max_bytes: usize, out: &mut Vec<HubOutput>) {
        let stream = self.streams.get_mut(&name.0).expect("it has just been served");
        if self.reads.len() >= self.limits.history_reads {
            stream.behind.push_front(name.1);
            self.waiting.insert(name.0);
            return;
        }
        self.last_read += 1;
        let read = self.last_read;
        self.reads.insert(read, Some(name));
        let keyspace = stream.keyspace;
        let watcher = stream.watchers.get_mut(&name.1).expect("it has just been served");
        watcher.place = Place::Reading(from, read);
        let range = watcher.range.clone();
        out.push(HubOutput::ReadHistory { read, keyspace, range, from, max_bytes });
    }

    /// The answer to a read.
    pub(super) fn history(&mut self, read: u64, found: HistoryFound, out: &mut Vec<HubOutput>) {
        let Some(name) = self.reads.remove(&read) else { return };
        for waiting in std::mem::take(&mut self.waiting) {
            self.wake(waiting);
        }
        let Some(name) = name else { return };
        match found {
            HistoryFound::Compacted(revision) => {
                let (stream, _) = self.watcher(name).expect("reads name living watchers");
                self.compacted(stream.keyspace, revision);
                self.cancel_compacted(name, out);
            }
            HistoryFound::Found(_) if self.is_stalled(name.0) => self.put_back(name),
            HistoryFound::Found(history) => {
                let served = self.take_history(name, history);
                self.advance(name, served, out);
                self.wake(name.0);
            }
        }
    }

    /// The stream has filled up while history was read: the piece is dropped, not kept, and will be
    /// read again once there is room.
    fn put_back(&mut self, name: Name) {
        let stream = self.streams.get_mut(&name.0).expect("reads name open streams");
        let watcher = stream.watchers.get_mut(&name.1).expect("reads name living watchers");
        let Place::Reading(from, _) = watcher.place else { unreachable!("a read was under way") };
        watcher.place = Place::Behind(from);
        stream.behind.push_back(name.1);
    }

    /// What a piece of history means for a watcher. What the hub itself has not seen yet is left for
    /// when it has.
    fn take_history(&mut self, name: Name, history: History) -> Served {
        let (stream, watcher) = self.watcher(name).expect("reads name living watchers");
        let Place::Reading(from, _) = watcher.place else { unreachable!("a read was under way") };
        let seen = self.spaces[&stream.keyspace].revision.next();
        let next = history.next.clamp(from, seen.max(from));
        let in_time = |batch: &&EventBatch| batch.revision >= from && batch.revision < next;
        let batches = history.batches.iter().filter(in_time);
        let events = batches.filter_map(|batch| filtered(watcher, batch)).collect();
        Served { events, next }
    }

    /// Compaction has passed a watcher: the client learns where history starts.
    pub(super) fn cancel_compacted(&mut self, name: Name, out: &mut Vec<HubOutput>) {
        let (stream, watcher) = self.watcher(name).expect("called with a living watcher");
        let (keyspace, place, range) = (stream.keyspace, watcher.place, watcher.range.clone());
        self.leave(keyspace, name, place, &range);
        self.notified.remove(&name);
        self.watcher_mut(name).expect("it stays, as a taken id").place = Place::Compacted;
        let compact_revision = self.spaces[&keyspace].compact_revision;
        let kind = WatchReplyKind::Canceled { compact_revision };
        self.emit(control(name.0, name.1, Revision(0), kind), out);
    }
}

/// Gathers a watcher's events from consecutive revisions, whole ones, until there are enough.
fn gather_until<'b>(
    batches: impl Iterator<Item = &'b EventBatch>,
    mut next: Revision,
    most: usize,
    prev_kv: bool,
    filter: impl Fn(&EventBatch) -> Option<Matched>,
) -> Served {
    let (mut events, mut bytes) = (Vec::new(), 0);
    for batch in batches {
        if let Some(matched) = filter(batch) {
            let more = size(&matched, prev_kv);
            if bytes > 0 && bytes + more > most {
                break;
            }
            bytes += more;
            events.push(matched);
        }
        next = batch.revision.next();
    }
    Served { events, next }
}
