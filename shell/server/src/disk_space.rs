//! The watermark of the disk: writes are refused while there is still room for what must be written
//! (a log segment, a checkpoint and its compaction), and go on by themselves when space returns.
//!
//! A ballast file holds space back. When the free space falls so low that even those writes are in
//! danger, it is given up; when there is plenty again, it is put back.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_node::Input;
use quorate_storage::{WalHandle, free_space};

use crate::inbox::Inbox;
use crate::limits::{BALLAST_BYTES, DISK_CHECK_INTERVAL, DISK_LOW_BYTES, DISK_OK_BYTES};

/// Name of the ballast file in the data directory.
pub const BALLAST_FILE: &str = "ballast";

/// What to do after a look at the free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    /// Whether writes are refused.
    full: bool,
    /// Whether the ballast should exist.
    ballast: bool,
}

/// Decides from the free bytes (ballast not counted as free) and the state before.
fn look(free: u64, before: Look) -> Look {
    let full = if before.full { free < DISK_OK_BYTES } else { free < DISK_LOW_BYTES };
    let ballast = match before.ballast {
        // Half of the watermark is what one checkpoint may take.
        true => free >= DISK_LOW_BYTES / 2,
        false => free >= DISK_OK_BYTES + BALLAST_BYTES,
    };
    Look { full, ballast }
}

/// Looks from time to time, as long as the runtime runs.
pub async fn watch(directory: PathBuf, inbox: Arc<Inbox>, wal: WalHandle) {
    let path = directory.join(BALLAST_FILE);
    let exists = path.metadata().is_ok_and(|file| file.len() >= BALLAST_BYTES);
    let mut state = Look { full: false, ballast: exists };
    let mut ticks = tokio::time::interval(DISK_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let free = match free_space(&directory) {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%error, "cannot tell how much space is free");
                continue;
            }
        };
        let next = look(free, state);
        state.ballast = set_ballast(&path, state.ballast, next.ballast).await;
        if next.full != state.full {
            state.full = next.full;
            inbox.internal(Input::DiskSpace { full: next.full });
            tell(free, next.full);
        }
        if !next.full {
            wal.retry_space();
        }
    }
}

fn tell(free: u64, full: bool) {
    let free_mib = free >> 20;
    if full {
        let needed_mib = DISK_OK_BYTES >> 20;
        tracing::warn!(free_mib, needed_mib, "the disk is nearly full: writes are refused");
    } else {
        tracing::info!(free_mib, "there is space again: writes are accepted");
    }
}

/// Puts the ballast in place or gives it up; returns whether it is there now.
async fn set_ballast(path: &Path, exists: bool, wanted: bool) -> bool {
    if exists == wanted {
        return exists;
    }
    let path = path.to_path_buf();
    let work = move || if wanted { create(&path) } else { std::fs::remove_file(&path) };
    match tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten() {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, "the ballast file could not be changed");
            exists
        }
    }
}

fn create(path: &Path) -> io::Result<()> {
    let file: File = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    let flags = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&file, flags, 0, BALLAST_BYTES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Look = Look { full: false, ballast: true };

    #[test]
    fn writes_are_refused_below_and_accepted_above_the_watermark() {
        assert_eq!(look(DISK_LOW_BYTES, FINE), FINE);
        let full = look(DISK_LOW_BYTES - 1, FINE);
        assert_eq!(full, Look { full: true, ballast: true });
        assert!(look(DISK_LOW_BYTES + 1, full).full, "it does not flap");
        assert_eq!(look(DISK_OK_BYTES, full), FINE);
    }

    #[test]
    fn the_ballast_is_given_up_late_and_put_back_when_there_is_plenty() {
        let full = Look { full: true, ballast: true };
        let desperate = look(DISK_LOW_BYTES / 2 - 1, full);
        assert_eq!(desperate, Look { full: true, ballast: false });
        let better = look(DISK_OK_BYTES, desperate);
        assert_eq!(better, Look { full: false, ballast: false });
        assert_eq!(look(DISK_OK_BYTES + BALLAST_BYTES, better), FINE);
    }
}
