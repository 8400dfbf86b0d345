//! Every error that etcd's clients see: code and text, in one file.
//!
//! Go clients match on the whole text, others on the code or a part of the text, so both are etcd's to
//! the letter. Two of them reach the wire as Unknown, a quirk of etcd's that its clients rely on. A
//! write that may have been applied is answered with "request timed out" (Unavailable): etcd's
//! clients repeat reads on that code and never writes.

use quorate_kv::Refusal;
use quorate_node::{Failure, MemberRefusal};
use tonic::{Code, Status};

/// Members' URLs that cannot be read.
#[must_use]
pub fn bad_member_urls() -> Status {
    etcd(Code::InvalidArgument, "given member URLs are invalid")
}

/// What a watcher is told whose stream the client or the server ends.
#[must_use]
pub fn watch_canceled() -> Status {
    etcd(Code::Cancelled, "watch canceled")
}

/// No leader, to a client that requires one.
#[must_use]
pub fn no_leader() -> Status {
    failure(&Failure::NoLeader)
}

/// A method that this server does not have.
#[must_use]
pub fn unknown_method(path: &str, known_service: bool) -> Status {
    let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or((path, ""));
    Status::unimplemented(if known_service {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    })
}

/// Why a request was refused by the state machine.
#[must_use]
pub fn refusal(refusal: Refusal) -> Status {
    let code = match refusal {
        Refusal::EmptyKey
        | Refusal::KeyNotFound
        | Refusal::ValueProvided
        | Refusal::LeaseProvided
        | Refusal::TooManyOps
        | Refusal::DuplicateKey
        | Refusal::TooLarge => Code::InvalidArgument,
        Refusal::Compacted | Refusal::FutureRevision | Refusal::LeaseTtlTooLarge => {
            Code::OutOfRange
        }
        Refusal::LeaseNotFound => Code::NotFound,
        Refusal::LeaseExists => Code::FailedPrecondition,
        Refusal::NoSpace => Code::ResourceExhausted,
        Refusal::Corrupt => Code::DataLoss,
    };
    etcd(code, refusal)
}

/// Why a request was not answered with a result.
#[must_use]
pub fn failure(failure: &Failure) -> Status {
    let code = match failure {
        Failure::NoLeader | Failure::LeaderChanged | Failure::Timeout | Failure::Stopped => {
            Code::Unavailable
        }
        // etcd maps it on the client's side, so the wire says Unknown.
        Failure::Overloaded => Code::Unknown,
        Failure::Refused(reason) => return refusal(*reason),
        Failure::NotLeader | Failure::Learner | Failure::BadTransferee => Code::FailedPrecondition,
        Failure::TransferTimeout => {
            return etcd(Code::Unknown, "request timed out, leader transfer took too long");
        }
        Failure::Member(reason) => return member(*reason),
    };
    etcd(code, failure)
}

/// The engine failed under a read.
#[must_use]
pub fn engine() -> Status {
    etcd(Code::DataLoss, "corrupt cluster")
}

fn member(reason: MemberRefusal) -> Status {
    let code = match reason {
        MemberRefusal::NotFound => Code::NotFound,
        MemberRefusal::IdExists
        | MemberRefusal::PeerUrlExists
        | MemberRefusal::NotLearner
        | MemberRefusal::LearnerNotReady
        | MemberRefusal::TooManyLearners => Code::FailedPrecondition,
        // The second of the two that etcd maps on the client's side.
        MemberRefusal::NotEnoughStarted => Code::Unknown,
        MemberRefusal::Unhealthy | MemberRefusal::ChangePending => Code::Unavailable,
    };
    etcd(code, reason)
}

fn etcd(code: Code, text: impl std::fmt::Display) -> Status {
    Status::new(code, format!("etcdserver: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_are_etcds() {
        let cases = [
            (refusal(Refusal::EmptyKey), Code::InvalidArgument, "key is not provided"),
            (
                refusal(Refusal::Compacted),
                Code::OutOfRange,
                "mvcc: required revision has been compacted",
            ),
            (
                failure(&Failure::Refused(Refusal::NoSpace)),
                Code::ResourceExhausted,
                "mvcc: database space exceeded",
            ),
            (failure(&Failure::Timeout), Code::Unavailable, "request timed out"),
            (failure(&Failure::Overloaded), Code::Unknown, "too many requests"),
            (
                failure(&Failure::Member(MemberRefusal::NotEnoughStarted)),
                Code::Unknown,
                "re-configuration failed due to not enough started members",
            ),
            (no_leader(), Code::Unavailable, "no leader"),
        ];
        for (status, code, text) in cases {
            assert_eq!(status.code(), code, "{text}");
            assert_eq!(status.message(), format!("etcdserver: {text}"));
        }
    }

    #[test]
    fn unknown_methods_are_named() {
        let known = unknown_method("/etcdserverpb.KV/RangeStream", true);
        assert_eq!(known.message(), "unknown method RangeStream for service etcdserverpb.KV");
        let unknown = unknown_method("/no.Such/Thing", false);
        assert_eq!(unknown.message(), "unknown service no.Such");
        assert_eq!(unknown_method("", false).code(), Code::Unimplemented);
    }
}
