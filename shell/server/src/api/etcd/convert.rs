//! etcd's messages to the state machine's types and back. Byte strings are shared, never copied.
//!
//! Enums are open on the wire: a number without a name is taken as the peer takes it (an unknown sort
//! is no sort, a condition with an unknown result holds).

use bytes::Bytes;
use quorate_kv::{
    AlarmKind, Compare, CompareResult, CompareTarget, DeleteRequest, DeleteResult, Event,
    EventKind, KeyRange, KeyValue, LeaseId, Op, OpResult, PutRequest, PutResult, RangeRequest,
    RangeResult, Refusal, Revision, RevisionFilter, SortOrder, SortTarget, TxnRequest, TxnResult,
};
use quorate_node::{MemberInfo, Stamp};
use quorate_wire::{etcdserverpb as pb, mvccpb};
use tonic::Status;

use super::errors;

/// Deepest nesting of transactions that is converted; the state machine's own bound is lower.
const MAX_DEPTH: usize = 128;

/// Cluster and member, for the header of every response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: u64,
    /// This member.
    pub member: u64,
}

impl Identity {
    /// The header of a response.
    #[must_use]
    pub fn header(self, stamp: Stamp) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: self.cluster,
            member_id: self.member,
            revision: stamp.revision.0,
            raft_term: stamp.term.0,
        })
    }

    /// The same with another revision.
    #[must_use]
    pub fn header_at(self, stamp: Stamp, revision: Revision) -> Option<pb::ResponseHeader> {
        self.header(Stamp { revision, ..stamp })
    }
}

/// A range.
#[must_use]
pub fn range(request: pb::RangeRequest) -> RangeRequest {
    RangeRequest {
        range: KeyRange { key: request.key, range_end: request.range_end },
        limit: request.limit,
        revision: request.revision,
        order: match request.sort_order {
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => SortOrder::None,
        },
        target: match request.sort_target {
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            _ => SortTarget::Key,
        },
        keys_only: request.keys_only,
        count_only: request.count_only,
        filter: RevisionFilter {
            min_mod: request.min_mod_revision,
            max_mod: request.max_mod_revision,
            min_create: request.min_create_revision,
            max_create: request.max_create_revision,
        },
    }
}

/// A put.
#[must_use]
pub fn put(request: pb::PutRequest) -> PutRequest {
    PutRequest {
        key: request.key,
        value: request.value,
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A delete.
#[must_use]
pub fn delete(request: pb::DeleteRangeRequest) -> DeleteRequest {
    DeleteRequest {
        range: KeyRange { key: request.key, range_end: request.range_end },
        prev_kv: request.prev_kv,
    }
}

/// A transaction.
///
/// # Errors
/// What etcd answers to an operation without content, or with conditions that cannot be read.
pub fn txn(request: pb::TxnRequest) -> Result<TxnRequest, Status> {
    txn_at(request, 0)
}

fn txn_at(request: pb::TxnRequest, depth: usize) -> Result<TxnRequest, Status> {
    if depth > MAX_DEPTH {
        return Err(errors::refusal(Refusal::TooManyOps));
    }
    let ops = |ops: Vec<pb::RequestOp>| ops.into_iter().map(|op| self::op(op, depth)).collect();
    Ok(TxnRequest {
        compare: request
            .compare
            .into_iter()
            .filter_map(|c| compare(c).transpose())
            .collect::<Result<_, _>>()?,
        success: Result::<Vec<_>, Status>::from_iter::<Vec<_>>(ops(request.success))?,
        failure: Result::<Vec<_>, Status>::from_iter::<Vec<_>>(ops(request.failure))?,
    })
}

fn op(op: pb::RequestOp, depth: usize) -> Result<Op, Status> {
    use pb::request_op::Request;
    match op.request {
        None => Err(errors::refusal(Refusal::KeyNotFound)),
        Some(Request::RequestRange(request)) => Ok(Op::Range(range(request))),
        Some(Request::RequestPut(request)) => Ok(Op::Put(put(request))),
        Some(Request::RequestDeleteRange(request)) => Ok(Op::Delete(delete(request))),
        Some(Request::RequestTxn(request)) => Ok(Op::Txn(txn_at(request, depth + 1)?)),
    }
}

/// `None` for a condition that always holds.
fn compare(compare: pb::Compare) -> Result<Option<Compare>, Status> {
    use pb::compare::TargetUnion;
    let result = match compare.result {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        // etcd has no case for other numbers and falls through to "holds"; the key still counts.
        _ if !compare.key.is_empty() => return Ok(None),
        _ => return Err(errors::refusal(Refusal::EmptyKey)),
    };
    // The target decides; a value of another kind counts as not given.
    let given = compare.target_union;
    let target = match (compare.target, given) {
        (0, Some(TargetUnion::Version(number))) => CompareTarget::Version(number),
        (0, _) => CompareTarget::Version(0),
        (1, Some(TargetUnion::CreateRevision(number))) => CompareTarget::Create(number),
        (1, _) => CompareTarget::Create(0),
        (2, Some(TargetUnion::ModRevision(number))) => CompareTarget::Mod(number),
        (2, _) => CompareTarget::Mod(0),
        (3, Some(TargetUnion::Value(value))) => CompareTarget::Value(value),
        (3, _) => CompareTarget::Value(Bytes::new()),
        (4, Some(TargetUnion::Lease(number))) => CompareTarget::Lease(number),
        (4, _) => CompareTarget::Lease(0),
        _ => return Err(Status::invalid_argument("etcdserver: unknown compare target")),
    };
    let range = KeyRange { key: compare.key, range_end: compare.range_end };
    Ok(Some(Compare { range, target, result }))
}

/// A pair.
#[must_use]
pub fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        value: kv.value,
        lease: kv.lease.0,
    }
}

/// An event; `with_prev` says whether the watcher asked for the pair before.
#[must_use]
pub fn event(event: &Event, with_prev: bool) -> mvccpb::Event {
    mvccpb::Event {
        r#type: match event.kind {
            EventKind::Put => 0,
            EventKind::Delete => 1,
        },
        kv: Some(key_value(event.kv.clone())),
        prev_kv: event.prev_kv.clone().filter(|_| with_prev).map(key_value),
    }
}

/// Result of a range.
#[must_use]
pub fn range_response(
    result: RangeResult,
    header: Option<pb::ResponseHeader>,
) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: result.kvs.into_iter().map(key_value).collect(),
        more: result.more,
        count: result.count,
    }
}

/// Result of a put.
#[must_use]
pub fn put_response(result: PutResult, header: Option<pb::ResponseHeader>) -> pb::PutResponse {
    pb::PutResponse { header, prev_kv: result.prev_kv.map(key_value) }
}

/// Result of a delete.
#[must_use]
pub fn delete_response(
    result: DeleteResult,
    header: Option<pb::ResponseHeader>,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header,
        deleted: result.deleted,
        prev_kvs: result.prev_kvs.into_iter().map(key_value).collect(),
    }
}

/// Result of a transaction. Inner headers tell the revision alone, those of nested transactions
/// nothing at all: etcd's clients have come to know them so.
#[must_use]
pub fn txn_response(result: TxnResult, header: Option<pb::ResponseHeader>) -> pb::TxnResponse {
    pb::TxnResponse {
        header,
        succeeded: result.succeeded,
        responses: result.responses.into_iter().map(op_response).collect(),
    }
}

fn op_response(result: OpResult) -> pb::ResponseOp {
    use pb::response_op::Response;
    let inner = |revision: Revision| {
        Some(pb::ResponseHeader { revision: revision.0, ..pb::ResponseHeader::default() })
    };
    let response = match result {
        OpResult::Range(result) => {
            let header = inner(result.revision);
            Response::ResponseRange(range_response(result, header))
        }
        OpResult::Put(result) => {
            let header = inner(result.revision);
            Response::ResponsePut(put_response(result, header))
        }
        OpResult::Delete(result) => {
            let header = inner(result.revision);
            Response::ResponseDeleteRange(delete_response(result, header))
        }
        OpResult::Txn(result) => {
            Response::ResponseTxn(txn_response(result, Some(pb::ResponseHeader::default())))
        }
    };
    pb::ResponseOp { response: Some(response) }
}

/// A member.
#[must_use]
pub fn member(info: MemberInfo) -> pb::Member {
    pb::Member {
        id: info.id,
        name: info.name,
        peer_ur_ls: info.peer_urls,
        client_ur_ls: info.client_urls,
        is_learner: info.learner,
    }
}

/// The number of an alarm.
#[must_use]
pub fn alarm_type(kind: AlarmKind) -> pb::AlarmType {
    match kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    }
}

#[cfg(test)]
mod tests;
