//! Building a tree from a snapshot: sorted pairs in, one checkpoint out.
//!
//! The pairs bypass the memory table and become one run of files in one step: until `finish` has
//! returned, an open of the directory finds an empty tree, and the log must not name the generation.

use std::path::Path;

use lsm_tree::{AbstractTree, AnyIngestion, AnyTree, Slice};
use quorate_consensus::GroupId;
use quorate_engine::{EngineError, MAX_KEY_BYTES};

use super::open::{OpenTree, corrupt, open_tree};
use super::{DiskEngine, EngineOptions, engine_dir, failure, remove_generation};

impl DiskEngine {
    /// Fills a new generation with `pairs`, durably; what a crash left of it is deleted first. The caller
    /// then writes its commit record to the log, and opens the generation. Returns the number of pairs.
    ///
    /// # Errors
    /// That of the source; `Corrupt` if its keys do not ascend or are too long; `Io`. The generation is then
    /// to be removed.
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        root: &Path,
        group: GroupId,
        generation: u64,
        options: &EngineOptions,
        pairs: impl IntoIterator<Item = Result<(K, V), EngineError>>,
    ) -> Result<u64, EngineError> {
        remove_generation(root, group, generation)?;
        let dir = engine_dir(root, group, generation);
        let OpenTree { tree, .. } = open_tree(&dir, true, options)?;
        let tree = AnyTree::Standard(tree);
        let mut ingestion = tree.ingestion().map_err(failure)?;
        let mut last: Option<Vec<u8>> = None;
        let mut count = 0;
        for pair in pairs {
            let (key, value) = pair?;
            write(&dir, &mut ingestion, &mut last, key.as_ref(), value.as_ref())?;
            count += 1;
        }
        ingestion.finish().map_err(failure)?;
        assert!(count == 0 || tree.table_count() > 0, "an ingestion of {count} pairs left nothing");
        Ok(count)
    }
}

fn write(
    dir: &Path,
    ingestion: &mut AnyIngestion<'_>,
    last: &mut Option<Vec<u8>>,
    key: &[u8],
    value: &[u8],
) -> Result<(), EngineError> {
    if key.len() > MAX_KEY_BYTES || last.as_ref().is_some_and(|last| &last[..] >= key) {
        return Err(corrupt(dir, "the pairs to ingest do not ascend, or a key is too long"));
    }
    let last = last.get_or_insert_default();
    last.clear();
    last.extend_from_slice(key);
    ingestion.write(Slice::from(key), Slice::from(value)).map_err(failure)
}
