//! What is in each server's log, as the server itself said: recovered, then handed to its disk.

use std::collections::BTreeMap;

use quorate_consensus::{Entry, LogStart, NodeId, Recovered, Term};

/// One server's log, durable or not.
#[derive(Clone, Debug, Default)]
pub struct Log {
    start: LogStart,
    entries: Vec<Entry>,
}

impl Log {
    /// A log that begins behind `start`.
    #[must_use]
    pub fn new(start: LogStart, entries: Vec<Entry>) -> Self {
        Self { start, entries }
    }

    /// Index before the first entry.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start.index.0
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.start() + self.entries.len() as u64
    }

    /// The entry at `index`, if it is after the start.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.start() + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The term at `index`, the start included.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<Term> {
        if index == self.start() {
            return Some(self.start.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    fn append(&mut self, entries: &[Entry]) -> Option<u64> {
        let first = entries.first()?.index.0;
        let cut = (first <= self.last()).then_some(first);
        self.entries.truncate(first.saturating_sub(self.start() + 1) as usize);
        self.entries.extend_from_slice(entries);
        cut
    }
}

/// All logs.
#[derive(Debug, Default)]
pub struct Logs(BTreeMap<NodeId, Log>);

impl Logs {
    /// A server's log; an empty one if nothing is known.
    pub fn of(&mut self, node: NodeId) -> &Log {
        self.0.entry(node).or_default()
    }

    /// A server that has an entry of a later term than `term` at `index`.
    #[must_use]
    pub fn newer_at(&self, index: u64, term: Term) -> Option<NodeId> {
        let newer = |log: &Log| log.entry(index).is_some_and(|entry| entry.term > term);
        self.0.iter().find(|(_, log)| newer(log)).map(|(node, _)| *node)
    }

    /// A server started with this.
    pub fn recovered(&mut self, node: NodeId, recovered: &Recovered) {
        self.0.insert(node, Log::new(recovered.start, recovered.entries.clone()));
    }

    /// A server's log begins behind a snapshot; what follows it stays only if it agreed.
    pub fn installed(&mut self, node: NodeId, start: LogStart) {
        let log = self.0.entry(node).or_default();
        let agreed = log.term_at(start.index.0) == Some(start.term);
        let cut = start.index.0.saturating_sub(log.start()) as usize;
        let rest = if agreed { log.entries.split_off(cut) } else { Vec::new() };
        *log = Log::new(start, rest);
    }

    /// A server appended this; says from where on it cut something off.
    pub fn append(&mut self, node: NodeId, entries: &[Entry]) -> Option<u64> {
        self.0.entry(node).or_default().append(entries)
    }
}
