//! When a call that did not succeed is made again.

use crate::api::Config;
use crate::kind::{self, Target};
use crate::record::{Answer, Class, Record, Status};

use super::{Stamp, enter, not_done};

/// ONGOING keeps the interval, anything else doubles it.
pub(super) fn retry_later(
    config: &Config,
    record: &mut Record,
    target: Target,
    answer: Answer,
    at: Stamp,
) {
    let base = base_ms(config, record);
    let tries = record.tries_mut(target);
    let is_error = answer.class != Class::Ongoing;
    tries.errors = tries.errors.saturating_add(u32::from(is_error));
    let interval = backoff_ms(base, tries.errors, config.max_backoff_ms);
    let pause = if is_error { spread(interval, at.random) } else { interval };
    tries.next_ms = at.group_ms.saturating_add(pause);
    tries.last = Some(answer);
}

/// A saga with a limit of retries spends them one after the other, with pauses that begin short.
pub(super) fn retry_soon(
    config: &Config,
    record: &mut Record,
    target: Target,
    answer: Answer,
    at: Stamp,
) {
    if record.retry_count >= record.options.retry_limit {
        let limit = record.options.retry_limit;
        record.tries_mut(target).last = Some(answer);
        record.rollback_reason =
            format!("RetryCount is greater than RetryLimit, RetryLimit: {limit}");
        enter(config, record, Status::Aborting, at);
        return;
    }
    record.retry_count += 1;
    let most = base_ms(config, record);
    let tries = record.tries_mut(target);
    tries.errors = tries.errors.saturating_add(1);
    let pause = spread(backoff_ms(FIRST_SOON_MS.min(most), tries.errors, most), at.random);
    tries.next_ms = at.group_ms.saturating_add(pause);
    tries.last = Some(answer);
}

const FIRST_SOON_MS: u64 = 50;

/// The pause between two tries before any error, in ms (the spec's section 2.3).
pub(crate) fn base_ms(config: &Config, record: &Record) -> u64 {
    let timeout = record.options.timeout_ms;
    let own = record.options.retry_interval_ms;
    let base = match own {
        0 if timeout > 0 && timeout < config.retry_interval_ms => timeout,
        0 => config.retry_interval_ms,
        own => own,
    };
    base.max(1)
}

/// Doubled by each error, up to a bound that never shortens what was asked for.
fn backoff_ms(base: u64, errors: u32, longest: u64) -> u64 {
    base.saturating_mul(1u64.checked_shl(errors).unwrap_or(u64::MAX)).min(longest.max(base))
}

/// Four fifths to all of it: what failed together is not tried again together.
fn spread(interval: u64, random: u64) -> u64 {
    interval - interval / 5 * (random % 1024) / 1024
}

/// Whether a call that was not made is made up for soon, and so is no error: its destination is only busy, or
/// suspended for no longer than the transaction would wait between two tries.
pub(crate) fn waits_out(config: &Config, record: &Record, retry_in_ms: Option<u64>) -> bool {
    retry_in_ms.is_none_or(|ms| ms <= base_ms(config, record).max(SHORT_SUSPENSION_MS))
}

pub(super) fn not_called(
    config: &Config,
    record: &mut Record,
    target: Target,
    retry_in_ms: Option<u64>,
    answer: &Answer,
    at: Stamp,
) {
    if kind::late_answer(record, target) {
        return;
    }
    if !waits_out(config, record, retry_in_ms) {
        return not_done(config, record, target, answer, at, true);
    }
    let pause = retry_in_ms.unwrap_or_else(|| base_ms(config, record)).max(1);
    let tries = record.tries_mut(target);
    // Afterwards, and not all at once.
    tries.next_ms = at.group_ms.saturating_add(pause + pause / 4 * (at.random % 1024) / 1024);
    tries.last.get_or_insert_with(|| answer.clone());
}

/// A suspension up to this is waited for whatever the interval, in ms.
const SHORT_SUSPENSION_MS: u64 = 1_000;
