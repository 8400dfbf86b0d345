//! Behaviour in scripts, the avalanche played both ways, and random schedules against the stated promises.

mod avalanche;
mod random;
mod script;
mod world;

use std::time::Duration;

use bytes::Bytes;

use crate::{Call, Method, RetryPolicy, Wire};

const MS: Duration = Duration::from_millis(1);

/// A call with one attempt of at most 100 ms, which may wait for as long again.
fn call(url: &str) -> Call {
    Call {
        url: url.to_owned(),
        wire: Wire::Http { method: Method::Post },
        headers: Vec::new(),
        body: Bytes::new(),
        timeout: 100 * MS,
        retry: RetryPolicy::once(200 * MS),
        verdicts: &["FAILURE"],
    }
}
