//! Global transactions in the simulated world: applications that ask any server for them, services that take part,
//! and what travels between (`travel`). Some seeds have them, others do not.
//!
//! Everything random here is drawn from a generator of its own, so that a seed without global transactions is
//! the world that it would be if there were none.

pub(crate) mod application;
pub(crate) mod service;
pub(crate) mod travel;

use std::collections::BTreeMap;
use std::fmt;

use quorate_consensus::NodeId;
use quorate_global_txn::{Config, Operation, Request};
use quorate_outcall::limits::Limits;

use crate::check::Property;
use crate::faults::FaultKind;
use crate::global::application::Application;
use crate::global::service::Service;
use crate::global::travel::{Caller, Due, Waiting};
use crate::options::Options;
use crate::planted::Planted;
use crate::queue::Time;
use crate::rng::Rng;
use crate::world::{Event, HEAL_MS, World};

/// What each service's account holds at first.
const BALANCE: i64 = 300;
/// The last application begins before this time, in milliseconds.
const BEGIN_UNTIL_MS: u64 = 50_000;
/// Nobody begins anything new with a transaction that is older, in milliseconds: less than the shortest retention,
/// behind which a gid is a new one.
pub(crate) const LONGEST_INTEREST_MS: u64 = 8_000;

/// How often something goes wrong outside of the servers, of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chances {
    /// A service refuses without need.
    pub(crate) refusal: u64,
    /// A service answers with an error, before or after it has committed.
    pub(crate) error: u64,
    /// It answers that it is not through.
    pub(crate) ongoing: u64,
    /// It takes long.
    pub(crate) slow: u64,
    /// What an application sends or is sent is lost, or arrives again much later.
    pub(crate) lost: u64,
    /// An application crashes at a step.
    pub(crate) crash: u64,
}

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// What a run counts of them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct GlobalTally {
            $($(#[$doc])* pub $name: u64),*
        }

        impl GlobalTally {
            /// Adds another run's.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for GlobalTally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let counts = [$(format!("{} {}", self.$name, $text)),*];
                f.write_str(&counts.join(", "))
            }
        }
    };
}

tally! {
    /// Transactions that are in the log.
    begun = "begun",
    /// Those that succeeded.
    succeeded = "succeeded",
    /// Those that failed.
    failed = "failed",
    /// Those that an operator decided.
    forced = "forced",
    /// Branches of 3pc that went their own way.
    own_way = "branches went their own way",
    /// Attempts that left servers.
    attempts = "attempts",
    /// Calls that a barrier kept from doing anything.
    kept_out = "kept out by barriers",
    /// Refusals of services.
    refusals = "refusals",
    /// Crashes of services.
    service_crashes = "crashes of services",
    /// Crashes of applications.
    application_crashes = "of applications",
    /// Calls that came late or twice.
    late = "calls late or twice",
    /// Times that ownership was taken.
    reigns = "reigns",
}

/// See the module.
pub(crate) struct Global {
    pub(crate) is_on: bool,
    pub(crate) rng: Rng,
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) chances: Chances,
    /// Mean time between two crashes of services, in milliseconds; 0: never.
    crash_every_ms: u64,
    /// Mean time between two doings of the operator, in milliseconds; 0: there is none.
    operate_every_ms: u64,
    /// How long a participant of 3pc waits to hear something, in milliseconds.
    pub(crate) own_way_ms: u64,
    pub(crate) applications: Vec<Application>,
    pub(crate) begun_at: Vec<Time>,
    pub(crate) accepted_at: Vec<Option<Time>>,
    pub(crate) services: Vec<Service>,
    /// Requests at servers.
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    pub(crate) last_request: u64,
    pub(crate) tally: GlobalTally,
}

impl Global {
    /// Draws them from the seed.
    pub(crate) fn draw(seed: u64, options: &Options, planted: Option<Planted>) -> Self {
        let mut rng = Rng::new(seed ^ 0x676c_6f62_616c_2d74);
        // A full store takes nothing from anybody, drivers included, until a client makes room.
        let has_room = !options.faults.contains(&FaultKind::QuotaAlarm);
        let is_on = rng.chance(900) && has_room;
        let mut most = |permille: u64, most: u64| match rng.chance(permille) {
            true => rng.between(1, most),
            false => 0,
        };
        let chances = Chances {
            refusal: most(700, 200),
            error: most(700, 120),
            ongoing: most(500, 80),
            slow: most(500, 80),
            lost: most(700, 80),
            crash: most(700, 60),
        };
        let crash_every_ms = most(600, 15_000);
        let operate_every_ms = most(300, 20_000);
        Self {
            is_on,
            config: if is_on { draw_config(planted, &mut rng) } else { Config::default() },
            limits: if is_on { draw_limits(&mut rng) } else { Limits::default() },
            chances,
            crash_every_ms,
            operate_every_ms,
            own_way_ms: rng.between(3_000, 10_000),
            rng,
            applications: Vec::new(),
            begun_at: Vec::new(),
            accepted_at: Vec::new(),
            services: Vec::new(),
            waiting: BTreeMap::new(),
            last_request: 0,
            tally: GlobalTally::default(),
        }
    }

    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.rng.chance(permille)
    }
}

fn draw_config(planted: Option<Planted>, rng: &mut Rng) -> Config {
    let mut config = Config {
        timeout_ms: rng.between(1_000, 6_000),
        request_timeout_ms: rng.between(200, 2_000),
        retry_interval_ms: rng.between(100, 2_000),
        max_backoff_ms: rng.between(500, 3_000),
        retention_ms: *rng.pick(&[30_000, 40_000, 86_400_000]),
        strict: rng.chance(200),
        alert_after: rng.between(1, 4) as u32,
        alert_url: if rng.chance(300) { "http://s0/alert".to_owned() } else { String::new() },
        timeline_calls: *rng.pick(&[2, 64, 64]),
        ..Config::default()
    };
    config.planted = planted.and_then(Planted::of_global_txn);
    config
}

fn draw_limits(rng: &mut Rng) -> Limits {
    Limits {
        attempts_per_destination: rng.between(1, 8) as usize,
        suspension: std::time::Duration::from_millis(rng.between(50, 500)),
        longest_suspension: std::time::Duration::from_millis(rng.between(500, 2_000)),
        failures: rng.between(2, 10) as u32,
        ..Limits::default()
    }
}

impl World {
    pub(crate) fn populate_global(&mut self) {
        if !self.global.is_on {
            return;
        }
        let founders = self.founders();
        let services = self.global.rng.between(2, 4) as usize;
        let applications = self.global.rng.between(12, 26) as usize * 3 / founders.len().max(3);
        for _ in 0..services {
            let has_no_barrier = self.is_planted(Planted::NoBarrier);
            self.global.services.push(Service::new(BALANCE, has_no_barrier));
        }
        for number in 0..=applications {
            let rng = self.global.rng.split(number as u64);
            let server = *self.global.rng.pick(&founders);
            let application = match number {
                0 => Application::for_topic(server, rng),
                _ => Application::drawn(number, server, services, rng),
            };
            let ms = if number == 0 { 300 } else { self.global.rng.between(800, BEGIN_UNTIL_MS) };
            self.global.applications.push(application);
            self.global.begun_at.push(Time::from_ms(ms));
            self.global.accepted_at.push(None);
            self.queue.at(Time::from_ms(ms), Event::Global(Due::Application(number)));
        }
        self.plan_service_crash();
        self.plan_operator();
    }

    /// What all services had together at first.
    pub(crate) fn global_money(&self) -> i64 {
        BALANCE * self.global.services.len() as i64
    }

    /// Whether something may go wrong.
    pub(crate) fn unlucky(&mut self, permille: u64) -> bool {
        let is_unlucky = self.global.chance(permille);
        is_unlucky && self.healed.is_none()
    }

    fn plan_service_crash(&mut self) {
        let mean = self.global.crash_every_ms;
        if mean > 0 {
            let ms = self.global.rng.between(mean / 2, mean + mean / 2).max(200);
            let which = self.global.rng.below(self.global.services.len() as u64) as usize;
            self.queue.after_us(ms * 1_000, Event::Global(Due::ServiceFails(which)));
        }
    }

    pub(crate) fn service_fails(&mut self, which: usize) {
        if self.healed.is_some() {
            return;
        }
        let now = self.now();
        self.trace.line(now, || format!("service s{which} crashes"));
        let service = &mut self.global.services[which];
        service.is_down = true;
        service.life += 1;
        self.global.tally.service_crashes += 1;
        let ms = self.global.rng.between(5, 4_000);
        self.queue.after_us(ms * 1_000, Event::Global(Due::ServiceStarts(which)));
        self.plan_service_crash();
    }

    pub(crate) fn services_heal(&mut self) {
        self.global.services.iter_mut().for_each(|service| service.is_down = false);
    }

    /// A server and some of the services do not reach each other, as part of a fault of the network.
    pub(crate) fn cut_services_off(&mut self, id: NodeId) {
        for which in 0..self.global.services.len() {
            match self.global.rng.below(4) {
                0 => self.network.partition(&[id], &[travel::address(which)]),
                1 => self.network.cut(travel::address(which), id),
                _ => {}
            }
        }
    }

    fn plan_operator(&mut self) {
        let mean = self.global.operate_every_ms;
        if mean > 0 {
            let ms = self.global.rng.between(mean / 2, mean + mean / 2).max(1_000);
            self.queue.after_us(ms * 1_000, Event::Global(Due::Operator));
        }
    }

    /// An operator does something to some transaction.
    pub(crate) fn operator(&mut self) {
        if self.now() >= Time::from_ms(HEAL_MS) {
            return;
        }
        self.plan_operator();
        let at = self.global.rng.below(self.global.applications.len() as u64) as usize;
        if at == 0 {
            return;
        }
        let (gid, server) =
            (self.global.applications[at].gid.clone(), self.global.applications[at].server);
        let operation = match self.global.rng.below(8) {
            0 => Some(Operation::Stop),
            1 => Some(Operation::Submit),
            2 => Some(Operation::Abort),
            3 => {
                let op = *self.global.rng.pick(&["action", "confirm", "compensate", "commit"]);
                Some(Operation::Skip { branch_id: "01".to_owned(), op: op.to_owned() })
            }
            4 => None,
            _ => Some(Operation::RetryNow),
        };
        let request = match operation {
            None => Request::ForceStop { gid: gid.clone() },
            Some(operation) => {
                let (by, why) = ("ops".to_owned(), "a test".to_owned());
                Request::Operate { gid: gid.clone(), operation, by, why }
            }
        };
        self.checks.global.operated(&gid);
        self.queue.after_us(
            100,
            Event::Global(Due::Request {
                server,
                caller: Caller::Operator,
                request: Box::new(request),
            }),
        );
    }

    /// At the end: what became of everything.
    pub(crate) fn check_global(&mut self) {
        if !self.global.is_on {
            return;
        }
        let now = self.now();
        let money = self.global_money();
        let results = self.checks.global.at_the_end(&self.global.services, money);
        for (property, result) in results {
            self.checks.note(property, now, result);
        }
        let mut tally = self.global.tally;
        self.checks.global.count(&mut tally);
        tally.kept_out = self.global.services.iter().map(|service| service.kept_out).sum();
        self.tally.global = tally;
        self.check_keyspaces();
    }

    /// Every server has the same records, and nobody sees them through the keyspace of etcd's clients.
    fn check_keyspaces(&mut self) {
        let now = self.now();
        let expected = self.checks.machine.internal_hash();
        for id in self.running() {
            let (hash, seen) = self.keyspaces_of(id);
            let result = match (hash == expected, seen) {
                (true, None) => Ok(()),
                (false, _) => {
                    Err(format!("node {id} has records of hash {hash:08x}, not {expected:08x}"))
                }
                (_, Some(key)) => Err(format!("node {id} shows the record {key} to everybody")),
            };
            self.checks.note(Property::GlobalDecisions, now, result);
        }
    }

    fn keyspaces_of(&mut self, id: NodeId) -> (u32, Option<String>) {
        use quorate_engine::Engine;
        use quorate_kv::{KeyRange, KeyspaceId, RangeRequest};
        let up = self.server(id).up_mut().expect("it runs");
        let snapshot = up.node.engine_mut().snapshot();
        let view = up.node.kv().view(quorate_global_txn::KEYSPACE, snapshot);
        let hash = view.hash().expect("the in-memory engine does not fail");
        let snapshot = up.node.engine_mut().snapshot();
        let etcd = up.node.kv().view(KeyspaceId::ETCD, snapshot);
        let all = KeyRange { key: "\0".into(), range_end: "\0".into() };
        let all = RangeRequest { range: all, ..RangeRequest::default() };
        let found = etcd.range(&all).expect("the latest revision can be read");
        let internal = ["g/", "b/", "due/", "done/", "own/", "log/", "audit/", "topic/"];
        let seen = found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
        let seen =
            seen.into_iter().find(|key| internal.iter().any(|prefix| key.starts_with(prefix)));
        (hash, seen)
    }

    /// What has been accepted and has not ended.
    pub(crate) fn global_unfinished(&self) -> Option<String> {
        self.checks.global.unfinished()
    }
}
