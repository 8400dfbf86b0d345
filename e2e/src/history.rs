//! What clients were told, and whether the store agrees.
//!
//! Every write of a test has a value of its own, so an event in the store's history names the attempt
//! that made it. [`check`] is pure and near-linear, since every acknowledged write carries its place
//! in the order: its revision. It verifies, for single-key puts and linearizable gets:
//!
//! 1. *nothing is invented*: each event was attempted, and at most once;
//! 2. *nothing is lost*: each acknowledged write is there, at the revision that was acknowledged;
//! 3. *refused means refused*: a write that was definitely refused is not there;
//! 4. *real time*: what was acknowledged before something began has a smaller revision than it;
//! 5. *reads*: a read shows the newest version at the revision in its header.
//!
//! Left out: deletes, leases and multi-key transactions, which the simulator covers.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

/// What a client knows about one of its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged at this revision.
    Acknowledged(i64),
    /// No answer, or one that leaves it open.
    Unknown,
    /// An answer that says that nothing was written.
    Refused,
}

/// One put of a value that no other put has.
#[derive(Clone, Debug)]
pub struct Write {
    /// The key.
    pub key: String,
    /// The value; unique in the test.
    pub value: String,
    /// When the client sent it.
    pub began: Instant,
    /// When the client had the outcome.
    pub ended: Instant,
    /// The outcome.
    pub outcome: Outcome,
}

/// One linearizable get that was answered.
#[derive(Clone, Debug)]
pub struct Read {
    /// The key.
    pub key: String,
    /// The revision of the store in the header.
    pub revision: i64,
    /// Value and mod_revision, if the key was there.
    pub found: Option<(String, i64)>,
    /// When the client sent it.
    pub began: Instant,
    /// When the client had the answer.
    pub ended: Instant,
}

/// All that the clients of a test saw.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Puts in any order.
    pub writes: Vec<Write>,
    /// Gets in any order.
    pub reads: Vec<Read>,
}

/// One put event of the store's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its revision.
    pub revision: i64,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl History {
    /// Adds what other clients saw.
    pub fn extend(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.reads.extend(other.reads);
    }

    /// How many writes were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.writes.iter().filter(|write| write.revision().is_some()).count()
    }

    /// The greatest acknowledged revision; 0 if none was.
    #[must_use]
    pub fn newest(&self) -> i64 {
        self.writes.iter().filter_map(Write::revision).max().unwrap_or(0)
    }
}

impl Write {
    fn revision(&self) -> Option<i64> {
        match self.outcome {
            Outcome::Acknowledged(revision) => Some(revision),
            Outcome::Unknown | Outcome::Refused => None,
        }
    }
}

/// Checks all five properties of the module's head against the store's whole history, oldest first.
///
/// # Errors
/// Names the first property that does not hold, and the write, read or event.
pub fn check(history: &History, events: &[Event]) -> Result<()> {
    for pair in events.windows(2) {
        ensure!(pair[0].revision < pair[1].revision, "events out of order: {pair:?}");
    }
    check_events(history, events)?;
    check_writes(history, events)?;
    check_real_time(history)?;
    check_reads(history, events)
}

fn check_events(history: &History, events: &[Event]) -> Result<()> {
    let attempts: BTreeMap<&str, &Write> =
        history.writes.iter().map(|write| (write.value.as_str(), write)).collect();
    ensure!(attempts.len() == history.writes.len(), "the test wrote a value twice");
    let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
    for event in events {
        let Some(write) = attempts.get(event.value.as_str()) else {
            bail!("invented: nobody wrote {event:?}");
        };
        ensure!(write.key == event.key, "invented: {event:?} came from {write:?}");
        ensure!(write.outcome != Outcome::Refused, "refused, yet there: {event:?} {write:?}");
        if let Some(before) = seen.insert(&event.value, event.revision) {
            bail!("applied twice, at {before} and {}: {write:?}", event.revision);
        }
    }
    Ok(())
}

fn check_writes(history: &History, events: &[Event]) -> Result<()> {
    let by_revision: BTreeMap<i64, &Event> =
        events.iter().map(|event| (event.revision, event)).collect();
    for write in &history.writes {
        let Some(revision) = write.revision() else { continue };
        let there = by_revision.get(&revision).is_some_and(|event| event.value == write.value);
        ensure!(
            there,
            "lost: {write:?} is not at its revision; there is {:?}, and the newest event is {:?}",
            by_revision.get(&revision),
            events.last()
        );
    }
    Ok(())
}

/// In real time: a beginning must not see a smaller revision than what had ended by then.
fn check_real_time(history: &History) -> Result<()> {
    let writes = history
        .writes
        .iter()
        .filter_map(|write| Some((write.began, write.ended, write.revision()?, 1)));
    let reads = history.reads.iter().map(|read| (read.began, read.ended, read.revision, 0));
    let mut operations: Vec<(Instant, Instant, i64, i64)> = writes.chain(reads).collect();
    operations.sort_by_key(|operation| operation.0);
    let mut by_end = operations.clone();
    by_end.sort_by_key(|operation| operation.1);
    let mut ended = by_end.iter().peekable();
    let mut floor = 0;
    for (began, _, revision, step) in operations {
        while let Some((.., done, _)) = ended.next_if(|operation| operation.1 < began) {
            floor = floor.max(*done);
        }
        ensure!(
            revision >= floor + step,
            "real time: revision {revision} began after {floor} had been seen"
        );
    }
    Ok(())
}

fn check_reads(history: &History, events: &[Event]) -> Result<()> {
    let mut versions: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        versions.entry(&event.key).or_default().push(event);
    }
    for read in &history.reads {
        let all = versions.get(read.key.as_str()).map_or(&[][..], Vec::as_slice);
        let until = all.partition_point(|event| event.revision <= read.revision);
        let newest = until.checked_sub(1).map(|at| (all[at].value.clone(), all[at].revision));
        ensure!(newest == read.found, "read: {read:?} should have shown {newest:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn write(start: Instant, value: &str, from: u64, to: u64, outcome: Outcome) -> Write {
        let (began, ended) = (at(start, from), at(start, to));
        Write { key: "k".into(), value: value.into(), began, ended, outcome }
    }

    fn event(revision: i64, value: &str) -> Event {
        Event { revision, key: "k".into(), value: value.into() }
    }

    /// Two acknowledged writes, one unknown, and a read; and what a correct store shows.
    fn good() -> (History, Vec<Event>) {
        let start = Instant::now();
        let writes = vec![
            write(start, "a", 0, 1, Outcome::Acknowledged(2)),
            write(start, "b", 2, 3, Outcome::Unknown),
            write(start, "c", 4, 5, Outcome::Acknowledged(4)),
            write(start, "d", 6, 7, Outcome::Refused),
        ];
        let (began, ended) = (at(start, 6), at(start, 8));
        let found = Some(("c".to_owned(), 4));
        let reads = vec![Read { key: "k".into(), revision: 4, found, began, ended }];
        (History { writes, reads }, vec![event(2, "a"), event(3, "b"), event(4, "c")])
    }

    fn refusal(history: &History, events: &[Event]) -> String {
        check(history, events).expect_err("a bad history").to_string()
    }

    #[test]
    fn a_correct_store_passes_with_and_without_the_unknown_write() {
        let (history, mut events) = good();
        check(&history, &events).unwrap();
        events.remove(1);
        check(&history, &events).unwrap();
    }

    #[test]
    fn a_lost_write_is_found() {
        let (history, mut events) = good();
        events.pop();
        assert!(refusal(&history, &events).starts_with("lost"));
    }

    #[test]
    fn a_write_at_another_revision_is_found() {
        let (history, mut events) = good();
        events[2].revision = 5;
        assert!(refusal(&history, &events).starts_with("lost"));
    }

    #[test]
    fn an_invented_event_is_found() {
        let (history, mut events) = good();
        events.push(event(9, "nobody"));
        assert!(refusal(&history, &events).starts_with("invented"));
    }

    #[test]
    fn a_write_applied_twice_is_found() {
        let (history, mut events) = good();
        events.push(event(5, "b"));
        assert!(refusal(&history, &events).starts_with("applied twice"));
    }

    #[test]
    fn a_refused_write_that_is_there_is_found() {
        let (history, mut events) = good();
        events.push(event(5, "d"));
        assert!(refusal(&history, &events).starts_with("refused"));
    }

    #[test]
    fn a_stale_read_is_found() {
        let (mut history, events) = good();
        history.reads[0].revision = 3;
        history.reads[0].found = Some(("b".into(), 3));
        assert!(refusal(&history, &events).starts_with("real time"));
    }

    #[test]
    fn a_read_of_an_old_version_is_found() {
        let (mut history, events) = good();
        history.reads[0].found = Some(("a".into(), 2));
        assert!(refusal(&history, &events).starts_with("read"));
    }

    #[test]
    fn a_revision_that_goes_back_is_found() {
        let (mut history, mut events) = good();
        history.writes[2].outcome = Outcome::Acknowledged(2);
        history.writes[0].outcome = Outcome::Acknowledged(4);
        events = vec![event(2, "c"), event(3, "b"), event(4, events[0].value.as_str())];
        history.reads.clear();
        assert!(refusal(&history, &events).starts_with("real time"));
    }
}
