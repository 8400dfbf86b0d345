//! Small file systems that a test can fill: ext4 on a sparse file, else memory (tmpfs). Needs root.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::tools::run;

/// A mounted file system that goes with the value.
#[derive(Debug)]
pub struct Mount {
    folder: TempDir,
    /// What kind it is: `ext4` or `tmpfs`.
    pub kind: &'static str,
}

/// The smallest piece that is worth taking, bytes.
const BLOCK: u64 = 4096;

impl Mount {
    /// A file system of `bytes`.
    ///
    /// # Errors
    /// If this process may not mount.
    pub fn new(bytes: u64) -> Result<Self> {
        ext4(bytes).or_else(|first| {
            tmpfs(bytes).with_context(|| format!("neither ext4 ({first:#}) nor tmpfs"))
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    /// Free bytes for an ordinary process.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn free_bytes(&self) -> Result<u64> {
        let stat = statvfs(self.path())?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Takes space away until `left` bytes are free. The space comes back with [`Self::release`].
    ///
    /// # Errors
    /// If it cannot be allocated.
    pub fn fill(&self, left: u64) -> Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(self.filler())?;
        let mut take = self.free_bytes()?.saturating_sub(left);
        while take >= BLOCK {
            let length = file.metadata()?.len();
            match fallocate(&file, FallocateFlags::empty(), length, take) {
                Ok(()) => take = self.free_bytes()?.saturating_sub(left),
                // Others write meanwhile, or the space is in pieces: take a smaller one.
                Err(Errno::NOSPC) => take /= 2,
                Err(error) => return Err(error).context("fallocate"),
            }
        }
        Ok(())
    }

    /// Gives back what [`Self::fill`] took.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn release(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("the filler")
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = self.path();
        let path = path.to_string_lossy();
        if run("umount", &[&path]).is_err()
            && let Err(error) = run("umount", &["--lazy", &path])
        {
            eprintln!("left mounted: {error:#}");
        }
    }
}

fn ext4(bytes: u64) -> Result<Mount> {
    let folder = folder()?;
    let image = folder.path().join("image");
    std::fs::File::create(&image)?.set_len(bytes)?;
    let image = text(&image)?;
    run("mkfs.ext4", &["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image])?;
    run("mount", &["-o", "loop", image, text(&folder.path().join("mnt"))?])?;
    Ok(Mount { folder, kind: "ext4" })
}

fn tmpfs(bytes: u64) -> Result<Mount> {
    let folder = folder()?;
    let size = format!("size={bytes}");
    run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(&folder.path().join("mnt"))?])?;
    Ok(Mount { folder, kind: "tmpfs" })
}

fn folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("mnt"))?;
    Ok(folder)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a temporary path is UTF-8")
}
