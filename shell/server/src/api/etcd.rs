//! etcd's v3 API: which method is whose.
//!
//! One file a service. A method that is not built (Auth, Lock, Election, Snapshot, Downgrade,
//! RangeStream) has no line in [`call`] and is answered as gRPC answers any unknown method, which is
//! how etcd's own clients find out what a server has.

mod cluster;
pub mod convert;
pub mod errors;
mod health;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use quorate_kv::limits::TxnLimits;
use quorate_node::Failure;
use tonic::Status;

pub use convert::Identity;

use crate::grpc::{self, Body, Inbound};
use crate::handle::Handle;
use crate::limits::GRPC_OVERHEAD_BYTES;
use crate::metrics::Metrics;
use crate::runtime::Runtime;
use crate::watch::WatchDesk;

/// Everything that a call needs; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

/// What an [`Api`] consists of.
pub struct Parts {
    /// The node.
    pub handle: Handle,
    /// The watch streams of this runtime.
    pub watch: Arc<WatchDesk>,
    /// This runtime.
    pub runtime: Arc<Runtime>,
    /// Cluster and member.
    pub identity: Identity,
    /// Keeps clusters apart; goes into new members' ids.
    pub cluster_token: String,
    /// Bounds of a transaction.
    pub txn_limits: TxnLimits,
    /// Largest request, in bytes.
    pub max_request_bytes: usize,
    /// The cluster's election timeout.
    pub election_timeout: Duration,
    /// Becomes true when the server stops: streams end then.
    pub stopping: tokio::sync::watch::Receiver<bool>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl std::ops::Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Api {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    fn message_limit(&self) -> usize {
        self.max_request_bytes + GRPC_OVERHEAD_BYTES
    }
}

/// Whether a client insists on a leader.
fn requires_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

/// Answers a gRPC call.
pub async fn call(api: Api, request: Request<Incoming>) -> Response<Body> {
    if let Err(status) = admit(&api, request.headers()) {
        return grpc::refuse(request, &status).await;
    }
    let method = api.metrics.started(request.uri().path());
    let metrics = Arc::clone(&api.metrics);
    let response = dispatch(api, request).await;
    metrics.handled(method, response.headers());
    response
}

fn admit(api: &Api, headers: &HeaderMap) -> Result<(), Status> {
    if requires_leader(headers) && !api.handle.shared().has_leader() {
        return Err(errors::no_leader());
    }
    Ok(())
}

/// A line a method, in the two functions. What is called often is answered in place; what is called rarely is
/// boxed, so that its size is not part of every call's future.
async fn dispatch(api: Api, request: Request<Incoming>) -> Response<Body> {
    let max = api.message_limit();
    match request.uri().path() {
        "/etcdserverpb.KV/Range" => {
            grpc::unary(request, max, move |message, _| kv::range(api, message)).await
        }
        "/etcdserverpb.KV/Put" => {
            grpc::unary(request, max, move |message, bytes| kv::put(api, message, bytes)).await
        }
        "/etcdserverpb.KV/Txn" => {
            grpc::unary(request, max, move |message, bytes| kv::txn(api, message, bytes)).await
        }
        "/etcdserverpb.KV/DeleteRange" => {
            grpc::unary(request, max, move |message, bytes| kv::delete_range(api, message, bytes))
                .await
        }
        _ => Box::pin(dispatch_rare(api, request)).await,
    }
}

async fn dispatch_rare(api: Api, request: Request<Incoming>) -> Response<Body> {
    let (max, path) = (api.message_limit(), request.uri().path().to_owned());
    macro_rules! unary {
        ($function:path) => {
            grpc::unary(request, max, move |message, _| $function(api, message)).await
        };
    }
    match path.as_str() {
        "/etcdserverpb.KV/Compact" => unary!(kv::compact),
        "/etcdserverpb.Watch/Watch" => streaming(&api, request, watch::watch),
        "/etcdserverpb.Lease/LeaseGrant" => unary!(lease::grant),
        "/etcdserverpb.Lease/LeaseRevoke" => unary!(lease::revoke),
        "/etcdserverpb.Lease/LeaseTimeToLive" => unary!(lease::time_to_live),
        "/etcdserverpb.Lease/LeaseLeases" => unary!(lease::leases),
        "/etcdserverpb.Lease/LeaseKeepAlive" => streaming(&api, request, lease::keep_alive),
        "/etcdserverpb.Cluster/MemberList" => unary!(cluster::list),
        "/etcdserverpb.Cluster/MemberAdd" => unary!(cluster::add),
        "/etcdserverpb.Cluster/MemberRemove" => unary!(cluster::remove),
        "/etcdserverpb.Cluster/MemberUpdate" => unary!(cluster::update),
        "/etcdserverpb.Cluster/MemberPromote" => unary!(cluster::promote),
        "/etcdserverpb.Maintenance/Status" => unary!(maintenance::status),
        "/etcdserverpb.Maintenance/Alarm" => unary!(maintenance::alarm),
        "/etcdserverpb.Maintenance/Hash" => unary!(maintenance::hash),
        "/etcdserverpb.Maintenance/HashKV" => unary!(maintenance::hash_kv),
        "/etcdserverpb.Maintenance/MoveLeader" => unary!(maintenance::move_leader),
        "/etcdserverpb.Maintenance/Defragment" => unary!(maintenance::defragment),
        "/grpc.health.v1.Health/Check" => unary!(health::check),
        "/grpc.health.v1.Health/Watch" => grpc::streaming(until_stopped(&api, health::watch())),
        path => {
            let status = errors::unknown_method(path, is_known_service(path));
            grpc::refuse(request, &status).await
        }
    }
}

/// Answers a call whose requests and responses are streams.
fn streaming<S>(
    api: &Api,
    request: Request<Incoming>,
    serve: impl FnOnce(Api, Inbound, bool) -> S,
) -> Response<Body>
where
    S: Stream<Item = Result<Bytes, Status>> + Send + 'static,
{
    let require_leader = requires_leader(request.headers());
    let inbound = Inbound::new(request.into_body(), api.message_limit());
    let responses = serve(api.clone(), inbound, require_leader);
    grpc::streaming(until_stopped(api, responses))
}

/// A stream that ends when the server stops, with etcd's status for that.
fn until_stopped(
    api: &Api,
    responses: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
    let mut stopping = api.stopping.clone();
    let stopped = async move {
        let _sender_gone = stopping.wait_for(|stopping| *stopping).await;
        Err(errors::failure(&Failure::Stopped))
    };
    // Whichever ends first ends the call: an error is always the last item of a response.
    let responses = responses.map(Some).chain(futures_util::stream::once(async { None }));
    let stopped = futures_util::stream::once(stopped).map(Some);
    futures_util::stream::select(responses, stopped)
        .take_while(|item| std::future::ready(item.is_some()))
        .filter_map(std::future::ready)
}

fn is_known_service(path: &str) -> bool {
    let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    ["KV", "Watch", "Lease", "Cluster", "Maintenance", "Auth"]
        .iter()
        .any(|name| service.strip_prefix("etcdserverpb.") == Some(name))
        || ["grpc.health.v1.Health", "v3lockpb.Lock", "v3electionpb.Election"].contains(&service)
}
