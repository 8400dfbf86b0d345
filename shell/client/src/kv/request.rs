//! Requests, as they are written down.

use bytes::Bytes;
use quorate_wire::etcdserverpb as pb;
use quorate_wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_wire::etcdserverpb::request_op::Request;
use quorate_wire::etcdserverpb::response_op::Response;

use super::{LeaseId, OpResult, Outcome, Revision, revision_of};

/// Keys, and how they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    key: Bytes,
    /// Empty: the one key. One zero byte: no end.
    end: Bytes,
    limit: i64,
    revision: i64,
    serializable: bool,
    keys_only: bool,
    previous: bool,
}

impl Range {
    /// One key.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// Keys from the first on and before the second.
    #[must_use]
    pub fn between(from: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { key: from.into(), end: end.into(), ..Self::default() }
    }

    /// Keys that begin with this; empty: all keys.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        let end = end_of(&prefix);
        let key = if prefix.is_empty() { Bytes::from_static(&[0]) } else { prefix };
        Self { key, end, ..Self::default() }
    }

    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self::prefix(Bytes::new())
    }

    /// At most this many pairs; 0 = no limit.
    #[must_use]
    pub fn limit(self, limit: u32) -> Self {
        Self { limit: limit.into(), ..self }
    }

    /// As it was at this revision.
    #[must_use]
    pub fn at(self, revision: Revision) -> Self {
        Self { revision: revision.0, ..self }
    }

    /// From the member that is asked alone: faster, and perhaps old.
    #[must_use]
    pub fn serializable(self) -> Self {
        Self { serializable: true, ..self }
    }

    /// Without values.
    #[must_use]
    pub fn keys_only(self) -> Self {
        Self { keys_only: true, ..self }
    }

    /// Of a delete and of a watch: with what was there before.
    #[must_use]
    pub fn with_previous(self) -> Self {
        Self { previous: true, ..self }
    }

    pub(super) fn into_request(self) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.key,
            range_end: self.end,
            limit: self.limit,
            revision: self.revision,
            serializable: self.serializable,
            keys_only: self.keys_only,
            ..pb::RangeRequest::default()
        }
    }

    pub(super) fn into_delete(self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest { key: self.key, range_end: self.end, prev_kv: self.previous }
    }

    pub(super) fn to_watch(&self, from: i64) -> pb::WatchCreateRequest {
        pb::WatchCreateRequest {
            key: self.key.clone(),
            range_end: self.end.clone(),
            start_revision: from,
            progress_notify: true,
            prev_kv: self.previous,
            fragment: true,
            ..pb::WatchCreateRequest::default()
        }
    }
}

/// The first key that does not begin with `prefix`; no end if there is none.
fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

/// A write of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    key: Bytes,
    value: Bytes,
    lease: LeaseId,
    previous: bool,
}

impl Put {
    /// This value under this key.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), ..Self::default() }
    }

    /// Deleted when this lease ends.
    #[must_use]
    pub fn lease(self, lease: LeaseId) -> Self {
        Self { lease, ..self }
    }

    /// Answers with what was there before.
    #[must_use]
    pub fn with_previous(self) -> Self {
        Self { previous: true, ..self }
    }

    pub(super) fn into_request(self) -> pb::PutRequest {
        pb::PutRequest {
            key: self.key,
            value: self.value,
            lease: self.lease.0,
            prev_kv: self.previous,
            ..pb::PutRequest::default()
        }
    }
}

/// How two values are to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// Both are the same.
    Equal,
    /// They differ.
    NotEqual,
    /// What is there is greater.
    Greater,
    /// What is there is less.
    Less,
}

impl Is {
    fn wire(self) -> CompareResult {
        match self {
            Self::Equal => CompareResult::Equal,
            Self::NotEqual => CompareResult::NotEqual,
            Self::Greater => CompareResult::Greater,
            Self::Less => CompareResult::Less,
        }
    }
}

/// A condition on a key. A key that is missing has version, revisions and lease 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare(pb::Compare);

impl Compare {
    /// The key is there.
    #[must_use]
    pub fn exists(key: impl Into<Bytes>) -> Self {
        Self::version(key, Is::Greater, 0)
    }

    /// The key is not there.
    #[must_use]
    pub fn missing(key: impl Into<Bytes>) -> Self {
        Self::version(key, Is::Equal, 0)
    }

    /// On how often it was written since it came into being.
    #[must_use]
    pub fn version(key: impl Into<Bytes>, is: Is, version: i64) -> Self {
        Self::new(key, is, CompareTarget::Version, TargetUnion::Version(version))
    }

    /// On when it came into being: what a fencing token is compared with.
    #[must_use]
    pub fn create_revision(key: impl Into<Bytes>, is: Is, revision: Revision) -> Self {
        Self::new(key, is, CompareTarget::Create, TargetUnion::CreateRevision(revision.0))
    }

    /// On when it was last written.
    #[must_use]
    pub fn mod_revision(key: impl Into<Bytes>, is: Is, revision: Revision) -> Self {
        Self::new(key, is, CompareTarget::Mod, TargetUnion::ModRevision(revision.0))
    }

    /// On its value. Of a key that is missing this never holds.
    #[must_use]
    pub fn value(key: impl Into<Bytes>, is: Is, value: impl Into<Bytes>) -> Self {
        Self::new(key, is, CompareTarget::Value, TargetUnion::Value(value.into()))
    }

    /// On its lease.
    #[must_use]
    pub fn lease(key: impl Into<Bytes>, is: Is, lease: LeaseId) -> Self {
        Self::new(key, is, CompareTarget::Lease, TargetUnion::Lease(lease.0))
    }

    fn new(key: impl Into<Bytes>, is: Is, target: CompareTarget, with: TargetUnion) -> Self {
        Self(pb::Compare {
            result: is.wire().into(),
            target: target.into(),
            key: key.into(),
            target_union: Some(with),
            range_end: Bytes::new(),
        })
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Op(Request);

impl Op {
    /// Reads a range.
    #[must_use]
    pub fn get(range: Range) -> Self {
        Self(Request::RequestRange(range.into_request()))
    }

    /// Writes a key.
    #[must_use]
    pub fn put(put: Put) -> Self {
        Self(Request::RequestPut(put.into_request()))
    }

    /// Deletes a range.
    #[must_use]
    pub fn delete(range: Range) -> Self {
        Self(Request::RequestDeleteRange(range.into_delete()))
    }
}

/// Conditions, what happens if all of them hold, and what otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Txn {
    conditions: Vec<Compare>,
    then: Vec<Op>,
    otherwise: Vec<Op>,
}

impl Txn {
    /// If all of these hold (without any they do).
    #[must_use]
    pub fn when(conditions: impl IntoIterator<Item = Compare>) -> Self {
        Self { conditions: conditions.into_iter().collect(), ..Self::default() }
    }

    /// This happens.
    #[must_use]
    pub fn then(self, ops: impl IntoIterator<Item = Op>) -> Self {
        Self { then: ops.into_iter().collect(), ..self }
    }

    /// Otherwise this happens.
    #[must_use]
    pub fn otherwise(self, ops: impl IntoIterator<Item = Op>) -> Self {
        Self { otherwise: ops.into_iter().collect(), ..self }
    }

    pub(super) fn into_request(self) -> pb::TxnRequest {
        let ops = |ops: Vec<Op>| {
            ops.into_iter().map(|Op(request)| pb::RequestOp { request: Some(request) }).collect()
        };
        pb::TxnRequest {
            compare: self.conditions.into_iter().map(|Compare(compare)| compare).collect(),
            success: ops(self.then),
            failure: ops(self.otherwise),
        }
    }
}

pub(super) fn outcome(response: pb::TxnResponse) -> Outcome {
    let result = |op: pb::ResponseOp| match op.response? {
        Response::ResponseRange(range) => Some(OpResult::Page(range.into())),
        Response::ResponsePut(put) => Some(OpResult::Written(put.into())),
        Response::ResponseDeleteRange(delete) => Some(OpResult::Written(delete.into())),
        // This library nests no transactions.
        Response::ResponseTxn(_) => None,
    };
    Outcome {
        revision: revision_of(response.header.as_ref()),
        succeeded: response.succeeded,
        results: response.responses.into_iter().filter_map(result).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(end_of(b"a/"), "a0");
        assert_eq!(end_of(b"a\xff\xff"), "b");
        assert_eq!(end_of(b"\xff"), Bytes::from_static(&[0]));
        let all = Range::all();
        assert_eq!((&all.key[..], &all.end[..]), (&[0][..], &[0][..]));
    }

    #[test]
    fn a_transaction_is_written_as_etcd_reads_it() {
        let txn = Txn::when([Compare::missing("lock"), Compare::value("v", Is::Less, "b")])
            .then([Op::put(Put::new("lock", "me").lease(LeaseId(7)))])
            .otherwise([Op::get(Range::key("lock"))]);
        let request = txn.into_request();
        assert_eq!(request.compare[0].target_union, Some(TargetUnion::Version(0)));
        assert_eq!(request.compare[1].result(), CompareResult::Less);
        let Some(Request::RequestPut(put)) = &request.success[0].request else {
            panic!("{:?}", request.success)
        };
        assert_eq!((put.lease, put.value.as_ref()), (7, &b"me"[..]));
        assert_eq!(request.failure.len(), 1);
    }
}
