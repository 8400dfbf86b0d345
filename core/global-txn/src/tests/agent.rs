//! Applications: each begins one transaction, drives its first phase, and says how it ends, unless it crashes
//! before. It asks again when it gets no answer, and submits again for no reason.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_rng::Rng;

use super::participants::Named;
use crate::api::{Body, BranchRequest, Progress, Reply, Request, RequestId, WorkflowOutcome};
use crate::gid::GlobalTxnId;
use crate::record::{Class, Content, Kind, Options, Row, RowStatus, Status, Step};

/// What a request led to so far.
#[derive(Debug)]
pub(super) enum Told {
    /// It is under way.
    Nothing,
    /// It is over, and nobody will ever say how.
    Silence,
    /// This.
    Reply(Reply),
}

/// What an application does next.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub(super) call: Option<Named>,
    /// The call arrives, but much later.
    pub(super) is_late: bool,
    pub(super) request: Option<Request>,
    pub(super) is_again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Begin,
    Register(u32),
    Try(u32),
    Commit,
    Submit,
    SubmitAgain,
    Abort,
    /// A workflow's: take it up, run a step, undo one, say how it ended.
    Resume,
    Step(u32),
    Undo(u32),
    End(bool),
    Rest,
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) gid: GlobalTxnId,
    pub(super) kind: Kind,
    branches: u32,
    options: Options,
    doing: Doing,
    patience: u32,
    pub(super) pending: Option<RequestId>,
    /// Whether a request that begins the transaction was answered with "done".
    pub(super) is_accepted: bool,
    was_submitted: bool,
    was_aborted: bool,
    /// Of a workflow: what each step's operation is known to have led to.
    progress: BTreeMap<(String, String), RowStatus>,
    /// Of a message: whether its sender's local transaction committed; `None`: not yet, and a check-back decides
    /// that it never will.
    committed: Option<bool>,
}

impl Agent {
    pub(super) fn new(number: u64, rng: &mut Rng) -> Self {
        let kinds = [
            Kind::Workflow,
            Kind::Tcc,
            Kind::Tcc,
            Kind::Saga,
            Kind::Saga,
            Kind::Xa,
            Kind::Msg,
            Kind::ThreePhase,
        ];
        let kind = kinds[rng.next() as usize % kinds.len()];
        let branches = 1 + rng.next() as u32 % 3;
        let is_saga = kind == Kind::Saga;
        let options = Options {
            wait_result: rng.next().is_multiple_of(4),
            concurrent: matches!(kind, Kind::Saga | Kind::Msg) && rng.next().is_multiple_of(2),
            timeout_ms: if is_saga && rng.next().is_multiple_of(2) { 1_500 } else { 0 },
            retry_limit: if is_saga { (rng.next() % 4) as u32 } else { 0 },
            delay_ms: if kind == Kind::Msg { rng.next() % 2 * 700 } else { 0 },
            orders: if is_saga && branches == 3 && rng.next().is_multiple_of(2) {
                vec![vec![], vec![], vec![0]]
            } else {
                Vec::new()
            },
            ..Options::default()
        };
        Self {
            gid: GlobalTxnId::parse(&format!("{}-{number}", kind.name())).unwrap(),
            kind,
            branches,
            options,
            doing: Doing::Begin,
            patience: 6,
            pending: None,
            is_accepted: false,
            was_submitted: false,
            was_aborted: false,
            progress: BTreeMap::new(),
            committed: None,
        }
    }

    /// It is not heard of any more.
    pub(super) fn crash(&mut self) {
        self.doing = Doing::Rest;
    }

    /// A message's check-back; from the first one on it is settled (the spec's 3.3).
    pub(super) fn asked_whether_committed(&mut self) -> bool {
        *self.committed.get_or_insert(false)
    }

    /// `luck`: whether a participant refuses, whether its call is late, whether to do something once more.
    pub(super) fn next(&mut self, told: Option<&Told>, luck: (bool, bool, bool)) -> Next {
        self.pending = None;
        let before = self.doing;
        if let Some(told) = told {
            self.hear(told);
        }
        let mut next = match self.doing {
            Doing::Begin => Next { request: Some(self.begin()), ..Next::default() },
            Doing::Resume => {
                let request = Some(Request::PrepareWorkflow(self.body()));
                Next { request, ..Next::default() }
            }
            Doing::Step(branch) => self.step(branch, "action", luck),
            Doing::Undo(branch) => self.step(branch, "rollback", (false, false, false)),
            Doing::End(is_good) => Next { request: Some(self.end(is_good)), ..Next::default() },
            Doing::Register(branch) => {
                Next { request: Some(self.register(branch)), ..Next::default() }
            }
            Doing::Try(branch) => self.attempt(branch, luck),
            Doing::Commit => {
                // The barrier's row decides between this and a check-back.
                let commits = !luck.0 && !luck.2 && *self.committed.get_or_insert(true);
                self.committed.get_or_insert(false);
                self.doing = if commits { Doing::Submit } else { Doing::Abort };
                Next::default()
            }
            Doing::Submit | Doing::SubmitAgain => {
                Next { request: Some(Request::Submit(self.body())), ..Next::default() }
            }
            Doing::Abort => {
                let (gid, trans_type) = (self.gid.to_string(), self.kind.name().to_owned());
                let reason = "changed my mind".to_owned();
                Next {
                    request: Some(Request::Abort { gid, trans_type, reason }),
                    ..Next::default()
                }
            }
            Doing::Rest => Next::default(),
        };
        next.is_again = before == Doing::SubmitAgain;
        next
    }

    fn hear(&mut self, told: &Told) {
        let is_done = match told {
            Told::Reply(Reply::Progress(progress)) => return self.take_up(progress),
            Told::Reply(Reply::Done) => true,
            Told::Reply(Reply::Refused(refused)) if !refused.is_unknown => {
                let waited = self.options.wait_result && refused.status.is_some();
                if refused.class == Class::Failure && !waited {
                    self.refused();
                    return;
                }
                false
            }
            _ => false,
        };
        if !is_done {
            self.patience = self.patience.saturating_sub(1);
            if self.patience == 0 {
                self.doing = Doing::Rest;
            } else if matches!(self.doing, Doing::Step(_) | Doing::Undo(_)) {
                self.doing = Doing::Resume; // perhaps it is known over there
            }
            return;
        }
        self.doing = match self.doing {
            Doing::Step(_) | Doing::Undo(_) => self.following(),
            Doing::Begin => {
                self.is_accepted = true;
                self.after_begin()
            }
            Doing::Register(branch) => Doing::Try(branch),
            Doing::Submit => {
                self.was_submitted = true;
                self.is_accepted = true;
                Doing::SubmitAgain
            }
            Doing::Abort => {
                self.was_aborted = true;
                Doing::Rest
            }
            _ => Doing::Rest,
        };
    }

    /// No, for good: what was begun is to be undone, and what was to be undone is.
    fn refused(&mut self) {
        self.doing = match self.doing {
            Doing::Register(_) | Doing::Try(_) => Doing::Abort,
            _ => Doing::Rest,
        };
    }

    fn after_begin(&mut self) -> Doing {
        match self.kind {
            Kind::Tcc | Kind::Xa | Kind::ThreePhase => Doing::Register(0),
            Kind::Msg => Doing::Commit,
            Kind::Saga | Kind::Workflow => {
                self.was_submitted = true;
                Doing::SubmitAgain
            }
        }
    }

    /// The first phase of a branch, by the application itself.
    fn attempt(&mut self, branch: u32, (refuses, is_late, _): (bool, bool, bool)) -> Next {
        let following =
            if branch + 1 < self.branches { Doing::Register(branch + 1) } else { Doing::Submit };
        let op = match self.kind {
            Kind::Tcc => "try",
            Kind::Xa => "action",
            _ => {
                self.doing = following;
                return Next::default();
            }
        };
        self.doing = if refuses || is_late { Doing::Abort } else { following };
        let named =
            Named { gid: self.gid.clone(), branch_id: branch_id(branch), op: op.to_owned() };
        Next { call: (!refuses).then_some(named), is_late, ..Next::default() }
    }

    fn begin(&self) -> Request {
        match self.kind {
            Kind::Saga => Request::Submit(self.body()),
            Kind::Workflow => Request::PrepareWorkflow(self.body()),
            _ => Request::Prepare(self.body()),
        }
    }

    fn body(&self) -> Box<Body> {
        let has_steps = matches!(self.kind, Kind::Saga | Kind::Msg);
        let steps = (0..if has_steps { self.branches } else { 0 }).map(|_| Step {
            action: "http://p/action".to_owned(),
            compensate: "http://p/compensate".to_owned(),
        });
        let query = match self.kind {
            Kind::Msg => "http://p/check",
            Kind::Workflow => "http://p/run",
            _ => "",
        };
        let content = Content {
            steps: steps.collect(),
            payloads: vec![Bytes::from_static(b"{}"); self.branches as usize],
            query_prepared: query.to_owned(),
            name: "run".to_owned(),
            ..Content::default()
        };
        Box::new(Body {
            gid: self.gid.to_string(),
            trans_type: self.kind.name().to_owned(),
            options: self.options.clone(),
            content,
            outcome: None,
        })
    }

    fn register(&self, branch: u32) -> Request {
        let names = ["confirm", "cancel", "url", "can_commit", "pre_commit", "do_commit", "abort"];
        let fields = names.map(|name| (name.to_owned(), format!("http://p/{name}")));
        Request::RegisterBranch(Box::new(BranchRequest {
            gid: self.gid.to_string(),
            trans_type: self.kind.name().to_owned(),
            branch_id: branch_id(branch),
            data: Bytes::from_static(b"{}"),
            fields: fields.into(),
        }))
    }

    /// A workflow is called back: it begins anew over what is recorded, unless it is running.
    pub(super) fn called_back(&mut self) {
        if self.doing == Doing::Rest {
            self.doing = Doing::Resume;
            self.patience = 6;
        }
    }

    fn take_up(&mut self, progress: &Progress) {
        self.is_accepted = true;
        if progress.record.status.is_final() {
            self.doing = Doing::Rest;
            return;
        }
        let rows = progress.record.rows.iter();
        let of = |row: &Row| ((row.branch_id.clone(), row.op.name().to_owned()), row.status);
        self.progress = rows.map(of).collect();
        self.doing = self.following();
    }

    /// What the function does next, given what is recorded.
    fn following(&self) -> Doing {
        let known =
            |branch: u32, op: &str| self.progress.get(&(branch_id(branch), op.to_owned())).copied();
        for branch in 0..self.branches {
            match known(branch, "action") {
                None => return Doing::Step(branch),
                Some(RowStatus::Failed) => {
                    let undone = |branch: &u32| known(*branch, "rollback").is_none();
                    let next = (0..=branch).rev().find(undone);
                    return next.map_or(Doing::End(false), Doing::Undo);
                }
                Some(_) => {}
            }
        }
        Doing::End(true)
    }

    /// A step of a workflow, or its undoing, and the record of it.
    fn step(&mut self, branch: u32, op: &str, (refuses, is_late, _): (bool, bool, bool)) -> Next {
        let named =
            Named { gid: self.gid.clone(), branch_id: branch_id(branch), op: op.to_owned() };
        if is_late {
            self.crash();
            return Next { call: Some(named), is_late, ..Next::default() };
        }
        let status = if refuses { RowStatus::Failed } else { RowStatus::Succeed };
        self.progress.insert((branch_id(branch), op.to_owned()), status);
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let request = Request::RegisterBranch(Box::new(BranchRequest {
            gid: self.gid.to_string(),
            trans_type: self.kind.name().to_owned(),
            branch_id: branch_id(branch),
            data: Bytes::from_static(b"{}"),
            fields: vec![field("op", op), field("status", status.name())],
        }));
        let call = (!refuses).then_some(named);
        Next { call, request: Some(request), ..Next::default() }
    }

    fn end(&self, is_good: bool) -> Request {
        let status = if is_good { Status::Succeed } else { Status::Failed };
        let outcome = WorkflowOutcome { status: status.name().to_owned(), ..Default::default() };
        Request::Submit(Box::new(Body { outcome: Some(outcome), ..*self.body() }))
    }

    /// What it was told holds.
    pub(super) fn check_told(&self, end: Status) {
        let gid = &self.gid;
        let may_go_back = matches!(self.kind, Kind::Saga | Kind::ThreePhase);
        if self.was_submitted && !may_go_back {
            assert_eq!(end, Status::Succeed, "{gid}: a submit was acknowledged");
        }
        if self.was_aborted {
            assert_eq!(end, Status::Failed, "{gid}: an abort was acknowledged");
        }
        if self.kind == Kind::Msg && end == Status::Succeed {
            assert_eq!(self.committed, Some(true), "{gid}: delivered, but never committed");
        }
        if self.kind == Kind::Msg && self.committed == Some(true) {
            assert_eq!(end, Status::Succeed, "{gid}: committed, but never delivered");
        }
    }
}

fn branch_id(branch: u32) -> String {
    format!("{:02}", branch + 1)
}
