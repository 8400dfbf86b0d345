//! Figures of global transactions: under DTM's names, where its users' dashboards look for them, and under our own.
//! `docs/dtm-http.md` says what each means.
//!
//! Invariant: no label is chosen by a client. Branches count by number or as `other`, routes by name or as `other`;
//! destinations are named only while they are suspended, and at most `MAX_NAMED` of them.
//!
//! What a transaction's driver has counted is counted where it drives, on the leader, since its process started:
//! a graph adds the members up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_global_txn::{
    BranchLabel, CallCount, CallLabel, DURATION_BOUNDS_MS, Durations, Figures, Kind, Status, Tally,
};
use quorate_node::LayerFigures;
use quorate_outcall::BreakerState;

use super::Page;

/// Suspended destinations that are named.
const MAX_NAMED: usize = 64;

/// Unfinished transactions that are counted; of more it is only known that there are at least so many.
pub const MAX_COUNTED: usize = 10_000;

const WIRES: [&str; 2] = ["http", "grpc"];

/// Routes that are counted one by one, in DTM's lower case; the last one is for everything else.
const APIS: &[&str] = &[
    "newgid",
    "version",
    "prepare",
    "submit",
    "abort",
    "registerbranch",
    "registertccbranch",
    "registerxabranch",
    "prepareworkflow",
    "forcestop",
    "resetnextcrontime",
    "resetcrontime",
    "query",
    "all",
    "subscribe",
    "unsubscribe",
    "deletetopic",
    "querykv",
    "scankv",
    "json-rpc",
    "ping",
    "metrics",
    "other",
];

/// Bounds of the buckets of a request's duration, in microseconds: the usual ones of Prometheus, with two below.
const BOUNDS_US: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Requests of DTM's clients that were answered.
#[derive(Debug)]
pub struct Requests {
    /// For each wire each route.
    routes: Vec<Route>,
}

#[derive(Debug, Default)]
struct Route {
    ok: AtomicU64,
    fail: AtomicU64,
    took: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// A request that is being answered.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    route: usize,
    at: Instant,
}

impl Default for Requests {
    fn default() -> Self {
        Self { routes: (0..WIRES.len() * APIS.len()).map(|_| Route::default()).collect() }
    }
}

impl Requests {
    /// A request has come; it is counted when it ends.
    pub fn begin(&self, is_grpc: bool, path: &str) -> Begun {
        let name = match path.rsplit_once('/') {
            Some((before, _)) if before.ends_with("/topic") => "deletetopic",
            Some((_, name)) => name,
            None => path,
        };
        let known = APIS.iter().position(|api| api.eq_ignore_ascii_case(name));
        let api = known.unwrap_or(APIS.len() - 1);
        Begun { route: usize::from(is_grpc) * APIS.len() + api, at: Instant::now() }
    }

    /// It has been answered.
    pub fn end(&self, begun: Begun, is_ok: bool) {
        let route = &self.routes[begun.route];
        if is_ok { &route.ok } else { &route.fail }.fetch_add(1, Ordering::Relaxed);
        route.add(begun.at.elapsed());
    }

    fn each(&self) -> impl Iterator<Item = (String, &Route)> {
        let labels = WIRES.iter().flat_map(|wire| APIS.iter().map(move |api| (wire, api)));
        let labels = labels.map(|(wire, api)| format!("type=\"{wire}\",api=\"{api}\""));
        labels.zip(&self.routes).filter(|(_, route)| route.count() > 0)
    }

    fn write(&self, page: &mut Page<'_>) {
        let name = "dtm_server_process_total";
        page.head(name, "counter", "Requests that were answered.");
        for (labels, route) in self.each() {
            for (status, count) in [("ok", &route.ok), ("fail", &route.fail)] {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    page.line(&format!("{name}{{{labels},status=\"{status}\"}}"), count);
                }
            }
        }
        let name = "dtm_server_response_duration";
        page.head(name, "histogram", "Time until the answer, in seconds.");
        for (labels, route) in self.each() {
            let counts = route.took.each_ref().map(|count| count.load(Ordering::Relaxed));
            let bounds = BOUNDS_US.map(|us| us as f64 / 1e6);
            let sum_s = route.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
            buckets(page, name, &labels, &bounds, &counts, sum_s);
        }
    }
}

impl Route {
    fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        self.took[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.ok.load(Ordering::Relaxed) + self.fail.load(Ordering::Relaxed)
    }
}

fn buckets(
    page: &mut Page<'_>,
    name: &str,
    labels: &str,
    bounds_s: &[f64],
    counts: &[u64],
    sum_s: f64,
) {
    let mut below = 0;
    for (at, count) in counts.iter().enumerate() {
        below += count;
        let bound = bounds_s.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
        page.line(&format!("{name}_bucket{{{labels},le=\"{bound}\"}}"), below);
    }
    page.line(&format!("{name}_sum{{{labels}}}"), sum_s);
    page.line(&format!("{name}_count{{{labels}}}"), below);
}

/// All of it. `unfinished` is what the keyspace holds, counted up to [`MAX_COUNTED`].
#[must_use]
pub fn text(requests: &Requests, figures: &LayerFigures, unfinished: Option<usize>) -> String {
    let mut out = String::with_capacity(8 << 10);
    let page = &mut Page(&mut out);
    let version = env!("CARGO_PKG_VERSION");
    page.head("dtm_server_info", "gauge", "The server; it has neither gin nor grpc-go.");
    let info = format!("gin_version=\"none\",grpc_version=\"none\",quorate_version=\"{version}\"");
    page.line(&format!("dtm_server_info{{{info}}}"), 1);
    requests.write(page);
    transactions(page, &figures.global_txn, &figures.tally);
    branches(page, &figures.tally);
    ratios(page, &figures.global_txn);
    gauges(page, &figures.global_txn, unfinished);
    outcalls(page, &figures.outcalls);
    out
}

fn of_kinds(kind: &Kind) -> String {
    format!("model=\"{}\"", kind.name())
}

/// Transactions that have ended, as DTM counts them.
fn transactions(page: &mut Page<'_>, figures: &Figures, tally: &Tally) {
    let name = "dtm_transaction_process_total";
    page.head(name, "counter", "Transactions that have ended: ok is succeed, fail is failed.");
    for (kind, entered) in Kind::ALL.iter().zip(&figures.entered) {
        for (status, told) in [(Status::Succeed, "ok"), (Status::Failed, "fail")] {
            let count = place(status).map_or(0, |place| entered[place]);
            if count > 0 {
                page.line(&format!("{name}{{{},status=\"{told}\"}}", of_kinds(kind)), count);
            }
        }
    }
    let name = "dtm_transaction_handled_duration";
    page.head(name, "histogram", "Time from a transaction's creation to its end, in seconds.");
    let bounds = DURATION_BOUNDS_MS.map(|ms| ms as f64 / 1e3);
    for (kind, Durations { counts, sum_ms }) in Kind::ALL.iter().zip(&tally.handled) {
        if counts.iter().any(|count| *count > 0) {
            buckets(page, name, &of_kinds(kind), &bounds, counts, *sum_ms as f64 / 1e3);
        }
    }
}

fn place(status: Status) -> Option<usize> {
    Status::ALL.iter().position(|other| *other == status)
}

fn branches(page: &mut Page<'_>, tally: &Tally) {
    let name = "dtm_branch_process_total";
    page.head(name, "counter", "Answered calls of branches.");
    for (CallLabel { kind, branch, op }, count) in &tally.calls {
        let branch = match branch {
            BranchLabel::Number(number) => format!("{number:02}"),
            BranchLabel::Other => "other".to_owned(),
        };
        let labels =
            format!("{},branchid=\"{branch}\",branchtype=\"{}\"", of_kinds(kind), op.name());
        let CallCount { succeeded, ongoing, failed } = *count;
        for (status, count) in [("ok", succeeded), ("ongoing", ongoing), ("fail", failed)] {
            if count > 0 {
                page.line(&format!("{name}{{{labels},status=\"{status}\"}}"), count);
            }
        }
    }
}

/// P(prepare) and P(commit | prepare), and what they are made of.
fn ratios(page: &mut Page<'_>, figures: &Figures) {
    let submitted = place(Status::Submitted).expect("a status is one of all");
    let succeed = place(Status::Succeed).expect("a status is one of all");
    let kinds = || Kind::ALL.iter().zip(figures.begun).zip(&figures.entered);
    let kind = |kind: &Kind| format!("kind=\"{}\"", kind.name());
    let name = "quorate_global_txn_begun_total";
    page.head(name, "counter", "Transactions that were begun.");
    for ((which, begun), _) in kinds() {
        page.line(&format!("{name}{{{}}}", kind(which)), begun);
    }
    let name = "quorate_global_txn_entered_total";
    page.head(name, "counter", "Transactions that entered a status.");
    for ((which, _), entered) in kinds() {
        for (status, count) in Status::ALL.iter().zip(entered).filter(|(_, count)| **count > 0) {
            let labels = format!("{},status=\"{}\"", kind(which), status.name());
            page.line(&format!("{name}{{{labels}}}"), count);
        }
    }
    let mut ratio = |name: &str, help: &str, of: &dyn Fn(usize) -> (u64, u64)| {
        page.head(name, "gauge", help);
        for (at, which) in Kind::ALL.iter().enumerate() {
            let (won, lost) = of(at);
            // A workflow is not submitted before it has ended.
            if won + lost > 0 && *which != Kind::Workflow {
                let share = won as f64 / (won + lost) as f64;
                page.line(&format!("{name}{{{}}}", kind(which)), share);
            }
        }
    };
    let help = "P(prepare): submitted, of the transactions that were submitted or given up before.";
    ratio("quorate_global_txn_prepare_ratio", help, &|at| {
        (figures.entered[at][submitted], figures.given_up[at])
    });
    let help =
        "P(commit | prepare): succeeded, of those that did or were rolled back after submit.";
    ratio("quorate_global_txn_commit_ratio", help, &|at| {
        (figures.entered[at][succeed], figures.turned_back[at])
    });
}

fn gauges(page: &mut Page<'_>, figures: &Figures, unfinished: Option<usize>) {
    let is_driving = usize::from(figures.is_driving);
    for (name, help, value) in [
        ("driving", "Whether this member drives transactions; exactly one should.", is_driving),
        ("active", "Transactions that are worked on.", figures.active),
        ("waiting", "Transactions in memory whose time comes within a minute.", figures.waiting),
        ("stuck", "ALERT: not ended, and a call has failed often enough to report.", figures.stuck),
        ("calls", "Calls of branches under way.", figures.calls),
        ("requests", "Requests of clients under way.", figures.requests),
        ("waiters", "Requests that wait for a transaction's result.", figures.waiters),
    ] {
        page.one(&format!("quorate_global_txn_{name}"), "gauge", help, value);
    }
    if let Some(unfinished) = unfinished {
        let help = "Transactions that have not ended, counted up to 10000.";
        page.one("quorate_global_txn_unfinished", "gauge", help, unfinished);
    }
    let name = "quorate_global_txn_must_succeed_failures_total";
    let help =
        "FAILURE from a branch that must not fail (confirm, cancel, ..): an error over there.";
    page.one(name, "counter", help, figures.must_succeed_failures);
    let name = "quorate_global_txn_calls_total";
    page.head(name, "counter", "Calls of branches that have ended.");
    page.line(&format!("{name}{{result=\"succeeded\"}}"), figures.calls_succeeded);
    page.line(&format!("{name}{{result=\"failed\"}}"), figures.calls_failed);
}

fn outcalls(page: &mut Page<'_>, figures: &quorate_outcall::Figures) {
    for (name, help, value) in [
        (
            "calls",
            "Calls to other services that are not done, those that wait included.",
            figures.calls,
        ),
        ("attempts", "Attempts under way.", figures.attempts),
        ("bytes", "Bytes of these calls.", figures.bytes),
    ] {
        page.one(&format!("quorate_outcall_{name}"), "gauge", help, value);
    }
    let help = "Calls that were refused at a bound that is not one destination's.";
    page.one("quorate_outcall_overloaded_total", "counter", help, figures.overloaded);
    let name = "quorate_outcall_destinations";
    page.head(name, "gauge", "Destinations by the state of their circuit breaker.");
    for state in [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open] {
        let count = figures.destinations.iter().filter(|one| one.breaker == state).count();
        page.line(&format!("{name}{{breaker=\"{}\"}}", state_name(state)), count);
    }
    let name = "quorate_outcall_suspended";
    page.head(
        name,
        "gauge",
        "Suspended destinations, the first 64 by name: calls that wait there.",
    );
    let suspended = figures.destinations.iter().filter(|one| one.breaker != BreakerState::Closed);
    for one in suspended.take(MAX_NAMED) {
        // What a destination may consist of needs no escapes.
        let labels =
            format!("destination=\"{}\",breaker=\"{}\"", one.destination, state_name(one.breaker));
        page.line(&format!("{name}{{{labels}}}"), one.waiting);
    }
}

fn state_name(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::HalfOpen => "half_open",
        BreakerState::Open => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_global_txn::Op;

    fn page_of(requests: &Requests, figures: &LayerFigures) -> String {
        text(requests, figures, Some(3))
    }

    fn nothing() -> LayerFigures {
        LayerFigures {
            global_txn: Figures::default(),
            tally: Tally::default(),
            outcalls: quorate_outcall::Figures::default(),
        }
    }

    #[test]
    fn requests_are_counted_by_route_and_outcome() {
        let requests = Requests::default();
        for (is_grpc, path, is_ok) in [
            (false, "/api/dtmsvr/prepare", true),
            (false, "/api/dtmsvr/forceStop", false),
            (false, "/api/dtmsvr/topic/anything", true),
            (true, "/dtmgimp.Dtm/RegisterBranch", true),
            (false, "/api/dtmsvr/whatever-a-client-makes-up", false),
        ] {
            requests.end(requests.begin(is_grpc, path), is_ok);
        }
        let page = page_of(&requests, &nothing());
        for line in [
            "dtm_server_process_total{type=\"http\",api=\"prepare\",status=\"ok\"} 1\n",
            "dtm_server_process_total{type=\"http\",api=\"forcestop\",status=\"fail\"} 1\n",
            "dtm_server_process_total{type=\"http\",api=\"deletetopic\",status=\"ok\"} 1\n",
            "dtm_server_process_total{type=\"grpc\",api=\"registerbranch\",status=\"ok\"} 1\n",
            "dtm_server_process_total{type=\"http\",api=\"other\",status=\"fail\"} 1\n",
            "dtm_server_response_duration_bucket{type=\"http\",api=\"prepare\",le=\"+Inf\"} 1\n",
            "dtm_server_response_duration_count{type=\"grpc\",api=\"registerbranch\"} 1\n",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("anything") && !page.contains("made"), "{page}");
    }

    #[test]
    fn transactions_have_dtms_names_and_ours() {
        let mut figures = nothing();
        figures.global_txn.begun[0] = 8;
        figures.global_txn.entered[0] = [0, 8, 2, 6, 2];
        figures.global_txn.turned_back[0] = 2;
        figures.global_txn.stuck = 1;
        figures.tally.handled[0].counts[3] = 8;
        let label = CallLabel { kind: Kind::Saga, branch: BranchLabel::Number(1), op: Op::Action };
        let count = CallCount { succeeded: 6, ongoing: 0, failed: 2 };
        figures.tally.calls.insert(label, count);
        let page = page_of(&Requests::default(), &figures);
        for line in [
            "dtm_transaction_process_total{model=\"saga\",status=\"ok\"} 6\n",
            "dtm_transaction_process_total{model=\"saga\",status=\"fail\"} 2\n",
            "dtm_transaction_handled_duration_bucket{model=\"saga\",le=\"0.05\"} 8\n",
            "dtm_branch_process_total{model=\"saga\",branchid=\"01\",branchtype=\"action\",status=\"fail\"} 2\n",
            "quorate_global_txn_prepare_ratio{kind=\"saga\"} 1\n",
            "quorate_global_txn_commit_ratio{kind=\"saga\"} 0.75\n",
            "quorate_global_txn_stuck 1\n",
            "quorate_global_txn_unfinished 3\n",
            "quorate_outcall_destinations{breaker=\"open\"} 0\n",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("ratio{kind=\"tcc\"}"), "nothing was begun:\n{page}");
    }
}
