//! Many random lives: applications that crash in the middle, participants that refuse, err and answer late,
//! proposals that are lost or appended long after, leaders that change with and without the old one noticing,
//! nodes that restart and lag. Then everything heals, and the checkers look:
//!
//! - every transaction that was accepted has ended, and nothing is left in the due index;
//! - all or nothing: a transaction that succeeded has done every branch once and undone none; one that failed has
//!   undone what it did; so money is conserved;
//! - nothing was both confirmed and cancelled;
//! - decisions are durable: what a client was told it submitted has succeeded (a saga may have gone back, as one),
//!   what it was told it aborted has failed, and a message was delivered exactly if its sender committed;
//! - each step from record to record is lawful.
//!
//! A seed is a life. `planted` bugs must not survive all seeds.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use quorate_outcall::{CallFailure, CallResult};
use quorate_rng::Rng;

use super::agent::{Agent, Told};
use super::cluster::{Cluster, Outgoing};
use super::participants::{Named, Participants};
use crate::api::{Config, RequestId};
use crate::planted::Bug;
use crate::record::{Kind, Record, RowStatus, Status};
use crate::transition::assert_lawful;

const SEEDS: u64 = 300;
const STEPS: u64 = 1_500;

/// Totals over all seeds: a fault that never happens tests nothing.
#[derive(Debug, Default)]
pub(super) struct Totals {
    succeeded: BTreeMap<&'static str, u64>,
    failed: BTreeMap<&'static str, u64>,
    elections: u64,
    unnoticed: u64,
    restarts: u64,
    rejected: u64,
    unknown: u64,
    lost_answers: u64,
    doubled_calls: u64,
    refusals: u64,
    resubmits: u64,
    skipped_by_barrier: u64,
}

struct Life {
    cluster: Cluster,
    rng: Rng,
    participants: Participants,
    agents: Vec<Agent>,
    /// Answers on their way back.
    answers: Vec<(Outgoing, CallResult)>,
    /// Calls of applications that arrive late.
    late: Vec<Named>,
    totals: Totals,
    /// Chances in 1,000, drawn per seed.
    faults: u64,
    refusals: u64,
    errors: u64,
}

impl Life {
    fn new(seed: u64, planted: Option<Bug>) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x6774);
        let config = Config {
            timeout_ms: 2_000,
            retry_interval_ms: [50, 200, 1_000][rng.next() as usize % 3],
            max_backoff_ms: 2_000,
            planted,
            is_tiny: rng.next().is_multiple_of(2),
            ..Config::default()
        };
        let nodes = [1, 2, 3, 3][rng.next() as usize % 4];
        let mut cluster = Cluster::new(nodes, config, seed);
        cluster.lead(0);
        let agents = (0..8 + rng.next() % 8).map(|n| Agent::new(n, &mut rng)).collect();
        let (faults, refusals, errors) = (rng.next() % 40, rng.next() % 200, rng.next() % 300);
        Self {
            cluster,
            rng,
            participants: Participants::default(),
            agents,
            answers: Vec::new(),
            late: Vec::new(),
            totals: Totals::default(),
            faults,
            refusals,
            errors,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.rng.next() % bound as u64) as usize
    }

    fn chance(&mut self, in_thousand: u64) -> bool {
        self.rng.next() % 1_000 < in_thousand
    }

    fn live(&mut self) {
        for _ in 0..STEPS {
            if self.chance(self.faults) {
                self.fault();
            }
            self.act();
        }
    }

    fn act(&mut self) {
        let node = self.below(self.cluster.nodes.len());
        match self.below(100) {
            0..20 => self.proposal(),
            20..45 => {
                let entries = 1 + self.below(8);
                self.cluster.apply(node, entries);
            }
            45..60 => self.deliver(true),
            60..70 => self.answered(),
            70..90 => {
                let at = self.below(self.agents.len());
                self.agent(at);
            }
            90..92 if !self.late.is_empty() => {
                let at = self.below(self.late.len());
                let named = self.late.remove(at);
                self.execute(&named);
            }
            92..100 => {
                self.cluster.now_ms += self.below(60) as u64;
                self.cluster.tick();
            }
            _ => {}
        }
    }

    fn proposal(&mut self) {
        if self.cluster.proposals.is_empty() {
            return;
        }
        let at = self.below(self.cluster.proposals.len());
        let is_given_up = self.cluster.proposals[at].is_given_up;
        if is_given_up && self.chance(300) {
            self.cluster.proposals.remove(at);
        } else if !is_given_up && self.chance(self.faults) {
            let is_unknown = self.chance(500);
            self.totals.unknown += u64::from(is_unknown);
            self.totals.rejected += u64::from(!is_unknown);
            self.cluster.fail(at, is_unknown);
        } else {
            self.cluster.append(at);
        }
    }

    fn fault(&mut self) {
        let node = self.below(self.cluster.nodes.len());
        match self.below(4) {
            0 => {
                let seed = self.rng.next();
                let led = self.cluster.nodes[node].leads;
                self.cluster.restart(node, seed);
                self.totals.restarts += 1;
                if led && self.chance(800) {
                    self.elect(false);
                }
            }
            1 => self.elect(true),
            2 => self.elect(false),
            _ => self.cluster.nodes[node].lag_ms = [0, 100, 3_000][self.below(3)],
        }
    }

    /// Somebody leads; whoever led before may not have noticed.
    fn elect(&mut self, is_noticed: bool) {
        let next = self.below(self.cluster.nodes.len());
        for node in 0..self.cluster.nodes.len() {
            if node != next && self.cluster.nodes[node].leads && is_noticed {
                self.cluster.follow(node);
            }
        }
        self.totals.elections += 1;
        self.totals.unnoticed += u64::from(!is_noticed);
        self.cluster.lead(next);
    }

    /// A call arrives at its participant.
    fn deliver(&mut self, with_faults: bool) {
        if self.cluster.calls.is_empty() {
            return;
        }
        let at = self.below(self.cluster.calls.len());
        let call = self.cluster.calls.remove(at);
        let named = Named::of(&call.call.url);
        let result = self.participant(&named, with_faults);
        if with_faults && self.chance(self.faults) {
            self.totals.doubled_calls += 1;
            self.late.push(named);
        }
        let result = if with_faults && self.chance(self.errors / 3) {
            self.totals.lost_answers += 1;
            let (why, latency) = (CallFailure::Timeout, Duration::from_secs(3));
            CallResult::Failed { why, latency, attempts: 1 }
        } else {
            status(result)
        };
        self.answers.push((call, result));
    }

    /// What a participant makes of a call.
    fn participant(&mut self, named: &Named, with_faults: bool) -> u16 {
        match named.op.as_str() {
            "msg" => return self.check_back(named, with_faults),
            "run" => return self.call_back(named, with_faults),
            _ => {}
        }
        if with_faults && self.chance(self.errors / 3) {
            return [500, 425][self.below(2)];
        }
        let may_refuse = matches!(named.op.as_str(), "action" | "try" | "can_commit");
        let is_msg = self.agents.iter().any(|a| a.gid == named.gid && a.kind == Kind::Msg);
        let acts = self.participants.would_act(named);
        if may_refuse && !is_msg && acts && self.chance(self.refusals) {
            self.totals.refusals += 1;
            return 409;
        }
        self.execute(named);
        let dies_after = with_faults && self.chance(self.errors / 3);
        if dies_after { 500 } else { 200 }
    }

    fn execute(&mut self, named: &Named) {
        if !self.participants.would_act(named) {
            self.totals.skipped_by_barrier += 1;
        }
        self.participants.call(named);
    }

    fn call_back(&mut self, named: &Named, with_faults: bool) -> u16 {
        if with_faults && self.chance(self.errors) {
            return [500, 425, 409][self.below(3)];
        }
        let agent = self.agents.iter_mut().find(|agent| agent.gid == named.gid).unwrap();
        agent.called_back();
        200
    }

    fn check_back(&mut self, named: &Named, with_faults: bool) -> u16 {
        if with_faults && self.chance(self.errors) {
            return [500, 425][self.below(2)];
        }
        let agent = self.agents.iter_mut().find(|agent| agent.gid == named.gid).unwrap();
        if agent.asked_whether_committed() { 200 } else { 409 }
    }

    fn answered(&mut self) {
        if !self.answers.is_empty() {
            let at = self.below(self.answers.len());
            let (call, result) = self.answers.remove(at);
            self.cluster.answer(&call, result);
        }
    }

    fn agent(&mut self, at: usize) {
        let node = self.below(self.cluster.nodes.len());
        let told = self.agents[at].pending.map(|id| self.told(id));
        if matches!(told, Some(Told::Nothing)) {
            return;
        }
        if self.chance(self.faults / 2) {
            self.agents[at].crash();
        }
        let (faults, refusals) = (self.faults, self.refusals);
        let luck = (self.chance(refusals), self.chance(faults * 3), self.chance(faults * 3));
        let agent = &mut self.agents[at];
        let step = agent.next(told.as_ref(), luck);
        if let Some(named) = step.call {
            if step.is_late { self.late.push(named) } else { self.execute(&named) }
        }
        if let Some(request) = step.request {
            self.totals.resubmits += u64::from(step.is_again);
            let id = self.cluster.request(node, request);
            self.agents[at].pending = Some(id);
        }
    }

    fn told(&mut self, id: RequestId) -> Told {
        match self.cluster.replies.remove(&id) {
            Some(reply) => Told::Reply(reply),
            None if self.cluster.asked.contains_key(&id) => Told::Nothing,
            None => Told::Silence,
        }
    }

    /// Faults stop: one leader that everybody knows, nothing is lost any more, time passes.
    fn heal(&mut self) {
        self.cluster.proposals.retain(|proposal| !proposal.is_given_up);
        let nodes = self.cluster.nodes.len();
        let leader = self.below(nodes);
        for node in 0..nodes {
            self.cluster.nodes[node].lag_ms = 0;
            if node != leader {
                self.cluster.follow(node);
            }
        }
        self.cluster.lead(leader);
        for agent in &mut self.agents {
            agent.crash();
        }
        for named in std::mem::take(&mut self.late) {
            self.execute(&named);
        }
        (self.refusals, self.faults) = (0, 0);
        for _ in 0..2_000 {
            self.cluster.settle();
            while !self.cluster.calls.is_empty() || !self.answers.is_empty() {
                self.deliver(false);
                self.answered();
                self.cluster.settle();
            }
            for at in 0..self.agents.len() {
                self.agent(at);
                self.cluster.settle();
            }
            if self.unfinished().is_empty() {
                return;
            }
            let next = self.cluster.next_deadline().unwrap_or(self.cluster.now_ms + 1_000);
            self.cluster.now_ms = next.max(self.cluster.now_ms + 1);
            self.cluster.tick();
        }
    }

    fn last(&self) -> BTreeMap<&str, &Record> {
        let last = self.cluster.history.iter();
        last.filter_map(|(gid, records)| Some((gid.as_str(), records.last()?))).collect()
    }

    /// What has not ended.
    fn unfinished(&self) -> Vec<String> {
        let last = self.last().into_iter();
        last.filter(|(_, record)| !record.status.is_final())
            .map(|(gid, _)| gid.to_owned())
            .collect()
    }

    fn check(&mut self) {
        assert_eq!(self.unfinished(), Vec::<String>::new(), "after the faults stopped");
        let due = self.cluster.keys().into_iter().filter(|key| key.starts_with(b"due/"));
        assert_eq!(due.collect::<Vec<Bytes>>(), Vec::<Bytes>::new(), "left in the due index");
        for records in self.cluster.history.values() {
            records.windows(2).for_each(|pair| assert_lawful(&pair[0], &pair[1]));
        }
        for at in 0..self.agents.len() {
            self.check_agent(at);
        }
    }

    fn check_agent(&mut self, at: usize) {
        let agent = &self.agents[at];
        let gid = &agent.gid;
        let Some(record) = self.cluster.history.get(gid).and_then(|records| records.last()) else {
            assert!(!agent.is_accepted, "{gid}: was accepted, and is not there");
            return;
        };
        let statuses = self.cluster.statuses(gid);
        let kind = record.kind.name();
        let totals = match record.status {
            Status::Succeed => &mut self.totals.succeeded,
            _ => &mut self.totals.failed,
        };
        *totals.entry(kind).or_default() += 1;
        agent.check_told(record.status);
        let has_succeeded = record.status == Status::Succeed;
        let branches: std::collections::BTreeSet<&str> =
            record.rows.iter().map(|row| row.branch_id.as_str()).collect();
        let mut moved = 0;
        for branch in branches {
            let effects = self.participants.of(gid, branch);
            let effects: Vec<&str> = effects.iter().map(String::as_str).collect();
            let allowed = allowed(record.kind, has_succeeded);
            assert!(
                allowed.contains(&effects.as_slice()),
                "{gid} ({kind}) went {statuses:?}, branch {branch} saw {effects:?}"
            );
            moved += i64::from(balance(&effects) != 0);
        }
        let all =
            record.rows.iter().map(|row| &row.branch_id).collect::<std::collections::BTreeSet<_>>();
        let expected = if has_succeeded { all.len() as i64 } else { 0 };
        assert_eq!(moved, expected, "{gid}: money was moved in part");
        let undone = record.rows.iter().filter(|row| row.status == RowStatus::Succeed);
        assert!(undone.count() <= record.rows.len());
    }
}

/// What a branch may have seen in the end, business calls only.
fn allowed(kind: Kind, has_succeeded: bool) -> &'static [&'static [&'static str]] {
    match (kind, has_succeeded) {
        (Kind::Tcc, true) => &[&["try", "confirm"]],
        (Kind::Tcc, false) => &[&[], &["try", "cancel"]],
        (Kind::Saga | Kind::Msg | Kind::Workflow, true) => &[&["action"]],
        (Kind::Saga, false) => &[&[], &["action", "compensate"]],
        (Kind::Xa, true) => &[&["action", "commit"]],
        (Kind::Xa | Kind::Workflow, false) => &[&[], &["action", "rollback"]],
        (Kind::ThreePhase, true) => &[&["can_commit", "pre_commit", "do_commit"]],
        (Kind::ThreePhase, false) => {
            &[&[], &["can_commit", "abort"], &["can_commit", "pre_commit", "abort"]]
        }
        (Kind::Msg, false) => &[&[]],
    }
}

/// What a branch's effects have moved.
fn balance(effects: &[&str]) -> i64 {
    let sign = |op: &&str| match *op {
        "confirm" | "action" | "do_commit" => 1,
        "compensate" | "rollback" => -1,
        _ => 0,
    };
    effects.iter().map(sign).sum()
}

fn status(status: u16) -> CallResult {
    CallResult::Answered {
        status,
        message: String::new(),
        body: Bytes::new(),
        latency: Duration::ZERO,
        attempts: 1,
    }
}

fn run(seed: u64, planted: Option<Bug>) -> Totals {
    let mut life = Life::new(seed, planted);
    life.live();
    life.heal();
    life.check();
    life.totals
}

impl Totals {
    fn add(&mut self, other: Self) {
        for (kind, count) in other.succeeded {
            *self.succeeded.entry(kind).or_default() += count;
        }
        for (kind, count) in other.failed {
            *self.failed.entry(kind).or_default() += count;
        }
        self.elections += other.elections;
        self.unnoticed += other.unnoticed;
        self.restarts += other.restarts;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.lost_answers += other.lost_answers;
        self.doubled_calls += other.doubled_calls;
        self.refusals += other.refusals;
        self.resubmits += other.resubmits;
        self.skipped_by_barrier += other.skipped_by_barrier;
    }
}

#[test]
fn random_lives() {
    let mut totals = Totals::default();
    for seed in seeds() {
        let lived = catch_unwind(AssertUnwindSafe(|| run(seed, None)));
        totals.add(lived.unwrap_or_else(|_| panic!("seed {seed}")));
    }
    println!("{totals:#?}");
    for kind in ["tcc", "saga", "xa", "msg", "workflow", "3pc"] {
        assert!(totals.succeeded.contains_key(kind) && totals.failed.contains_key(kind), "{kind}");
    }
    let faults = [
        totals.elections,
        totals.unnoticed,
        totals.restarts,
        totals.rejected,
        totals.unknown,
        totals.lost_answers,
        totals.doubled_calls,
        totals.refusals,
        totals.resubmits,
        totals.skipped_by_barrier,
    ];
    assert!(faults.iter().all(|count| *count > 0), "a fault that never happens: {totals:?}");
}

#[test]
fn a_seed_is_a_life() {
    let lives = [run(5, None), run(5, None)].map(|totals| format!("{totals:?}"));
    assert_eq!(lives[0], lives[1]);
}

/// `GLOBAL_TXN_SEEDS=FROM..TO` hunts by hand.
#[expect(clippy::disallowed_methods, reason = "only by hand, and a life depends on its seed alone")]
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("GLOBAL_TXN_SEEDS") else { return 0..SEEDS };
    let (from, to) = text.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

/// Whether some seed notices.
fn is_caught(bug: Bug) -> bool {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught = (0..SEEDS).find(|seed| catch_unwind(|| run(*seed, Some(bug))).is_err());
    std::panic::set_hook(hook);
    println!("{bug:?}: {caught:?}");
    caught.is_some()
}

#[test]
fn planted_bugs_are_caught() {
    let bugs = [
        Bug::ResubmitEnds,
        Bug::ResubmitForgetsRows,
        Bug::NoComparison,
        Bug::CallBeforeApplied,
        Bug::CompensateOnlyKnown,
        Bug::CallAheadUndecided,
        Bug::FirstConfirmEnds,
        Bug::IndexNotRead,
        Bug::SilenceIsConsent,
        Bug::StaleTimeout,
        Bug::JoinAfterDecision,
    ];
    let survived: Vec<Bug> = bugs.into_iter().filter(|bug| !is_caught(*bug)).collect();
    assert_eq!(survived, Vec::<Bug>::new(), "nobody noticed");
}
