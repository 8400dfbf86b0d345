//! The table files of one version of the tree, held and readable without any lock of the tree.
//!
//! A version switch installs new files and fsyncs the manifest while it holds the tree's lock. So nobody but
//! the engine thread, which makes the switches, goes through the tree: after each it makes one of these, the
//! owner takes it over, and snapshots hold it. A file that a later version does without is deleted when the
//! last of these that names it goes. So the tree needs to remember no version but its newest, and may forget
//! overwritten values at once.

use lsm_tree::table::filter::standard_bloom::Builder as Filter;
use lsm_tree::{AbstractTree, InternalValue, SeqNo, Tree};

use super::read::Range;

/// Items of table files in the order of their keys, tombstones and what they hide left out.
pub(super) type FileItems =
    Box<dyn DoubleEndedIterator<Item = lsm_tree::Result<InternalValue>> + Send>;

type Get = dyn Fn(&[u8], u64) -> lsm_tree::Result<Option<InternalValue>> + Send + Sync;
type Scan = dyn Fn(Range<'_>) -> FileItems + Send + Sync;

/// See the module.
pub(super) struct Files {
    get: Box<Get>,
    scan: Box<Scan>,
}

/// The hash by which filters in the files know a key, and our memory tables too.
pub(super) fn hash(key: &[u8]) -> u64 {
    Filter::get_hash(key)
}

impl Files {
    /// The newest ones. Called by who makes version switches, so that there is none between the two halves.
    pub(super) fn newest(tree: &Tree) -> Self {
        let version = tree.current_version();
        let get = move |key: &[u8], hash: u64| {
            // Newest first: levels from the top, in level 0 the runs from the newest.
            let runs = version.iter_levels().flat_map(|level| level.iter());
            for table in runs.filter_map(|run| run.get_for_key(key)) {
                if let Some(item) = table.get(key, SeqNo::MAX, hash)? {
                    return Ok(Some(item));
                }
            }
            Ok(None)
        };
        let newest = tree.get_version_history_lock().latest_version();
        let scan = move |range: Range<'_>| -> FileItems {
            let newest = newest.clone();
            Box::new(Tree::create_internal_range::<&[u8], _>(newest, &range, SeqNo::MAX, None))
        };
        Self { get: Box::new(get), scan: Box::new(scan) }
    }

    /// The newest item of a key, a tombstone included; `hash` is that of the key.
    pub(super) fn get(&self, key: &[u8], hash: u64) -> lsm_tree::Result<Option<InternalValue>> {
        (self.get)(key, hash)
    }

    /// Items inside the bounds; no longer than keys may be, and not empty.
    pub(super) fn range(&self, range: Range<'_>) -> FileItems {
        (self.scan)(range)
    }
}
