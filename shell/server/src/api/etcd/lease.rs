//! The Lease service: LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases.

use futures_util::Stream;
use quorate_kv::{Command, KeyspaceId, LeaseId, Reply};
use quorate_wire::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Api, errors, kv};
use crate::grpc::{self, Inbound};
use crate::limits::KEEP_ALIVE_RESPONSES;

const KEYSPACE: KeyspaceId = KeyspaceId::ETCD;

/// Creates a lease; the node chooses an id if none is given, and raises the TTL to its minimum.
pub(super) async fn grant(
    api: Api,
    request: pb::LeaseGrantRequest,
) -> Result<pb::LeaseGrantResponse, Status> {
    let command = Command::LeaseGrant { id: LeaseId(request.id), ttl_s: request.ttl };
    match api.command(command, 0).await? {
        (stamp, Reply::LeaseGrant { revision, id, ttl_s }) => Ok(pb::LeaseGrantResponse {
            header: api.identity.header_at(stamp, revision),
            id: id.0,
            ttl: ttl_s,
            error: String::new(),
        }),
        (_, other) => Err(kv::wrong(&other)),
    }
}

/// Removes a lease and its keys.
pub(super) async fn revoke(
    api: Api,
    request: pb::LeaseRevokeRequest,
) -> Result<pb::LeaseRevokeResponse, Status> {
    let command = Command::LeaseRevoke { id: LeaseId(request.id) };
    match api.command(command, 0).await? {
        (stamp, Reply::LeaseRevoke { revision }) => {
            Ok(pb::LeaseRevokeResponse { header: api.identity.header_at(stamp, revision) })
        }
        (_, other) => Err(kv::wrong(&other)),
    }
}

/// How much time a lease has left, in whole seconds; -1 for one that does not exist.
pub(super) async fn time_to_live(
    api: Api,
    request: pb::LeaseTimeToLiveRequest,
) -> Result<pb::LeaseTimeToLiveResponse, Status> {
    let id = LeaseId(request.id);
    let answer = api.handle.lease(KEYSPACE, id).await.map_err(|f| errors::failure(&f))?;
    let header = api.identity.header(answer.stamp);
    let mut response =
        pb::LeaseTimeToLiveResponse { header, id: request.id, ttl: -1, ..Default::default() };
    let Some(lease) = answer.lease else { return Ok(response) };
    let left_s = lease.deadline_ms.saturating_sub(answer.now_ms) / 1000;
    response.ttl = i64::try_from(left_s).unwrap_or(i64::MAX);
    response.granted_ttl = lease.ttl_s;
    if request.keys {
        let view = answer.view;
        response.keys = api
            .on_pool(move || view.lease_keys(id))
            .await?
            .map_err(|error| api.engine_failed(&error))?;
    }
    Ok(response)
}

/// All leases, soonest deadline first.
pub(super) async fn leases(
    api: Api,
    _: pb::LeaseLeasesRequest,
) -> Result<pb::LeaseLeasesResponse, Status> {
    let answer = api.handle.leases(KEYSPACE).await;
    let (stamp, leases) = answer.map_err(|failure| errors::failure(&failure))?;
    Ok(pb::LeaseLeasesResponse {
        header: api.identity.header(stamp),
        leases: leases.into_iter().map(|lease| pb::LeaseStatus { id: lease.id.0 }).collect(),
    })
}

/// One response a request, in order. A stream is served by one task: a client that sends faster than
/// the log is written waits, and its stream's window with it.
pub(super) fn keep_alive(
    api: Api,
    inbound: Inbound,
    require_leader: bool,
) -> impl Stream<Item = Result<bytes::Bytes, Status>> + Send + 'static {
    let (responses, receiver) = mpsc::channel(KEEP_ALIVE_RESPONSES);
    tokio::spawn(async move {
        let renewing = renew_all(&api, inbound, require_leader, &responses);
        let ended = tokio::select! {
            ended = renewing => ended,
            () = responses.closed() => return,
        };
        if let Err(status) = ended {
            let _gone = responses.send(Err(status)).await;
        }
    });
    ReceiverStream::new(receiver)
}

async fn renew_all(
    api: &Api,
    mut inbound: Inbound,
    require_leader: bool,
    responses: &mpsc::Sender<Result<bytes::Bytes, Status>>,
) -> Result<(), Status> {
    while let Some(message) = inbound.message().await? {
        let request: pb::LeaseKeepAliveRequest =
            prost::Message::decode(message).map_err(|error| grpc::malformed(&error))?;
        if require_leader && !api.handle.shared().has_leader() {
            return Err(errors::no_leader());
        }
        let answer = api.handle.keep_alive(KEYSPACE, LeaseId(request.id)).await;
        let (stamp, ttl) = answer.map_err(|failure| errors::failure(&failure))?;
        let header = api.identity.header(stamp);
        let response = pb::LeaseKeepAliveResponse { header, id: request.id, ttl };
        if responses.send(Ok(grpc::encode(&response))).await.is_err() {
            break;
        }
    }
    Ok(())
}
