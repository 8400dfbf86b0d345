//! The only crate that opens files: the disk engine, and the real disk of the log.

mod directory;
mod disk;
mod engine;
mod engine_thread;
mod latency;
mod wal_thread;

pub use directory::{DirectoryLock, LOCK_FILE, LockError, free_space};
pub use disk::FileDisk;
pub use engine::{
    DiskEngine, DiskSnapshot, EngineFigures, EngineOptions, EngineUse, Peek, engine_dir,
    remove_generation, remove_other_generations,
};
pub use engine_thread::{EngineEvent, EngineThread};
pub use latency::{BUCKETS, LatencyFigures, LatencyHistogram};
pub use wal_thread::{SharedDisk, WalEvent, WalHandle, WalStopped, WalThread, start_wal};
