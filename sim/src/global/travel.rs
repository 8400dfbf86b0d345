//! What travels between applications, servers and services: requests, calls, answers.
//!
//! Attempts of servers and their answers go over the simulated network, whose links to services are cut, slow
//! and unreliable like those between servers. Applications have a network of their own, in which things are lost,
//! or arrive once more when nobody expects them.

use std::sync::Arc;

use quorate_consensus::NodeId;
use quorate_engine::MemSnapshot;
use quorate_global_txn::Request;
use quorate_node::{Input, Reply, RequestId};
use quorate_outcall::{AttemptId, AttemptResult, Call, CallFailure, Wire};

use crate::check::Property;
use crate::faults::FaultKind;
use crate::global::LONGEST_INTEREST_MS;
use crate::global::application::{Heard, Next};
use crate::global::service::{Asked, Named, Verdict};
use crate::planted::Planted;
use crate::queue::Time;
use crate::world::{Event, World};

/// Requests with numbers from here on are about global transactions.
pub(crate) const FIRST_GLOBAL_REQUEST: u64 = 1 << 41;
/// Services on the network have addresses from here on.
const FIRST_SERVICE: u64 = 1_000;

/// A service's place on the network.
pub(crate) fn address(service: usize) -> NodeId {
    NodeId(FIRST_SERVICE + service as u64)
}

/// What is due.
#[derive(Debug)]
pub(crate) enum Due {
    /// An application does its next thing.
    Application(usize),
    /// A request arrives at its server.
    Request { server: NodeId, caller: Caller, request: Box<Request> },
    /// A call arrives at its service.
    Call { service: usize, caller: Caller, asked: Box<Asked>, wire: Wire },
    /// A service answers, if it still lives.
    Served { service: usize, life: u64, caller: Caller, answer: Box<Answer> },
    /// An answer arrives at its server.
    Answer { node: NodeId, life: u64, attempt: AttemptId, result: Box<AttemptResult> },
    /// An application hears something.
    Heard { application: usize, question: u64, heard: Box<Heard> },
    /// A participant of 3pc has heard nothing since.
    HearsNothing { service: usize, gid: String, branch_id: String, since: Time },
    /// A service crashes.
    ServiceFails(usize),
    /// A service starts.
    ServiceStarts(usize),
    /// The operator does something.
    Operator,
}

/// Who called, and where the answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// An application, with its question's number.
    Application(usize, u64),
    /// A server in one of its lives.
    Node(NodeId, u64, AttemptId),
    /// Somebody who does not wait for an answer.
    Operator,
}

/// What a service says.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// To an application.
    verdict: Option<Verdict>,
    /// To a server.
    result: AttemptResult,
}

/// A request at a server.
#[derive(Debug)]
pub(crate) struct Waiting {
    node: NodeId,
    caller: Caller,
    request: Box<Request>,
}

impl World {
    pub(crate) fn global_due(&mut self, due: Due) {
        match due {
            Due::Application(at) => self.application_goes_on(at),
            Due::Request { server, caller, request } => {
                self.global_request_arrives(server, caller, request);
            }
            Due::Call { service, caller, asked, wire } => self.serve(service, caller, &asked, wire),
            Due::Served { service, life, caller, answer } => {
                self.served(service, life, caller, *answer);
            }
            Due::Answer { node, life, attempt, result } => {
                if self.server(node).life == life {
                    self.input(node, Input::AttemptDone { attempt, result: *result });
                }
            }
            Due::Heard { application, question, heard } => {
                self.application_hears(application, question, &heard);
            }
            Due::HearsNothing { service, gid, branch_id, since } => {
                if self.global.services[service].hears_nothing(&gid, &branch_id, since) {
                    self.global.tally.own_way += 1;
                    let now = self.now();
                    self.trace.line(now, || format!("{gid} {branch_id} goes its own way"));
                }
            }
            Due::ServiceFails(which) => self.service_fails(which),
            Due::ServiceStarts(which) => self.global.services[which].is_down = false,
            Due::Operator => self.operator(),
        }
    }

    fn application_goes_on(&mut self, at: usize) {
        let crash = self.global.chances.crash;
        if at > 0 && self.unlucky(crash) {
            self.global.tally.application_crashes += 1;
            return self.global.applications[at].crash();
        }
        let inside = self.servers.iter().filter(|(_, s)| !s.outside && s.is_up());
        let inside: Vec<NodeId> = inside.map(|(id, _)| *id).collect();
        let application = &mut self.global.applications[at];
        if !inside.is_empty()
            && (application.rng.chance(300) || !inside.contains(&application.server))
        {
            application.server = *application.rng.pick(&inside);
        }
        let next = application.next();
        if matches!(next, Next::Rest) {
            return;
        }
        application.question += 1;
        let caller = Caller::Application(at, application.question);
        let (server, us) = (application.server, application.rng.between(30, 300));
        let patience_us = application.rng.between(1_200, 5_000) * 1_000;
        self.hears(caller, Heard::Silence, patience_us);
        match next {
            Next::Rest => {}
            Next::Ask(request) => {
                self.queue.after_us(us, Event::Global(Due::Request { server, caller, request }));
            }
            Next::Call(service, asked) => self.application_calls(service, caller, asked),
        }
    }

    /// Lost, or once more much later.
    fn application_calls(&mut self, service: usize, caller: Caller, asked: Asked) {
        let wire = Wire::Grpc; // an application reads the verdict itself
        let lost = self.global.chances.lost;
        let (asked, us) = (Box::new(asked), self.global.rng.between(50, 2_000));
        if self.unlucky(lost) {
            self.global.tally.late += 1;
            let us = self.global.rng.between(1_000, 9_000_000);
            let asked = asked.clone();
            self.queue.after_us(us, Event::Global(Due::Call { service, caller, asked, wire }));
            if self.global.chance(500) {
                return;
            }
        }
        self.queue.after_us(us, Event::Global(Due::Call { service, caller, asked, wire }));
    }

    /// Tells an application something after a while; nobody else listens.
    fn hears(&mut self, caller: Caller, heard: Heard, us: u64) {
        if let Caller::Application(application, question) = caller {
            let heard = Box::new(heard);
            let due = Due::Heard { application, question, heard };
            self.queue.after_us(us, Event::Global(due));
        }
    }

    fn application_hears(&mut self, at: usize, question: u64, heard: &Heard) {
        let now = self.now();
        let application = &mut self.global.applications[at];
        if application.question != question {
            return;
        }
        application.question += 1;
        self.trace.line(now, || format!("{} hears {heard:?}", application.gid));
        if matches!(heard, Heard::Reply(quorate_global_txn::Reply::Done)) {
            self.global.accepted_at[at].get_or_insert(now);
        }
        application.hear(heard);
        let is_old = now > self.global.begun_at[at].after_ms(LONGEST_INTEREST_MS);
        if is_old && at > 0 && !matches!(application.kind, Some(quorate_global_txn::Kind::Workflow))
        {
            application.crash();
        }
        if application.rests() {
            return;
        }
        let think = now.after_us(application.rng.between(1_000, 250_000));
        let when = match self.global.accepted_at[at] {
            Some(since) if application.is_about_to_submit() && application.rng.chance(300) => {
                // At the last moment: a timeout may be on its way.
                let us = application.rng.below(30_000);
                since.after_ms(self.global.config.timeout_ms).0.saturating_sub(us)
            }
            _ => think.0,
        };
        self.queue.at(Time(when), Event::Global(Due::Application(at)));
    }

    fn global_request_arrives(&mut self, server: NodeId, caller: Caller, request: Box<Request>) {
        let refused = self.server(server).outside || !self.server(server).is_up();
        if refused {
            return self.hears(caller, Heard::Silence, 300);
        }
        let now = self.now();
        self.trace.line(now, || format!("node {server} is asked {request:?}"));
        self.spoil_global_request(caller, &request);
        self.global.last_request += 1;
        let id = FIRST_GLOBAL_REQUEST + self.global.last_request;
        let waiting = Waiting { node: server, caller, request: request.clone() };
        self.global.waiting.insert(id, waiting);
        let request = quorate_node::Request::GlobalTxn(request);
        self.input(server, Input::Request { id: RequestId(id), request });
    }

    /// A planted bug: what was asked is acknowledged before it is in the log.
    fn spoil_global_request(&mut self, caller: Caller, request: &Request) {
        let decides = matches!(request, Request::Submit(_) | Request::Abort { .. });
        if self.is_planted(Planted::AnswerBeforeLog) && decides {
            let done = quorate_global_txn::Reply::Done;
            self.global_told(caller, request, done);
        }
    }

    /// A server answered.
    pub(crate) fn global_reply(
        &mut self,
        id: NodeId,
        request: RequestId,
        reply: Reply<MemSnapshot>,
    ) {
        let Some(waiting) = self.global.waiting.remove(&request.0) else {
            let what = format!("node {id} answers request {} twice", request.0);
            return self.violated(Property::Availability, what);
        };
        match reply {
            Reply::GlobalTxn(reply) => self.global_told(waiting.caller, &waiting.request, reply),
            Reply::Failed(_) => {
                let us = self.global.rng.between(30, 300);
                self.hears(waiting.caller, Heard::Silence, us);
            }
            other => unreachable!("nobody asks for this: {other:?}"),
        }
    }

    fn global_told(&mut self, caller: Caller, request: &Request, reply: quorate_global_txn::Reply) {
        let now = self.now();
        let result = self.checks.global.told(request, &reply);
        self.checks.note(Property::GlobalDecisions, now, result);
        let lost = self.global.chances.lost;
        let us = self.global.rng.between(30, 300);
        if !self.unlucky(lost) {
            self.hears(caller, Heard::Reply(reply), us);
        }
    }

    /// Whoever waits for an answer of this server will not get one.
    pub(crate) fn global_connections_break(&mut self, id: NodeId) {
        let mine = self.global.waiting.iter().filter(|(_, waiting)| waiting.node == id);
        let mine: Vec<(u64, Caller)> = mine.map(|(number, w)| (*number, w.caller)).collect();
        for (number, caller) in mine {
            self.global.waiting.remove(&number);
            let us = self.global.rng.between(100, 5_000);
            self.hears(caller, Heard::Silence, us);
        }
    }

    /// A server calls a service.
    pub(crate) fn attempt(&mut self, id: NodeId, attempt: AttemptId, call: &Arc<Call>) {
        self.global.tally.attempts += 1;
        let now = self.now();
        let Some(service) = service_of(&call.url).filter(|s| *s < self.global.services.len())
        else {
            let what = format!("node {id} calls {}, which nobody named", call.url);
            return self.violated(Property::GlobalCalls, what);
        };
        let asked = asked_of(call);
        self.trace.line(now, || format!("node {id} calls s{service}: {asked:?}"));
        let Some(up) = self.server(id).up() else { return };
        let applied = (up.applied_before, up.applied);
        let result = match &asked {
            Some(asked) => self.checks.global.may_call(id, applied, &asked.named),
            None => Ok(()), // the alert
        };
        self.checks.note(Property::GlobalCalls, now, result);
        let Some(asked) = asked else { return };
        let caller = Caller::Node(id, self.server(id).life, attempt);
        let fate = self.network.fate(now, id, address(service), &mut self.global.rng);
        self.global.tally.late += u64::from(fate.arrivals.len() > 1);
        for at in fate.arrivals {
            let (asked, wire) = (Box::new(asked.clone()), call.wire);
            self.queue.at(at, Event::Global(Due::Call { service, caller, asked, wire }));
        }
    }

    /// A call arrives at its service.
    fn serve(&mut self, service: usize, caller: Caller, asked: &Asked, wire: Wire) {
        let now = self.now();
        if let Caller::Node(node, ..) = caller
            && self.network.is_cut(node, address(service))
        {
            return;
        }
        if self.global.services[service].is_down {
            let refused = CallFailure::Unreachable("connection refused".to_owned());
            let answer = Answer { verdict: None, result: AttemptResult::Failed(refused) };
            return self.answer_leaves(service, caller, answer, 200);
        }
        let outcome = self.business(service, asked);
        self.trace.line(now, || format!("s{service} {asked:?}: {outcome:?}"));
        let slow = self.global.chances.slow;
        let us = match self.unlucky(slow) {
            true => self.global.rng.between(100_000, 2_500_000),
            false => self.global.rng.between(100, 20_000),
        };
        let answer = answer(outcome, wire);
        self.answer_leaves(service, caller, answer, us);
    }

    /// What a service makes of a call: `Err` with a status that says nothing about what was done.
    fn business(&mut self, service: usize, asked: &Asked) -> Result<Verdict, u16> {
        let now = self.now();
        let chances = self.global.chances;
        if self.unlucky(chances.error) {
            return Err(500);
        }
        if self.unlucky(chances.ongoing) {
            return Err(425);
        }
        let Named { gid, kind, branch_id, op } = &asked.named;
        if kind == "workflow" && op == "run" {
            return self.called_back(gid);
        }
        let refuses = self.unlucky(chances.refusal);
        let verdict = self.global.services[service].call(asked, refuses, now);
        self.global.tally.refusals += u64::from(verdict == Verdict::Refused);
        if kind == "3pc" && matches!(op.as_str(), "can_commit" | "pre_commit") {
            let ms = self.global.own_way_ms;
            let (gid, branch_id) = (gid.clone(), branch_id.clone());
            let due = Due::HearsNothing { service, gid, branch_id, since: now };
            self.queue.after_us(ms * 1_000, Event::Global(due));
        }
        if self.unlucky(chances.error / 2) { Err(500) } else { Ok(verdict) }
    }

    /// A workflow's application begins anew.
    fn called_back(&mut self, gid: &str) -> Result<Verdict, u16> {
        let found = self.global.applications.iter().position(|a| a.gid == gid);
        let at = found.expect("workflows are of applications");
        if self.global.applications[at].called_back() {
            self.queue.after_us(1_000, Event::Global(Due::Application(at)));
        }
        Ok(Verdict::Done)
    }

    fn answer_leaves(&mut self, service: usize, caller: Caller, answer: Answer, us: u64) {
        let life = self.global.services[service].life;
        let answer = Box::new(answer);
        let due = Due::Served { service, life, caller, answer };
        self.queue.after_us(us, Event::Global(due));
    }

    fn served(&mut self, service: usize, life: u64, caller: Caller, answer: Answer) {
        let now = self.now();
        let has_crashed = self.global.services[service].life != life;
        match caller {
            Caller::Operator => {}
            Caller::Application(..) => {
                let heard = answer.verdict.filter(|_| !has_crashed);
                let heard = heard.map_or(Heard::Silence, Heard::Verdict);
                let us = self.global.rng.between(50, 2_000);
                self.hears(caller, heard, us);
            }
            Caller::Node(node, life, attempt) => {
                let broken = CallFailure::Broken("connection reset".to_owned());
                let result = match has_crashed {
                    true => AttemptResult::Failed(broken),
                    false => answer.result,
                };
                let fate = self.network.fate(now, address(service), node, &mut self.global.rng);
                if fate.lost {
                    self.tally.faults.hit(FaultKind::Loss);
                }
                for at in fate.arrivals {
                    let result = Box::new(result.clone());
                    self.queue.at(at, Event::Global(Due::Answer { node, life, attempt, result }));
                }
            }
        }
    }
}

/// An outcome as an answer of the call's protocol.
fn answer(outcome: Result<Verdict, u16>, wire: Wire) -> Answer {
    let (code, status, message) = match outcome {
        Ok(Verdict::Done) => (0, 200, ""),
        Ok(Verdict::Refused) => (10, 409, "FAILURE"),
        Err(425) => (9, 425, "ONGOING"),
        Err(status) => (13, status, "oops"),
    };
    let (status, message, body) = match wire {
        Wire::Grpc => (code, message, ""),
        Wire::Http { .. } => (status, "", message),
    };
    let (message, body) = (message.to_owned(), body.to_owned().into());
    let result = AttemptResult::Answered { status, message, body };
    Answer { verdict: outcome.ok(), result }
}

fn service_of(url: &str) -> Option<usize> {
    let rest = url.strip_prefix("http://").unwrap_or(url).strip_prefix('s')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// What a call asks; `None`: it is about no branch.
fn asked_of(call: &Call) -> Option<Asked> {
    let get = |name: &str| match call.wire {
        Wire::Grpc => {
            let header =
                call.headers.iter().find(|(key, _)| key.strip_prefix("dtm-") == Some(name));
            header.map(|(_, value)| value.clone())
        }
        Wire::Http { .. } => {
            let (_, query) = call.url.split_once('?')?;
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next_back()
        }
    };
    let named = Named {
        gid: get("gid")?,
        kind: get("trans_type")?,
        branch_id: get("branch_id")?,
        op: get("op")?,
    };
    let amount = std::str::from_utf8(&call.body).ok().and_then(|text| text.parse().ok());
    Some(Asked { named, amount })
}
