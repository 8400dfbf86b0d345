//! The KV service: Range, Put, DeleteRange, Txn, Compact.
//!
//! Writes go to the node as commands. Reads ask it for a view and scan that here: a single key at once,
//! anything longer on the pool, so that no scan holds up the connections of this runtime.

use quorate_kv::{Command, KeyspaceId, ReadError, Refusal, Reply, check};
use quorate_node::Stamp;
use quorate_wire::etcdserverpb as pb;
use tonic::Status;

use super::{Api, convert, errors};

const KEYSPACE: KeyspaceId = KeyspaceId::ETCD;

/// Reads a range of keys.
pub(super) async fn range(
    api: Api,
    request: pb::RangeRequest,
) -> Result<pb::RangeResponse, Status> {
    let serializable = request.serializable;
    let request = convert::range(request);
    check::check_range(&request).map_err(errors::refusal)?;
    let (stamp, view) = api.view(!serializable).await?;
    let short = request.range.is_single();
    let result = api.scan(short, move || view.range(&request)).await?;
    let header = api.identity.header_at(stamp, result.revision);
    Ok(convert::range_response(result, header))
}

/// Puts one key.
pub(super) async fn put(
    api: Api,
    request: pb::PutRequest,
    bytes: usize,
) -> Result<pb::PutResponse, Status> {
    let command = Command::Put(convert::put(request));
    match api.command(command, bytes).await? {
        (stamp, Reply::Put(result)) => {
            let header = api.identity.header_at(stamp, result.revision);
            Ok(convert::put_response(result, header))
        }
        (_, other) => Err(wrong(&other)),
    }
}

/// Deletes a range of keys.
pub(super) async fn delete_range(
    api: Api,
    request: pb::DeleteRangeRequest,
    bytes: usize,
) -> Result<pb::DeleteRangeResponse, Status> {
    let command = Command::Delete(convert::delete(request));
    match api.command(command, bytes).await? {
        (stamp, Reply::Delete(result)) => {
            let header = api.identity.header_at(stamp, result.revision);
            Ok(convert::delete_response(result, header))
        }
        (_, other) => Err(wrong(&other)),
    }
}

/// A transaction. One that only reads takes a view, as a range does; with a transaction inside it goes
/// through the log whatever it does, as etcd has it.
pub(super) async fn txn(
    api: Api,
    request: pb::TxnRequest,
    bytes: usize,
) -> Result<pb::TxnResponse, Status> {
    let serializable = only_serializable(&request);
    let request = convert::txn(request)?;
    if check::is_read_only(&request) && !check::contains_nested(&request) {
        check::check_txn(&request, &api.txn_limits).map_err(errors::refusal)?;
        let (stamp, view) = api.view(!serializable).await?;
        let result = api.scan(false, move || view.txn_read_only(&request)).await?;
        let header = api.identity.header_at(stamp, result.revision);
        return Ok(convert::txn_response(result, header));
    }
    match api.command(Command::Txn(request), bytes).await? {
        (stamp, Reply::Txn(result)) => {
            let header = api.identity.header_at(stamp, result.revision);
            Ok(convert::txn_response(result, header))
        }
        (_, other) => Err(wrong(&other)),
    }
}

/// Whether every operation is a serializable range.
fn only_serializable(request: &pb::TxnRequest) -> bool {
    let ranges = request.success.iter().chain(&request.failure);
    ranges.clone().next().is_some()
        && ranges.into_iter().all(|op| match &op.request {
            Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
            _ => false,
        })
}

/// Forgets history. What is compacted is out of reach from the moment that the entry is applied; `physical`
/// waits until this member has also removed it, as etcd does.
pub(super) async fn compact(
    api: Api,
    request: pb::CompactionRequest,
) -> Result<pb::CompactionResponse, Status> {
    let command = Command::Compact { revision: request.revision };
    match api.command(command, 0).await? {
        (stamp, Reply::Compact { revision }) => {
            if request.physical {
                let finished = api.handle.finish_compaction().await;
                finished.map_err(|failure| errors::failure(&failure))?;
            }
            let header = api.identity.header_at(stamp, revision);
            Ok(pb::CompactionResponse { header })
        }
        (_, other) => Err(wrong(&other)),
    }
}

/// The state machine answered with the result of another kind of command: only a bug does that.
pub(super) fn wrong(reply: &Reply) -> Status {
    tracing::error!(kind = ?std::mem::discriminant(reply), "wrong kind of result");
    debug_assert!(false, "wrong kind of result: {reply:?}");
    Status::internal("wrong kind of result")
}

impl Api {
    /// A view of etcd's keyspace.
    pub(super) async fn view(
        &self,
        linearizable: bool,
    ) -> Result<(Stamp, quorate_kv::View<crate::Snapshot>), Status> {
        self.handle.view(KEYSPACE, linearizable).await.map_err(|f| errors::failure(&f))
    }

    /// Proposes a command that came in a message of `bytes` bytes.
    pub(super) async fn command(
        &self,
        command: Command,
        bytes: usize,
    ) -> Result<(Stamp, Reply), Status> {
        if bytes > self.max_request_bytes {
            return Err(errors::refusal(Refusal::TooLarge));
        }
        let answer = self.handle.command(KEYSPACE, command, bytes).await;
        answer.map_err(|failure| errors::failure(&failure))
    }

    /// Runs a read of a view: here if it is short, else on the pool.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        short: bool,
        read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Status> {
        let result = if short { read() } else { self.on_pool(read).await? };
        result.map_err(|error| match error {
            ReadError::Refused(reason) => errors::refusal(reason),
            ReadError::Engine(error) => self.engine_failed(&error),
        })
    }

    /// The engine failed under a read: the process ends, and what it knows after the restart is what
    /// its log and its checkpoint say.
    pub(super) fn engine_failed(&self, error: &quorate_engine::EngineError) -> Status {
        self.handle.fail(&error.to_string());
        errors::engine()
    }

    /// Runs something long on the pool.
    pub(super) async fn on_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "a read on the pool ended early");
            Status::internal("the read ended early")
        })
    }
}
