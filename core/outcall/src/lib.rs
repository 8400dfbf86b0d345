//! Calls to other people's services as a machine.
#![forbid(unsafe_code)]

mod api;
mod destination;
pub mod limits;

pub use api::*;
pub use destination::{Destination, Target};
