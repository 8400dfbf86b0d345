//! The log on disk. (chapter follows)

mod codec;
mod disk;
mod execute;
mod frame;
mod group_log;
mod inspect;
pub mod limits;
mod read;
mod record;
mod recovery;
mod replay;
mod survey;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

pub use disk::{Disk, DiskError, SegmentId};
pub use execute::{drive, perform, persisted};
pub use inspect::{GroupReport, Inspection, SegmentReport, inspect};
pub use read::{ReadError, ReadPlan, read_entries};
pub use record::{Checkpoint, ClusterId, Generation, Identity, Opening, Predecessor, Record};
pub use recovery::{Cut, Recovery, RecoveryError, create, recover};
pub use replay::RecoveredGroup;
pub use writer::{Config, Halt, Input, Output, Writer};

/// The version of the format that this code writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = frame::VERSION;
