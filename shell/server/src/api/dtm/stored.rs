//! Global transactions as they lie in the keyspace, read from a view.

use quorate_engine::{EngineError, Read};
use quorate_global_txn::{Content, GlobalTxnId, Kind, Part, Record, Status, keys};
use quorate_kv::{KeyRange, KeyValue, RangeRequest, ReadError, Revision, View};

use super::show::next_time_ms;

/// Records that one read brings.
const PAGE: i64 = 512;

/// A transaction, complete or without what its client gave when it began it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Its name.
    pub(super) gid: GlobalTxnId,
    /// When it was created, as the keyspace counts: unique, and small for a long time.
    pub(super) created: Revision,
    /// Its state.
    pub(super) record: Record,
    /// What its client gave.
    pub(super) content: Option<Content>,
    /// What came with each branch.
    pub(super) parts: Vec<Part>,
}

/// Which transactions to list; everything that is `None` matches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filter {
    pub(super) status: Option<Status>,
    pub(super) kind: Option<Kind>,
    /// Not created before this, in ms since 1970.
    pub(super) from_ms: Option<u64>,
    /// Not created after this.
    pub(super) until_ms: Option<u64>,
}

impl Filter {
    fn matches(self, record: &Record) -> bool {
        let created = record.created_wall_ms;
        self.status.is_none_or(|status| status == record.status)
            && self.kind.is_none_or(|kind| kind == record.kind)
            && self.from_ms.is_none_or(|from| from <= created)
            && self.until_ms.is_none_or(|until| created <= until)
    }
}

/// One transaction with everything that belongs to it.
pub(super) fn one<S: Read>(view: &View<S>, gid: &GlobalTxnId) -> Result<Option<Stored>, ReadError> {
    let range = RangeRequest { range: KeyRange::single(keys::record(gid)), ..Default::default() };
    let Some(pair) = view.range(&range)?.kvs.pop() else { return Ok(None) };
    let mut stored = head(gid.clone(), &pair)?;
    let range = RangeRequest { range: keys::content_and_parts(gid), ..Default::default() };
    let content = keys::content(gid);
    for pair in view.range(&range)?.kvs {
        if pair.key == content {
            stored.content = Some(Content::decode(&pair.value).map_err(|e| corrupt(&e))?);
        } else {
            stored.parts.push(Part::decode(&pair.value).map_err(|e| corrupt(&e))?);
        }
    }
    Ok(Some(stored))
}

/// At most `limit` transactions behind `after` in the order of their names, without contents; and whether
/// there are more that match.
pub(super) fn list<S: Read>(
    view: &View<S>,
    after: Option<GlobalTxnId>,
    filter: Filter,
    limit: usize,
) -> Result<(Vec<Stored>, bool), ReadError> {
    let mut found = Vec::new();
    let mut after = after;
    loop {
        let range = keys::records_after(after.as_ref());
        let page = view.range(&RangeRequest { range, limit: PAGE, ..Default::default() })?;
        for pair in &page.kvs {
            let gid = keys::gid_of_record(&pair.key).ok_or_else(|| corrupt(&"a key"))?;
            let stored = head(gid, pair)?;
            after = Some(stored.gid.clone());
            if !filter.matches(&stored.record) {
                continue;
            }
            if found.len() == limit {
                return Ok((found, true));
            }
            found.push(stored);
        }
        if !page.more {
            return Ok((found, false));
        }
    }
}

fn head(gid: GlobalTxnId, pair: &KeyValue) -> Result<Stored, ReadError> {
    let record = Record::decode(&pair.value).map_err(|e| corrupt(&e))?;
    Ok(Stored { gid, created: pair.create_revision, record, content: None, parts: Vec::new() })
}

fn corrupt(what: &dyn std::fmt::Display) -> ReadError {
    ReadError::Engine(EngineError::Corrupt(format!("a global transaction: {what}")))
}

/// At most `limit` transactions that would next be looked at after `from_ms`, by the wall clock.
pub(super) fn waiting<S: Read>(
    view: &View<S>,
    from_ms: u64,
    limit: usize,
) -> Result<Vec<GlobalTxnId>, ReadError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (page, more) = list(view, after, Filter::default(), PAGE as usize)?;
        after = page.last().map(|last| last.gid.clone());
        let late = |stored: &Stored| next_time_ms(&stored.record).is_some_and(|at| at > from_ms);
        found.extend(page.into_iter().filter(late).map(|stored| stored.gid));
        if found.len() >= limit || !more {
            found.truncate(limit);
            return Ok(found);
        }
    }
}
