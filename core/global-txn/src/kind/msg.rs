//! Two-phase message: kept back until its sender has committed, then delivered for certain.
//!
//! *prepare* stores it before the sender's local transaction, *submit* releases it after. If neither submit nor
//! abort is heard of within the timeout, the sender is asked whether it committed (the check-back): yes
//! releases, FAILURE drops the message, anything else is asked again. A message without a check-back URL counts as
//! committed. Once released nothing takes it back: each branch is called until it succeeds.
//!
//! A delay counts from the creation.

use crate::api::Config;
use crate::record::{Op, Record, Status};

use super::{Callable, Target, timeout_at};

pub(super) fn callable(config: &Config, record: &Record) -> Vec<Callable> {
    let (calls, floor) = match record.status {
        Status::Prepared => (vec![Target::Callback], timeout_at(config, record)),
        Status::Submitted => {
            let most = if record.options.concurrent { usize::MAX } else { 1 };
            let rows = record.open(&Op::Action).take(most).map(Target::Row).collect();
            (rows, delivered_from(record))
        }
        _ => (Vec::new(), 0),
    };
    let ready = |target| {
        let Callable { target, from_ms } = record.ready(target);
        Callable { target, from_ms: from_ms.max(floor) }
    };
    calls.into_iter().map(ready).collect()
}

fn delivered_from(record: &Record) -> u64 {
    match record.options.delay_ms {
        0 => 0,
        delay => record.created_ms.saturating_add(delay),
    }
}

pub(super) fn settle(record: &Record) -> Option<(Status, String)> {
    let is_through =
        record.status == Status::Submitted && record.open(&Op::Action).next().is_none();
    is_through.then(|| (Status::Succeed, String::new()))
}
