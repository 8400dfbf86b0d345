//! `quorate txn`: what operators see of global transactions and do about them, over `/v1/` of any member.
//!
//! | file | what |
//! |---|---|
//! | `options` | the command line |
//! | `client` | requests and their failures |
//! | `list`, `show`, `timeline` | what is printed |
//! | `text` | times, durations, tables; text of strangers made harmless |

mod client;
mod list;
mod options;
mod show;
mod text;
mod timeline;

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::api::time::{Time, wall_ms};
use crate::api::v1::types::{Audit, Done, Intervention, Page, Skip, Summary, Timeline, Txn};
use crate::exit::Fatal;
use crate::terminal::say;
use client::{Client, segment};
use options::{Command, Deed, Options};

/// How long a transaction is watched after a deed, and how often it is looked at.
const WATCH: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// How far clocks may be apart.
const SLACK_MS: u64 = 5_000;

/// Most that one request for a list brings.
const PAGE: usize = 1000;

/// Runs the command.
pub(super) fn txn(args: &[String]) -> Result<(), Fatal> {
    let Some(options) = Options::read(args)? else {
        options::help();
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fatal::Runtime(error.to_string()))?;
    runtime.block_on(run(&options))
}

async fn run(options: &Options) -> Result<(), Fatal> {
    let client = Client::new(&options.endpoints)?;
    match &options.command {
        Command::Ls { filter, limit } => {
            let page = ls(&client, filter, *limit).await?;
            print(options, &page, list::print)
        }
        Command::Show { gid } => {
            let shown = show(&client, gid).await?;
            if options.json {
                say(shown.json()?);
                return Ok(());
            }
            show::print(&shown, options.payloads);
            Ok(())
        }
        Command::Deed { gid, deed } => {
            let done = operate(&client, options, gid, deed).await?;
            print(options, &done, |done| show::done(done, deed.told()))
        }
    }
}

fn print<T: Serialize>(options: &Options, value: &T, print: impl FnOnce(&T)) -> Result<(), Fatal> {
    if options.json {
        say(as_json(value)?);
    } else {
        print(value);
    }
    Ok(())
}

fn as_json(value: &impl Serialize) -> Result<String, Fatal> {
    serde_json::to_string(value).map_err(|error| Fatal::Runtime(error.to_string()))
}

/// As many as are wanted, page by page: a page may be empty and not the last one.
async fn ls(client: &Client, filter: &str, limit: usize) -> Result<Page, Fatal> {
    let mut all = Page { txns: Vec::new(), next: None };
    loop {
        let wanted = (limit - all.txns.len()).min(PAGE);
        let after = all.next.as_ref().map_or_else(String::new, |next| format!("&after={next}"));
        let path = format!("/v1/txns?limit={wanted}{filter}{after}");
        let mut page: Page = client.get(&path).await?;
        all.txns.append(&mut page.txns);
        all.next = page.next;
        if all.next.is_none() || all.txns.len() >= limit {
            return Ok(all);
        }
    }
}

/// All that is known of a transaction.
struct Shown {
    txn: Txn,
    timeline: Timeline,
    audit: Audit,
}

impl Shown {
    fn json(&self) -> Result<Value, Fatal> {
        let value = |error: serde_json::Error| Fatal::Runtime(error.to_string());
        let mut all = serde_json::to_value(&self.txn).map_err(value)?;
        let timeline = serde_json::to_value(&self.timeline).map_err(value)?;
        let audit = serde_json::to_value(&self.audit).map_err(value)?;
        all["timeline"] = json!({ "calls": timeline["calls"], "is_full": timeline["is_full"] });
        all["audit"] = audit["deeds"].clone();
        Ok(all)
    }
}

async fn show(client: &Client, gid: &str) -> Result<Shown, Fatal> {
    let path = format!("/v1/txns/{}", segment(gid));
    Ok(Shown {
        txn: client.get(&path).await?,
        timeline: client.get(&format!("{path}/timeline?limit={PAGE}")).await?,
        audit: client.get(&format!("{path}/audit?limit={PAGE}")).await?,
    })
}

/// Does it, then watches for a moment what comes of it.
async fn operate(
    client: &Client,
    options: &Options,
    gid: &str,
    deed: &Deed,
) -> Result<Done, Fatal> {
    let (by, why) = (options.by.clone(), options.why.clone());
    let path = format!("/v1/txns/{}/{}", segment(gid), deed.route());
    let mut done: Done = match deed {
        Deed::Skip { branch_id, op } => {
            let (branch_id, op) = (branch_id.clone(), op.clone());
            client.post(&path, &Skip { branch_id, op, by, why }).await?
        }
        _ => client.post(&path, &Intervention { by, why }).await?,
    };
    let begun = Instant::now();
    while done.txn.as_ref().is_none_or(is_under_way) && begun.elapsed() < WATCH {
        tokio::time::sleep(LOOK).await;
        // It has been done, whether or not it can be looked at.
        let Ok(seen) = client.get::<Txn>(&format!("/v1/txns/{}", segment(gid))).await else {
            break;
        };
        done.txn = Some(seen.txn);
    }
    Ok(done)
}

/// Whether it waits for an answer, not for its time, so that it may end any moment.
fn is_under_way(txn: &Summary) -> bool {
    // Converted from another clock, it is not exact.
    let soon = Time(wall_ms() + SLACK_MS);
    let is_due = txn.next_try.is_none_or(|next| next <= soon);
    txn.ended.is_none() && txn.errors == 0 && txn.waiting > 0 && is_due
}
