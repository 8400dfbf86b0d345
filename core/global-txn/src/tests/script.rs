//! The language of `testscripts/`. Nothing is late here unless a script says so: what is proposed is applied,
//! and calls are answered by rules, until nothing is left but time.
//!
//! | command | meaning |
//! |---|---|
//! | `cluster nodes=N`, `config timeout= retry= backoff= retention=` | first of all; one node by default; times in ms |
//! | `prepare KIND GID [STEP...] [OPTION...]`, `submit ...` | steps by name: `a` stands for `http://a/action` and `http://a/compensate`; `none` for no URL. Options: `wait concurrent strict pass-results timeout= interval= limit= delay= orders=1:0,2:0/1 query= payloads= header=k:v` |
//! | `register KIND GID BRANCH FIELD=VALUE...` | `data=` is the payload |
//! | `abort KIND GID [REASON]`, `stop GID`, `retry GID` | |
//! | `workflow GID [query= name= input=]`, `end GID STATUS [result= reason=]` | |
//! | `rule WORD ANSWERS` | calls whose URL or operation holds the word are answered so, one after the other, the last one for ever: `ok failure ongoing error timeout busy long suspended:MS` or `hold`, or `STATUS:BODY` |
//! | `answer WORD ANSWER` | answers a held call |
//! | `pass MS` | time, and whatever becomes due in it |
//! | `lead N`, `follow N`, `restart N` | node N; the first one leads at the start |
//! | `at N REQUEST...` | the request goes to node N |
//! | `reject on\|off` | nothing is proposed, as without a leader |
//! | `lag N MS` | node N's idea of group time |
//! | `race MS REQUEST...` | after MS, what the driver then proposes reaches the log after what the request proposes |
//! | `subscribe TOPIC URL [REMARK]`, `unsubscribe TOPIC URL`, `delete-topic TOPIC` | |
//! | `operate GID stop\|retry\|skip\|submit\|abort [branch= op=]` | by "ann", because "why" |
//! | `show GID`, `keys`, `figures`, `timeline GID`, `audit GID`, `topic NAME` | |
//!
//! Lines of the transcript: `GID status rows due`, where a row is a letter: P(repared), S(ucceed), F(ailed); calls
//! as they leave, with their answers; replies.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use quorate_kv::KeyRange;
use quorate_outcall::{CallFailure, CallResult, Method, Wire};

use super::cluster::{Cluster, Outgoing};
use crate::api::{
    Body, BranchRequest, Config, Figures, Operation, Refused, Reply, Request, WorkflowOutcome,
};
use crate::gid::GlobalTxnId;
use crate::keys;
use crate::limits::MAX_PASSED;
use crate::record::{
    AuditEntry, CallEntry, Class, Content, Options, Record, RowStatus, Step, Subscriber, Topic,
};

type Failure = Box<dyn Error>;

struct Script {
    cluster: Cluster,
    nodes: usize,
    rules: Vec<(String, Vec<String>)>,
    held: Vec<Outgoing>,
    /// How much of each transaction's history has been printed.
    shown: BTreeMap<GlobalTxnId, usize>,
    node: usize,
    races: bool,
}

impl Script {
    fn new() -> Self {
        let mut script = Self {
            cluster: Cluster::new(1, Config::default(), 7),
            nodes: 1,
            rules: Vec::new(),
            held: Vec::new(),
            shown: BTreeMap::new(),
            node: 0,
            races: false,
        };
        script.begin(Config::default());
        script
    }

    fn begin(&mut self, config: Config) {
        self.cluster = Cluster::new(self.nodes, config, 7);
        self.cluster.lead(0);
        self.cluster.settle();
    }

    /// Everything that follows without time passing.
    fn settle(&mut self, out: &mut String) {
        loop {
            self.cluster.settle();
            self.print_history(out);
            if self.cluster.calls.is_empty() {
                return;
            }
            let call = self.cluster.calls.remove(0);
            let answer = self.rule(&call);
            let _ = writeln!(out, "  {} → {answer}", print_call(&call));
            match answer.as_str() {
                "hold" => self.held.push(call),
                answer => self.cluster.answer(&call, result(&call, answer)),
            }
        }
    }

    fn rule(&mut self, call: &Outgoing) -> String {
        let Some((_, answers)) =
            self.rules.iter_mut().find(|(word, _)| print_call(call).contains(word))
        else {
            return "ok".to_owned();
        };
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }

    fn print_history(&mut self, out: &mut String) {
        for (gid, records) in &self.cluster.history {
            let shown = self.shown.entry(gid.clone()).or_default();
            for record in &records[*shown..] {
                let _ = writeln!(out, "  {gid} {}", print_record(record));
            }
            *shown = records.len();
        }
    }

    fn pass(&mut self, ms: u64, out: &mut String) {
        let end = self.cluster.now_ms + ms;
        loop {
            let next = self.cluster.next_deadline().filter(|at| *at <= end);
            let at = next.unwrap_or(end).max(self.cluster.now_ms);
            let moved = at > self.cluster.now_ms;
            self.cluster.now_ms = at;
            let mut news = String::new();
            self.cluster.tick();
            self.settle(&mut news);
            if !news.is_empty() {
                let _ = write!(out, " at {at}\n{news}");
            }
            if next.is_none() || (!moved && self.cluster.next_deadline() == next) {
                if next.is_some() {
                    panic!("a deadline at {at} that nothing meets");
                }
                return;
            }
        }
    }

    fn request(&mut self, request: Request, out: &mut String) {
        let id = self.cluster.request(self.node, request);
        if std::mem::take(&mut self.races) {
            assert!(self.cluster.proposals.len() > 1, "nothing to race with");
            let last = self.cluster.proposals.len() - 1;
            self.cluster.append(last);
        }
        self.settle(out);
        match self.cluster.replies.remove(&id) {
            Some(reply) => {
                let _ = writeln!(out, "{}", print_reply(&reply));
            }
            None => {
                let _ = writeln!(out, "waits as request {}", id.0);
            }
        }
    }

    fn late_replies(&mut self, out: &mut String) {
        while let Some((id, reply)) = self.cluster.replies.pop_first() {
            let _ = writeln!(out, "request {}: {}", id.0, print_reply(&reply));
        }
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Failure> {
        let mut args = command.consume_args();
        let mut out = String::new();
        let mut name = command.name.clone();
        if name == "at" {
            self.node = next::<usize>(&mut args)? - 1;
            name = next(&mut args)?;
        }
        if name == "race" {
            self.cluster.now_ms += next::<u64>(&mut args)?;
            self.cluster.tick();
            self.races = true;
            name = next(&mut args)?;
        }
        match name.as_str() {
            "cluster" => {
                self.nodes = key(&mut args, "nodes")?.unwrap_or(1);
                self.begin(Config::default());
            }
            "config" => {
                let mut config = Config::default();
                config.timeout_ms = key(&mut args, "timeout")?.unwrap_or(config.timeout_ms);
                let retry = key(&mut args, "retry")?;
                config.retry_interval_ms = retry.unwrap_or(config.retry_interval_ms);
                config.max_backoff_ms = key(&mut args, "backoff")?.unwrap_or(config.max_backoff_ms);
                config.retention_ms = key(&mut args, "retention")?.unwrap_or(config.retention_ms);
                config.alert_url = args.take_key("alert").map_or(String::new(), url);
                config.timeline_calls = key(&mut args, "timeline")?.unwrap_or(64);
                config.strict = key(&mut args, "strict")?.unwrap_or(false);
                self.begin(config);
            }
            "prepare" => self.request(Request::Prepare(body(&mut args)?), &mut out),
            "submit" => self.request(Request::Submit(body(&mut args)?), &mut out),
            "register" => self.request(register(&mut args)?, &mut out),
            "workflow" => self.request(workflow(&mut args)?, &mut out),
            "end" => self.request(end(&mut args)?, &mut out),
            "abort" => {
                let (trans_type, gid) = (next(&mut args)?, next(&mut args)?);
                let reason = args.next_pos().map_or(String::new(), str::to_owned);
                self.request(Request::Abort { gid, trans_type, reason }, &mut out);
            }
            "stop" => {
                let gid = next(&mut args)?;
                self.request(Request::ForceStop { gid }, &mut out);
            }
            "retry" => {
                let gid = next(&mut args)?;
                self.request(Request::RetryNow { gid }, &mut out);
            }
            "subscribe" => {
                let (topic, url) = (next(&mut args)?, url(&next::<String>(&mut args)?));
                let remark = args.next_pos().map_or(String::new(), str::to_owned);
                self.request(Request::Subscribe { topic, url, remark }, &mut out);
            }
            "unsubscribe" => {
                let (topic, url) = (next(&mut args)?, url(&next::<String>(&mut args)?));
                self.request(Request::Unsubscribe { topic, url }, &mut out);
            }
            "delete-topic" => {
                let topic = next(&mut args)?;
                self.request(Request::DeleteTopic { topic }, &mut out);
            }
            "operate" => {
                let (gid, operation) = (next(&mut args)?, operation(&mut args)?);
                let (by, why) = ("ann".to_owned(), "why".to_owned());
                self.request(Request::Operate { gid, operation, by, why }, &mut out);
            }
            "timeline" => {
                let gid = GlobalTxnId::parse(&next::<String>(&mut args)?).unwrap();
                for kv in self.cluster.pairs(&keys::calls(&gid)) {
                    let entry = CallEntry::decode(&kv.value)?;
                    let CallEntry { branch_id, op, class, attempts, text, .. } = entry;
                    let _ =
                        writeln!(out, "{branch_id} {op} {class:?} attempts={attempts} {text:?}");
                }
            }
            "audit" => {
                let gid = GlobalTxnId::parse(&next::<String>(&mut args)?).unwrap();
                for kv in self.cluster.pairs(&keys::audits(&gid)) {
                    let AuditEntry { by, what, why, .. } = AuditEntry::decode(&kv.value)?;
                    let _ = writeln!(out, "{by}: {what} ({why})");
                }
            }
            "topic" => {
                let range = KeyRange::single(keys::topic(&next::<String>(&mut args)?));
                for kv in self.cluster.pairs(&range) {
                    let Topic { version, subscribers, .. } = Topic::decode(&kv.value)?;
                    let _ = writeln!(out, "version {version}");
                    for Subscriber { url, remark } in subscribers {
                        let _ = writeln!(out, "{url} {remark:?}");
                    }
                }
            }
            "rule" => {
                let word: String = next(&mut args)?;
                let answers: String = next(&mut args)?;
                self.rules.retain(|(other, _)| *other != word);
                self.rules.push((word, answers.split(',').map(String::from).collect()));
            }
            "answer" => {
                let (word, answer): (String, String) = (next(&mut args)?, next(&mut args)?);
                let held = self.held.iter().position(|call| print_call(call).contains(&word));
                let call = self.held.remove(held.ok_or("no such call is held")?);
                self.cluster.answer(&call, result(&call, &answer));
                self.settle(&mut out);
            }
            "pass" => self.pass(next(&mut args)?, &mut out),
            "lead" | "follow" | "restart" => {
                let node = next::<usize>(&mut args)? - 1;
                match name.as_str() {
                    "lead" => self.cluster.lead(node),
                    "follow" => self.cluster.follow(node),
                    _ => self.cluster.restart(node, 8),
                }
                self.cluster.tick();
                self.settle(&mut out);
            }
            "reject" => self.cluster.rejects = next::<String>(&mut args)? == "on",
            "lag" => {
                let node = next::<usize>(&mut args)? - 1;
                self.cluster.nodes[node].lag_ms = next(&mut args)?;
            }
            "show" => out = self.show(&next::<String>(&mut args)?),
            "keys" => {
                for key in self.cluster.keys() {
                    let _ = writeln!(out, "{}", key.escape_ascii());
                }
            }
            "figures" => {
                for node in &self.cluster.nodes {
                    let _ = writeln!(out, "{}", print_figures(&node.machine.figures()));
                }
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        args.reject_next()?;
        self.node = 0;
        self.late_replies(&mut out);
        Ok(out)
    }
}

impl Script {
    fn show(&mut self, gid: &str) -> String {
        let Some((record, addresses)) = self.cluster.detail(gid) else { return "none".to_owned() };
        let mut out = String::new();
        let _ = writeln!(out, "{} {}", record.kind.name(), print_record(&record));
        for (row, (url, data)) in record.rows.iter().zip(addresses) {
            let (id, op) = (&row.branch_id, row.op.name());
            let data = String::from_utf8_lossy(&data).into_owned();
            let _ = write!(out, "{id} {op} {} url={url:?} data={data:?}", row.status.name());
            if let Some(last) = &row.tries.last {
                let _ = write!(
                    out,
                    " errors={} last={:?} {:?}",
                    row.tries.errors, last.class, last.text
                );
            }
            out.push('\n');
        }
        out
    }
}

fn print_record(record: &Record) -> String {
    let rows: Vec<&str> = record
        .rows
        .iter()
        .map(|row| match row.status {
            RowStatus::Prepared => "P",
            RowStatus::Succeed => "S",
            RowStatus::Failed => "F",
        })
        .collect();
    let mut text = format!("{} [{}]", record.status.name(), rows.join(" "));
    match record.due_ms {
        Some(u64::MAX) => text.push_str(" never due"),
        Some(due) => text.push_str(&format!(" due {due}")),
        None => {}
    }
    if !record.rollback_reason.is_empty() {
        text.push_str(&format!(" reason={:?}", record.rollback_reason));
    }
    if !record.result.is_empty() {
        text.push_str(&format!(" result={:?}", record.result));
    }
    text
}

fn print_reply(reply: &Reply) -> String {
    match reply {
        Reply::Done => "ok".to_owned(),
        Reply::Progress(progress) => {
            let mut text = format!("{} {}", progress.gid, print_record(&progress.record));
            for (row, data) in progress.record.rows.iter().zip(&progress.data) {
                let data = String::from_utf8_lossy(data);
                text.push_str(&format!("\n  {} {} {data:?}", row.branch_id, row.op.name()));
            }
            text
        }
        Reply::Refused(Refused { class, text, status, is_unknown, .. }) => {
            let code = match class {
                Class::Failure => 409,
                Class::Ongoing => 425,
                Class::Error => 500,
            };
            let status = status.map_or(String::new(), |status| format!(" ({})", status.name()));
            let unknown = if *is_unknown { " (unknown)" } else { "" };
            format!("{code} {text:?}{status}{unknown}")
        }
    }
}

fn print_figures(figures: &Figures) -> String {
    let Figures { active, waiting, calls, stuck, succeeded, failed, .. } = figures;
    let Figures { calls_succeeded, calls_failed, must_succeed_failures, begun, .. } = figures;
    let drives = if figures.is_driving { "drives" } else { "does not drive" };
    format!(
        "{drives}: begun {begun:?}, active {active}, waiting {waiting}, stuck {stuck}, \
         succeeded {succeeded}, failed {failed}; calls: now {calls}, well {calls_succeeded}, \
         not {calls_failed}, FAILURE where it must succeed {must_succeed_failures}"
    )
}

fn print_call(outgoing: &Outgoing) -> String {
    let call = &outgoing.call;
    let how = match call.wire {
        Wire::Http { method: Method::Get } => "GET",
        Wire::Http { method: Method::Post } => "POST",
        Wire::Grpc => "gRPC",
    };
    let mut text = format!("{how} {}", call.url);
    if !call.body.is_empty() {
        text.push_str(&format!(" {:?}", String::from_utf8_lossy(&call.body)));
    }
    for (name, value) in call.headers.iter().filter(|(name, _)| name != "content-type") {
        text.push_str(&format!(" {name}={value:?}"));
    }
    text
}

/// An answer that cannot be passed on.
fn long() -> CallResult {
    CallResult::Answered {
        status: 200,
        message: String::new(),
        body: Bytes::from(vec![b'x'; MAX_PASSED + 1]),
        latency: Duration::ZERO,
        attempts: 1,
    }
}

fn not_called(why: CallFailure) -> CallResult {
    CallResult::Failed { why, latency: Duration::ZERO, attempts: 0 }
}

fn result(outgoing: &Outgoing, answer: &str) -> CallResult {
    let is_grpc = outgoing.call.wire == Wire::Grpc;
    let (status, body) = match answer {
        "ok" if is_grpc => (0, ""),
        "ok" => (200, ""),
        "failure" if is_grpc => (10, "no"),
        "failure" => (409, "no"),
        "ongoing" if is_grpc => (9, ""),
        "ongoing" => (425, ""),
        "error" => (500, "oops"),
        "timeout" => {
            let (why, latency) = (CallFailure::Timeout, Duration::from_secs(3));
            return CallResult::Failed { why, latency, attempts: 1 };
        }
        "busy" => return not_called(CallFailure::NoTurn),
        other if other.starts_with("suspended:") => {
            let ms = other["suspended:".len()..].parse().expect("milliseconds");
            return not_called(CallFailure::Suspended { retry_in: Duration::from_millis(ms) });
        }
        "long" => return long(),
        other => {
            let (status, body) = other.split_once(':').expect("STATUS:BODY");
            (status.parse().expect("a status"), body)
        }
    };
    let (message, body) = if is_grpc { (body, "") } else { ("", body) };
    CallResult::Answered {
        status,
        message: message.to_owned(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        latency: Duration::ZERO,
        attempts: 1,
    }
}

fn next<T: std::str::FromStr>(args: &mut ArgumentConsumer<'_>) -> Result<T, Failure> {
    let arg = args.next_pos().ok_or("an argument is missing")?;
    arg.parse().map_err(|_| format!("not understood: {arg}").into())
}

fn key<T: std::str::FromStr>(
    args: &mut ArgumentConsumer<'_>,
    name: &str,
) -> Result<Option<T>, Failure> {
    let value = args.take_key(name);
    value.map(|text| text.parse().map_err(|_| format!("not understood: {text}").into())).transpose()
}

fn body(args: &mut ArgumentConsumer<'_>) -> Result<Box<Body>, Failure> {
    let (trans_type, gid): (String, String) = (next(args)?, next(args)?);
    let mut options = Options {
        timeout_ms: key(args, "timeout")?.unwrap_or(0),
        retry_interval_ms: key(args, "interval")?.unwrap_or(0),
        request_timeout_ms: key(args, "request_timeout")?.unwrap_or(0),
        retry_limit: key(args, "limit")?.unwrap_or(0),
        delay_ms: key(args, "delay")?.unwrap_or(0),
        ..Options::default()
    };
    if let Some(orders) = args.take_key("orders") {
        options.orders = parse_orders(orders)?;
    }
    let query_prepared = args.take_key("query").map_or(String::new(), url);
    let mut content = Content { query_prepared, ..Content::default() };
    if let Some(header) = args.take_key("header") {
        let (name, value) = header.split_once(':').ok_or("header=NAME:VALUE")?;
        content.headers.push((name.to_owned(), value.to_owned()));
    }
    if args.take_key("protocol") == Some("grpc") {
        options.protocol = crate::record::Protocol::Grpc;
    }
    let payloads: Option<usize> = key(args, "payloads")?;
    while let Some(arg) = args.next_pos() {
        match arg {
            "wait" => options.wait_result = true,
            "concurrent" => options.concurrent = true,
            "pass-results" => options.pass_results = true,
            "strict" => options.strict = true,
            step => content.steps.push(parse_step(step)),
        }
    }
    let payloads = payloads.unwrap_or(content.steps.len());
    content.payloads = (1..=payloads).map(|n| Bytes::from(format!("p{n}"))).collect();
    Ok(Box::new(Body { gid, trans_type, options, content, outcome: None }))
}

fn parse_step(step: &str) -> Step {
    match step {
        "none" => Step::default(),
        url if url.contains('/') => Step { action: url.to_owned(), compensate: String::new() },
        name => Step {
            action: format!("http://{name}/action"),
            compensate: format!("http://{name}/compensate"),
        },
    }
}

/// `a/b` stands for `http://a/b`.
fn url(text: &str) -> String {
    if text.is_empty() || text.contains(':') { text.to_owned() } else { format!("http://{text}") }
}

fn parse_orders(text: &str) -> Result<Vec<Vec<u32>>, Failure> {
    let mut orders = Vec::new();
    for pair in text.split(',') {
        let (step, before) = pair.split_once(':').ok_or("orders=STEP:STEP/STEP,...")?;
        let step: usize = step.parse()?;
        orders.resize(orders.len().max(step + 1), Vec::new());
        orders[step] = before.split('/').map(str::parse).collect::<Result<_, _>>()?;
    }
    Ok(orders)
}

fn register(args: &mut ArgumentConsumer<'_>) -> Result<Request, Failure> {
    let (trans_type, gid, branch_id) = (next(args)?, next(args)?, next(args)?);
    let data: String = key(args, "data")?.unwrap_or_default();
    let mut fields = Vec::new();
    let names = [
        "confirm",
        "cancel",
        "url",
        "op",
        "status",
        "can_commit",
        "pre_commit",
        "do_commit",
        "abort",
    ];
    for name in names {
        let value = args.take_key(name);
        let value =
            value.map(|value| if value.contains('/') { url(value) } else { value.to_owned() });
        fields.extend(value.map(|value| (name.to_owned(), value)));
    }
    let data = data.into();
    Ok(Request::RegisterBranch(Box::new(BranchRequest {
        gid,
        trans_type,
        branch_id,
        data,
        fields,
    })))
}

fn operation(args: &mut ArgumentConsumer<'_>) -> Result<Operation, Failure> {
    Ok(match next::<String>(args)?.as_str() {
        "stop" => Operation::Stop,
        "retry" => Operation::RetryNow,
        "submit" => Operation::Submit,
        "abort" => Operation::Abort,
        "skip" => Operation::Skip {
            branch_id: key(args, "branch")?.unwrap_or_default(),
            op: key(args, "op")?.unwrap_or_default(),
        },
        other => return Err(format!("no operation {other}").into()),
    })
}

fn workflow(args: &mut ArgumentConsumer<'_>) -> Result<Request, Failure> {
    let gid = next(args)?;
    let input: Option<String> = key(args, "input")?;
    let content = Content {
        query_prepared: args.take_key("query").map_or(String::new(), url),
        name: key(args, "name")?.unwrap_or_default(),
        payloads: input.into_iter().map(Bytes::from).collect(),
        ..Content::default()
    };
    let trans_type = "workflow".to_owned();
    Ok(Request::PrepareWorkflow(Box::new(Body { gid, trans_type, content, ..Body::default() })))
}

fn end(args: &mut ArgumentConsumer<'_>) -> Result<Request, Failure> {
    let (gid, status) = (next(args)?, next(args)?);
    let outcome = Some(WorkflowOutcome {
        status,
        rollback_reason: key(args, "reason")?.unwrap_or_default(),
        result: key(args, "result")?.unwrap_or_default(),
    });
    let trans_type = "workflow".to_owned();
    Ok(Request::Submit(Box::new(Body { gid, trans_type, outcome, ..Body::default() })))
}

macro_rules! scripts {
    ($($test:ident),*) => {
        $(#[test]
        fn $test() {
            run_all(stringify!($test));
        })*
    };
}

scripts!(tcc, saga, xa, msg, workflow_, three_phase, refusals, driver, operator);

fn run_all(subject: &str) {
    let folder = format!("testscripts/{}", subject.trim_end_matches('_'));
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<_> = files.collect();
    assert!(!files.is_empty(), "no scripts in {folder}");
    for file in files {
        goldenscript::run(&mut Script::new(), &file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}
