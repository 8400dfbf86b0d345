//! Reading keys at a revision, from the engine itself or from a snapshot: the one piece of code behind
//! `Range`, conditions, and the reads inside a transaction.
//!
//! The newest version of a key is its *head*, one point read away. A read of the latest state looks
//! at heads only. A read at an older revision takes the head if it is old enough, and otherwise seeks
//! the newest version that is, one seek a key.
//!
//! Counting costs a walk over the heads of the range, with or without a limit: `count` speaks of all
//! keys (etcd's contract), and no counters are kept per range. Values beyond the limit are not kept.

use std::cmp::Ordering;

use bytes::Bytes;
use quorate_engine::{Direction, EngineError, Read};

use crate::layout::{self, Position};
use crate::machine::HeadCache;
use crate::record::Version;
use crate::types::{
    Compare, CompareResult, CompareTarget, KeyRange, KeyValue, KeyspaceId, LeaseId, RangeRequest,
    RangeResult, Refusal, Revision, RevisionFilter, SortOrder, SortTarget,
};

/// A keyspace in an engine or in a snapshot.
pub(crate) struct Keys<'a, R> {
    pub(crate) read: &'a R,
    pub(crate) keyspace: KeyspaceId,
    /// Heads that are known without asking `read`.
    pub(crate) cached: Option<&'a HeadCache>,
}

type Found<T> = Result<T, EngineError>;
type Pairs<'a> = Box<dyn Iterator<Item = Found<KeyValue>> + 'a>;

/// What revision a request speaks of: `None` = the latest.
pub(crate) fn resolve(
    asked: i64,
    current: Revision,
    compacted: Revision,
) -> Result<Option<Revision>, Refusal> {
    match Revision(asked) {
        revision if asked > 0 && revision > current => Err(Refusal::FutureRevision),
        revision if asked > 0 && revision < compacted => Err(Refusal::Compacted),
        revision => Ok((asked > 0).then_some(revision)),
    }
}

impl<'a, R: Read> Keys<'a, R> {
    /// The newest version of a key, a tombstone perhaps.
    pub(crate) fn head(&self, key: &[u8]) -> Found<Option<Version>> {
        if let Some(record) = self.cached.and_then(|cached| cached.get(key)) {
            return Version::take(record).map(Some);
        }
        let bytes = self.read.get(&layout::head(self.keyspace, key))?;
        bytes.as_ref().map(Version::take).transpose()
    }

    /// The newest version of a key at or before `at` (all of that revision included).
    pub(crate) fn version_at(
        &self,
        key: &[u8],
        head: Version,
        at: Revision,
    ) -> Found<Option<Version>> {
        if head.at.revision <= at {
            return Ok(Some(head));
        }
        self.older(key, Position::last_of(at))?.next().transpose()
    }

    /// Versions of a key that are not its head, at or before a position, newest first.
    pub(crate) fn older<'b>(
        &'b self,
        key: &[u8],
        at: Position,
    ) -> Found<impl Iterator<Item = Found<Version>> + use<'a, 'b, R>> {
        let bounds = layout::versions_up_to(self.keyspace, key, at);
        let scan = self.read.scan(layout::borrow(&bounds), Direction::Forward);
        Ok(scan.map(|pair| Version::take(&pair?.1)))
    }

    /// Heads of a range, tombstones included.
    pub(crate) fn heads<'b>(
        &'b self,
        range: &KeyRange,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Found<(Bytes, Version)>> + 'b> {
        if range.is_single() {
            let head = self.head(&range.key).transpose();
            let key = range.key.clone();
            return Box::new(head.map(|head| Ok((key, head?))).into_iter());
        }
        let bounds = layout::heads(self.keyspace, range);
        Box::new(self.read.scan(layout::borrow(&bounds), direction).map(|pair| {
            let (key, bytes) = pair?;
            Ok((layout::head_key(&key)?, Version::take(&bytes)?))
        }))
    }

    /// Pairs of a range that live at `at` (`None`: now).
    pub(crate) fn pairs<'b>(
        &'b self,
        range: &KeyRange,
        at: Option<Revision>,
        direction: Direction,
    ) -> Pairs<'b> {
        Box::new(self.heads(range, direction).filter_map(move |found| {
            let (key, head) = match found {
                Ok(found) => found,
                Err(error) => return Some(Err(error)),
            };
            self.pair(key, head, at).transpose()
        }))
    }

    /// A key's pair at `at`, if it lived then.
    pub(crate) fn pair(
        &self,
        key: Bytes,
        head: Version,
        at: Option<Revision>,
    ) -> Found<Option<KeyValue>> {
        let version = match at {
            None => Some(head),
            Some(at) => self.version_at(&key, head, at)?,
        };
        Ok(version.and_then(|v| Some(v.live?.with_key(key, v.at))))
    }

    /// Carries out a range; `current` is what the result says the revision is.
    pub(crate) fn range(
        &self,
        request: &RangeRequest,
        at: Option<Revision>,
        current: Revision,
    ) -> Found<RangeResult> {
        let mut result = RangeResult { revision: current, ..RangeResult::default() };
        if request.count_only {
            for pair in self.pairs(&request.range, at, Direction::Forward) {
                pair?;
                result.count += 1;
            }
            return Ok(result);
        }
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        self.gather(request, at, limit.and_then(|limit| fetched(request, limit)), &mut result)?;
        if request.target != SortTarget::Key {
            result.kvs.sort_by(|a, b| ordering(a, b, request));
        }
        if let Some(limit) = limit {
            result.more |= result.kvs.len() > limit;
            result.kvs.truncate(limit);
        }
        if request.keys_only {
            result.kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(result)
    }

    /// Counts the pairs of a range and keeps the first `keep` (or all) that pass the filter, in the order of
    /// keys that the request wants.
    fn gather(
        &self,
        request: &RangeRequest,
        at: Option<Revision>,
        keep: Option<usize>,
        result: &mut RangeResult,
    ) -> Found<()> {
        let by_key = request.target == SortTarget::Key;
        let direction = match request.order {
            SortOrder::Descend if by_key => Direction::Backward,
            _ => Direction::Forward,
        };
        for pair in self.pairs(&request.range, at, direction) {
            let pair = pair?;
            result.count += 1;
            if !passes(&pair, &request.filter) {
                continue;
            }
            if keep.is_some_and(|keep| result.kvs.len() >= keep) {
                result.more = true;
            } else {
                result.kvs.push(pair);
            }
        }
        Ok(())
    }

    /// Whether a condition holds now.
    pub(crate) fn holds(&self, compare: &Compare) -> Found<bool> {
        let mut any = false;
        for pair in self.pairs(&compare.range, None, Direction::Forward) {
            any = true;
            if !matches(&pair?, compare) {
                return Ok(false);
            }
        }
        // A missing key compares as one with all numbers zero, but it has no value to compare.
        let has_number = !matches!(compare.target, CompareTarget::Value(_));
        Ok(any || (has_number && matches(&KeyValue::default(), compare)))
    }
}

/// How many pairs, first by key, are enough for a limit; `None`: all are needed.
///
/// With a target but no order etcd sorts only what the limit let through, and that is one pair more
/// than the limit; a filter turns this off.
fn fetched(request: &RangeRequest, limit: usize) -> Option<usize> {
    let plain = request.order == SortOrder::None && request.filter == RevisionFilter::default();
    match request.target {
        SortTarget::Key => Some(limit),
        _ if plain => limit.checked_add(1),
        _ => None,
    }
}

fn passes(pair: &KeyValue, filter: &RevisionFilter) -> bool {
    let within = |number: Revision, min: i64, max: i64| {
        (min == 0 || number.0 >= min) && (max == 0 || number.0 <= max)
    };
    within(pair.mod_revision, filter.min_mod, filter.max_mod)
        && within(pair.create_revision, filter.min_create, filter.max_create)
}

fn ordering(a: &KeyValue, b: &KeyValue, request: &RangeRequest) -> Ordering {
    let ascending = match request.target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match request.order {
        SortOrder::None | SortOrder::Ascend => ascending,
        SortOrder::Descend => ascending.reverse(),
    }
}

fn matches(pair: &KeyValue, compare: &Compare) -> bool {
    let LeaseId(lease) = pair.lease;
    let ordering = match &compare.target {
        CompareTarget::Version(number) => pair.version.cmp(number),
        CompareTarget::Create(number) => pair.create_revision.0.cmp(number),
        CompareTarget::Mod(number) => pair.mod_revision.0.cmp(number),
        CompareTarget::Lease(number) => lease.cmp(number),
        CompareTarget::Value(value) => pair.value.cmp(value),
    };
    match compare.result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
        CompareResult::NotEqual => ordering != Ordering::Equal,
    }
}
