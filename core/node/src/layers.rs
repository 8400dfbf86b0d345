//! Machines that stand on the log instead of having one (contract 13): global transactions, and the calls to
//! other people's services that they have made.
//!
//! They are stepped at the end of each burst, before what it asks of the log goes out, and after each run
//! of applied entries. What they want written is proposed like a client's command, into a keyspace
//! of their own that no client sees; what they want read is read at once from what is applied here. Changes of
//! that keyspace go to them and to no watch hub.
//!
//! The machine is told that this node leads once the state holds everything of earlier terms, that is, once an
//! entry of the node's own term is applied; and not before there is anything in its keyspace, so that a cluster that
//! has no use for it writes nothing for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quorate_engine::Engine;
use quorate_global_txn::{self as global_txn, GlobalTxn, KEYSPACE, TxnId, TxnOutcome};
use quorate_kv::{
    AlarmKind, Command, EventBatch, RangeRequest, RangeResult, Refusal, Reply as KvReply, Revision,
    TxnRequest,
};
use quorate_outcall::{self as outcall, AttemptId, AttemptResult, Outcalls};

use crate::limits::{FAR_TIME_ENTRY_MS, TIME_ENTRY_MS};
use crate::node::{Halt, Node};
use crate::pending::Waiter;
use crate::requests::grows;
use crate::{Config, Failure, LayerFigures, Output, Reply, RequestId, envelope};

/// The layers, and what has not been told them yet.
pub(crate) struct Layers {
    global: GlobalTxn,
    outcalls: Outcalls,
    /// For the machine of global transactions, oldest first.
    inputs: VecDeque<global_txn::Input>,
    /// Whether that machine believes that it leads.
    is_leading: bool,
    /// What has passed since the last entry was applied, and when it was last looked at: from there a node that
    /// does not lead reckons the group's time.
    passed: (Duration, Option<Duration>),
    /// The wall clock at a moment of this process.
    wall: (Duration, u64),
}

impl Layers {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            global: GlobalTxn::new(config.global_txn.clone(), config.seed),
            outcalls: Outcalls::new(config.outcall, config.seed),
            inputs: VecDeque::new(),
            is_leading: false,
            passed: (Duration::ZERO, None),
            wall: (Duration::ZERO, 0),
        }
    }

    /// An entry is being applied.
    pub(crate) fn reckon_anew(&mut self, now: Duration) {
        self.passed = (Duration::ZERO, Some(now));
    }

    /// Time passes, at most `longest` a step, as for the leader (contract 4): what is stamped here with a clock that
    /// has jumped would be due far too late, and if nobody drives just then, nobody sees that.
    fn reckon(&mut self, now: Duration, longest: Duration) {
        let (passed, at) = self.passed;
        let more = now.saturating_sub(at.unwrap_or(now)).min(longest);
        self.passed = (passed + more, Some(now));
    }

    pub(crate) fn set_wall_clock(&mut self, now: Duration, now_ms: u64) {
        self.wall = (now, now_ms);
    }

    fn wall_ms(&self, now: Duration) -> u64 {
        let (at, ms) = self.wall;
        ms + millis(now.saturating_sub(at))
    }

    /// Changes in the layers' keyspace, in order.
    pub(crate) fn applied(&mut self, batch: Option<EventBatch>) {
        let applied = batch.map(|EventBatch { events, .. }| global_txn::Input::Applied { events });
        self.inputs.extend(applied);
    }

    pub(crate) fn txn_done(&mut self, id: TxnId, reply: Result<KvReply, Refusal>) {
        let outcome = match reply {
            Ok(KvReply::Txn(result)) => TxnOutcome::Done(result),
            Ok(_) => unreachable!("a transaction is answered as one"),
            Err(refusal) => TxnOutcome::Refused(refusal),
        };
        self.inputs.push_back(global_txn::Input::Txn { id, outcome });
    }

    pub(crate) fn txn_failed(&mut self, id: TxnId, failure: Failure) {
        let outcome = match failure {
            Failure::Refused(refusal) => TxnOutcome::Refused(refusal),
            failure if failure.outcome_unknown() => TxnOutcome::Unknown,
            _ => TxnOutcome::Rejected,
        };
        self.inputs.push_back(global_txn::Input::Txn { id, outcome });
    }

    /// A new term or a lost office ends what this node led.
    pub(crate) fn role_changed(&mut self) {
        if std::mem::take(&mut self.is_leading) {
            self.inputs.push_back(global_txn::Input::Following);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = [self.global.next_deadline(), self.outcalls.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Notes which machines' time has come.
    pub(crate) fn timers(&mut self, now: Duration) {
        if self.global.next_deadline().is_some_and(|at| at <= now) {
            self.inputs.push_back(global_txn::Input::Tick);
        }
    }

    /// How far group time may run ahead of the log, in ms. What waits beyond the window that the machine has in
    /// memory is not known here, so that once it leads there is always a bound.
    pub(crate) fn time_entry_ms(&self) -> Option<u64> {
        if !self.is_leading {
            return None;
        }
        let figures = self.global.figures();
        let near = figures.active + figures.waiting > 0;
        Some(if near { TIME_ENTRY_MS } else { FAR_TIME_ENTRY_MS })
    }

    pub(crate) fn figures(&self) -> (global_txn::Figures, outcall::Figures) {
        (self.global.figures(), self.outcalls.figures())
    }

    pub(crate) fn all_figures(&self) -> LayerFigures {
        let (global_txn, outcalls) = self.figures();
        LayerFigures { global_txn, tally: self.global.tally().clone(), outcalls }
    }

    pub(crate) fn invariants(&self) {
        self.global.invariants();
        self.outcalls.invariants();
    }
}

impl<E: Engine> Node<E> {
    pub(crate) fn global_txn(
        &mut self,
        id: RequestId,
        request: global_txn::Request,
    ) -> Result<(), Failure> {
        if self.is_learner() {
            return Err(Failure::Learner);
        }
        let id = global_txn::RequestId(id.0);
        self.layers.inputs.push_back(global_txn::Input::Request { id, request });
        Ok(())
    }

    pub(crate) fn attempt_done(
        &mut self,
        now: Duration,
        attempt: AttemptId,
        result: AttemptResult,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        self.outcalls(now, outcall::Input::AttemptDone { attempt, result }, out);
        Ok(())
    }

    /// Tells the layers everything that they have not been told, and carries out what they want.
    pub(crate) fn step_layers(
        &mut self,
        now: Duration,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        self.layers.reckon(now, self.config.election_timeout);
        if self.layers.outcalls.next_deadline().is_some_and(|at| at <= now) {
            self.outcalls(now, outcall::Input::Tick, out);
        }
        self.note_leadership();
        while let Some(input) = self.layers.inputs.pop_front() {
            let clocks = self.clocks(now);
            let mut wanted = Vec::new();
            self.layers.global.step(clocks, input, &mut wanted)?;
            let answers = self.carry_out_layers(now, wanted, out)?;
            answers.into_iter().rev().for_each(|answer| self.layers.inputs.push_front(answer));
        }
        Ok(())
    }

    fn note_leadership(&mut self) {
        let caught_up = self.raft.is_leader() && self.applied.term == self.raft.term();
        let needed = self.kv.revision(KEYSPACE) > Revision::FIRST;
        if caught_up && needed && !self.layers.is_leading {
            self.layers.is_leading = true;
            self.layers.inputs.push_front(global_txn::Input::Leading);
        }
    }

    pub(crate) fn clocks(&self, now: Duration) -> global_txn::Now {
        let group_ms = if self.raft.is_leader() {
            self.raft.group_time(now).0
        } else {
            self.applied.time.0 + millis(self.layers.passed.0)
        };
        global_txn::Now { mono: now, group_ms, wall_ms: self.layers.wall_ms(now) }
    }

    /// Carries out what the machine of global transactions wants; returns what can be answered at once.
    fn carry_out_layers(
        &mut self,
        now: Duration,
        wanted: Vec<global_txn::Output>,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<Vec<global_txn::Input>, Halt> {
        let mut answers = Vec::new();
        for output in wanted {
            match output {
                global_txn::Output::Txn { id, txn, takes_in } => {
                    self.propose_layer(now, id, txn, takes_in, out)?;
                }
                global_txn::Output::Range { id, range } => {
                    let result = self.read_layer(&range)?;
                    answers.push(global_txn::Input::Range { id, result });
                }
                global_txn::Output::Call { id, call } => {
                    self.outcalls(now, outcall::Input::Start { id, call }, out);
                }
                global_txn::Output::CancelCall { id } => {
                    self.outcalls(now, outcall::Input::Cancel { id }, out);
                }
                global_txn::Output::Reply { id, reply } => {
                    let (id, reply) = (RequestId(id.0), Reply::GlobalTxn(reply));
                    out.push(Output::Reply { id, reply });
                }
            }
        }
        Ok(answers)
    }

    /// Proposes what a layer wants written, if there is room for it. What brings accepted work to its end is
    /// written beyond the quota; a disk without space stops it, too.
    fn propose_layer(
        &mut self,
        now: Duration,
        id: TxnId,
        txn: TxnRequest,
        takes_in: bool,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let command = Command::Txn(txn);
        let data = envelope::encode_kv(KEYSPACE, &command);
        let is_full = self.disk_full
            || takes_in && (self.kv.has_alarm(AlarmKind::NoSpace) || self.is_quota_used_up());
        let refused = if let Err(failure) = self.admit_any() {
            Some(failure)
        } else if grows(&command) && is_full {
            Some(Refusal::NoSpace.into())
        } else if data.len() > self.config.max_request_bytes {
            Some(Refusal::TooLarge.into())
        } else {
            None
        };
        match refused {
            Some(failure) => {
                self.layers.txn_failed(id, failure);
                Ok(())
            }
            None => self.propose(now, Waiter::GlobalTxn(id), data, out),
        }
    }

    fn read_layer(&self, request: &RangeRequest) -> Result<RangeResult, Halt> {
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        let limit = limit.unwrap_or(usize::MAX - 1);
        let (kvs, more) = self.kv.first_pairs(&self.engine, KEYSPACE, &request.range, limit)?;
        let (revision, count) = (self.kv.revision(KEYSPACE), kvs.len() as i64);
        Ok(RangeResult { revision, kvs, more, count })
    }

    fn outcalls(
        &mut self,
        now: Duration,
        input: outcall::Input,
        out: &mut Vec<Output<E::Snapshot>>,
    ) {
        let mut wanted = Vec::new();
        self.layers.outcalls.step(now, input, &mut wanted);
        for output in wanted {
            match output {
                outcall::Output::Attempt { attempt, call, address, timeout } => {
                    out.push(Output::Attempt {
                        attempt,
                        call: Arc::clone(&call),
                        address,
                        timeout,
                    });
                }
                outcall::Output::AbortAttempt { attempt } => {
                    out.push(Output::AbortAttempt { attempt });
                }
                outcall::Output::Done { id, result } => {
                    self.layers.inputs.push_back(global_txn::Input::Called { id, result });
                }
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
