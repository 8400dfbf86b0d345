//! An engine that is only looked at: nothing in its directory changes.
//!
//! The table layer knows no other way of opening than for use, and then deletes every file that its
//! manifest does not name, as our own opening deletes temporary ones. So it is shown a *stand-in*: a
//! directory elsewhere with a symbolic link for each file. What it deletes there are links; files that it
//! reads it never writes to.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use quorate_consensus::GroupId;
use quorate_engine::EngineError;

use super::open::{TEMPORARY, at, engine_dir};
use super::{DiskEngine, EngineOptions};

/// An engine over a stand-in for its directory. Reading it is fine; what is inserted is lost.
pub struct Peek {
    // Dropped first: it holds files of the stand-in.
    engine: DiskEngine,
    _stand_in: StandIn,
}

/// A directory of links, gone when dropped.
struct StandIn(PathBuf);

impl Peek {
    /// Opens the tree of `group` and `generation` below `root`. The caller sees to it that no server uses it.
    ///
    /// # Errors
    /// As [`DiskEngine::open`] of a directory that must exist; also `Io` if there is no room for the links.
    pub fn open(
        root: &Path,
        group: GroupId,
        generation: u64,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let stand_in = StandIn::create()?;
        let original = engine_dir(root, group, generation);
        let original = fs::canonicalize(&original).unwrap_or(original);
        let links = engine_dir(&stand_in.0, group, generation);
        fs::create_dir_all(&links).map_err(|error| at(&links, &error))?;
        if original.exists() {
            link_all(&original, &links)?;
        }
        match DiskEngine::open(&stand_in.0, group, generation, false, options) {
            Ok(engine) => Ok(Self { engine, _stand_in: stand_in }),
            Err(error) => Err(renamed(error, &links, &original)),
        }
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &DiskEngine {
        &self.engine
    }
}

impl StandIn {
    fn create() -> Result<Self, EngineError> {
        // The standard library seeds its hash maps from the system's randomness.
        let number = RandomState::new().build_hasher().finish();
        let path = std::env::temp_dir().join(format!("quorate-inspect-{number:016x}"));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| at(&path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // What cannot be removed are links in the system's directory for temporary files.
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// Folders as folders, everything else as links.
fn link_all(from: &Path, to: &Path) -> Result<(), EngineError> {
    for entry in fs::read_dir(from).map_err(|error| at(from, &error))? {
        let entry = entry.map_err(|error| at(from, &error))?;
        let (path, link) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            fs::create_dir(&link).map_err(|error| at(&link, &error))?;
            link_all(&path, &link)?;
        } else if !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            symlink(&path, &link).map_err(|error| at(&link, &error))?;
        }
    }
    Ok(())
}

/// The error with the names that the user knows.
fn renamed(error: EngineError, links: &Path, original: &Path) -> EngineError {
    let named =
        |text: &str| text.replace(&links.display().to_string(), &original.display().to_string());
    match error {
        EngineError::Io(text) => EngineError::Io(named(&text)),
        EngineError::Corrupt(text) => EngineError::Corrupt(named(&text)),
    }
}
