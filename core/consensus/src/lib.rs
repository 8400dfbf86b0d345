//! A replicated log as a value. (chapter to be written with the implementation)

mod api;
mod types;

pub use api::*;
pub use types::*;
