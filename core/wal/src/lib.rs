//! The log on disk. (chapter follows)

mod codec;
mod disk;
pub mod limits;
mod record;

pub use disk::{Disk, DiskError, SegmentId};
pub use record::{Checkpoint, ClusterId, Generation, Identity, Opening, Predecessor, Record};
