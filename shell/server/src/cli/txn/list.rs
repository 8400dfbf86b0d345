//! A list of transactions.

use super::text::{ago, plain, short, soon, table};
use crate::api::v1::types::{Page, Status, Summary};
use crate::terminal::say;

const HEAD: [&str; 9] =
    ["GID", "KIND", "STATUS", "DONE", "WAITS", "ERRORS", "NEXT TRY", "AGE", "LAST ANSWER"];

/// Characters of the last answer that are shown.
const ANSWER_CHARS: usize = 60;

pub(super) fn print(page: &Page) {
    if page.txns.is_empty() {
        say("no transactions");
        return;
    }
    let rows: Vec<_> = page.txns.iter().map(row).collect();
    table(&HEAD, &rows).into_iter().for_each(say);
    if page.next.is_some() {
        say(format_args!("there are more than these {}: --limit N", page.txns.len()));
    }
}

fn row(txn: &Summary) -> Vec<String> {
    let count = |count: u32| if count > 0 { count.to_string() } else { String::new() };
    let answer = txn.last_answer.as_ref().map(|answer| answer.text.as_str());
    vec![
        plain(&txn.gid),
        word(&txn.kind),
        status(txn),
        txn.succeeded.to_string(),
        count(txn.waiting),
        count(txn.errors),
        txn.next_try.map_or_else(String::new, soon),
        ago(txn.created),
        short(answer.or(txn.reason.as_deref()).unwrap_or_default(), ANSWER_CHARS),
    ]
}

/// The word that stands for it in JSON.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Where it stands, and whether somebody should look or has.
pub(super) fn status(txn: &Summary) -> String {
    let mut text = word(&txn.status);
    if txn.stuck {
        text += ", stuck";
    }
    if txn.overridden && matches!(txn.status, Status::Succeed | Status::Failed) {
        text += ", by hand";
    }
    text
}
