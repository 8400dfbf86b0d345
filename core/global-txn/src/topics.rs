//! Topics: names for lists of subscribers. A step of a message whose action is `topic://NAME` becomes a row for each
//! of them, at the moment at which the message is stored, in the transaction that stores it: a subscriber that
//! was acknowledged before is in it, one that was acknowledged after is not.

use quorate_kv::{KeyRange, Op};
use quorate_outcall::{Method, Target as Address, Wire};

use crate::api::{Refused, Request};
use crate::decide::Decision;
use crate::keys;
use crate::limits::{MAX_SUBSCRIBERS, MAX_TEXT, MAX_URL};
use crate::record::{Subscriber, Topic};
use crate::transition::Stamp;
use crate::write;

/// The topic that a URL names.
pub(crate) fn named(url: &str) -> Option<&str> {
    url.strip_prefix("topic://")
}

/// What becomes of a request about a topic.
pub(crate) fn decide(request: &Request, name: &str, found: Option<&Topic>, at: Stamp) -> Decision {
    let next = match request {
        Request::Subscribe { url, remark, .. } => subscribe(found, url, remark, at).map(Some),
        Request::Unsubscribe { url, .. } => unsubscribe(found, url).map(Some),
        Request::DeleteTopic { .. } if found.is_none() => Err(Refused::error("storage: NotFound")),
        _ => Ok(None),
    };
    let key = keys::topic(name);
    let op: Op = match next {
        Err(refused) => return Decision::Refuse(refused),
        Ok(None) => write::delete(KeyRange::single(key)),
        Ok(Some(mut topic)) => {
            topic.version += 1;
            topic.updated_wall_ms = at.wall_ms;
            write::put(key, topic.encode())
        }
    };
    Decision::Write { record: None, ops: vec![op] }
}

fn subscribe(found: Option<&Topic>, url: &str, remark: &str, at: Stamp) -> Result<Topic, Refused> {
    if url.is_empty() {
        return Err(Refused::error("empty url"));
    }
    if url.len() > MAX_URL || remark.len() > MAX_TEXT {
        return Err(Refused::error("the url or the remark is too long"));
    }
    let method = Method::Get;
    let can_call = |wire| Address::parse(url, wire).map(drop);
    can_call(Wire::Http { method })
        .or_else(|why| can_call(Wire::Grpc).map_err(|_| Refused::error(format!("{why}: {url}"))))?;
    let new = || Topic { created_wall_ms: at.wall_ms, ..Topic::default() };
    let mut topic = found.cloned().unwrap_or_else(new);
    if topic.subscribers.iter().any(|subscriber| subscriber.url == url) {
        return Err(Refused::error("this url exists"));
    }
    if topic.subscribers.len() >= MAX_SUBSCRIBERS {
        return Err(Refused::error(format!("a topic has at most {MAX_SUBSCRIBERS} subscribers")));
    }
    topic.subscribers.push(Subscriber { url: url.to_owned(), remark: remark.to_owned() });
    Ok(topic)
}

fn unsubscribe(found: Option<&Topic>, url: &str) -> Result<Topic, Refused> {
    if url.is_empty() {
        return Err(Refused::error("empty url"));
    }
    let mut topic = found.cloned().ok_or_else(|| Refused::error("no such a topic"))?;
    if topic.subscribers.is_empty() {
        return Err(Refused::error("this topic is empty"));
    }
    let before = topic.subscribers.len();
    topic.subscribers.retain(|subscriber| subscriber.url != url);
    if topic.subscribers.len() == before {
        return Err(Refused::error("no such an url"));
    }
    Ok(topic)
}
