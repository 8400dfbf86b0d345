//! One transaction, for a person.

use std::time::Duration;

use super::list::{status, word};
use super::text::{ago, duration, moment, plain, short, soon, table};
use super::{Shown, timeline};
use crate::api::v1::types::{Audit, Branch, Done, Options, Payload, Progress, Summary, Txn};
use crate::terminal::say;

const HEAD: [&str; 6] = ["BRANCH", "OP", "STATE", "ERRORS", "NEXT TRY", "URL"];

/// Characters of an answer or a payload that are shown.
const TEXT_CHARS: usize = 200;

pub(super) fn print(shown: &Shown, payloads: bool) {
    head(&shown.txn);
    branches(&shown.txn, payloads);
    calls(shown);
    audit(&shown.audit);
}

/// Characters of a reason that are shown: all that are kept of most.
const WHY_CHARS: usize = 500;

/// What was done, and how the transaction stands now.
pub(super) fn done(done: &Done, told: String) {
    let now = match &done.txn {
        None => "how it stands now could not be read".to_owned(),
        Some(txn) if txn.ended.is_some() => format!("it has ended: {}", status(txn)),
        Some(txn) => format!("it is {}{}", status(txn), waits(txn)),
    };
    say(format_args!("{}: {told}; {now}", plain(&done.gid)));
}

fn waits(txn: &Summary) -> String {
    let next = txn.next_try.map(soon).filter(|_| txn.errors > 0);
    next.map_or_else(String::new, |next| format!(", next try {next}"))
}

fn fact(name: &str, text: impl std::fmt::Display) {
    say(format_args!("  {name:<11} {text}"));
}

fn head(shown: &Txn) {
    let txn = &shown.txn;
    say(format_args!("{}  {}  {}", plain(&txn.gid), word(&txn.kind), status(txn)));
    fact("created", format_args!("{} UTC, {} ago", moment(txn.created), ago(txn.created)));
    if let Some(ended) = txn.ended {
        let took = Duration::from_millis(ended.0.saturating_sub(txn.created.0));
        fact("ended", format_args!("{} UTC, after {}", moment(ended), duration(took)));
    }
    if let Some(next) = txn.next_try {
        fact("next try", soon(next));
    }
    if let Some(answer) = txn.last_answer.as_ref().filter(|_| txn.errors > 0) {
        let text = short(&answer.text, TEXT_CHARS);
        fact(
            "waits for",
            format_args!("a call with {} errors; the last answer: {text}", txn.errors),
        );
    }
    if let Some(reason) = &txn.reason {
        fact("rolled back", short(reason, TEXT_CHARS));
    }
    if txn.overridden {
        fact("by hand", "operators have decided something here (see the audit)");
    }
    for (name, text) in [("name", &shown.name), ("result", &shown.result)] {
        if let Some(text) = text {
            fact(name, short(text, TEXT_CHARS));
        }
    }
    if let Some(data) = shown.custom_data.as_deref().filter(|data| *data != "{}") {
        fact("custom data", short(data, TEXT_CHARS));
    }
    let chosen = chosen(&shown.options);
    if !chosen.is_empty() {
        fact("options", chosen);
    }
    if !shown.headers.is_empty() {
        fact("headers", plain(&shown.headers.join(", ")));
    }
}

/// Options that are not the default.
fn chosen(options: &Options) -> String {
    let ms = |name: &str, ms: u64| {
        (ms > 0).then(|| format!("{name} {}", duration(Duration::from_millis(ms))))
    };
    let truth = |name: &str, truth: bool| truth.then(|| name.to_owned());
    let protocol = (options.protocol != "http").then(|| options.protocol.clone());
    let chosen = [
        protocol,
        truth("waits for the result", options.wait_result),
        truth("concurrent", options.concurrent),
        truth("strict", options.strict),
        ms("timeout", options.timeout_ms),
        ms("request timeout", options.request_timeout_ms),
        ms("retry interval", options.retry_interval_ms),
        (options.retry_limit > 0).then(|| format!("at most {} retries", options.retry_limit)),
        ms("delay", options.delay_ms),
        (!options.orders.is_empty()).then(|| format!("orders {:?}", options.orders)),
    ];
    chosen.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn branches(shown: &Txn, payloads: bool) {
    if shown.branches.is_empty() && shown.callback.is_none() {
        return;
    }
    let mut rows: Vec<Vec<String>> = shown.branches.iter().map(row).collect();
    if let Some(callback) = &shown.callback {
        let state = if callback.waiting { "waiting" } else { "-" };
        let next = callback.next_try.map_or_else(String::new, soon);
        let errors = errors(callback.errors);
        let cells = ["00".to_owned(), "callback".to_owned(), state.to_owned(), errors, next];
        rows.push(cells.into_iter().chain([plain(&callback.url)]).collect());
    }
    say("");
    table(&HEAD, &rows).into_iter().for_each(say);
    for branch in shown.branches.iter().filter(|_| payloads) {
        payload(&format!("{} {}", branch.branch_id, branch.op), &branch.payload);
    }
    if let Some(input) = shown.input.as_ref().filter(|_| payloads) {
        payload("input", input);
    }
}

fn errors(count: u32) -> String {
    if count > 0 { count.to_string() } else { String::new() }
}

fn row(branch: &Branch) -> Vec<String> {
    let state = match branch.status {
        Progress::Prepared if branch.waiting => "waiting",
        Progress::Prepared => "-",
        Progress::Succeed => "done",
        Progress::Failed => "refused",
    };
    vec![
        plain(&branch.branch_id),
        plain(&branch.op),
        state.to_owned(),
        errors(branch.errors),
        branch.next_try.map_or_else(String::new, soon),
        if branch.url.is_empty() { "nobody to call".to_owned() } else { plain(&branch.url) },
    ]
}

fn payload(name: &str, payload: &Payload) {
    let text = short(&payload.text, TEXT_CHARS);
    say(format_args!("  payload of {}: {} bytes: {text}", plain(name), payload.bytes));
}

fn calls(shown: &Shown) {
    let calls = shown.timeline.calls.len();
    let deeds = &shown.audit.deeds;
    if calls == 0 && deeds.is_empty() {
        return;
    }
    let count = match calls {
        1 => "1 call".to_owned(),
        calls => format!("{calls} calls"),
    };
    let rest = if shown.timeline.is_full { "; later ones are not kept" } else { "" };
    say(format_args!("\nTIMELINE  {count}{rest}"));
    timeline::draw(&shown.timeline, deeds).into_iter().for_each(say);
}

fn audit(audit: &Audit) {
    if audit.deeds.is_empty() {
        return;
    }
    say("\nAUDIT");
    for deed in &audit.deeds {
        let (by, what, why) = (plain(&deed.by), plain(&deed.what), plain(&deed.why));
        say(format_args!("  {} UTC  {by}: {what}", moment(deed.at)));
        say(format_args!("      {}", short(&why, WHY_CHARS)));
    }
    if audit.next.is_some() {
        say("  and more: see /v1/txns/GID/audit");
    }
}
