//! What is read: lists, single transactions, their timelines and audits, topics. All from one view each, which holds
//! everything that was acknowledged before.

use bytes::Bytes;
use quorate_engine::Read;
use quorate_global_txn::{AuditEntry, CallEntry, Config, GlobalTxnId, Kind, Status, Topic, keys};
use quorate_kv::{KeyRange, KeyValue, ReadError, View};

use super::limits::{HEAD_BYTES, LOOKS, TOPIC_BYTES};
use super::query::{Query, place};
use super::routes::Route;
use super::show;
use super::types::{Audit, Page, Summary, Timeline, Topics, Txn};
use crate::api::stored::{self, Filter, Order, Walk, corrupt};

type Outcome<T> = Result<T, ReadError>;

/// What a request for a list asks for.
pub(super) fn walk(query: &Query, route: &Route, config: &Config) -> (Walk, Filter) {
    let filter = Filter {
        status: query.text("status").and_then(Status::named),
        kind: query.text("kind").and_then(Kind::named),
        stuck: query.is("stuck", "true").then(|| config.clone()),
        ..Filter::default()
    };
    let unfinished = filter.status.is_some_and(|status| !status.is_final());
    let order = match query.text("order") {
        Some("gid") => Order::Gid,
        Some("ended") => Order::Ended,
        Some(_) => Order::Due,
        None if filter.stuck.is_some() || unfinished => Order::Due,
        None => Order::Gid,
    };
    let limit = query.limit(route.params);
    (Walk { order, behind: query.place(), limit, looks: LOOKS }, filter)
}

pub(super) fn list<S: Read>(
    view: &View<S>,
    walk: Walk,
    filter: &Filter,
    config: &Config,
) -> Outcome<Page> {
    let found = stored::list(view, walk, filter)?;
    Ok(Page {
        txns: found.txns.iter().map(|stored| show::summary(config, stored)).collect(),
        next: found.next.map(|next| place(&next)),
    })
}

pub(super) fn summary<S: Read>(
    view: &View<S>,
    gid: &GlobalTxnId,
    config: &Config,
) -> Outcome<Option<Summary>> {
    Ok(stored::head(view, gid)?.map(|stored| show::summary(config, &stored)))
}

pub(super) fn txn<S: Read>(
    view: &View<S>,
    gid: &GlobalTxnId,
    config: &Config,
) -> Outcome<Option<Txn>> {
    let Some(stored) = stored::one(view, gid, HEAD_BYTES)? else { return Ok(None) };
    let owner = view.page(&KeyRange::single(keys::own()), 1)?.kvs.pop();
    let epoch = owner.map_or(0, |owner| owner.mod_revision.0);
    Ok(Some(show::txn(config, &stored, epoch)))
}

/// Which entries of a numbered list are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    /// The first one.
    from: u32,
    limit: usize,
}

impl Entries {
    pub(super) fn of(query: &Query, route: &Route) -> Self {
        let from = query.number("after").map_or(0, |after| after.saturating_add(1));
        Self { from, limit: query.limit(route.params) }
    }

    /// The entries, and the number of the last one if there are more.
    fn read<S: Read>(
        self,
        view: &View<S>,
        all: KeyRange,
        first: Bytes,
    ) -> Outcome<(Vec<KeyValue>, Option<u32>)> {
        let page = view.page(&KeyRange { key: first, ..all }, self.limit)?;
        let last =
            u32::try_from(page.kvs.len()).ok().and_then(|read| (self.from + read).checked_sub(1));
        Ok((page.kvs, last.filter(|_| page.more)))
    }
}

pub(super) fn timeline<S: Read>(
    view: &View<S>,
    gid: &GlobalTxnId,
    entries: Entries,
    config: &Config,
) -> Outcome<Option<Timeline>> {
    // Parts are needed for the destinations, payloads are not.
    let Some(stored) = stored::one(view, gid, 0)? else { return Ok(None) };
    let (pairs, next) = entries.read(view, keys::calls(gid), keys::call(gid, entries.from))?;
    let calls = pairs.iter().map(|pair| {
        let entry = CallEntry::decode(&pair.value).map_err(|error| corrupt(&error))?;
        Ok(show::call(&stored, entry))
    });
    Ok(Some(Timeline {
        gid: gid.as_str().to_owned(),
        created: crate::api::time::Time::known(stored.record.created_wall_ms).unwrap_or_default(),
        calls: calls.collect::<Outcome<_>>()?,
        is_full: stored.record.calls >= config.timeline_calls,
        next,
    }))
}

pub(super) fn audit<S: Read>(
    view: &View<S>,
    gid: &GlobalTxnId,
    entries: Entries,
) -> Outcome<Option<Audit>> {
    if stored::head(view, gid)?.is_none() {
        return Ok(None);
    }
    let (pairs, next) = entries.read(view, keys::audits(gid), keys::audit(gid, entries.from))?;
    let deeds = pairs.iter().map(|pair| {
        let entry = AuditEntry::decode(&pair.value).map_err(|error| corrupt(&error))?;
        Ok(show::deed(entry))
    });
    let deeds = deeds.collect::<Outcome<_>>()?;
    Ok(Some(Audit { gid: gid.as_str().to_owned(), deeds, next }))
}

/// One at a time: a topic may be long.
pub(super) fn topics<S: Read>(view: &View<S>, behind: Vec<u8>, limit: usize) -> Outcome<Topics> {
    let (mut behind, mut bytes) = (behind, 0);
    let mut topics = Vec::new();
    loop {
        let mut page = view.page(&keys::topics_behind(&behind), 1)?;
        let Some(pair) = page.kvs.pop() else { return Ok(Topics { topics, next: None }) };
        if topics.len() == limit || bytes > TOPIC_BYTES {
            return Ok(Topics { topics, next: Some(place(&behind)) });
        }
        bytes += pair.value.len();
        let name = keys::name_of_topic(&pair.key).ok_or_else(|| corrupt(&"a topic's key"))?;
        let topic = Topic::decode(&pair.value).map_err(|error| corrupt(&error))?;
        topics.push(show::topic(name.to_owned(), topic));
        name.as_bytes().clone_into(&mut behind);
    }
}
