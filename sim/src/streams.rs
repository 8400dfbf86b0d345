//! Clients of watch streams. Each stream has several watchers, with ids of the client's or of the hub's
//! choice; they are created, cancelled one by one and created again. The stream is read, stalls, is asked
//! for progress, goes away and comes back, each watcher at the revision after its last.
//!
//! What arrives is checked at once: against the committed events by each watcher's own
//! [`WatchCheck`], and here against what the client asked for.

use std::collections::{BTreeMap, VecDeque};

use quorate_consensus::NodeId;
use quorate_kv::hub::{WatchCreate, WatchId, WatchReply, WatchReplyKind};
use quorate_kv::{EventBatch, KeyRange};

use crate::check::{WatchCheck, WatchWanted};
use crate::options::Options;
use crate::queue::Time;
use crate::rng::Rng;

/// Ids that clients choose begin here, far from those that a hub chooses.
const FIRST_OWN_ID: i64 = 1_000;

/// One client's stream over all its connections.
#[derive(Debug)]
pub(crate) struct WatchClient {
    pub(crate) rng: Rng,
    pub(crate) server: NodeId,
    pub(crate) life: u64,
    pub(crate) stream: u64,
    pub(crate) connected: bool,
    pub(crate) arrived: VecDeque<(WatchReply, usize)>,
    pub(crate) last_arrival: Time,
    pub(crate) taking: bool,
    pub(crate) stalled_until: Time,
    pub(crate) watches: Vec<Watch>,
    /// Creations that are not answered, in order.
    asked: VecDeque<Asked>,
    own_ids: i64,
}

/// One watcher over all the lives that its client gives it.
#[derive(Debug)]
pub(crate) struct Watch {
    wanted: WatchWanted,
    fragment: bool,
    /// Known once the first `Created` has come.
    pub(crate) check: Option<WatchCheck>,
    /// Revision asked for by its latest creation.
    start: i64,
    pub(crate) place: Place,
}

/// Where a watcher is, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not on the stream.
    Out,
    /// Asked for.
    Asked,
    /// On the stream.
    Live(WatchId),
    /// Compaction has passed it; its id is still taken.
    Compacted(WatchId),
    /// The client has cancelled it and was not answered yet.
    Leaving(WatchId),
}

/// A creation under way.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// Of this watcher, under this id (0: the hub chooses).
    Watch(usize, WatchId),
    /// Under an id that is taken: it must be refused.
    Double,
}

/// Committed events by revision, and the compact revision.
pub(crate) type Truth<'a> = (&'a BTreeMap<i64, EventBatch>, i64);

impl WatchClient {
    pub(crate) fn new(options: &Options, mut rng: Rng) -> Self {
        let watches = (0..rng.between(1, options.watchers as u64)).map(|_| Watch::new(&mut rng));
        Self {
            watches: watches.collect(),
            server: NodeId(1),
            life: 0,
            stream: 0,
            connected: false,
            arrived: VecDeque::new(),
            last_arrival: Time(0),
            taking: false,
            stalled_until: Time(0),
            asked: VecDeque::new(),
            own_ids: 0,
            rng,
        }
    }

    /// A connection begins, with nothing on it.
    pub(crate) fn connect(&mut self, server: (NodeId, u64), stream: u64) {
        ((self.server, self.life), self.stream) = (server, stream);
        (self.connected, self.taking, self.last_arrival) = (true, false, Time(0));
        self.disconnect();
        self.connected = true;
    }

    /// The connection is gone, with all that was on it.
    pub(crate) fn disconnect(&mut self) {
        self.connected = false;
        self.arrived.clear();
        self.asked.clear();
        self.watches.iter_mut().for_each(|watch| watch.place = Place::Out);
    }

    /// Watchers that are to be created, all of them or most.
    pub(crate) fn missing(&mut self, all: bool) -> Vec<usize> {
        let rng = &mut self.rng;
        let out = self.watches.iter().enumerate().filter(|(_, w)| w.place == Place::Out);
        out.filter(|_| all || rng.chance(800)).map(|(at, _)| at).collect()
    }

    /// The request that creates a watcher, `floor` being a revision that clients have been told, or
    /// where it goes on, plus `skip`.
    pub(crate) fn create(&mut self, at: usize, floor: i64, skip: i64) -> WatchCreate {
        let watch_id = match self.rng.chance(400) {
            true => {
                self.own_ids += 1;
                WatchId(FIRST_OWN_ID + self.own_ids)
            }
            false => WatchId(0),
        };
        self.asked.push_back(Asked::Watch(at, watch_id));
        let watch = &mut self.watches[at];
        watch.place = Place::Asked;
        watch.start = match &mut watch.check {
            Some(check) => check.resume_at() + skip,
            None => match self.rng.below(4) {
                0 => 1,
                1 => (floor - 20).max(1),
                2 => floor + 10,
                _ => 0,
            },
        };
        watch.request(watch_id)
    }

    /// A request that must be refused, now and then: the id is taken.
    pub(crate) fn create_double(&mut self) -> Option<WatchCreate> {
        if !self.rng.chance(30) {
            return None;
        }
        let own = |watch: &&Watch| matches!(watch.place, Place::Live(id) if id.0 > FIRST_OWN_ID);
        let watch = self.watches.iter().find(own)?;
        self.asked.push_back(Asked::Double);
        watch.place.id().map(|id| watch.request(id))
    }

    /// Takes a live watcher, any one, or one that compaction has passed, to be cancelled.
    pub(crate) fn cancel(&mut self, compacted: bool) -> Option<WatchId> {
        let meant = |watch: &Watch| match watch.place {
            Place::Live(_) => !compacted,
            Place::Compacted(_) => compacted,
            _ => false,
        };
        let meant: Vec<usize> =
            (0..self.watches.len()).filter(|at| meant(&self.watches[*at])).collect();
        let at = *(!meant.is_empty()).then(|| self.rng.pick(&meant))?;
        let id = self.watches[at].place.id()?;
        self.watches[at].place = Place::Leaving(id);
        Some(id)
    }

    /// Events delivered so far, to all of its watchers.
    pub(crate) fn delivered(&self) -> u64 {
        let checks = self.watches.iter().filter_map(|watch| watch.check.as_ref());
        checks.map(WatchCheck::delivered).sum()
    }

    /// Checks a response.
    pub(crate) fn judge(&mut self, reply: &WatchReply, truth: Truth<'_>) -> Result<(), String> {
        let (id, header) = (reply.watch_id, reply.revision.0);
        match &reply.kind {
            WatchReplyKind::Created => self.created(id, header),
            WatchReplyKind::Refused { reason } => match self.asked.pop_front() {
                Some(Asked::Double) => Ok(()),
                asked => Err(format!("{asked:?} was refused: {reason}")),
            },
            WatchReplyKind::Events { events, fragment, .. } => {
                self.on_stream(id)?.events(truth.0, truth.1, events, *fragment)
            }
            WatchReplyKind::Progress if id == WatchId::NONE => self.progress(truth, header),
            WatchReplyKind::Progress => self.on_stream(id)?.progress(truth.0, header),
            WatchReplyKind::Canceled { compact_revision } => {
                self.cancelled(id, compact_revision.0, truth)
            }
        }
    }

    fn created(&mut self, id: WatchId, header: i64) -> Result<(), String> {
        let asked = self.asked.pop_front();
        let Some(Asked::Watch(at, wanted)) = asked else {
            return Err(format!("watcher {} was created for {asked:?}", id.0));
        };
        let taken = self.watches.iter().any(|watch| watch.place.id() == Some(id));
        if taken || (wanted != WatchId(0) && wanted != id) {
            return Err(format!("watcher {} was created, asked for was {wanted:?}", id.0));
        }
        let watch = &mut self.watches[at];
        let next = if watch.start == 0 { header + 1 } else { watch.start };
        watch.place = Place::Live(id);
        watch.check.get_or_insert_with(|| WatchCheck::new(watch.wanted.clone(), next));
        Ok(())
    }

    /// Who gets something must be on the stream.
    fn on_stream(&mut self, id: WatchId) -> Result<&mut WatchCheck, String> {
        let here = |watch: &&mut Watch| watch.place.is_served() && watch.place.id() == Some(id);
        let check = self.watches.iter_mut().find(here).and_then(|watch| watch.check.as_mut());
        check.ok_or_else(|| format!("watcher {} gets something and is not on the stream", id.0))
    }

    /// Progress of a stream is that of all its watchers (contract 12).
    fn progress(&mut self, truth: Truth<'_>, header: i64) -> Result<(), String> {
        let here = self.watches.iter_mut().filter(|watch| watch.place.is_served());
        for check in here.filter_map(|watch| watch.check.as_mut()) {
            check.progress(truth.0, header)?;
        }
        Ok(())
    }

    fn cancelled(&mut self, id: WatchId, told: i64, truth: Truth<'_>) -> Result<(), String> {
        let watch = self.watches.iter_mut().find(|watch| watch.place.id() == Some(id));
        let watch = watch.ok_or_else(|| format!("watcher {} ends and never was", id.0))?;
        match watch.place {
            Place::Leaving(_) if told == 0 => watch.place = Place::Out,
            Place::Live(_) if told > 0 => watch.place = Place::Compacted(id),
            Place::Leaving(_) => {} // both were on their way
            _ => return Err(format!("watcher {} was cancelled and nobody asked for that", id.0)),
        }
        match &mut watch.check {
            Some(check) if told > 0 => check.cancelled(told, truth.1),
            _ => Ok(()),
        }
    }
}

impl Watch {
    fn new(rng: &mut Rng) -> Self {
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
        Self { fragment: rng.chance(400), wanted, check: None, start: 0, place: Place::Out }
    }

    fn request(&self, watch_id: WatchId) -> WatchCreate {
        let WatchWanted { range, no_put, no_delete, prev_kv } = self.wanted.clone();
        WatchCreate {
            watch_id,
            range,
            start_revision: self.start,
            prev_kv,
            no_put,
            no_delete,
            fragment: self.fragment,
            progress_notify: true,
        }
    }
}

impl Place {
    fn id(self) -> Option<WatchId> {
        match self {
            Self::Live(id) | Self::Compacted(id) | Self::Leaving(id) => Some(id),
            Self::Out | Self::Asked => None,
        }
    }

    /// Whether the hub still sends it something.
    fn is_served(self) -> bool {
        matches!(self, Self::Live(_) | Self::Leaving(_))
    }
}

#[cfg(test)]
mod tests {
    use quorate_kv::Revision;

    use super::*;

    fn reply(id: WatchId, revision: i64, kind: WatchReplyKind) -> WatchReply {
        WatchReply { watch_id: id, revision: Revision(revision), kind }
    }

    /// A client with one watcher, live.
    fn live() -> (WatchClient, WatchId) {
        let mut rng = Rng::new(1);
        let watch = Watch::new(&mut rng);
        let mut options = Options::draw(&crate::options::Settings::default(), &mut Rng::new(1));
        options.watchers = 1;
        let mut client = WatchClient::new(&options, rng);
        client.watches = vec![watch];
        client.connect((NodeId(1), 0), 1);
        client.create(0, 1, 0);
        let id = WatchId(match client.asked[0] {
            Asked::Watch(_, id) => id.0,
            Asked::Double => unreachable!("a creation was asked for"),
        });
        let created = reply(id, 1, WatchReplyKind::Created);
        client.judge(&created, (&BTreeMap::new(), -1)).expect("as asked for");
        (client, id)
    }

    fn judge(client: &mut WatchClient, id: WatchId, kind: WatchReplyKind) -> Result<(), String> {
        client.judge(&reply(id, 1, kind), (&BTreeMap::new(), -1))
    }

    fn ended() -> WatchReplyKind {
        WatchReplyKind::Canceled { compact_revision: Revision(0) }
    }

    fn nothing() -> WatchReplyKind {
        WatchReplyKind::Events { events: Vec::new(), prev_kv: false, fragment: false }
    }

    #[test]
    fn a_watcher_comes_and_goes() {
        let (mut client, id) = live();
        assert!(judge(&mut client, id, nothing()).is_ok());
        assert_eq!(client.cancel(false), Some(id));
        assert!(judge(&mut client, id, nothing()).is_ok(), "it was on its way");
        assert!(judge(&mut client, id, ended()).is_ok());
        assert!(judge(&mut client, id, nothing()).is_err(), "after its end");
        assert_eq!(client.missing(true), [0]);
    }

    #[test]
    fn what_nobody_asked_for_is_caught() {
        let (mut client, id) = live();
        assert!(judge(&mut client, id, ended()).is_err(), "an end");
        assert!(judge(&mut client, WatchId(77), nothing()).is_err(), "a stranger");
        assert!(judge(&mut client, WatchId(77), WatchReplyKind::Created).is_err(), "a creation");
        let refused = WatchReplyKind::Refused { reason: "no" };
        assert!(judge(&mut client, WatchId::NONE, refused).is_err(), "a refusal");
    }
}
