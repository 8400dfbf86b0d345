//! gRPC over HTTP/2, by hand: length-prefixed messages, a status in the trailers.
//!
//! Why not tonic's server: etcd's clients match the exact codes and texts of what gRPC itself answers
//! (an unknown method, a message that is too large), and a unary call here costs one allocation for
//! its response and no layer in between. tonic's `Status` and code table are used as they are.
//!
//! The one message of a unary call has to come within [`BODY_TIME`]; a stream may be silent for as long as its client
//! likes.
//!
//! What it leaves out: compression (no etcd client asks for it) and deadlines (`grpc-timeout`): the
//! client itself gives up, and the node bounds every request.

mod body;
mod frame;
mod inbound;

use std::future::Future;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tonic::Status;

use crate::limits::BODY_TIME;

pub use body::Body;
pub use frame::encode;
pub use inbound::Inbound;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// Whether a request is a gRPC call.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A call with one message in and one out.
pub async fn unary<M, R, F>(
    request: Request<Incoming>,
    max_bytes: usize,
    handler: impl FnOnce(M, usize) -> F,
) -> Response<Body>
where
    M: prost::Message + Default,
    R: prost::Message,
    F: Future<Output = Result<R, Status>>,
{
    let mut inbound = Inbound::new(request.into_body(), max_bytes);
    let message = match inbound.only_message(BODY_TIME).await {
        Ok(message) => message,
        Err(status) => return refused(&status),
    };
    let size = message.len();
    let decoded = match M::decode(message) {
        Ok(decoded) => decoded,
        Err(error) => return refused(&malformed(&error)),
    };
    let response = match handler(decoded, size).await {
        Ok(response) => accepted(Body::unary(encode(&response))),
        Err(status) => refused(&status),
    };
    inbound.finish(BODY_TIME).await;
    response
}

/// Refuses a call whatever its messages say.
pub async fn refuse(request: Request<Incoming>, status: &Status) -> Response<Body> {
    Inbound::new(request.into_body(), 0).finish(BODY_TIME).await;
    refused(status)
}

/// A call that answers with a stream of encoded messages; an `Err` ends it with that status.
pub fn streaming(
    messages: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) -> Response<Body> {
    accepted(Body::stream(messages))
}

fn accepted(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// A call that is refused: headers that are trailers as well.
#[must_use]
pub fn refused(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    if status.add_header(headers).is_err() {
        // Only a text that does not fit into a header gets here; the code alone always does.
        let code = HeaderValue::from(status.code() as i32);
        headers.insert("grpc-status", code);
    }
    response
}

/// The client's bytes are not the message they should be.
pub fn malformed(error: &prost::DecodeError) -> Status {
    Status::internal(format!("grpc: error unmarshalling request: {error}"))
}
