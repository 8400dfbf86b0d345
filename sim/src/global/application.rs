//! Applications: each begins one global transaction, drives its first phase against the services, and says how it
//! ends, unless it crashes before. It asks again when it gets no answer, at another server perhaps, and submits
//! again for no reason.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_consensus::NodeId;
use quorate_global_txn::{
    Body, BranchRequest, Class, Content, Kind, Options, Progress, Protocol, Reply, Request, Row,
    RowStatus, Status, Step, WorkflowOutcome,
};

use crate::global::service::{Asked, Named, Verdict};
use crate::rng::Rng;

/// The topic that messages may name, and how many subscribe to it.
pub(crate) const TOPIC: &str = "news";

/// What became of what it did last.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// A server answered.
    Reply(Reply),
    /// A service answered.
    Verdict(Verdict),
    /// Nobody did.
    Silence,
}

/// What it does next.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// Asks a server.
    Ask(Box<Request>),
    /// Calls a service.
    Call(usize, Asked),
    /// Nothing.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Of the one that sets the topic up.
    Subscribe(usize),
    Begin,
    Register(usize),
    /// A branch's first phase.
    Try(usize),
    /// A message's sender commits.
    Local,
    Submit,
    SubmitAgain,
    Abort,
    /// A workflow's: take it up, run a step, write down that it ran, undo one, say how it ended.
    Resume,
    Step(usize),
    Stepped(usize, RowStatus),
    Undo(usize),
    Undone(usize),
    End(bool),
    Rest,
}

/// Where a branch is and what it moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg {
    pub(crate) service: usize,
    pub(crate) amount: i64,
}

/// An application.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) gid: String,
    /// `None`: it sets the topic up.
    pub(crate) kind: Option<Kind>,
    pub(crate) server: NodeId,
    pub(crate) rng: Rng,
    legs: Vec<Leg>,
    /// Where the sender of a message, or the application of a workflow, lives.
    pub(crate) home: usize,
    options: Options,
    has_topic: bool,
    doing: Doing,
    patience: u32,
    /// What it is waiting for; answers to earlier questions are not heard.
    pub(crate) question: u64,
    /// Of a workflow: what each step's operation is known to have led to.
    progress: BTreeMap<(String, String), RowStatus>,
}

impl Application {
    /// One that makes two services hear of the topic.
    pub(crate) fn for_topic(server: NodeId, rng: Rng) -> Self {
        let doing = Doing::Subscribe(0);
        Self { doing, patience: 1_000, ..Self::new(0, None, server, 2, rng) }
    }

    pub(crate) fn drawn(number: usize, server: NodeId, services: usize, mut rng: Rng) -> Self {
        let kinds = [
            Kind::Workflow,
            Kind::Tcc,
            Kind::Tcc,
            Kind::Saga,
            Kind::Saga,
            Kind::Xa,
            Kind::Msg,
            Kind::Msg,
            Kind::ThreePhase,
        ];
        let kind = *rng.pick(&kinds);
        Self::new(number, Some(kind), server, services, rng)
    }

    fn new(
        number: usize,
        kind: Option<Kind>,
        server: NodeId,
        services: usize,
        mut rng: Rng,
    ) -> Self {
        let legs = draw_legs(services, &mut rng);
        let options = draw_options(kind.unwrap_or(Kind::Msg), legs.len(), &mut rng);
        Self {
            gid: format!("{}-{number}", kind.map_or("topic", Kind::name)),
            kind,
            server,
            home: rng.below(services as u64) as usize,
            has_topic: kind == Some(Kind::Msg) && rng.chance(300),
            legs,
            options,
            doing: if kind == Some(Kind::Workflow) { Doing::Resume } else { Doing::Begin },
            patience: 8,
            question: 0,
            progress: BTreeMap::new(),
            rng,
        }
    }

    fn kind(&self) -> Kind {
        self.kind.expect("asked only of those that have a transaction")
    }

    /// It is not heard of any more.
    pub(crate) fn crash(&mut self) {
        self.doing = Doing::Rest;
        self.question += 1;
    }

    /// A workflow is called back: it begins anew over what is recorded, unless it is running.
    pub(crate) fn called_back(&mut self) -> bool {
        let rests = self.doing == Doing::Rest;
        if rests {
            self.doing = Doing::Resume;
            self.patience = 8;
        }
        rests
    }

    /// Whether it is about to submit what would time out.
    pub(crate) fn is_about_to_submit(&self) -> bool {
        self.doing == Doing::Submit && self.kind != Some(Kind::Msg)
    }

    pub(crate) fn rests(&self) -> bool {
        self.doing == Doing::Rest
    }

    /// What it does now.
    pub(crate) fn next(&mut self) -> Next {
        let ask = |request| Next::Ask(Box::new(request));
        match self.doing {
            Doing::Subscribe(number) => ask(Request::Subscribe {
                topic: TOPIC.to_owned(),
                url: format!("http://s{number}/action"),
                remark: String::new(),
            }),
            Doing::Begin if self.kind() == Kind::Saga => ask(Request::Submit(self.body())),
            Doing::Begin => ask(Request::Prepare(self.body())),
            Doing::Resume => ask(Request::PrepareWorkflow(self.body())),
            Doing::Register(leg) => ask(self.register(leg, &[])),
            Doing::Try(leg) => {
                let op = if self.kind() == Kind::Tcc { "try" } else { "action" };
                self.call(leg, op)
            }
            Doing::Step(leg) => self.call(leg, "action"),
            Doing::Undo(leg) => self.call(leg, "rollback"),
            Doing::Stepped(leg, status) => {
                ask(self.register(leg, &[("op", "action"), ("status", status.name())]))
            }
            Doing::Undone(leg) => {
                ask(self.register(leg, &[("op", "rollback"), ("status", "succeed")]))
            }
            Doing::Local => {
                let amount = if self.has_topic { 0 } else { -self.sum_of_credits() };
                let asked = Asked { named: self.named("00", "local"), amount: Some(amount) };
                Next::Call(self.home, asked)
            }
            Doing::Submit | Doing::SubmitAgain => ask(Request::Submit(self.body())),
            Doing::Abort => ask(Request::Abort {
                gid: self.gid.clone(),
                trans_type: self.kind().name().to_owned(),
                reason: "changed my mind".to_owned(),
            }),
            Doing::End(is_good) => ask(self.end(is_good)),
            Doing::Rest => Next::Rest,
        }
    }

    /// Makes something of an answer.
    pub(crate) fn hear(&mut self, heard: &Heard) {
        match heard {
            Heard::Reply(Reply::Done) => self.doing = self.after_done(),
            Heard::Reply(Reply::Progress(progress)) => self.take_up(progress),
            Heard::Reply(Reply::Refused(refused)) => {
                let waited = self.options.wait_result && refused.status.is_some();
                let is_final = refused.class == Class::Failure && !refused.is_transient && !waited;
                if is_final && !refused.is_unknown { self.refused() } else { self.lose_patience() }
            }
            Heard::Verdict(Verdict::Done) => self.doing = self.after_call(),
            Heard::Verdict(Verdict::Refused) => self.refused(),
            Heard::Silence => self.lose_patience(),
        }
    }

    fn lose_patience(&mut self) {
        self.patience = self.patience.saturating_sub(1);
        match self.doing {
            _ if self.patience == 0 => self.doing = Doing::Rest,
            // What its first phase came to is not known: better not to go on.
            Doing::Try(_) if self.rng.chance(500) => self.doing = Doing::Abort,
            Doing::Stepped(..) | Doing::Undone(_) => self.doing = Doing::Resume,
            _ => {}
        }
    }

    /// No, for good.
    fn refused(&mut self) {
        self.doing = match self.doing {
            Doing::Register(_) | Doing::Try(_) | Doing::Local => Doing::Abort,
            Doing::Step(leg) => Doing::Stepped(leg, RowStatus::Failed),
            _ => Doing::Rest,
        };
    }

    fn after_done(&mut self) -> Doing {
        match self.doing {
            Doing::Subscribe(0) => Doing::Subscribe(1),
            Doing::Begin => match self.kind() {
                Kind::Tcc | Kind::Xa | Kind::ThreePhase => Doing::Register(0),
                Kind::Msg => Doing::Local,
                Kind::Saga | Kind::Workflow => Doing::SubmitAgain,
            },
            Doing::Register(leg) if self.kind() == Kind::ThreePhase => self.after_leg(leg),
            Doing::Register(leg) => Doing::Try(leg),
            Doing::Submit if self.rng.chance(600) => Doing::SubmitAgain,
            Doing::Stepped(leg, status) => self.recorded(leg, "action", status),
            Doing::Undone(leg) => self.recorded(leg, "rollback", RowStatus::Succeed),
            _ => Doing::Rest,
        }
    }

    fn after_call(&mut self) -> Doing {
        match self.doing {
            Doing::Try(leg) => self.after_leg(leg),
            Doing::Local => Doing::Submit,
            Doing::Step(leg) => Doing::Stepped(leg, RowStatus::Succeed),
            Doing::Undo(leg) => Doing::Undone(leg),
            doing => doing,
        }
    }

    fn after_leg(&mut self, leg: usize) -> Doing {
        if leg + 1 < self.legs.len() {
            return Doing::Register(leg + 1);
        }
        if self.rng.chance(100) { Doing::Abort } else { Doing::Submit }
    }

    fn recorded(&mut self, leg: usize, op: &str, status: RowStatus) -> Doing {
        self.progress.insert((branch_id(leg), op.to_owned()), status);
        self.following()
    }

    fn take_up(&mut self, progress: &Progress) {
        if progress.record.status.is_final() {
            self.doing = Doing::Rest;
            return;
        }
        let of = |row: &Row| ((row.branch_id.clone(), row.op.name().to_owned()), row.status);
        self.progress = progress.record.rows.iter().map(of).collect();
        self.doing = self.following();
    }

    /// What a workflow's function does next, given what is recorded.
    fn following(&self) -> Doing {
        let known =
            |leg: usize, op: &str| self.progress.get(&(branch_id(leg), op.to_owned())).copied();
        for leg in 0..self.legs.len() {
            match known(leg, "action") {
                None => return Doing::Step(leg),
                Some(RowStatus::Failed) => {
                    let mut back = (0..=leg).rev();
                    let next = back.find(|leg| known(*leg, "rollback").is_none());
                    return next.map_or(Doing::End(false), Doing::Undo);
                }
                Some(_) => {}
            }
        }
        Doing::End(true)
    }

    fn sum_of_credits(&self) -> i64 {
        self.legs.iter().map(|leg| leg.amount.abs()).sum()
    }

    /// A message only gives: what it gives was taken from its sender before.
    fn amount(&self, leg: usize) -> i64 {
        let amount = self.legs[leg].amount;
        if self.kind() == Kind::Msg { amount.abs() } else { amount }
    }

    fn named(&self, branch_id: &str, op: &str) -> Named {
        Named {
            gid: self.gid.clone(),
            kind: self.kind().name().to_owned(),
            branch_id: branch_id.to_owned(),
            op: op.to_owned(),
        }
    }

    fn call(&self, leg: usize, op: &str) -> Next {
        let asked =
            Asked { named: self.named(&branch_id(leg), op), amount: Some(self.amount(leg)) };
        Next::Call(self.legs[leg].service, asked)
    }

    fn url(&self, service: usize, path: &str) -> String {
        match self.options.protocol {
            Protocol::Grpc => format!("s{service}:80/busi.Busi/{path}"),
            _ => format!("http://s{service}/{path}"),
        }
    }

    fn body(&self) -> Box<Body> {
        let kind = self.kind();
        let has_steps = matches!(kind, Kind::Saga | Kind::Msg) && !self.has_topic;
        let mut steps: Vec<Step> = Vec::new();
        let mut payloads: Vec<Bytes> = Vec::new();
        for (number, leg) in self.legs.iter().enumerate().filter(|_| has_steps) {
            let (action, compensate) =
                (self.url(leg.service, "action"), self.url(leg.service, "compensate"));
            steps.push(Step { action, compensate });
            payloads.push(payload(self.amount(number)));
        }
        if self.has_topic {
            steps.push(Step { action: format!("topic://{TOPIC}"), compensate: String::new() });
            payloads.push(payload(0));
        }
        let query_prepared = match kind {
            Kind::Msg => self.url(self.home, "check"),
            Kind::Workflow => self.url(self.home, "run"),
            _ => String::new(),
        };
        let name = if kind == Kind::Workflow { "run".to_owned() } else { String::new() };
        let content = Content { steps, payloads, query_prepared, name, ..Content::default() };
        Box::new(Body {
            gid: self.gid.clone(),
            trans_type: kind.name().to_owned(),
            options: self.options.clone(),
            content,
            outcome: None,
        })
    }

    fn register(&self, leg: usize, step: &[(&str, &str)]) -> Request {
        let names = ["confirm", "cancel", "url", "can_commit", "pre_commit", "do_commit", "abort"];
        let service = self.legs[leg].service;
        let urls = names.map(|name| (name.to_owned(), self.url(service, name)));
        let step = step.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let fields = if step.len() > 0 { step.collect() } else { urls.into() };
        Request::RegisterBranch(Box::new(BranchRequest {
            gid: self.gid.clone(),
            trans_type: self.kind().name().to_owned(),
            branch_id: branch_id(leg),
            data: payload(self.amount(leg)),
            fields,
        }))
    }

    fn end(&self, is_good: bool) -> Request {
        let status = if is_good { Status::Succeed } else { Status::Failed };
        let outcome = WorkflowOutcome { status: status.name().to_owned(), ..Default::default() };
        Request::Submit(Box::new(Body { outcome: Some(outcome), ..*self.body() }))
    }
}

/// From each of one to three services to the last one; one service alone gives to itself.
fn draw_legs(services: usize, rng: &mut Rng) -> Vec<Leg> {
    let count = rng.between(1, 3) as usize;
    let first = rng.below(services as u64) as usize;
    let mut legs: Vec<Leg> = (0..count)
        .map(|leg| Leg { service: (first + leg) % services, amount: -(rng.between(1, 60) as i64) })
        .collect();
    let given: i64 = legs[..count - 1].iter().map(|leg| leg.amount).sum();
    legs[count - 1].amount = -given;
    if rng.chance(500) {
        legs.reverse();
    }
    legs
}

fn draw_options(kind: Kind, legs: usize, rng: &mut Rng) -> Options {
    let (is_saga, is_msg) = (kind == Kind::Saga, kind == Kind::Msg);
    Options {
        protocol: if rng.chance(250) { Protocol::Grpc } else { Protocol::Http },
        wait_result: rng.chance(250),
        concurrent: (is_saga || is_msg) && rng.chance(500),
        strict: rng.chance(200),
        timeout_ms: if is_saga && rng.chance(500) { rng.between(300, 4_000) } else { 0 },
        retry_interval_ms: if rng.chance(200) { rng.between(100, 2_000) } else { 0 },
        retry_limit: if is_saga && rng.chance(300) { rng.between(1, 4) as u32 } else { 0 },
        delay_ms: if is_msg && rng.chance(300) { rng.between(100, 3_000) } else { 0 },
        orders: match is_saga && legs == 3 && rng.chance(500) {
            true => vec![vec![], vec![], vec![0]],
            false => Vec::new(),
        },
        ..Options::default()
    }
}

fn payload(amount: i64) -> Bytes {
    amount.to_string().into()
}

fn branch_id(leg: usize) -> String {
    format!("{:02}", leg + 1)
}
