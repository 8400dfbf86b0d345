//! What went wrong, in the machine's words. The distinction that matters is whether the participant may have seen the
//! request.

use std::error::Error;
use std::fmt::Write as _;

use quorate_outcall::CallFailure;

/// No connection.
pub(super) fn unreachable(error: impl Into<Box<dyn Error>>) -> CallFailure {
    CallFailure::Unreachable(chain(error.into().as_ref()))
}

/// A request was given to a connection, and no whole answer came. `unsent`: it is certain that nothing of it left.
pub(super) fn broken(error: &hyper::Error, unsent: bool) -> CallFailure {
    let text = chain(error);
    if error.is_user() {
        CallFailure::BadRequest(text)
    } else if unsent {
        CallFailure::Unreachable(text)
    } else if error.is_parse() || error.is_parse_too_large() {
        CallFailure::BadAnswer(text)
    } else {
        CallFailure::Broken(text)
    }
}

/// An answer's body did not come to its end.
pub(super) fn body(error: &(dyn Error + Send + Sync + 'static)) -> CallFailure {
    if error.is::<http_body_util::LengthLimitError>() {
        return bad_answer(format!("larger than {} bytes", super::limits::MAX_ANSWER_BYTES));
    }
    error
        .downcast_ref()
        .map_or_else(|| CallFailure::Broken(chain(error)), |error| broken(error, false))
}

/// Of two failures of one attempt, the one after which less is certain.
pub(super) fn worse(one: CallFailure, other: CallFailure) -> CallFailure {
    if one.may_have_arrived() { one } else { other }
}

pub(super) fn bad_answer(what: impl Into<String>) -> CallFailure {
    CallFailure::BadAnswer(what.into())
}

/// An error with its causes, as one line. A cause whose text the error already has is left out.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            // Writing into a string does not fail.
            let _never = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}
