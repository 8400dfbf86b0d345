//! What an operator can see.

use crate::{BreakerState, Destination};

/// The machine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Calls that are not done.
    pub calls: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Attempts under way.
    pub attempts: usize,
    /// Calls that were refused because of a bound that is not one destination's, since the start.
    pub overloaded: u64,
    /// Each destination that is remembered, in order of its name.
    pub destinations: Vec<DestinationFigures>,
}

/// One destination. The counters begin when it becomes known, and again if it was forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationFigures {
    /// Which.
    pub destination: Destination,
    /// Its circuit breaker.
    pub breaker: BreakerState,
    /// Attempts under way.
    pub running: usize,
    /// Calls that wait for their turn.
    pub waiting: usize,
    /// Attempts made.
    pub attempts: u64,
    /// Attempts that told against the destination.
    pub failures: u64,
    /// Times that the breaker opened.
    pub suspensions: u64,
    /// Calls that were refused at the queue: suspended or too many.
    pub refused: u64,
}
