//! Durability: what a server was told is durable, its recovery finds again; what a client was told is
//! done, every server has at the end.
//!
//! Told durable was the log as of the last reported `Persist`, unless a later one had begun to cut it,
//! and the term and vote of then. Recovery may find more (it was on its way), never less.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_consensus::{HardState, NodeId, Persist, Recovered, Seq};
use quorate_kv::{Command, KeyValue};

use super::Log;
use crate::history::{Action, Operation, Outcome};

#[derive(Debug)]
struct UnderWay {
    seq: Seq,
    hard_state: Option<HardState>,
    cut: Option<u64>,
    last: u64,
}

#[derive(Debug, Default)]
struct Promised {
    last: u64,
    hard_state: HardState,
    under_way: VecDeque<UnderWay>,
    /// A snapshot is taking the log's place: either may be found.
    installing: bool,
}

/// What each server was told.
#[derive(Debug, Default)]
pub struct Durability {
    nodes: BTreeMap<NodeId, Promised>,
}

impl Durability {
    /// Handed to the disk: the log then ends at `last`, and was cut from `cut` on.
    pub fn persist(&mut self, node: NodeId, persist: &Persist, cut: Option<u64>, last: u64) {
        let (seq, hard_state) = (persist.seq, persist.hard_state);
        let promised = self.nodes.entry(node).or_default();
        promised.under_way.push_back(UnderWay { seq, hard_state, cut, last });
    }

    /// Reported durable.
    pub fn persisted(&mut self, node: NodeId, seq: Seq) {
        let promised = self.nodes.entry(node).or_default();
        while promised.under_way.front().is_some_and(|first| first.seq <= seq) {
            let done = promised.under_way.pop_front().expect("just seen");
            promised.last = done.last;
            promised.hard_state = done.hard_state.unwrap_or(promised.hard_state);
        }
    }

    /// A snapshot is about to replace the log.
    pub fn installing(&mut self, node: NodeId) {
        self.nodes.entry(node).or_default().installing = true;
    }

    /// It has: the log begins behind it.
    pub fn installed(&mut self, node: NodeId, index: u64) {
        let promised = self.nodes.entry(node).or_default();
        (promised.last, promised.installing) = (index, false);
        promised.under_way.clear();
    }

    /// Compares what recovery found with what had been promised; `log` is the log before the crash.
    ///
    /// # Errors
    /// What is missing.
    pub fn recovered(&self, node: NodeId, log: &Log, found: &Recovered) -> Result<(), String> {
        let Some(promised) = self.nodes.get(&node) else { return Ok(()) };
        check_vote(node, promised.hard_state, found.hard_state)?;
        if promised.installing {
            return Ok(());
        }
        let cut = promised.under_way.iter().filter_map(|one| one.cut).min();
        let last = cut.map_or(promised.last, |cut| promised.last.min(cut - 1));
        let now = Log::new(found.start, found.entries.clone());
        if now.last() < last {
            return Err(format!(
                "node {node} was told that entries up to {last} are durable and finds {}",
                now.last()
            ));
        }
        for index in now.start().max(log.start()) + 1..=last {
            if now.entry(index) != log.entry(index) {
                return Err(format!(
                    "node {node} had entry {index} durably as {:?} and finds {:?}",
                    log.entry(index),
                    now.entry(index)
                ));
            }
        }
        Ok(())
    }

    /// From here on the recovered state is what was promised.
    pub fn started(&mut self, node: NodeId, found: &Recovered) {
        let last = found.entries.last().map_or(found.start.index, |entry| entry.index).0;
        let hard_state = found.hard_state;
        let promised = Promised { last, hard_state, ..Promised::default() };
        self.nodes.insert(node, promised);
    }
}

fn check_vote(node: NodeId, promised: HardState, found: HardState) -> Result<(), String> {
    let same_term = found.term == promised.term;
    let forgot = same_term && promised.vote.is_some() && found.vote != promised.vote;
    if found.term < promised.term || forgot {
        return Err(format!("node {node} promised {promised:?} and finds {found:?}"));
    }
    Ok(())
}

/// What is left at the end, as one server shows it: nothing acknowledged may be missing. `get` reads a
/// key, `deleted_after` says whether a deletion of the key was committed after a revision.
///
/// # Errors
/// The first write that is missing.
pub fn check_final_state(
    history: &[Operation],
    revision: i64,
    get: impl Fn(&Bytes) -> Option<KeyValue>,
    deleted_after: impl Fn(&Bytes, i64) -> bool,
) -> Result<(), String> {
    for op in history {
        let Outcome::Replied { revision: told, result: Ok(_) } = &op.outcome else { continue };
        if revision < *told {
            return Err(format!("{op}\nwas acknowledged, but the end is revision {revision}"));
        }
        let Action::Write(Command::Put(put)) = &op.action else { continue };
        let survives = match get(&put.key) {
            Some(kv) if kv.mod_revision.0 == *told => kv.value == put.value,
            Some(kv) => kv.mod_revision.0 > *told,
            None => deleted_after(&put.key, *told),
        };
        if !survives {
            return Err(format!("{op}\nwas acknowledged and is gone"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_consensus::{Entry, GroupTime, LogIndex, LogStart, Payload, Term};

    use super::*;

    const NODE: NodeId = NodeId(1);

    fn entries(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        let entry = |index| Entry {
            term: Term(1),
            index: LogIndex(index),
            time: GroupTime(0),
            payload: Payload::Empty,
        };
        indexes.map(entry).collect()
    }

    fn promise(vote: Option<NodeId>) -> Durability {
        let mut check = Durability::default();
        check.started(NODE, &Recovered::default());
        let hard_state = Some(HardState { term: Term(1), vote, commit: LogIndex(0) });
        let first = Persist { seq: Seq(1), hard_state, entries: entries(1..=2) };
        check.persist(NODE, &first, None, 2);
        check.persisted(NODE, Seq(1));
        let second = Persist { seq: Seq(2), hard_state: None, entries: entries(3..=3) };
        check.persist(NODE, &second, None, 3);
        check
    }

    fn found(last: u64, term: u64, vote: Option<NodeId>) -> Recovered {
        let hard_state = HardState { term: Term(term), vote, commit: LogIndex(0) };
        Recovered { hard_state, entries: entries(1..=last), ..Recovered::default() }
    }

    #[test]
    fn losing_what_was_promised_is_caught() {
        let log = Log::new(LogStart::default(), entries(1..=3));
        let check = promise(Some(NODE));
        assert!(check.recovered(NODE, &log, &found(2, 1, Some(NODE))).is_ok());
        assert!(check.recovered(NODE, &log, &found(3, 2, None)).is_ok());
        assert!(check.recovered(NODE, &log, &found(1, 1, Some(NODE))).is_err(), "an entry");
        assert!(check.recovered(NODE, &log, &found(2, 1, None)).is_err(), "a vote");
        assert!(check.recovered(NODE, &log, &found(2, 0, None)).is_err(), "a term");
    }

    #[test]
    fn an_acknowledged_put_that_is_gone_is_caught() {
        let put = quorate_kv::PutRequest { key: "k".into(), ..Default::default() };
        let reply = quorate_kv::Reply::Put(quorate_kv::PutResult::default());
        let op = Operation {
            id: 1,
            client: 0,
            server: NODE,
            action: Action::Write(Command::Put(put)),
            start: crate::queue::Time(0),
            end: None,
            outcome: Outcome::Replied { revision: 5, result: Ok(reply) },
        };
        let history = [op];
        let kv = |at| {
            move |_: &Bytes| {
                Some(KeyValue { mod_revision: quorate_kv::Revision(at), ..KeyValue::default() })
            }
        };
        assert!(check_final_state(&history, 5, kv(5), |_, _| false).is_ok());
        assert!(check_final_state(&history, 4, kv(5), |_, _| false).is_err());
        assert!(check_final_state(&history, 5, kv(4), |_, _| false).is_err());
        assert!(check_final_state(&history, 6, |_| None, |_, _| false).is_err());
        assert!(check_final_state(&history, 6, |_| None, |_, _| true).is_ok());
    }
}
