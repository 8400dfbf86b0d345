//! A directory's contents as a value, to show that a refused start touched nothing.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Path below the root → length in bytes and a hash of the contents (folders: 0, 0).
pub type Tree = BTreeMap<PathBuf, (u64, u64)>;

/// Reads everything below `root`; an absent root is an empty tree.
///
/// # Errors
/// If something cannot be read.
pub fn read(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    if root.exists() {
        visit(root, root, &mut tree)?;
    }
    Ok(tree)
}

fn visit(root: &Path, folder: &Path, tree: &mut Tree) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        let below = path.strip_prefix(root)?.to_owned();
        if path.is_dir() {
            tree.insert(below, (0, 0));
            visit(root, &path, tree)?;
        } else {
            tree.insert(below, fingerprint(&path)?);
        }
    }
    Ok(())
}

fn fingerprint(path: &Path) -> Result<(u64, u64)> {
    let contents = std::fs::read(path).with_context(|| path.display().to_string())?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&contents);
    Ok((contents.len() as u64, hasher.finish()))
}

/// What differs, one line a path.
#[must_use]
pub fn difference(before: &Tree, after: &Tree) -> Vec<String> {
    let gone = before.keys().filter(|path| !after.contains_key(*path));
    let mut lines: Vec<String> = gone.map(|path| format!("removed {}", path.display())).collect();
    for (path, now) in after {
        match before.get(path) {
            None => lines.push(format!("created {}", path.display())),
            Some(then) if then != now => lines.push(format!("changed {}", path.display())),
            Some(_) => {}
        }
    }
    lines
}

/// Copies a directory with everything below it.
///
/// # Errors
/// If something cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("an entry has a name")?);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
