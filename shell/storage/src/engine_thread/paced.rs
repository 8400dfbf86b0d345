//! Writing a table file in pieces.
//!
//! The table layer writes a file through the page cache and syncs it at its end. The system then sends all of it to the disk
//! at once, 25 MiB and more, and a sync of the log beside it waits for as long as that takes. So the file is synced on the way, each time
//! that so many bytes have been given to it.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use lsm_tree::file::TABLES_FOLDER;
use lsm_tree::{AbstractTree, InternalValue, TableId, Tree};

/// Bytes of keys and values between two syncs.
const PIECE_BYTES: usize = 1 << 20;

/// Items on their way into table files.
pub(super) struct Paced<I> {
    items: I,
    folder: PathBuf,
    /// The file that is being written, or one before it.
    file: TableId,
    unsynced: usize,
}

impl<I> Paced<I> {
    /// For a flush that begins now, and is the only one to make files.
    pub(super) fn new(tree: &Tree, items: I) -> Self {
        let folder = tree.tree_config().path.join(TABLES_FOLDER);
        // Takes a number, which no file will have; the next one is the first of the flush.
        Self { items, folder, file: tree.get_next_table_id() + 1, unsynced: 0 }
    }

    fn path(&self, file: TableId) -> PathBuf {
        self.folder.join(file.to_string())
    }

    /// An error here is one that the table layer need not see any more: it must not be lost.
    fn sync(&mut self) -> io::Result<()> {
        while self.path(self.file + 1).exists() {
            self.file += 1;
        }
        match File::open(self.path(self.file)) {
            Ok(file) => file.sync_data(),
            // Not begun yet, or its name is made in another way than it was: then it is not paced.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl<I: Iterator<Item = InternalValue>> Iterator for Paced<I> {
    type Item = lsm_tree::Result<InternalValue>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.items.next()?;
        self.unsynced += item.key.user_key.len() + item.value.len();
        if self.unsynced >= PIECE_BYTES {
            self.unsynced = 0;
            if let Err(error) = self.sync() {
                return Some(Err(error.into()));
            }
        }
        Some(Ok(item))
    }
}

#[cfg(test)]
mod tests {
    use quorate_consensus::GroupId;
    use quorate_engine::Engine;

    use super::*;
    use crate::engine_thread::settle_one;
    use crate::{DiskEngine, EngineOptions};

    /// The table layer names files as it is guessed here, and takes numbers in this order.
    #[test]
    fn the_file_under_way_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let options = EngineOptions::default();
        let mut engine = DiskEngine::open(directory.path(), GroupId(1), 1, true, &options).unwrap();
        for applied in 1..=2 {
            let mut guess = Paced::new(&engine.shared().tree, std::iter::empty::<()>());
            // The flush takes one itself.
            guess.file += 1;
            assert!(!guess.path(guess.file).exists());
            guess.sync().unwrap();
            (0..300_u32).for_each(|n| engine.insert(&n.to_be_bytes(), &[7; 10_000]).unwrap());
            engine.seal(applied).unwrap();
            assert_eq!(settle_one(&engine).unwrap(), Some(applied));
            assert!(guess.path(guess.file).exists());
            guess.sync().unwrap();
        }
    }
}
