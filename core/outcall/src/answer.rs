//! What an attempt's result says: about its destination, and whether another attempt makes sense.

use std::time::Duration;

use crate::breaker::Health;
use crate::{AttemptResult, Call, CallFailure, Wire};

/// What a result means to the machine. What it means to the caller is the caller's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) health: Health,
    /// Whether another address might do better.
    pub(crate) again: bool,
}

/// Judges the result of an attempt that had this much time.
pub(crate) fn judge(call: &Call, result: &AttemptResult, granted: Duration) -> Meaning {
    match result {
        AttemptResult::Answered { status, message, body } => {
            let spoken = |text: &[u8]| says_one_of(call.verdicts, text);
            let failing =
                is_failing(call.wire, *status) && !spoken(message.as_bytes()) && !spoken(body);
            let health = if failing { Health::Failing } else { Health::Well };
            Meaning { health, again: failing && is_absent(call.wire, *status) }
        }
        AttemptResult::Failed(why) => failed(call, why, granted),
    }
}

fn failed(call: &Call, why: &CallFailure, granted: Duration) -> Meaning {
    match why {
        // A call that waited long may have had next to no time left, which is not the destination's fault.
        CallFailure::Timeout if granted * 2 < call.timeout.min(call.retry.within) => {
            Meaning { health: Health::Unknown, again: true }
        }
        CallFailure::Timeout | CallFailure::Unreachable(_) | CallFailure::Broken(_) => {
            Meaning { health: Health::Failing, again: true }
        }
        CallFailure::BadAnswer(_) => Meaning { health: Health::Failing, again: false },
        _ => Meaning { health: Health::Unknown, again: false },
    }
}

/// Statuses of a service that does not work or asks to be left alone.
fn is_failing(wire: Wire, status: u16) -> bool {
    match wire {
        Wire::Http { .. } => status == 429 || (500..600).contains(&status),
        // DeadlineExceeded, ResourceExhausted, Internal, Unavailable. Unknown is what an application's own
        // error becomes.
        Wire::Grpc => matches!(status, 4 | 8 | 13 | 14),
    }
}

/// Statuses by which whoever stands before a service says that nobody is there.
fn is_absent(wire: Wire, status: u16) -> bool {
    match wire {
        Wire::Http { .. } => matches!(status, 502..=504),
        Wire::Grpc => status == 14,
    }
}

fn says_one_of(words: &[&str], text: &[u8]) -> bool {
    let found = |word: &&str| text.windows(word.len().max(1)).any(|part| part == word.as_bytes());
    words.iter().any(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, RetryPolicy};
    use bytes::Bytes;

    const SECOND: Duration = Duration::from_secs(1);

    fn call(wire: Wire) -> Call {
        let retry = RetryPolicy::once(4 * SECOND);
        let (url, headers, body) = (String::new(), Vec::new(), Bytes::new());
        Call {
            url,
            wire,
            headers,
            body,
            timeout: 2 * SECOND,
            retry,
            verdicts: &["FAILURE", "ONGOING"],
        }
    }

    fn answered(wire: Wire, status: u16, message: &str, body: &'static str) -> (Health, bool) {
        let result =
            AttemptResult::Answered { status, message: message.to_owned(), body: body.into() };
        let meaning = judge(&call(wire), &result, SECOND);
        (meaning.health, meaning.again)
    }

    #[test]
    fn answers_over_http() {
        let of = |status, body| answered(Wire::Http { method: Method::Get }, status, "", body);
        for status in [200, 302, 400, 404, 409, 425] {
            assert_eq!(of(status, ""), (Health::Well, false), "{status}");
        }
        for status in [429, 500, 501, 599] {
            assert_eq!(of(status, "oops"), (Health::Failing, false), "{status}");
        }
        for status in [502, 503, 504] {
            assert_eq!(of(status, "oops"), (Health::Failing, true), "{status}");
            assert_eq!(of(status, "balance: FAILURE."), (Health::Well, false), "{status}");
        }
        assert_eq!(of(500, "ONGOING"), (Health::Well, false));
    }

    #[test]
    fn answers_over_grpc() {
        let of = |code, message| answered(Wire::Grpc, code, message, "");
        for code in [0, 1, 2, 3, 5, 9, 10, 12, 16] {
            assert_eq!(of(code, ""), (Health::Well, false), "{code}");
        }
        for code in [4, 8, 13] {
            assert_eq!(of(code, "oops"), (Health::Failing, false), "{code}");
        }
        assert_eq!(of(14, "oops"), (Health::Failing, true));
        assert_eq!(of(14, "FAILURE"), (Health::Well, false));
    }

    #[test]
    fn no_answer() {
        let of = |why: CallFailure, granted| {
            let meaning = judge(&call(Wire::Grpc), &AttemptResult::Failed(why), granted);
            (meaning.health, meaning.again)
        };
        assert_eq!(of(CallFailure::Timeout, SECOND), (Health::Failing, true));
        assert_eq!(of(CallFailure::Timeout, SECOND / 2), (Health::Unknown, true));
        assert_eq!(of(CallFailure::Unreachable(String::new()), SECOND), (Health::Failing, true));
        assert_eq!(of(CallFailure::Broken(String::new()), SECOND), (Health::Failing, true));
        assert_eq!(of(CallFailure::BadAnswer(String::new()), SECOND), (Health::Failing, false));
        assert_eq!(of(CallFailure::BadRequest(String::new()), SECOND), (Health::Unknown, false));
    }
}
