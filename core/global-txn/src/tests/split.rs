//! The case that three-phase commit does not survive (`docs/internals/global-txn.md`): a participant acknowledges
//! the second phase, is cut off, and goes by its own timeout.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_outcall::{CallFailure, CallResult};

use super::cluster::Cluster;
use super::participants::Named;
use crate::api::{Body, BranchRequest, Config, Request};
use crate::record::Status;

/// What a participant of 3pc has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It said that it can; if it hears nothing more it aborts.
    Waiting,
    /// It was told that all can; if it hears nothing more it commits.
    Announced,
    Committed,
    Aborted,
}

impl State {
    fn told(self, op: &str) -> Self {
        match (self, op) {
            (Self::Aborted, _) => Self::Aborted,
            (_, "can_commit") => Self::Waiting,
            (_, "pre_commit") => Self::Announced,
            (_, "do_commit") => Self::Committed,
            (_, "abort") => Self::Aborted,
            (_, op) => panic!("nobody calls {op}"),
        }
    }

    /// Hearing nothing more.
    fn timed_out(self) -> Self {
        match self {
            Self::Waiting => Self::Aborted,
            Self::Announced => Self::Committed,
            state => state,
        }
    }
}

/// Answers calls, except that nothing comes back from a branch that is cut off.
struct World {
    cluster: Cluster,
    branches: BTreeMap<String, State>,
    /// From when on nothing reaches the second branch: `Some(op)`, from the answer to this one on.
    cut_after: Option<&'static str>,
    is_cut: bool,
}

impl World {
    fn new(cut_after: Option<&'static str>) -> Self {
        let config = Config { timeout_ms: 2_000, retry_interval_ms: 500, ..Config::default() };
        let mut cluster = Cluster::new(1, config, 1);
        cluster.lead(0);
        Self { cluster, branches: BTreeMap::new(), cut_after, is_cut: false }
    }

    fn begin(&mut self) {
        let (gid, trans_type) = ("g".to_owned(), "3pc".to_owned());
        let body = Body { gid: gid.clone(), trans_type: trans_type.clone(), ..Body::default() };
        let mut requests = vec![Request::Prepare(Box::new(body.clone()))];
        for branch_id in ["01", "02"] {
            let names = ["can_commit", "pre_commit", "do_commit", "abort"];
            requests.push(Request::RegisterBranch(Box::new(BranchRequest {
                gid: gid.clone(),
                trans_type: trans_type.clone(),
                branch_id: branch_id.to_owned(),
                data: Bytes::new(),
                fields: names.map(|name| (name.to_owned(), "http://p/x".to_owned())).into(),
            })));
        }
        requests.push(Request::Submit(Box::new(body)));
        for request in requests {
            self.cluster.request(0, request);
            self.cluster.settle();
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.cluster.settle();
            while let Some(call) = self.cluster.calls.pop() {
                let result = self.called(&Named::of(&call.call.url));
                self.cluster.answer(&call, result);
                self.cluster.settle();
            }
            self.cluster.now_ms += 100;
            self.cluster.tick();
        }
    }

    fn called(&mut self, named: &Named) -> CallResult {
        let is_second = named.branch_id == "02";
        if !(is_second && self.is_cut) {
            let state = self.branches.entry(named.branch_id.clone()).or_insert(State::Waiting);
            *state = state.told(&named.op);
        }
        self.is_cut |= is_second && self.cut_after == Some(named.op.as_str());
        let latency = Duration::ZERO;
        if is_second && self.is_cut {
            return CallResult::Failed { why: CallFailure::Timeout, latency, attempts: 1 };
        }
        let (message, body) = (String::new(), Bytes::new());
        CallResult::Answered { status: 200, message, body, latency, attempts: 1 }
    }

    /// The record's status, and where the two branches are once their own timeouts have passed.
    fn end(&self) -> (Status, State, State) {
        let record = self.cluster.history.values().next().unwrap().last().unwrap();
        let of = |branch: &str| self.branches[branch].timed_out();
        (record.status, of("01"), of("02"))
    }
}

fn life(cut_after: Option<&'static str>) -> (Status, State, State) {
    let mut world = World::new(cut_after);
    world.begin();
    world.run(30_000);
    world.end()
}

#[test]
fn without_a_partition_all_commit() {
    assert_eq!(life(None), (Status::Succeed, State::Committed, State::Committed));
}

#[test]
fn cut_off_in_the_first_phase_all_abort() {
    // The record stays aborting: the branch that is cut off cannot be told. It has gone by itself.
    let end = life(Some("can_commit"));
    assert_eq!(end, (Status::Aborting, State::Aborted, State::Aborted));
}

#[test]
fn cut_off_in_the_second_phase_it_splits() {
    let end = life(Some("pre_commit"));
    assert_eq!(end, (Status::Aborting, State::Aborted, State::Committed));
}

#[test]
fn cut_off_in_the_third_phase_all_commit() {
    let end = life(Some("do_commit"));
    assert_eq!(end, (Status::Submitted, State::Committed, State::Committed));
}
