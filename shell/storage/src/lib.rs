//! The only crate that opens files: the disk engine, and the real disk of the log.

mod engine;
mod engine_thread;

pub use engine::{
    DiskEngine, DiskSnapshot, EngineFigures, EngineOptions, engine_dir, remove_generation,
};
pub use engine_thread::{EngineEvent, EngineThread};
