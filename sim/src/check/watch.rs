//! The nine properties of a watch, against the committed events.
//!
//! | property | what is checked |
//! |---|---|
//! | filter | an event delivered is one of the watcher's range and kinds |
//! | ordered | revisions ascend |
//! | unique | no revision comes twice |
//! | atomic | the events of one revision come together (fragments: one after the other) |
//! | reliable | nothing between two deliveries was left out |
//! | resumable | the same across a reconnection at the revision after the last |
//! | bookmarkable | when progress R is told, everything up to R has been delivered |
//! | prevKV | the pair before is the committed one; absent only where compaction may have taken it |
//! | isCreate | create and mod revision, version and value are the committed ones |

use std::collections::BTreeMap;

use quorate_kv::hub::Matched;
use quorate_kv::{Event, EventBatch, EventKind, KeyRange, KeyValue};

use crate::history::brief_value;
use crate::model::Model;

/// What a watcher asked for.
#[derive(Clone, Debug, Default)]
pub struct WatchWanted {
    /// Which keys.
    pub range: KeyRange,
    /// No puts.
    pub no_put: bool,
    /// No deletions.
    pub no_delete: bool,
    /// With the pair before.
    pub prev_kv: bool,
}

impl WatchWanted {
    fn wants(&self, event: &Event) -> bool {
        let filtered = match event.kind {
            EventKind::Put => self.no_put,
            EventKind::Delete => self.no_delete,
        };
        !filtered && self.range.contains(&event.kv.key)
    }
}

/// An event in a few words.
fn brief_event(event: &Event) -> String {
    let pair = |kv: &KeyValue| {
        let KeyValue { create_revision, mod_revision, version, value, lease, .. } = kv;
        let (create, at, value) = (create_revision.0, mod_revision.0, brief_value(value));
        format!("{value}@{at} (created {create}, version {version}, lease {})", lease.0)
    };
    let before = event.prev_kv.as_ref().map_or_else(|| "nothing".to_owned(), pair);
    format!("{:?} of {:?}: {}, before: {before}", event.kind, event.kv.key, pair(&event.kv))
}

type Truth = BTreeMap<i64, EventBatch>;

/// How far a watcher is: everything of its before `next` has been delivered.
#[derive(Clone, Debug)]
pub struct WatchCheck {
    wanted: WatchWanted,
    next: i64,
    /// Events of revision `next` that came in fragments so far.
    part: usize,
    delivered: u64,
}

impl WatchCheck {
    /// A watcher whose first revision is `next`.
    #[must_use]
    pub fn new(wanted: WatchWanted, next: i64) -> Self {
        Self { wanted, next, part: 0, delivered: 0 }
    }

    /// Where a reconnection goes on. Fragments of an unfinished revision come again.
    pub fn resume_at(&mut self) -> i64 {
        self.part = 0;
        self.next
    }

    /// Events delivered so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// A response with events came.
    ///
    /// # Errors
    /// It is not what must come next.
    pub fn events(
        &mut self,
        truth: &Truth,
        compacted: i64,
        events: &[Matched],
        fragment: bool,
    ) -> Result<(), String> {
        for (at, matched) in events.iter().enumerate() {
            let unfinished = fragment && at + 1 == events.len();
            self.revision(truth, compacted, matched, unfinished)?;
        }
        Ok(())
    }

    fn revision(
        &mut self,
        truth: &Truth,
        compacted: i64,
        matched: &Matched,
        unfinished: bool,
    ) -> Result<(), String> {
        let revision = matched.batch.revision.0;
        if revision < self.next {
            let next = self.next;
            return Err(format!("unique, ordered: revision {revision} came, {next} was due"));
        }
        if revision > self.next {
            self.nothing_between(truth, revision - 1)?;
            (self.next, self.part) = (revision, 0);
        }
        let due = self.due(truth, revision);
        let got: Vec<&Event> = matched.events().collect();
        self.delivered += got.len() as u64;
        let rest = &due[self.part.min(due.len())..];
        let complete = got.len() == rest.len();
        if got.len() > rest.len() || !(complete || unfinished) {
            let (got, due) = (got.len(), rest.len());
            return Err(format!("atomic, filter: {got} of {due} events of revision {revision}"));
        }
        for (got, due) in got.iter().zip(rest) {
            self.same(got, due, compacted)?;
        }
        self.part += got.len();
        if complete {
            (self.next, self.part) = (revision + 1, 0);
        }
        Ok(())
    }

    fn due<'a>(&self, truth: &'a Truth, revision: i64) -> Vec<&'a Event> {
        let events = truth.get(&revision).into_iter().flat_map(|batch| batch.events.iter());
        events.filter(|event| self.wanted.wants(event)).collect()
    }

    fn same(&self, got: &Event, due: &Event, compacted: i64) -> Result<(), String> {
        if got.kind != due.kind || got.kv != due.kv {
            let (got, due) = (brief_event(got), brief_event(due));
            return Err(format!("isCreate: got {got}, committed was {due}"));
        }
        let may_lack = due.kv.mod_revision.0 <= compacted && got.prev_kv.is_none();
        if self.wanted.prev_kv && got.prev_kv != due.prev_kv && !may_lack {
            let (got, due) = (brief_event(got), brief_event(due));
            return Err(format!("prevKV: got {got}, committed was {due}"));
        }
        Ok(())
    }

    fn nothing_between(&self, truth: &Truth, until: i64) -> Result<(), String> {
        if self.part > 0 {
            return Err(format!("atomic: revision {} was left unfinished", self.next));
        }
        for revision in truth.range(self.next..=until.max(self.next - 1)).map(|(at, _)| *at) {
            if let Some(event) = self.due(truth, revision).first() {
                return Err(format!("reliable, resumable: {} was left out", brief_event(event)));
            }
        }
        Ok(())
    }

    /// Progress was told.
    ///
    /// # Errors
    /// Not everything up to there has come.
    pub fn progress(&mut self, truth: &Truth, revision: i64) -> Result<(), String> {
        if revision >= self.next {
            self.nothing_between(truth, revision).map_err(|what| {
                format!("bookmarkable: progress {revision} was told, but {what}")
            })?;
            self.next = revision + 1;
        }
        Ok(())
    }

    /// It was cancelled because history starts at `told`.
    ///
    /// # Errors
    /// It stood at or after that, or nobody compacted that far.
    pub fn cancelled(&mut self, told: i64, compacted: i64) -> Result<(), String> {
        if told > compacted || self.next >= told {
            let next = self.next;
            return Err(format!(
                "reliable: cancelled at {next} by compaction {told}; compacted is {compacted}"
            ));
        }
        (self.next, self.part) = (told, 0);
        Ok(())
    }
}

/// Checks the committed events themselves against the store that the clients saw: what watchers are
/// compared with must not come from the code under test alone.
///
/// # Errors
/// The first event that the model does not have.
pub fn check_truth(truth: &Truth, model: &Model) -> Result<(), String> {
    for event in truth.values().flat_map(|batch| batch.events.iter()) {
        let (key, at) = (&event.kv.key, event.kv.mod_revision.0);
        if at > model.revision() {
            break; // nobody was told of it
        }
        let (now, before) = (model.live_at(key, at), model.live_at(key, at - 1));
        let is_put = event.kind == EventKind::Put;
        if now.as_ref() != is_put.then_some(&event.kv) || before != event.prev_kv {
            return Err(format!("committed {event:?}, clients saw {before:?} become {now:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_kv::hub::Which;
    use quorate_kv::{KeyspaceId, Revision};

    use super::*;

    fn event(key: &'static str, revision: i64) -> Event {
        let (at, prev) = (Revision(revision), KeyValue { key: key.into(), ..KeyValue::default() });
        let kv = KeyValue { mod_revision: at, version: 2, ..prev.clone() };
        Event { kind: EventKind::Put, kv, prev_kv: Some(prev) }
    }

    fn batch(revision: i64, keys: &[&'static str]) -> EventBatch {
        let events = keys.iter().map(|key| event(key, revision)).collect::<Vec<_>>().into();
        EventBatch { keyspace: KeyspaceId::ETCD, revision: Revision(revision), events }
    }

    fn truth() -> Truth {
        [batch(2, &["a", "b"]), batch(3, &["z"]), batch(4, &["a"])]
            .map(|batch| (batch.revision.0, batch))
            .into()
    }

    fn check() -> WatchCheck {
        let range = KeyRange { key: "a".into(), range_end: "c".into() };
        WatchCheck::new(WatchWanted { range, prev_kv: true, ..WatchWanted::default() }, 2)
    }

    fn got(batch: EventBatch, places: &[u32]) -> Vec<Matched> {
        vec![Matched { batch, which: Which::At(places.into()) }]
    }

    #[test]
    fn the_right_events_pass() {
        let (truth, mut check) = (truth(), check());
        check.events(&truth, 0, &got(batch(2, &["a", "b"]), &[0]), true).expect("a fragment");
        check.events(&truth, 0, &got(batch(2, &["a", "b"]), &[1]), false).expect("the rest");
        check.progress(&truth, 3).expect("nothing of its at 3");
        check.events(&truth, 0, &got(batch(4, &["a"]), &[0]), false).expect("resumed");
        assert_eq!(check.resume_at(), 5);
    }

    #[test]
    fn each_way_to_be_wrong_is_caught() {
        let truth = truth();
        let wrong = |batch, places: &[u32]| {
            check().events(&truth, 0, &got(batch, places), false).expect_err("caught")
        };
        assert!(wrong(batch(2, &["a", "b"]), &[0]).starts_with("atomic"));
        assert!(wrong(batch(3, &["z"]), &[0]).starts_with("reliable"));
        assert!(wrong(batch(4, &["a"]), &[0]).starts_with("reliable"));
        let mut other = batch(2, &["a", "b"]);
        let mut events = other.events.to_vec();
        events[0].prev_kv = None;
        other.events = events.clone().into();
        assert!(wrong(other.clone(), &[0, 1]).starts_with("prevKV"));
        events[0].kv.create_revision = Revision(2);
        other.events = events.into();
        assert!(wrong(other, &[0, 1]).starts_with("isCreate"));
        let mut twice = check();
        let first = got(batch(2, &["a", "b"]), &[0, 1]);
        twice.events(&truth, 0, &first, false).expect("once");
        assert!(twice.events(&truth, 0, &first, false).expect_err("twice").starts_with("unique"));
        assert!(check().progress(&truth, 2).expect_err("early").starts_with("bookmarkable"));
        assert!(check().cancelled(3, 2).is_err(), "nobody compacted to 3");
        assert!(check().cancelled(2, 2).is_err(), "2 is still readable");
        assert!(check().cancelled(3, 3).is_ok());
    }

    #[test]
    fn events_that_the_clients_did_not_see_are_caught() {
        let put = |value: &'static str| {
            let put = quorate_kv::PutRequest {
                key: "a".into(),
                value: value.into(),
                ..Default::default()
            };
            quorate_kv::Command::Put(put)
        };
        let mut model = Model::default();
        model.apply(&put("1"));
        model.apply(&put("2"));
        let (before, now) = (model.live_at(&"a".into(), 2), model.live_at(&"a".into(), 3));
        let kv = now.expect("just put");
        let event = |prev_kv| Event { kind: EventKind::Put, kv: kv.clone(), prev_kv };
        let truth = |event: Event| -> Truth {
            let (keyspace, revision) = (KeyspaceId::ETCD, Revision(3));
            [(3, EventBatch { keyspace, revision, events: [event].into() })].into()
        };
        assert!(check_truth(&truth(event(before)), &model).is_ok());
        assert!(check_truth(&truth(event(None)), &model).is_err(), "prevKV");
        let delete = Event { kind: EventKind::Delete, ..event(None) };
        assert!(check_truth(&truth(delete), &model).is_err(), "kind");
    }

    #[test]
    fn a_missing_previous_pair_is_excused_by_compaction_alone() {
        let truth = truth();
        let mut bare = batch(2, &["a", "b"]);
        let strip = |event: &Event| Event { prev_kv: None, ..event.clone() };
        bare.events = bare.events.iter().map(strip).collect::<Vec<_>>().into();
        assert!(check().events(&truth, 1, &got(bare.clone(), &[0, 1]), false).is_err());
        assert!(check().events(&truth, 2, &got(bare, &[0, 1]), false).is_ok());
    }
}
