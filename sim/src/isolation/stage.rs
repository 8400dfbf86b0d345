//! Where a schedule is played: one coordinator, two databases, and transactions of one kind whose every move the
//! schedule makes.

use std::fmt::Write as _;

use bytes::Bytes;
use quorate_global_txn::{
    Body, BranchRequest, Content, Request, RowStatus, Status, Step, WorkflowOutcome,
};

use super::database::{Database, Did, Work};
use super::host::{Host, Waiting};
use super::{Discipline, discipline::Phase};

/// A transaction of the schedule: pieces of work, each in one of the two databases.
#[derive(Clone, Debug)]
pub(super) struct Play {
    pub(super) gid: &'static str,
    work: Vec<(usize, Work)>,
    /// What a message delivers once its sender has committed.
    delivers: Vec<(usize, Work)>,
    next: usize,
    is_refused: bool,
    pub(super) seen: Vec<i64>,
}

impl Play {
    pub(super) fn new(gid: &'static str, work: &[(usize, Work)]) -> Self {
        let work = work.to_vec();
        Self { gid, work, delivers: Vec::new(), next: 0, is_refused: false, seen: Vec::new() }
    }

    fn remembered(&self) -> i64 {
        self.seen.last().copied().unwrap_or(0)
    }
}

/// See the module.
pub(super) struct Stage {
    discipline: Discipline,
    host: Host,
    pub(super) databases: [Database; 2],
    pub(super) transcript: String,
}

impl Stage {
    pub(super) fn new(discipline: Discipline) -> Self {
        let database = || Database::new(discipline == Discipline::XaSerializable);
        let (host, transcript) = (Host::new(), String::new());
        Self { discipline, host, databases: [database(), database()], transcript }
    }

    pub(super) fn say(&mut self, what: &str) {
        let _ = writeln!(self.transcript, "{what}");
    }

    pub(super) fn value(&self, database: usize, row: &str) -> i64 {
        self.databases[database].rows.get(row).copied().unwrap_or(0)
    }

    fn body(&self, play: &Play) -> Box<Body> {
        let step = || Step { action: "http://p/do".into(), compensate: "http://p/undo".into() };
        let steps = match self.discipline {
            Discipline::Saga => play.work.iter().map(|_| step()).collect(),
            Discipline::Msg => play.delivers.iter().map(|_| step()).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let payloads = vec![Bytes::from_static(b"{}"); steps.len()];
        let content = Content { steps, payloads, ..Content::default() };
        let trans_type = self.discipline.kind().name().to_owned();
        Box::new(Body { gid: play.gid.to_owned(), trans_type, content, ..Body::default() })
    }

    fn register(&mut self, play: &Play, branch: usize, step: &[(&str, &str)]) {
        let names = ["confirm", "cancel", "url", "can_commit", "pre_commit", "do_commit", "abort"];
        let urls = names.map(|name| (name.to_owned(), "http://p/branch".to_owned()));
        let step = step.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let fields = if step.len() > 0 { step.collect() } else { urls.into() };
        self.host.ask(Request::RegisterBranch(Box::new(BranchRequest {
            gid: play.gid.to_owned(),
            trans_type: self.discipline.kind().name().to_owned(),
            branch_id: format!("{:02}", branch + 1),
            data: Bytes::from_static(b"{}"),
            fields,
        })));
    }

    pub(super) fn begin(&mut self, play: &mut Play) {
        if self.discipline == Discipline::Msg
            && play.work.len() > 1
            && play.work[1].0 != play.work[0].0
        {
            play.delivers = play.work.split_off(1); // only one database is the sender's
        }
        let body = self.body(play);
        match self.discipline {
            Discipline::Saga => self.host.ask(Request::Submit(body)),
            Discipline::Workflow => self.host.ask(Request::PrepareWorkflow(body)),
            _ => self.host.ask(Request::Prepare(body.clone())),
        }
        if self.discipline == Discipline::ThreePhase {
            (0..play.work.len()).for_each(|branch| self.register(play, branch, &[]));
            let body = self.body(play);
            self.host.ask(Request::Submit(body));
        }
        self.say(&format!("{} begins", play.gid));
    }

    /// Its next piece of work; `false`: it is blocked.
    pub(super) fn step(&mut self, play: &mut Play) -> bool {
        if play.next >= play.work.len() || play.is_refused {
            return true;
        }
        let (branch, (at, work)) = (play.next, play.work[play.next]);
        let registers = matches!(self.discipline.first_phase(), Phase::Reserve | Phase::Lock);
        if registers
            && self.discipline != Discipline::ThreePhase
            && self.discipline != Discipline::Msg
        {
            self.register(play, branch, &[]);
        }
        let (who, remembered) = (play.gid, play.remembered());
        let database = &mut self.databases[at];
        let did = match self.discipline.first_phase() {
            _ if work == Work::Refuse => Did::Refused,
            Phase::AtOnce => database.at_once(who, work, remembered),
            Phase::Reserve => database.reserve(who, work),
            Phase::Lock => database.locked(who, work, remembered),
        };
        self.say(&format!("{who}: {work:?} in {}: {did:?}", ["A", "B"][at]));
        match did {
            Did::Blocked => return false,
            Did::Done(value) => play.seen.extend(value),
            Did::Refused => play.is_refused = true,
        }
        play.next += 1;
        let is_good = did != Did::Refused;
        match self.discipline {
            Discipline::Saga => self.answer(play.gid, branch, "action", is_good),
            Discipline::ThreePhase => self.answer(play.gid, branch, "can_commit", is_good),
            Discipline::Workflow => {
                let status = if is_good { RowStatus::Succeed } else { RowStatus::Failed };
                self.register(play, branch, &[("op", "action"), ("status", status.name())]);
            }
            _ => {}
        }
        true
    }

    fn answer(&mut self, gid: &str, branch: usize, op: &str, is_good: bool) {
        let calls = &self.host.calls;
        let at = calls
            .iter()
            .position(|c| (c.gid.as_str(), c.branch, c.op.as_str()) == (gid, branch, op));
        let call = self.host.calls.remove(at.expect("the coordinator has called it"));
        self.host.answer(&call, is_good);
    }

    /// All of its work; `false`: it is blocked.
    pub(super) fn steps(&mut self, play: &mut Play) -> bool {
        while play.next < play.work.len() && !play.is_refused {
            if !self.step(play) {
                return false;
            }
        }
        true
    }

    /// Its application says how it ends.
    pub(super) fn decide(&mut self, play: &mut Play) {
        let body = self.body(play);
        match (self.discipline, play.is_refused) {
            (Discipline::Saga | Discipline::ThreePhase, _) => {}
            (Discipline::Workflow, is_refused) => {
                for branch in (0..play.next).rev().filter(|_| is_refused) {
                    self.databases[play.work[branch].0].undo(play.gid);
                    self.register(play, branch, &[("op", "rollback"), ("status", "succeed")]);
                }
                let status = if is_refused { "failed" } else { "succeed" }.to_owned();
                let outcome = Some(WorkflowOutcome { status, ..WorkflowOutcome::default() });
                self.host.ask(Request::Submit(Box::new(Body { outcome, ..*body })));
            }
            (Discipline::Msg, is_refused) => {
                self.databases[play.work[0].0].end(play.gid, !is_refused);
                let (gid, trans_type) = (play.gid.to_owned(), "msg".to_owned());
                let reason = String::new();
                self.host.ask(match is_refused {
                    true => Request::Abort { gid, trans_type, reason },
                    false => Request::Submit(body),
                });
            }
            (_, true) => {
                let (gid, trans_type) = (play.gid.to_owned(), body.trans_type.clone());
                self.host.ask(Request::Abort { gid, trans_type, reason: String::new() });
            }
            (_, false) => self.host.ask(Request::Submit(body)),
        }
        let decision = if play.is_refused { "rolled back" } else { "carried out" };
        self.say(&format!("{} is to be {decision}", play.gid));
    }

    /// Delivers its next call of the second phase; `false`: there is none.
    pub(super) fn deliver(&mut self, play: &Play) -> bool {
        let Some(at) = self.host.calls.iter().position(|call| call.gid == play.gid) else {
            return false;
        };
        let call = self.host.calls.remove(at);
        self.second_phase(play, &call);
        self.host.answer(&call, true);
        true
    }

    fn second_phase(&mut self, play: &Play, call: &Waiting) {
        let all = if play.delivers.is_empty() { &play.work } else { &play.delivers };
        let (at, work) = all[call.branch];
        let (who, database) = (play.gid, &mut self.databases[at]);
        match call.op.as_str() {
            "compensate" if work != Work::Refuse => database.undo(who),
            "confirm" => database.settle(who, true),
            "cancel" => database.settle(who, false),
            "commit" | "do_commit" => database.end(who, true),
            "rollback" | "abort" => database.end(who, false),
            "action" => {
                database.at_once(who, work, 0);
            }
            _ => {}
        }
        self.say(&format!("{who}: {} of branch {:02}", call.op, call.branch + 1));
    }

    /// Everything that is left of it, in the end.
    pub(super) fn end(&mut self, play: &mut Play) -> Status {
        self.decide(play);
        self.finish(play)
    }

    /// The rest of its second phase.
    pub(super) fn finish(&mut self, play: &Play) -> Status {
        while self.deliver(play) {}
        let status = self.host.status(play.gid);
        self.say(&format!("{} has ended: {}", play.gid, status.name()));
        status
    }

    /// Two transactions, the second one between the first one's first piece of work and the rest; if a lock keeps it
    /// waiting, after the first one's end.
    pub(super) fn interleave(&mut self, first: &mut Play, second: &mut Play) -> (Status, Status) {
        self.begin(first);
        self.step(first);
        self.begin(second);
        let mut status = None;
        if self.steps(second) {
            status = Some(self.end(second));
        } else {
            let waits = second.gid;
            self.say(&format!("{waits} waits"));
        }
        assert!(self.steps(first), "the first one holds what it needs");
        let ended = self.end(first);
        let status = status.unwrap_or_else(|| {
            assert!(self.steps(second), "nobody is in its way any more");
            self.end(second)
        });
        (ended, status)
    }
}
