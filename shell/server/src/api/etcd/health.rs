//! The standard gRPC health service: serving as long as the process serves.

use futures_util::{Stream, StreamExt};
use quorate_wire::health::{HealthCheckRequest, HealthCheckResponse, health_check_response};
use tonic::Status;

use super::Api;
use crate::grpc;

fn serving() -> HealthCheckResponse {
    let status = health_check_response::ServingStatus::Serving as i32;
    HealthCheckResponse { status }
}

/// The present status of the server as a whole.
pub(super) async fn check(
    _: Api,
    request: HealthCheckRequest,
) -> Result<HealthCheckResponse, Status> {
    // etcd registers only the server as a whole.
    if request.service.is_empty() {
        Ok(serving())
    } else {
        Err(Status::not_found("unknown service"))
    }
}

/// The present status at once; it does not change while the process lives.
pub(super) fn watch() -> impl Stream<Item = Result<bytes::Bytes, Status>> + Send + 'static {
    futures_util::stream::once(async { Ok(grpc::encode(&serving())) })
        .chain(futures_util::stream::pending())
}
