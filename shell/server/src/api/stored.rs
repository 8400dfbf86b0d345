//! Global transactions as they lie in the keyspace, read from a view: what all faces that show them share.
//!
//! Every walk is bounded: it ends at its limit, or when it has looked at so many records, and then says where the next
//! one goes on. Lists are walked in one of three orders: all transactions by name; those that have not ended in
//! the order in which there is something to do for them, which costs nothing for those that have; or these, in the
//! order in which they ended.

use quorate_engine::{EngineError, Read};
use quorate_global_txn::{
    Config, Content, GlobalTxnId, KEYSPACE, Kind, Op, Part, Record, Row, Source, Status, Target,
    keys, waited_for,
};
use quorate_kv::{KeyRange, KeyValue, ReadError, Revision, View};
use quorate_node::Failure;

use crate::Snapshot;
use crate::handle::Handle;

/// Pairs that one read of a walk brings.
const CHUNK: usize = 128;

/// Parts that are read at a time: each may be as long as a request.
const PARTS: usize = 8;

/// A transaction, complete or without what its client gave when it began it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its name.
    pub(crate) gid: GlobalTxnId,
    /// When it was created, as the keyspace counts: unique, and small for a long time.
    pub(crate) created: Revision,
    /// Its state.
    pub(crate) record: Record,
    /// What its client gave.
    pub(crate) content: Option<Content>,
    /// What came with each branch.
    pub(crate) parts: Vec<Part>,
    /// Bytes of each payload of the content and of the parts, also where only its head has been kept.
    lengths: (Vec<usize>, Vec<usize>),
}

/// Where a row's call goes and what it carries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin<'a> {
    /// Where.
    pub(crate) url: &'a str,
    /// What, or its head.
    pub(crate) data: &'a [u8],
    /// How long it is as a whole, in bytes.
    pub(crate) bytes: usize,
}

impl Stored {
    fn of(gid: GlobalTxnId, pair: &KeyValue) -> Result<Self, ReadError> {
        let record = Record::decode(&pair.value).map_err(|e| corrupt(&e))?;
        let created = pair.create_revision;
        Ok(Self { gid, created, record, content: None, parts: Vec::new(), lengths: <_>::default() })
    }

    /// Keeps one pair of what its client gave, with the first `most` bytes of each payload.
    fn keep(&mut self, pair: &KeyValue, most: usize) -> Result<(), ReadError> {
        let cut = |data: &mut bytes::Bytes| {
            let length = data.len();
            if length > most {
                *data = bytes::Bytes::copy_from_slice(&data[..most]);
            }
            length
        };
        if pair.key == keys::content(&self.gid) {
            let mut content = Content::decode(&pair.value).map_err(|e| corrupt(&e))?;
            self.lengths.0 = content.payloads.iter_mut().map(cut).collect();
            self.content = Some(content);
        } else {
            let mut part = Part::decode(&pair.value).map_err(|e| corrupt(&e))?;
            self.lengths.1.push(cut(&mut part.data));
            self.parts.push(part);
        }
        Ok(())
    }

    /// URL and payload of a row, as far as they have been read.
    pub(crate) fn origin(&self, at: usize, row: &Row) -> Origin<'_> {
        match row.source {
            Source::Step(number) => self.of_step(number as usize, &row.op),
            Source::Part(number) => {
                let Some(part) = self.parts.get(number as usize) else { return Origin::default() };
                let before = &self.record.rows[..at];
                let place = before.iter().filter(|other| other.source == row.source).count();
                Origin {
                    url: part.urls.get(place).map_or("", String::as_str),
                    data: &part.data,
                    bytes: self.lengths.1[number as usize],
                }
            }
        }
    }

    /// The first payload of the content: a workflow's input.
    pub(crate) fn input(&self) -> Option<Origin<'_>> {
        let data = self.content.as_ref()?.payloads.first()?;
        Some(Origin { url: "", data, bytes: *self.lengths.0.first()? })
    }

    fn of_step(&self, number: usize, op: &Op) -> Origin<'_> {
        let Some(content) = &self.content else { return Origin::default() };
        let url = content.steps.get(number).map_or("", |step| match op {
            Op::Compensate => step.compensate.as_str(),
            _ => step.action.as_str(),
        });
        let data = content.payloads.get(number).map_or(&b""[..], bytes::Bytes::as_ref);
        Origin { url, data, bytes: self.lengths.0.get(number).copied().unwrap_or_default() }
    }
}

/// A group time of a record's, in ms, by the wall clock, as far as the creation tells it; `None`: never.
pub(crate) fn wall_of(record: &Record, group_ms: u64) -> Option<u64> {
    let from_creation = group_ms.saturating_sub(record.created_ms);
    record.created_wall_ms.checked_add(from_creation).filter(|_| group_ms < u64::MAX)
}

/// When there is something to do, by the wall clock.
pub(crate) fn next_time_ms(record: &Record) -> Option<u64> {
    wall_of(record, record.due_ms?)
}

/// Errors of what is waited for, at the call that has the most.
pub(crate) fn worst(config: &Config, record: &Record) -> Option<(Target, u32)> {
    let waited_for = waited_for(config, record).into_iter();
    let errors = waited_for.map(|target| (target, record.tries(target).errors));
    errors.filter(|(_, errors)| *errors > 0).max_by_key(|(_, errors)| *errors)
}

/// Whether what is waited for has failed so often that it was reported.
pub(crate) fn is_stuck(config: &Config, record: &Record) -> bool {
    worst(config, record).is_some_and(|(_, errors)| errors >= config.alert_after.max(1))
}

/// Which transactions to list; everything that is `None` matches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) status: Option<Status>,
    pub(crate) kind: Option<Kind>,
    /// Not created before this, in ms since 1970.
    pub(crate) from_ms: Option<u64>,
    /// Not created after this.
    pub(crate) until_ms: Option<u64>,
    /// With something to do, but not before this, in ms since 1970.
    pub(crate) due_after_ms: Option<u64>,
    /// Stuck, under this configuration.
    pub(crate) stuck: Option<Config>,
}

impl Filter {
    /// Whether a record of these bytes may match, by what can be seen without reading them all.
    fn may_match(&self, bytes: &[u8]) -> bool {
        Record::peek(bytes).is_none_or(|(kind, status)| {
            self.status.is_none_or(|wanted| wanted == status)
                && self.kind.is_none_or(|wanted| wanted == kind)
        })
    }

    fn matches(&self, record: &Record) -> bool {
        let created = record.created_wall_ms;
        self.status.is_none_or(|status| status == record.status)
            && self.kind.is_none_or(|kind| kind == record.kind)
            && self.from_ms.is_none_or(|from| from <= created)
            && self.until_ms.is_none_or(|until| created <= until)
            && self.due_after_ms.is_none_or(|ms| next_time_ms(record).is_some_and(|at| at > ms))
            && self.stuck.as_ref().is_none_or(|config| is_stuck(config, record))
    }
}

/// What to walk over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// All transactions, by name.
    Gid,
    /// Those that have not ended, by when there is something to do for them. One whose time changes during a walk
    /// may be met twice, or not at all.
    Due,
    /// Those that have ended, the earliest first.
    Ended,
}

impl Order {
    fn behind(self, place: &[u8]) -> KeyRange {
        match self {
            Self::Gid => keys::records_behind(place),
            Self::Due => keys::due_behind(place),
            Self::Ended => keys::done_behind(place),
        }
    }

    /// What a pair of its range stands for, if it matches.
    fn read<S: Read>(
        self,
        view: &View<S>,
        pair: &KeyValue,
        filter: &Filter,
    ) -> Result<Option<Stored>, ReadError> {
        let gid = match self {
            Self::Gid => keys::gid_of_record(&pair.key),
            Self::Due => keys::gid_of_due(&pair.key),
            Self::Ended => keys::gid_of_done(&pair.key),
        };
        let gid = gid.ok_or_else(|| corrupt(&"a key"))?;
        let found = match self {
            Self::Gid => None,
            Self::Due | Self::Ended => {
                let found = record(view, &gid)?;
                Some(found.ok_or_else(|| corrupt(&"in an index, and not there"))?)
            }
        };
        let pair = found.as_ref().unwrap_or(pair);
        if !filter.may_match(&pair.value) {
            return Ok(None);
        }
        Ok(Some(Stored::of(gid, pair)?).filter(|stored| filter.matches(&stored.record)))
    }
}

/// A walk over transactions.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// Over which.
    pub(crate) order: Order,
    /// Behind which place (`keys::place`); empty: from the first on.
    pub(crate) behind: Vec<u8>,
    /// How many to bring.
    pub(crate) limit: usize,
    /// After how many it ends, whether or not they matched.
    pub(crate) looks: usize,
}

/// What a walk brought.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Without contents.
    pub(crate) txns: Vec<Stored>,
    /// Where to go on; `None`: there are no more.
    pub(crate) next: Option<Vec<u8>>,
}

/// Walks over transactions.
pub(crate) fn list<S: Read>(
    view: &View<S>,
    walk: Walk,
    filter: &Filter,
) -> Result<Found, ReadError> {
    let mut found = Found::default();
    let (mut behind, mut left) = (walk.behind, walk.looks);
    loop {
        let page = view.page(&walk.order.behind(&behind), CHUNK.min(left))?;
        for pair in &page.kvs {
            if let Some(stored) = walk.order.read(view, pair, filter)? {
                if found.txns.len() == walk.limit {
                    return Ok(Found { next: Some(behind), ..found });
                }
                found.txns.push(stored);
            }
            behind = keys::place(&pair.key).ok_or_else(|| corrupt(&"a key"))?.to_vec();
        }
        left -= page.kvs.len();
        if !page.more {
            return Ok(found);
        }
        if left == 0 {
            return Ok(Found { next: Some(behind), ..found });
        }
    }
}

fn record<S: Read>(view: &View<S>, gid: &GlobalTxnId) -> Result<Option<KeyValue>, ReadError> {
    Ok(view.page(&KeyRange::single(keys::record(gid)), 1)?.kvs.pop())
}

/// One transaction, without what its client gave.
pub(crate) fn head<S: Read>(
    view: &View<S>,
    gid: &GlobalTxnId,
) -> Result<Option<Stored>, ReadError> {
    record(view, gid)?.map(|pair| Stored::of(gid.clone(), &pair)).transpose()
}

/// One transaction with everything that belongs to it, and the first `most` bytes of each payload.
pub(crate) fn one<S: Read>(
    view: &View<S>,
    gid: &GlobalTxnId,
    most: usize,
) -> Result<Option<Stored>, ReadError> {
    let Some(mut stored) = head(view, gid)? else { return Ok(None) };
    each(view, keys::content_and_parts(gid), |pair| stored.keep(pair, most))?;
    Ok(Some(stored))
}

/// Every pair of a range, a few at a time.
fn each<S: Read>(
    view: &View<S>,
    mut range: KeyRange,
    mut take: impl FnMut(&KeyValue) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    loop {
        let page = view.page(&range, PARTS)?;
        page.kvs.iter().try_for_each(&mut take)?;
        match page.kvs.last().filter(|_| page.more) {
            None => return Ok(()),
            Some(last) => range.key = [last.key.as_ref(), &[0]].concat().into(),
        }
    }
}

/// Reads everything acknowledged so far, on the pool.
///
/// # Errors
/// Nothing was read; safe to retry.
pub(crate) async fn read<T: Send + 'static>(
    handle: &Handle,
    work: impl FnOnce(&View<Snapshot>) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Failure> {
    let (_, view) = handle.view(KEYSPACE, true).await?;
    match tokio::task::spawn_blocking(move || work(&view)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(ReadError::Refused(refusal))) => Err(refusal.into()),
        Ok(Err(ReadError::Engine(error))) => {
            handle.fail(&error.to_string());
            Err(Failure::Stopped)
        }
        Err(error) => {
            tracing::error!(%error, "a read on the pool ended early");
            Err(Failure::Stopped)
        }
    }
}

/// Something in the keyspace is not what it must be: the process has to end.
pub(crate) fn corrupt(what: &dyn std::fmt::Display) -> ReadError {
    ReadError::Engine(EngineError::Corrupt(format!("a global transaction: {what}")))
}
