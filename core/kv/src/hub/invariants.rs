//! What must hold of a hub after every step.

use super::stream::Place;
use super::{Hub, StreamId};

impl Hub {
    /// Checks the hub; panics where it is broken. Walks over everything.
    pub fn invariants(&self) {
        self.spaces.values().for_each(super::Space::invariants);
        for (id, stream) in &self.streams {
            self.stream_invariants(*id, stream);
        }
        for name in self.reads.values().flatten() {
            let (_, watcher) = self.watcher(*name).expect("a read for nobody");
            assert!(matches!(watcher.place, Place::Reading(..)), "a read for {:?}", watcher.place);
        }
        assert!(self.reads.len() <= self.limits.history_reads, "too many reads");
        let known = |name: &super::Name| self.watcher(*name).is_some();
        assert!(self.notified.iter().all(known), "a watcher that is gone is notified");
        assert!(self.ready.iter().all(|id| self.streams[id].queued), "queued without knowing");
    }

    fn stream_invariants(&self, id: StreamId, stream: &super::Stream) {
        let space = &self.spaces[&stream.keyspace];
        let mut behind: Vec<_> = stream.behind.iter().copied().collect();
        behind.sort_unstable();
        let is_behind = |place: Place| matches!(place, Place::Behind(_));
        let places = stream.watchers.iter().filter(|(_, watcher)| is_behind(watcher.place));
        assert!(behind.iter().eq(places.map(|(watch_id, _)| watch_id)), "queue of {id:?}");
        for (watch_id, watcher) in &stream.watchers {
            let mut indexed = false;
            space.watchers(&watcher.range.key, &mut |name| indexed |= name == (id, *watch_id));
            assert_eq!(indexed, watcher.place == Place::Live, "index of {id:?} {watch_id:?}");
            if let Place::Behind(next) | Place::Reading(next, _) = watcher.place {
                assert!(next <= space.revision.next(), "behind, but of the future");
            }
        }
        let room = stream.outstanding < self.limits.stream_bytes;
        let scheduled = stream.queued || self.waiting.contains(&id);
        assert!(behind.is_empty() || !room || scheduled, "{id:?} is forgotten");
    }
}
