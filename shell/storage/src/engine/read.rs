//! Reading: memory tables over table files, for the owner and for snapshots alike.
//!
//! What lies in memory is newer than any file, and among memory tables the active one is the newest. So a
//! get asks them in that order, and a scan lets the newest item of a key hide all others.

use std::cmp::Ordering;
use std::ops::Bound;

use bytes::Bytes;
use lsm_tree::{InternalValue, Slice};
use quorate_engine::{Direction, EngineError, MAX_KEY_BYTES, Pair};

use super::files::{FileItems, Files, hash};
use super::limits::COPIED_VALUE_BYTES;
use super::memory_table::{Item, Layer, Merged};

pub(super) type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The value of a key in `layers`, newest first, over `files`.
pub(super) fn get<'a>(
    mut layers: impl Iterator<Item = &'a Layer>,
    files: &Files,
    key: &[u8],
) -> Result<Option<Bytes>, EngineError> {
    if key.len() > MAX_KEY_BYTES {
        return Ok(None);
    }
    let hash = hash(key);
    if let Some(item) = layers.find_map(|layer| layer.get(key, hash)) {
        return Ok(item.live_value());
    }
    let item = files.get(key, hash).map_err(failure)?;
    Ok(item.filter(|item| !item.is_tombstone()).map(|item| detached(item.value)))
}

/// Pairs inside the bounds in `layers`, newest first, over `files`.
pub(super) fn scan<'a>(
    layers: impl Iterator<Item = &'a Layer>,
    files: &Files,
    range: Range<'_>,
    direction: Direction,
) -> Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a> {
    let range = (clamp_low(range.0), clamp_high(range.1));
    if is_empty(range) {
        return Box::new(std::iter::empty());
    }
    let cursors = layers.flat_map(|layer| layer.cursors(range)).collect();
    Box::new(Scan {
        direction,
        in_memory: None,
        memory: Merged::new(cursors, direction),
        in_files: None,
        files: Some(files.range(range)),
    })
}

/// A merge of memory and files. The next item of either is fetched when it is needed, and not before:
/// behind it may be a read of a block.
struct Scan<'a> {
    direction: Direction,
    in_memory: Option<&'a Item>,
    memory: Merged<'a>,
    in_files: Option<InternalValue>,
    /// `None` when it has come to its end, or failed.
    files: Option<FileItems>,
}

impl Scan<'_> {
    /// Sees to it that the next item of each side is known, unless there is none.
    fn fetch(&mut self) -> lsm_tree::Result<()> {
        if self.in_memory.is_none() {
            self.in_memory = self.memory.next();
        }
        if self.in_files.is_none()
            && let Some(files) = &mut self.files
        {
            let next = match self.direction {
                Direction::Forward => files.next(),
                Direction::Backward => files.next_back(),
            };
            if !matches!(next, Some(Ok(_))) {
                self.files = None;
            }
            self.in_files = next.transpose()?;
        }
        Ok(())
    }

    /// Which side comes first: `Less` is memory.
    fn nearer(&self) -> Option<Ordering> {
        Some(match (self.in_memory, &self.in_files) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(memory), Some(file)) => {
                let order = memory.key().cmp(&file.key.user_key);
                if self.direction == Direction::Forward { order } else { order.reverse() }
            }
        })
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Pair, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Err(error) = self.fetch() {
                return Some(Err(failure(error)));
            }
            let nearer = self.nearer()?;
            // The same key in a file is older.
            let file = if nearer == Ordering::Less { None } else { self.in_files.take() };
            if nearer == Ordering::Greater {
                return file.map(|item| Ok((detached(item.key.user_key), detached(item.value))));
            }
            if let Some(item) = self.in_memory.take()
                && let Some(value) = item.live_value()
            {
                return Some(Ok((Bytes::copy_from_slice(item.key()), value)));
            }
        }
    }
}

/// Bytes that do not hold a whole block of the cache for the sake of a small value.
fn detached(slice: Slice) -> Bytes {
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
