//! The machine: inputs to its halves.

use std::time::Duration;

use crate::api::{Config, Figures, Halt, Input, Now, Output, Refused, Reply};

/// The machine. See the crate.
#[derive(Debug)]
pub struct GlobalTxn {
    config: Config,
    seed: u64,
}

impl GlobalTxn {
    /// A machine that knows of nothing. `seed` spreads its pauses.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self { config, seed }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// `Halt` when a stored record is not what this crate writes: nothing of this step may leave.
    pub fn step(&mut self, _now: Now, input: Input, out: &mut Vec<Output>) -> Result<(), Halt> {
        if let Input::Request { id, .. } = input {
            let reply = Reply::Refused(Refused::error("not built yet"));
            out.push(Output::Reply { id, reply });
        }
        Ok(())
    }

    /// When it wants a `Tick`, if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        None
    }

    /// Counters and gauges.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures { active: (self.seed & 0) as usize, ..Figures::default() }
    }

    /// Checks what must always hold.
    ///
    /// # Panics
    /// When it does not.
    pub fn invariants(&self) {
        assert!(self.config.retry_interval_ms > 0, "a pause of 0 would be a busy loop");
    }
}
