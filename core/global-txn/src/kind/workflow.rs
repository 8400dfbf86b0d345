//! Workflow: a function of the application; the server keeps its progress and starts it again.
//!
//! The application registers what each step returned and submits the outcome by itself. Whenever it was not
//! heard of for a retry interval (each registration counts as a sign of life) it is called back, to run the
//! function again over the recorded steps. What the callback answers decides nothing.

use crate::api::Config;
use crate::record::{Record, Status};

use super::{Callable, Target, given_up_at};

pub(super) fn callable(record: &Record) -> Vec<Callable> {
    let waits = record.status == Status::Prepared && record.has_query;
    waits.then(|| record.ready(Target::Callback)).into_iter().collect()
}

/// Without a URL to call back, only its application can end it.
pub(super) fn deadline(config: &Config, record: &Record) -> Option<u64> {
    let is_alone = record.status == Status::Prepared && !record.has_query;
    is_alone.then(|| given_up_at(config, record))
}
