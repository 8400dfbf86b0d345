//! Topics: who hears of a message.
//!
//! What changes one is a request to the machine, decided on what the log holds. `scanKV` and `queryKV` read them in the
//! shape in which DTM keeps them, rows of a table of names and values of which `topics` is the only category.

use percent_encoding::percent_decode_str;
use quorate_engine::{EngineError, Read};
use quorate_global_txn::{Request as Wanted, Topic, keys};
use quorate_kv::{KeyRange, KeyValue, ReadError, View};
use serde_json::{Value, json};

use super::lenient::Unreadable;
use super::query::Query;
use super::time::rfc3339;
use super::{Api, Outcome, PAGE, read};

const CATEGORY: &str = "topics";

/// Rows that one read brings.
const ROWS: usize = 64;

/// Bytes of topics after which a page ends.
const PAGE_BYTES: usize = 4 << 20;

/// Largest id: some clients read ids into 31 bits.
const MAX_ID: i64 = i32::MAX as i64;

/// What `subscribe` and `unsubscribe` want; `None`: another route.
pub(super) fn change(name: &str, query: Query<'_>) -> Option<Wanted> {
    let (topic, url) = (query.text("topic"), query.text("url"));
    match name {
        "subscribe" => Some(Wanted::Subscribe { topic, url, remark: query.text("remark") }),
        "unsubscribe" => Some(Wanted::Unsubscribe { topic, url }),
        _ => None,
    }
}

/// What a DELETE of this route wants; `None`: there is no such route.
pub(super) fn deletion(name: &str) -> Option<Wanted> {
    let topic = percent_decode_str(name.strip_prefix("topic/")?).decode_utf8_lossy().into_owned();
    Some(Wanted::DeleteTopic { topic })
}

/// `queryKV`: one row, or all of the category.
pub(super) async fn query(api: &Api, query: Query<'_>) -> Outcome {
    let (category, name) = (query.text("cat"), query.text("key"));
    if category != CATEGORY {
        return Ok(json!({ "kv": [] }).into());
    }
    if !name.is_empty() {
        let rows = read(api, move |view| one(view, &name)).await?;
        return Ok(json!({ "kv": rows }).into());
    }
    let (rows, next) = read(api, |view| list(view, None, PAGE.1 as usize)).await?;
    if next.is_some() {
        let text = "there are more topics than fit into one answer: use scanKV";
        return Err(Unreadable(text.to_owned()).into());
    }
    Ok(json!({ "kv": rows }).into())
}

/// `scanKV`: a page in the order of names; the position of the next one is the last name.
pub(super) async fn scan(api: &Api, query: Query<'_>) -> Outcome {
    let limit = query.number("limit")?.unwrap_or(PAGE.0).clamp(1, PAGE.1) as usize;
    let (category, position) = (query.text("cat"), query.text("position"));
    if category != CATEGORY {
        return Ok(json!({ "kv": [], "next_position": "" }).into());
    }
    let after = Some(position).filter(|name| !name.is_empty());
    let (rows, next) = read(api, move |view| list(view, after, limit)).await?;
    Ok(json!({ "kv": rows, "next_position": next.unwrap_or_default() }).into())
}

fn one<S: Read>(view: &View<S>, name: &str) -> Result<Vec<Value>, ReadError> {
    let found = view.page(&KeyRange::single(keys::topic(name)), 1)?.kvs;
    found.iter().map(|pair| row(pair).map(|(_, row)| row)).collect()
}

/// Rows behind `after`, and the last one's name if there are more.
fn list<S: Read>(
    view: &View<S>,
    after: Option<String>,
    limit: usize,
) -> Result<(Vec<Value>, Option<String>), ReadError> {
    let (mut rows, mut after, mut bytes) = (Vec::new(), after, 0);
    loop {
        let wanted = ROWS.min(limit - rows.len());
        let page = view.page(&keys::topics_after(after.as_deref()), wanted)?;
        for pair in &page.kvs {
            let (name, row) = row(pair)?;
            (after, bytes) = (Some(name), bytes + pair.value.len());
            rows.push(row);
        }
        if !page.more {
            return Ok((rows, None));
        }
        if rows.len() >= limit || bytes >= PAGE_BYTES {
            return Ok((rows, after));
        }
    }
}

fn row(pair: &KeyValue) -> Result<(String, Value), ReadError> {
    let corrupt = |what: &dyn std::fmt::Display| {
        ReadError::Engine(EngineError::Corrupt(format!("a topic: {what}")))
    };
    let name = keys::name_of_topic(&pair.key).ok_or_else(|| corrupt(&"its key"))?;
    let topic = Topic::decode(&pair.value).map_err(|error| corrupt(&error))?;
    let subscribers = topic.subscribers.iter();
    let subscribers: Value =
        subscribers.map(|one| json!({ "url": one.url, "remark": one.remark })).collect();
    let row = json!({
        "id": pair.create_revision.0 % MAX_ID,
        "create_time": rfc3339(topic.created_wall_ms),
        "update_time": rfc3339(topic.updated_wall_ms),
        "cat": CATEGORY,
        "k": name,
        "v": subscribers.to_string(),
        "version": topic.version,
    });
    Ok((name.to_owned(), row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read() {
        let Some(Wanted::Subscribe { topic, url, remark }) =
            change("subscribe", Query("topic=a%2Fb&url=http%3A%2F%2Fh%2F%3Fx%3D1&remark=r+s"))
        else {
            panic!("a subscription");
        };
        assert_eq!(
            (topic.as_str(), url.as_str(), remark.as_str()),
            ("a/b", "http://h/?x=1", "r s")
        );
        assert!(change("query", Query("topic=a")).is_none());
        let Some(Wanted::DeleteTopic { topic }) = deletion("topic/a%2Fb+c") else { panic!("it") };
        assert_eq!(topic, "a/b+c", "a plus sign in a path is one");
        assert!(deletion("subscribe").is_none());
    }
}
