//! Read barriers: linearizable reads without a log entry (ReadIndex; Ongaro's thesis, 6.4).
//!
//! A leader may be deposed without knowing. So a read gets the commit index of a moment, and waits until
//! a majority has answered a heartbeat sent **after** that moment: then this node still led at that
//! moment, and no other can have committed anything newer. Before it has committed in its own term a
//! leader does not know what is committed, so reads wait for that first.
//!
//! Reads gather until the flush; one round of heartbeats, named by a number, confirms all of them. At
//! most `read_rounds` are under way, each for all reads that gathered. A sole voter answers at once.
//!
//! A follower asks the leader, naming its request by a number that starts at random each boot. It gives
//! up after an election timeout, or when the leader or the term changes; its readers may retry.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Raft, State};
use crate::{Body, LogIndex, NodeId, Output, Refusal, Seq};

/// Who asked the leader.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Local(u64),
    Remote { node: NodeId, context: u64 },
}

/// Reads that one round of heartbeats confirms.
#[derive(Debug)]
struct Round {
    number: u64,
    index: LogIndex,
    readers: Vec<Reader>,
}

/// The leader's reads.
#[derive(Debug, Default)]
pub(super) struct Reads {
    gathered: Vec<Reader>,
    rounds: VecDeque<Round>,
    number: u64,
    waiting: usize,
}

impl Reads {
    /// The latest round.
    pub(super) fn round(&self) -> u64 {
        self.number
    }

    /// Leadership is over. Readers elsewhere notice by themselves.
    pub(super) fn abandon(self, out: &mut Vec<Output>) {
        let readers = self.rounds.into_iter().flat_map(|round| round.readers).chain(self.gathered);
        for reader in readers {
            if let Reader::Local(id) = reader {
                out.push(Output::ReadRefused { id, reason: Refusal::LeaderChanged });
            }
        }
    }

    pub(super) fn invariants(&self) {
        let in_rounds: usize = self.rounds.iter().map(|round| round.readers.len()).sum();
        assert_eq!(self.waiting, self.gathered.len() + in_rounds);
        assert!(self.rounds.iter().all(|round| round.number <= self.number));
    }
}

/// A request of this follower that the leader has not answered.
#[derive(Debug)]
struct Asked {
    context: u64,
    ids: Vec<u64>,
    until: Duration,
}

/// A follower's reads.
#[derive(Debug, Default)]
pub(super) struct Asking {
    gathered: Vec<u64>,
    asked: VecDeque<Asked>,
    waiting: usize,
}

impl Asking {
    pub(super) fn abandon(self, out: &mut Vec<Output>) {
        let ids = self.asked.into_iter().flat_map(|asked| asked.ids).chain(self.gathered);
        out.extend(ids.map(|id| Output::ReadRefused { id, reason: Refusal::LeaderChanged }));
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.asked.front().map(|asked| asked.until)
    }
}

impl Raft {
    pub(super) fn on_read(&mut self, id: u64, out: &mut Vec<Output>) {
        let limit = self.config.limits.pending_reads;
        let refused = match &mut self.state {
            State::Leader(_) => self.gather_read(Reader::Local(id), out).err(),
            State::Follower(follower) if self.leader.is_some() => {
                let asking = &mut follower.asking;
                if asking.waiting < limit {
                    asking.waiting += 1;
                    asking.gathered.push(id);
                    None
                } else {
                    Some(Refusal::Overloaded)
                }
            }
            _ => Some(Refusal::NoLeader),
        };
        if let Some(reason) = refused {
            out.push(Output::ReadRefused { id, reason });
        }
    }

    pub(super) fn on_read_request(&mut self, from: NodeId, context: u64, out: &mut Vec<Output>) {
        let reader = Reader::Remote { node: from, context };
        let result =
            if self.is_leader() { self.gather_read(reader, out) } else { Err(Refusal::NotLeader) };
        if let Err(reason) = result {
            self.send(from, Seq(0), Body::ReadReply { context, result: Err(reason) }, out);
        }
    }

    fn gather_read(&mut self, reader: Reader, out: &mut Vec<Output>) -> Result<(), Refusal> {
        if self.has_committed_in_term() && self.members.is_sole_voter(self.config.id) {
            self.answer(reader, self.commit, out);
            return Ok(());
        }
        let limit = self.config.limits.pending_reads;
        let State::Leader(leader) = &mut self.state else { return Err(Refusal::NotLeader) };
        if leader.reads.waiting >= limit {
            return Err(Refusal::Overloaded);
        }
        leader.reads.waiting += 1;
        leader.reads.gathered.push(reader);
        Ok(())
    }

    fn answer(&self, reader: Reader, index: LogIndex, out: &mut Vec<Output>) {
        match reader {
            Reader::Local(id) => out.push(Output::ReadReady { id, index }),
            Reader::Remote { node, context } => {
                self.send(node, Seq(0), Body::ReadReply { context, result: Ok(index) }, out);
            }
        }
    }

    /// Starts a round for what has gathered.
    pub(super) fn start_read_round(&mut self, out: &mut Vec<Output>) {
        let (ready, index) = (self.has_committed_in_term(), self.commit);
        let limit = self.config.limits.read_rounds;
        let State::Leader(leader) = &mut self.state else { return };
        let reads = &mut leader.reads;
        if !ready || reads.gathered.is_empty() || reads.rounds.len() >= limit {
            return;
        }
        reads.number += 1;
        let readers = std::mem::take(&mut reads.gathered);
        reads.rounds.push_back(Round { number: reads.number, index, readers });
        self.send_heartbeats(out);
        self.confirm_reads(out);
    }

    /// Answers the rounds that a majority has confirmed; this node confirms its own at once.
    pub(super) fn confirm_reads(&mut self, out: &mut Vec<Output>) {
        let State::Leader(leader) = &self.state else { return };
        if leader.reads.rounds.is_empty() {
            return;
        }
        let confirmed = self.majority(leader.reads.number, |progress| progress.round).unwrap_or(0);
        let State::Leader(leader) = &mut self.state else { return };
        let reads = &mut leader.reads;
        let mut done = Vec::new();
        while let Some(round) = reads.rounds.pop_front_if(|round| round.number <= confirmed) {
            reads.waiting -= round.readers.len();
            done.push(round);
        }
        for round in done {
            round.readers.into_iter().for_each(|reader| self.answer(reader, round.index, out));
        }
    }

    /// Commitment moved on: a sole voter answers what waited for it.
    pub(super) fn release_reads(&mut self, out: &mut Vec<Output>) {
        if !self.members.is_sole_voter(self.config.id) {
            return;
        }
        self.confirm_reads(out);
        let index = self.commit;
        let State::Leader(leader) = &mut self.state else { return };
        let readers = std::mem::take(&mut leader.reads.gathered);
        leader.reads.waiting -= readers.len();
        readers.into_iter().for_each(|reader| self.answer(reader, index, out));
    }

    /// A follower's gathered reads become one request.
    pub(super) fn flush_reads(&mut self, leader: NodeId, out: &mut Vec<Output>) {
        let State::Follower(follower) = &mut self.state else { return };
        let asking = &mut follower.asking;
        if asking.gathered.is_empty() {
            return;
        }
        self.read_context = self.read_context.wrapping_add(1);
        let context = self.read_context;
        let until = self.now + self.config.election_timeout;
        let ids = std::mem::take(&mut asking.gathered);
        asking.asked.push_back(Asked { context, ids, until });
        self.send(leader, Seq(0), Body::ReadRequest { context }, out);
    }

    pub(super) fn on_read_reply(
        &mut self,
        context: u64,
        result: Result<LogIndex, Refusal>,
        out: &mut Vec<Output>,
    ) {
        let State::Follower(follower) = &mut self.state else { return };
        let asking = &mut follower.asking;
        let Some(at) = asking.asked.iter().position(|asked| asked.context == context) else {
            return;
        };
        let Some(asked) = asking.asked.remove(at) else { return };
        asking.waiting -= asked.ids.len();
        out.extend(asked.ids.into_iter().map(|id| match result {
            Ok(index) => Output::ReadReady { id, index },
            Err(reason) => Output::ReadRefused { id, reason },
        }));
    }

    /// Requests or their answers were lost.
    pub(super) fn expire_reads(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let State::Follower(follower) = &mut self.state else { return };
        let asking = &mut follower.asking;
        while let Some(asked) = asking.asked.pop_front_if(|asked| asked.until <= now) {
            asking.waiting -= asked.ids.len();
            let reason = Refusal::LeaderChanged;
            out.extend(asked.ids.into_iter().map(|id| Output::ReadRefused { id, reason }));
        }
    }
}
