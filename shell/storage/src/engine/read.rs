//! From the tree's terms to the engine's: values, scans, errors, and the owner's lookup into the files.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use lsm_tree::table::filter::standard_bloom::Builder as Filter;
use lsm_tree::{AbstractTree, Guard, InternalValue, SeqNo, Slice, Tree};
use quorate_engine::{Direction, EngineError, MAX_KEY_BYTES, Pair};

use super::limits::COPIED_VALUE_BYTES;

type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Finds the newest item of a key, tombstones included, in the table files of one version of the tree. It
/// holds the files of that version, and takes no lock but those of the block cache. Called with the key and
/// its [`hash`].
pub(crate) type Lookup =
    Arc<dyn Fn(&[u8], u64) -> lsm_tree::Result<Option<InternalValue>> + Send + Sync>;

/// The hash by which filters know a key, those in the files and ours.
pub(crate) fn hash(key: &[u8]) -> u64 {
    Filter::get_hash(key)
}

/// A lookup into the current files.
pub(crate) fn lookup(tree: &Tree) -> Lookup {
    let version = tree.current_version();
    Arc::new(move |key, hash| {
        // Newest first: levels from the top, in level 0 the runs from the newest.
        let runs = version.iter_levels().flat_map(|level| level.iter());
        for table in runs.filter_map(|run| run.get_for_key(key)) {
            if let Some(item) = table.get(key, SeqNo::MAX, hash)? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    })
}

/// The value of an item, unless it is a tombstone.
pub(crate) fn live_value(item: InternalValue) -> Option<Bytes> {
    (!item.is_tombstone()).then(|| detached(item.value))
}

/// Bytes that do not hold a whole block of the cache for the sake of a small value.
pub(crate) fn detached(slice: Slice) -> Bytes {
    if slice.len() <= COPIED_VALUE_BYTES {
        Bytes::copy_from_slice(&slice)
    } else {
        Bytes::from(slice)
    }
}

/// What the engine's users get to see of an error of the tree.
pub(crate) fn failure(error: lsm_tree::Error) -> EngineError {
    match error {
        lsm_tree::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            EngineError::Corrupt(error.to_string())
        }
        lsm_tree::Error::Io(error) => EngineError::Io(error.to_string()),
        other => EngineError::Corrupt(other.to_string()),
    }
}

/// Pairs inside the bounds as a read at `boundary` sees them.
pub(crate) fn scan<'a>(
    tree: &Tree,
    range: Range<'_>,
    direction: Direction,
    boundary: SeqNo,
) -> Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a> {
    let range = (clamp_low(range.0), clamp_high(range.1));
    if is_empty(range) {
        return Box::new(std::iter::empty());
    }
    let pairs = tree.range::<&[u8], _>(range, boundary, None);
    match direction {
        Direction::Forward => Box::new(pairs.map(pair)),
        Direction::Backward => Box::new(pairs.rev().map(pair)),
    }
}

fn pair(item: impl Guard) -> Result<Pair, EngineError> {
    let (key, value) = item.into_inner().map_err(failure)?;
    Ok((detached(key), detached(value)))
}

/// The tree panics at longer keys than it can hold, also in bounds. No key lies between a longer bound
/// and its longest possible prefix, except that prefix itself.
fn clamp_low(bound: Bound<&[u8]>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) if key.len() > MAX_KEY_BYTES => {
            Bound::Excluded(&key[..MAX_KEY_BYTES])
        }
        bound => bound,
    }
}

fn clamp_high(bound: Bound<&[u8]>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) if key.len() > MAX_KEY_BYTES => {
            Bound::Included(&key[..MAX_KEY_BYTES])
        }
        bound => bound,
    }
}

fn is_empty(range: Range<'_>) -> bool {
    match range {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low >= high,
    }
}
