//! The log as memory sees it: a cached tail, the terms of everything older that may still be asked
//! for, and how far the disk has got.
//!
//! ```text
//!   gone │ on disk only │ cached ........................................│
//!        │              │            persisted      emitted         last │
//! ```
//!
//! - `persisted ≤ emitted ≤ last`: emitted was handed to the disk, persisted came back. Both count
//!   entries of **this** log: a truncation takes back what the disk holds of the old tail, and a late
//!   `Persisted` for it counts for nothing (contract 2).
//! - Never evicted: entries behind `min(applied, persisted)`, and that entry itself, whose time stamp is
//!   the floor after a truncation.
//! - Terms are kept as runs (first index, term), one for each election the log remembers.

use std::collections::VecDeque;

use crate::{Entry, GroupTime, LogIndex, LogStart, Seq, Term};

/// A range handed to the disk that has not come back.
#[derive(Clone, Debug)]
struct Write {
    seq: Seq,
    first: LogIndex,
    last: LogIndex,
    last_term: Term,
}

/// Where entries from some position on can be had.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From memory.
    Cache,
    /// From the disk, up to (not including) this position.
    Disk { until: LogIndex },
    /// Nowhere: it takes a snapshot.
    Gone,
}

pub(super) struct Log {
    /// The position before the first whose term is known.
    start: LogStart,
    /// The position before the first on disk.
    disk_start: LogStart,
    runs: VecDeque<(LogIndex, Term)>,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    last: LogIndex,
    emitted: LogIndex,
    persisted: LogIndex,
    writes: VecDeque<Write>,
}

impl Log {
    /// An empty log after `start`.
    pub(super) fn new(start: LogStart) -> Self {
        Self {
            start,
            disk_start: start,
            runs: VecDeque::new(),
            cache: VecDeque::new(),
            cache_bytes: 0,
            last: start.index,
            emitted: start.index,
            persisted: start.index,
            writes: VecDeque::new(),
        }
    }

    /// Everything in it is durable: said once, after recovery.
    pub(super) fn recovered(&mut self) {
        self.emitted = self.last;
        self.persisted = self.last;
    }

    pub(super) fn last(&self) -> LogIndex {
        self.last
    }

    pub(super) fn last_term(&self) -> Term {
        self.runs.back().map_or(self.start.term, |run| run.1)
    }

    /// Group time of the last entry.
    pub(super) fn last_time(&self) -> GroupTime {
        self.cache.back().map_or(self.start.time, |entry| entry.time)
    }

    pub(super) fn emitted(&self) -> LogIndex {
        self.emitted
    }

    pub(super) fn persisted(&self) -> LogIndex {
        self.persisted
    }

    /// The position before the first on disk. Its time is exact where the log ends there, else a
    /// lower bound: only the last stamp of a log matters.
    pub(super) fn disk_start(&self) -> LogStart {
        self.disk_start
    }

    /// The position before the first that can still be had, from memory or from the disk.
    pub(super) fn start_index(&self) -> LogIndex {
        self.start.index
    }

    /// First position in memory; behind `last` if there is none.
    pub(super) fn first_cached(&self) -> LogIndex {
        self.cache.front().map_or_else(|| self.last.next(), |entry| entry.index)
    }

    /// The term at a position, if the log reaches there and still knows.
    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index < self.start.index || index > self.last {
            return None;
        }
        let run = self.runs.partition_point(|run| run.0 <= index).checked_sub(1)?;
        Some(self.runs[run].1)
    }

    /// The largest position `≤ index` whose term is `≤ term`, or the start of the log.
    pub(super) fn last_not_above(&self, index: LogIndex, term: Term) -> LogIndex {
        let mut end = self.last;
        for &(first, run_term) in self.runs.iter().rev() {
            if first <= index && run_term <= term {
                return end.min(index);
            }
            end = first.prev();
        }
        self.start.index
    }

    /// Whether a log that ends at (`term`, `index`) holds at least what this one does (section 5.4.1).
    pub(super) fn is_covered_by(&self, index: LogIndex, term: Term) -> bool {
        (term, index) >= (self.last_term(), self.last)
    }

    /// Appends one entry in memory.
    pub(super) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last.next(), "the log has no holes");
        assert!(entry.term >= self.last_term(), "terms never fall along the log");
        assert!(entry.time >= self.last_time(), "group time never falls along the log");
        if entry.term > self.last_term() || self.runs.is_empty() {
            self.runs.push_back((entry.index, entry.term));
        }
        self.last = entry.index;
        self.cache_bytes += entry.size();
        self.cache.push_back(entry);
    }

    /// Cuts `from` and everything behind it; what the disk holds of that counts no more.
    pub(super) fn truncate(&mut self, from: LogIndex) {
        assert!(from >= self.first_cached(), "only what is in memory can be uncommitted");
        while self.cache.back().is_some_and(|entry| entry.index >= from) {
            let cut = self.cache.pop_back().map_or(0, |entry| entry.size());
            self.cache_bytes -= cut;
        }
        while self.runs.back().is_some_and(|run| run.0 >= from) {
            self.runs.pop_back();
        }
        self.last = from.prev();
        self.emitted = self.emitted.min(self.last);
        self.persisted = self.persisted.min(self.last);
        self.clamp_writes();
    }

    fn clamp_writes(&mut self) {
        let last = self.last;
        let last_term = self.last_term();
        for write in self.writes.iter_mut().filter(|write| write.last > last) {
            write.last = last;
            write.last_term = last_term;
        }
    }

    /// Cached entries from `from` through `until`: at least one, at most `count`, and no more once
    /// `bytes` are passed.
    pub(super) fn entries(
        &self,
        from: LogIndex,
        until: LogIndex,
        bytes: usize,
        count: usize,
    ) -> Vec<Entry> {
        let Some(skip) = from.0.checked_sub(self.first_cached().0) else { return Vec::new() };
        let wanted = (until.next().0.saturating_sub(from.0) as usize).min(count);
        let mut total = 0;
        let mut entries = Vec::new();
        for entry in self.cache.range((skip as usize).min(self.cache.len())..).take(wanted) {
            total += entry.size();
            if total > bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    /// Bytes of the cached entries from `from` through `until`.
    pub(super) fn bytes_between(&self, from: LogIndex, until: LogIndex) -> usize {
        let first = self.first_cached().0;
        assert!(from.0 >= first, "uncommitted entries are in memory");
        let end = (until.next().0.saturating_sub(first) as usize).min(self.cache.len());
        let begin = ((from.0 - first) as usize).min(end);
        self.cache.range(begin..end).map(Entry::size).sum()
    }

    /// The single cached entry at `index`.
    pub(super) fn get(&self, index: LogIndex) -> Option<&Entry> {
        self.cache.get(index.0.checked_sub(self.first_cached().0)? as usize)
    }

    /// Where to get entries from `from` on.
    pub(super) fn source(&self, from: LogIndex) -> Source {
        if self.term_at(from.prev()).is_none() || from.0 == 0 {
            Source::Gone
        } else if from >= self.first_cached() {
            Source::Cache
        } else if from > self.disk_start.index {
            Source::Disk { until: self.first_cached() }
        } else {
            Source::Gone
        }
    }

    /// Entries that the disk has not been given, marked as given under `seq`.
    pub(super) fn emit(&mut self, seq: Seq) -> Vec<Entry> {
        if self.emitted == self.last {
            return Vec::new();
        }
        let first = self.emitted.next();
        let entries = self.entries(first, self.last, usize::MAX, usize::MAX);
        assert_eq!(entries.first().map(|entry| entry.index), Some(first), "unwritten is in memory");
        let (last, last_term) = (self.last, self.last_term());
        self.writes.push_back(Write { seq, first, last, last_term });
        self.emitted = last;
        entries
    }

    /// The disk has everything up to `seq`.
    pub(super) fn on_persisted(&mut self, seq: Seq) {
        while let Some(write) = self.writes.pop_front_if(|write| write.seq <= seq) {
            let current = self.term_at(write.last) == Some(write.last_term);
            if write.last >= write.first && current {
                self.persisted = self.persisted.max(write.last);
            }
        }
    }

    /// What must be durable before anybody may be told that the log up to `index` is.
    pub(super) fn durable_after(&self, index: LogIndex) -> Seq {
        assert!(index <= self.emitted, "promised before it was handed to the disk");
        let covering = self.writes.iter().rev().find(|write| write.first <= index);
        covering.map_or(Seq(0), |write| write.seq)
    }

    /// The log on disk now starts after `index`.
    pub(super) fn compact(&mut self, index: LogIndex) {
        let Some(term) = self.term_at(index).filter(|_| index > self.disk_start.index) else {
            return;
        };
        let time = self.get(index).map_or(self.disk_start.time, |entry| entry.time);
        self.disk_start = LogStart { index, term, time };
        self.raise_start();
    }

    /// Brings the cache under `limit` bytes as far as `keep` (never evicted, nor anything after) allows.
    pub(super) fn evict(&mut self, limit: usize, keep: LogIndex) {
        while self.cache_bytes > limit {
            let Some(entry) = self.cache.pop_front_if(|entry| entry.index < keep) else { break };
            self.cache_bytes -= entry.size();
        }
        self.raise_start();
    }

    /// Forgets the terms of positions that can no longer be sent: neither on disk nor in memory.
    fn raise_start(&mut self) {
        let index = self.disk_start.index.min(self.first_cached().prev());
        let Some(term) = self.term_at(index).filter(|_| index > self.start.index) else { return };
        // The cache is not empty here, so nobody asks for the time of the start.
        self.start = LogStart { index, term, time: self.start.time };
        while self.runs.get(1).is_some_and(|run| run.0 <= index.next()) {
            self.runs.pop_front();
        }
    }

    /// A snapshot took the place of everything up to `start`. What follows it is kept if the log
    /// agrees with the snapshot there, and is handed to the disk again.
    pub(super) fn install(&mut self, start: LogStart) {
        let mut kept = Vec::new();
        if self.term_at(start.index) == Some(start.term) {
            kept = self.entries(start.index.next(), self.last, usize::MAX, usize::MAX);
        }
        *self = Self::new(start);
        for entry in kept {
            self.append(entry);
        }
    }

    /// Panics where the structure contradicts itself.
    pub(super) fn invariants(&self) {
        assert!(self.persisted <= self.emitted && self.emitted <= self.last);
        assert!(self.start.index <= self.disk_start.index && self.start.index <= self.last);
        assert!(self.first_cached() <= self.persisted.next(), "unwritten entries are in memory");
        if let (Some(first), Some(last)) = (self.cache.front(), self.cache.back()) {
            assert_eq!(last.index, self.last);
            assert_eq!(last.index.0 - first.index.0 + 1, self.cache.len() as u64);
            assert_eq!(last.term, self.last_term());
        }
        debug_assert_eq!(self.cache_bytes, self.cache.iter().map(Entry::size).sum::<usize>());
        debug_assert!(self.runs.iter().zip(self.runs.iter().skip(1)).all(|(a, b)| a < b));
    }
}
