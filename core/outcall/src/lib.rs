//! Calls to other people's services as a machine.
#![forbid(unsafe_code)]

mod answer;
mod api;
mod breaker;
mod destination;
mod figures;
mod in_hand;
pub mod limits;
mod machine;
mod rng;
mod service;

pub use api::*;
pub use breaker::BreakerState;
pub use destination::{Destination, Target};
pub use figures::{DestinationFigures, Figures};
pub use machine::Outcalls;
