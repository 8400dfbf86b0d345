//! Feeding the peers: what a leader sends, and what it makes of the answers.
//!
//! Entries go out with each flush, several messages deep, before the leader's own disk has them
//! (thesis 10.2.1). Loss shows in three ways: a later append is refused, a heartbeat is answered while
//! acknowledgements are missing (an empty append then asks where the log stands), or the connection
//! breaks. Each leads back to probing from the last position known to match.

use super::log::Source;
use super::{Flow, Halt, Progress, Raft, State};
use crate::{Body, Entry, LogIndex, NodeId, Output, Seq, Term};

impl Raft {
    pub(super) fn feed_all(&mut self, out: &mut Vec<Output>) {
        let State::Leader(leader) = &self.state else { return };
        let peers: Vec<NodeId> = leader.progress.keys().copied().collect();
        for peer in peers {
            while self.feed(peer, out) {}
            self.tell_commit(peer, out);
        }
    }

    fn progress_mut(&mut self, peer: NodeId) -> Option<&mut Progress> {
        match &mut self.state {
            State::Leader(leader) => leader.progress.get_mut(&peer),
            _ => None,
        }
    }

    /// Sends one message of entries, or asks for what it takes to; says whether there may be more.
    fn feed(&mut self, peer: NodeId, out: &mut Vec<Output>) -> bool {
        let limits = &self.config.limits;
        let (last, bytes) = (self.log.last(), limits.append_bytes);
        let count = limits.append_entries.max(1);
        let State::Leader(leader) = &mut self.state else { return false };
        let Some(progress) = leader.progress.get_mut(&peer) else { return false };
        if progress.next > last || !progress.may_send(limits) {
            return false;
        }
        let from = progress.next;
        let start = self.log.start_index();
        match self.log.source(from) {
            Source::Cache => {
                let entries = self.log.entries(from, last, bytes, count);
                self.send_append(peer, entries, out);
                return true;
            }
            Source::Disk { until } => {
                progress.reading = Some(from);
                out.push(Output::ReadLog { to: peer, from, until, max_bytes: bytes });
            }
            // Its last answers may have been lost: perhaps it has all that has gone. Then it would take no
            // snapshot, so it is asked first where the log begins.
            Source::Gone if !progress.differs_at(start) => {
                progress.probe_from(start.next());
                return true;
            }
            Source::Gone => {
                progress.needs_snapshot();
                out.push(Output::SendSnapshot { to: peer });
            }
        }
        false
    }

    /// Sends `entries`, or none as a question, from the peer's next position.
    fn send_append(&mut self, peer: NodeId, entries: Vec<Entry>, out: &mut Vec<Output>) {
        let commit = self.commit;
        let Some(progress) = self.progress_mut(peer) else { return };
        let prev_index = progress.next.prev();
        if matches!(progress.flow, Flow::Replicate) {
            let end = entries.last().map_or(prev_index, |entry| entry.index);
            progress.told_commit = progress.told_commit.max(commit.min(end));
        }
        progress.sent(&entries);
        let prev_term = self.log.term_at(prev_index).expect("the source was checked");
        self.send(peer, Seq(0), Body::Append { prev_index, prev_term, commit, entries }, out);
    }

    /// News of the commit index to a peer that has the entries and nothing else coming.
    fn tell_commit(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        let commit = self.commit;
        let Some(progress) = self.progress_mut(peer) else { return };
        let commit = commit.min(progress.matched);
        if commit > progress.told_commit && matches!(progress.flow, Flow::Replicate) {
            progress.told_commit = commit;
            self.send(peer, Seq(0), Body::Commit { commit }, out);
        }
    }

    /// A heartbeat to every peer, now.
    pub(super) fn send_heartbeats(&mut self, out: &mut Vec<Output>) {
        let (now, commit) = (self.now, self.commit);
        let State::Leader(leader) = &mut self.state else { return };
        leader.heartbeat_at = now + self.config.heartbeat;
        let round = leader.reads.round();
        let mut bodies = Vec::with_capacity(leader.progress.len());
        for (peer, progress) in &mut leader.progress {
            let commit = commit.min(progress.matched);
            progress.told_commit = commit;
            bodies.push((*peer, Body::Heartbeat { commit, round }));
        }
        for (peer, body) in bodies {
            self.send(peer, Seq(0), body, out);
        }
    }

    pub(super) fn on_accepted(&mut self, from: NodeId, last: LogIndex, out: &mut Vec<Output>) {
        let now = self.now;
        if last > self.log.last() {
            return;
        }
        let reaches = self.log.term_at(last).is_some();
        let Some(progress) = self.progress_mut(from) else { return };
        progress.heard = now;
        let news = progress.accepted(last);
        if progress.flow == Flow::Snapshot && reaches {
            progress.probe_from(progress.matched.next());
        }
        if news {
            self.advance_commit(out);
        }
    }

    /// The peer's log differs at `prev`. Its hint names the last position that may match: there, or at
    /// the last position before where this log's term is not above the hint's (5.3, end).
    pub(super) fn on_rejected(
        &mut self,
        from: NodeId,
        prev: LogIndex,
        hint_index: LogIndex,
        hint_term: Term,
    ) {
        let now = self.now;
        if prev > self.log.last() {
            return;
        }
        let resume = self.log.last_not_above(hint_index, hint_term);
        let Some(progress) = self.progress_mut(from) else { return };
        progress.heard = now;
        progress.rejected(prev, resume);
    }

    pub(super) fn on_heartbeat_reply(&mut self, from: NodeId, round: u64, out: &mut Vec<Output>) {
        let (now, last) = (self.now, self.log.last());
        let State::Leader(leader) = &mut self.state else { return };
        let asked = leader.reads.round();
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.heard = now;
        // Nobody confirms a round that has not begun.
        progress.round = progress.round.max(round.min(asked));
        if let Flow::Probe { waiting } = &mut progress.flow {
            *waiting = false;
        }
        let behind = progress.matched < last && progress.flow != Flow::Snapshot;
        self.confirm_reads(out);
        if behind {
            self.ask_where(from, out);
        }
    }

    /// Acknowledgements are missing: perhaps they come, perhaps something was lost. An empty append at
    /// the next position is answered either way.
    fn ask_where(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        let (last, limits) = (self.log.last(), self.config.limits.clone());
        let Some(progress) = self.progress_mut(peer) else { return };
        let next = progress.next;
        let stuck = next > last || !progress.may_send(&limits);
        if !stuck || progress.reading.is_some() {
            return;
        }
        if self.log.term_at(next.prev()).is_some() {
            self.send_append(peer, Vec::new(), out);
        } else if let Some(progress) = self.progress_mut(peer) {
            // What is under way has left the log meanwhile: it takes a snapshot.
            progress.probe_from(progress.matched.next());
        }
    }

    pub(super) fn on_log_read(
        &mut self,
        to: NodeId,
        entries: Vec<Entry>,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let Some(progress) = self.progress_mut(to) else { return Ok(()) };
        let (Some(from), next) = (progress.reading, progress.next) else { return Ok(()) };
        // An answer to a question of an earlier leadership.
        if entries.first().is_some_and(|entry| entry.index != from) {
            return Ok(());
        }
        progress.reading = None;
        if entries.is_empty() {
            progress.needs_snapshot();
            out.push(Output::SendSnapshot { to });
            return Ok(());
        }
        let limits = self.config.limits.clone();
        let ready = self.progress_mut(to).is_some_and(|progress| progress.may_send(&limits));
        for (entry, index) in entries.iter().zip(from.0..) {
            let index = LogIndex(index);
            if entry.index != index || self.log.term_at(index).is_some_and(|t| t != entry.term) {
                return Err(Halt::CorruptLog { index });
            }
        }
        if ready && from == next && self.log.term_at(from.prev()).is_some() {
            self.send_append(to, entries, out);
        }
        Ok(())
    }

    pub(super) fn on_snapshot_sent(&mut self, to: NodeId, installed: Option<LogIndex>) {
        let last = self.log.last();
        let Some(progress) = self.progress_mut(to) else { return };
        if progress.flow != Flow::Snapshot {
            return;
        }
        match installed.filter(|index| *index <= last) {
            // What it holds is for the peer itself to acknowledge; this is only where to go on.
            Some(index) => progress.probe_from(index.max(progress.matched).next()),
            // Try again, but not before it answers a heartbeat.
            None => progress.snapshot_failed(),
        }
    }

    pub(super) fn on_unreachable(&mut self, peer: NodeId) {
        let Some(progress) = self.progress_mut(peer) else { return };
        if progress.flow == Flow::Replicate {
            progress.probe_from(progress.matched.next());
            // Nothing gets through anyway until it answers a heartbeat.
            progress.flow = Flow::Probe { waiting: true };
        }
    }
}
