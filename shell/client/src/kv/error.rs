//! What can go wrong with a request, by what is known about its effect.

use tonic::{Code, ConnectError, Status};

use super::Revision;

/// A failed operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An address that is none. Nothing was sent.
    #[error("{0}")]
    Malformed(String),
    /// The store said no: nothing has changed, and asking again gives the same answer.
    #[error("{message} ({code:?})")]
    Refused {
        /// The code of the answer.
        code: Code,
        /// Its words.
        message: String,
    },
    /// What was asked for has been forgotten. A reader of history starts again with a range, and a watch from there.
    #[error("compacted: the oldest revision is {oldest:?}")]
    Compacted {
        /// The oldest revision that can be watched from; not every answer says it.
        oldest: Option<Revision>,
    },
    /// No member answered in time. A write has not happened, and will not.
    #[error("no member answers: {0}")]
    Unavailable(String),
    /// Nobody knows whether the write has happened, or will. Read before it is written again.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
}

/// What an attempt's failure says about its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It has done nothing, and will not: it may be made again, there or elsewhere.
    DidNothing(String),
    /// It may have had an effect.
    Open(String),
    /// It was decided: made again it ends the same way.
    Decided(Error),
}

impl Attempt {
    pub(super) fn of(status: &Status) -> Self {
        let said = || status.message().to_owned();
        if is_unconnected(status) {
            return Self::DidNothing(said());
        }
        // A source: the status was made on this side of the wire.
        if std::error::Error::source(status).is_some() {
            return Self::Open(said());
        }
        let message = status.message();
        // Of a write, too, the last one says that it is certain: what was meant for a lost leader is refused once no
        // later one can have it.
        let nothing = ["no leader", "too many requests", "leader changed"];
        if nothing.iter().any(|words| message.ends_with(words)) {
            return Self::DidNothing(said());
        }
        match status.code() {
            Code::OutOfRange if message.ends_with("has been compacted") => {
                Self::Decided(Error::Compacted { oldest: None })
            }
            Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted => Self::Open(said()),
            code => Self::Decided(Error::Refused { code, message: said() }),
        }
    }
}

/// Whether there was no connection to send the request on.
fn is_unconnected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        if cause.is::<ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_did_nothing_may_be_repeated() {
        let of = |code, text: &str| Attempt::of(&Status::new(code, text));
        for (code, text) in [
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unknown, "etcdserver: too many requests"),
        ] {
            assert!(matches!(of(code, text), Attempt::DidNothing(_)), "{text}");
        }
        for (code, text) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::Unknown, "transport"),
            (Code::Cancelled, "Timeout expired"),
        ] {
            assert!(matches!(of(code, text), Attempt::Open(_)), "{text}");
        }
        let compacted =
            of(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(compacted, Attempt::Decided(Error::Compacted { oldest: None }));
        let empty = of(Code::InvalidArgument, "etcdserver: key is not provided");
        assert!(matches!(empty, Attempt::Decided(Error::Refused { .. })), "{empty:?}");
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert!(matches!(Attempt::of(&broken), Attempt::Open(_)));
    }
}
