//! Reading transactions for people and clients: `/query`, `/all`, an operator's lists.
//!
//! These do not go through the machine. Whoever has a view of [`crate::KEYSPACE`] passes a function that reads a page
//! of a range from it (`View::page` of `quorate-kv`, or a range request to an external store).

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_kv::{KeyRange, KeyValue, Revision};

use crate::api::Halt;
use crate::gid::GlobalTxnId;
use crate::keys;
use crate::limits::MAX_ROWS;
use crate::record::{Content, Kind, Op, Part, Record, Row, Source, Status};
use crate::write;

/// Records that one call of [`list`] looks at, so that a filter that nothing passes costs no more.
pub const LIST_SCAN: usize = 10_000;

/// A read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable<E> {
    /// The store did.
    #[error(transparent)]
    Store(E),
    /// What it holds is not what this crate writes. The process should stop.
    #[error(transparent)]
    Corrupt(Halt),
}

/// All that is stored of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Which.
    pub gid: GlobalTxnId,
    /// Its state.
    pub record: Record,
    /// The revision of its last change.
    pub revision: Revision,
    /// Steps, payloads, headers and the rest; empty if it has none.
    pub content: Content,
    /// What registered branches brought, by number.
    pub parts: BTreeMap<u32, Part>,
}

impl Detail {
    /// A row's URL; empty if it has none.
    #[must_use]
    pub fn url(&self, row: usize) -> &str {
        let Some(at) = self.record.rows.get(row) else { return "" };
        let url = match at.source {
            Source::Step(step) => self.content.steps.get(step as usize).map(|urls| match at.op {
                Op::Compensate => &urls.compensate,
                _ => &urls.action,
            }),
            Source::Part(number) => {
                self.parts.get(&number).and_then(|part| part.urls.get(place(&self.record, row)))
            }
        };
        url.map_or("", String::as_str)
    }

    /// A row's payload (`bin_data`).
    #[must_use]
    pub fn data(&self, row: usize) -> Bytes {
        let data = self.record.rows.get(row).and_then(|row| match row.source {
            Source::Step(step) => self.content.payloads.get(step as usize),
            Source::Part(number) => self.parts.get(&number).map(|part| &part.data),
        });
        data.cloned().unwrap_or_default()
    }
}

/// Which of the rows of its part a row is.
pub(crate) fn place(record: &Record, row: usize) -> usize {
    let Row { source, .. } = record.rows[row];
    record.rows[..row].iter().filter(|before| before.source == source).count()
}

/// Reads one transaction; `None`: there is none of this gid.
///
/// # Errors
/// `Unreadable`.
pub fn detail<E>(
    gid: &GlobalTxnId,
    mut page: impl FnMut(&KeyRange, usize) -> Result<Vec<KeyValue>, E>,
) -> Result<Option<Detail>, Unreadable<E>> {
    let found = page(&KeyRange::single(keys::record(gid)), 1).map_err(Unreadable::Store)?;
    let Some(kv) = found.first() else { return Ok(None) };
    let record = write::decode(kv).map_err(Unreadable::Corrupt)?;
    let revision = kv.mod_revision;
    let (content, parts) = (Content::default(), BTreeMap::new());
    let mut detail = Detail { gid: gid.clone(), record, revision, content, parts };
    let range = keys::content_and_parts(gid);
    for kv in page(&range, MAX_ROWS + 1).map_err(Unreadable::Store)? {
        let broken = |cause| Unreadable::Corrupt(Halt(format!("content of {gid}: {cause}")));
        match keys::part_number(&kv.key) {
            None => detail.content = Content::decode(&kv.value).map_err(broken)?,
            Some(number) => {
                detail.parts.insert(number, Part::decode(&kv.value).map_err(broken)?);
            }
        }
    }
    Ok(Some(detail))
}

/// What a list shall contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this status.
    pub status: Option<Status>,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Not created before this, wall clock in ms.
    pub created_from_ms: Option<u64>,
    /// Not created after this.
    pub created_until_ms: Option<u64>,
}

impl Filter {
    fn passes(&self, record: &Record) -> bool {
        let created = record.created_wall_ms;
        self.status.is_none_or(|status| record.status == status)
            && self.kind.is_none_or(|kind| record.kind == kind)
            && self.created_from_ms.is_none_or(|from| created >= from)
            && self.created_until_ms.is_none_or(|until| created <= until)
    }
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Transactions, by gid.
    pub found: Vec<(GlobalTxnId, Record)>,
    /// Where the next page begins (exclusive); `None`: there is none.
    pub next: Option<GlobalTxnId>,
}

/// Lists transactions behind `after`, at most `limit`, in order of gid. After [`LIST_SCAN`] records it returns with
/// what it has.
///
/// # Errors
/// `Unreadable`.
pub fn list<E>(
    filter: &Filter,
    after: Option<&GlobalTxnId>,
    limit: usize,
    mut page: impl FnMut(&KeyRange, usize) -> Result<Vec<KeyValue>, E>,
) -> Result<Page, Unreadable<E>> {
    const CHUNK: usize = 256;
    let mut list = Page { found: Vec::new(), next: after.cloned() };
    for _ in 0..LIST_SCAN.div_ceil(CHUNK) {
        let range = keys::records_after(list.next.as_ref());
        let kvs = page(&range, CHUNK).map_err(Unreadable::Store)?;
        let is_last = kvs.len() < CHUNK;
        for kv in &kvs {
            if list.found.len() >= limit {
                return Ok(list);
            }
            let gid = keys::gid_of_record(&kv.key);
            let gid = gid.ok_or_else(|| Unreadable::Corrupt(Halt("key of a record".to_owned())))?;
            let record = write::decode(kv).map_err(Unreadable::Corrupt)?;
            list.next = Some(gid.clone());
            if filter.passes(&record) {
                list.found.push((gid, record));
            }
        }
        if is_last {
            list.next = None;
            return Ok(list);
        }
    }
    Ok(list)
}
