//! The Watch service: one stream, many watchers.
//!
//! A task reads the client's requests into the runtime's hub; responses flow from the hub's channel into
//! the response body, which tells the hub what the connection has taken. When the client closes its
//! half, watching goes on: etcd's clients do that, and end the stream by cancelling it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use quorate_kv::KeyRange;
use quorate_kv::hub::{StreamId, WatchCreate, WatchId};
use quorate_wire::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tonic::Status;

use super::{Api, errors};
use crate::grpc::{self, Inbound};
use crate::limits::JOINED_RESPONSE_BYTES;
use crate::watch::{Outgoing, WatchDesk};

/// Election timeouts without a leader after which a stream that requires one is ended (etcd's).
const LEADERLESS_TIMEOUTS: u32 = 3;

/// Pause before looking again whether a slow client has taken what waits for it.
const STALL_PAUSE: Duration = Duration::from_millis(20);

/// Serves one watch stream.
pub(super) fn watch(api: Api, inbound: Inbound, require_leader: bool) -> Responses {
    let desk = Arc::clone(&api.watch);
    let (stream, receiver) = desk.open();
    let timeout = require_leader.then_some(api.election_timeout);
    let reader = tokio::spawn(async move {
        let ended = match timeout {
            None => read_requests(&api, inbound, stream).await,
            Some(timeout) => tokio::select! {
                ended = read_requests(&api, inbound, stream) => ended,
                status = leader_lost(&api, timeout) => Err(status),
            },
        };
        if let Err(status) = ended {
            api.watch.end(stream, status);
        } else if let Some(timeout) = timeout {
            let status = leader_lost(&api, timeout).await;
            api.watch.end(stream, status);
        }
    });
    Responses { receiver, desk, stream, reader: reader.abort_handle(), ended: None }
}

async fn read_requests(api: &Api, mut inbound: Inbound, stream: StreamId) -> Result<(), Status> {
    while let Some(message) = inbound.message().await? {
        let request: pb::WatchRequest =
            prost::Message::decode(message).map_err(|error| grpc::malformed(&error))?;
        // What the node has told this runtime comes first: a watcher that starts "now" must not be
        // told of a put whose reply its client has already had, through whatever connection.
        api.runtime.pump();
        carry_out(api, stream, request);
        while api.watch.is_stalled(stream) {
            tokio::time::sleep(STALL_PAUSE).await;
        }
    }
    Ok(())
}

fn carry_out(api: &Api, stream: StreamId, request: pb::WatchRequest) {
    use pb::watch_request::RequestUnion;
    match request.request_union {
        Some(RequestUnion::CreateRequest(request)) => api.watch.create(stream, create(request)),
        Some(RequestUnion::CancelRequest(request)) => api.watch.cancel(stream, request.watch_id),
        Some(RequestUnion::ProgressRequest(_)) => api.watch.progress(stream),
        None => {}
    }
}

fn create(request: pb::WatchCreateRequest) -> WatchCreate {
    // The watcher outlives the frame that it came in, so its key is copied out of it.
    let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    WatchCreate {
        watch_id: WatchId(request.watch_id),
        range: KeyRange { key: own(&request.key), range_end: own(&request.range_end) },
        start_revision: request.start_revision,
        prev_kv: request.prev_kv,
        no_put: request.filters.contains(&0),
        no_delete: request.filters.contains(&1),
        fragment: request.fragment,
        progress_notify: request.progress_notify,
    }
}

/// Returns when no leader has been known for several election timeouts in a row.
async fn leader_lost(api: &Api, timeout: Duration) -> Status {
    let mut missing = 0;
    loop {
        tokio::time::sleep(timeout).await;
        missing = if api.handle.shared().has_leader() { 0 } else { missing + 1 };
        if missing >= LEADERLESS_TIMEOUTS {
            return errors::no_leader();
        }
    }
}

/// The responses of one stream. Dropping it, which is what happens when the client has gone, closes the
/// stream and ends the task that reads its requests.
pub(super) struct Responses {
    receiver: mpsc::UnboundedReceiver<Result<Outgoing, Status>>,
    desk: Arc<WatchDesk>,
    stream: StreamId,
    reader: AbortHandle,
    /// What comes after the responses that have been taken.
    ended: Option<Status>,
}

impl Stream for Responses {
    type Item = Result<Bytes, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(status) = this.ended.take() {
            return Poll::Ready(Some(Err(status)));
        }
        match this.receiver.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(first))) => Poll::Ready(Some(Ok(this.join(first)))),
            Poll::Ready(Some(Err(status))) => Poll::Ready(Some(Err(status))),
            // The desk let go of the stream: the server stops.
            Poll::Ready(None) => Poll::Ready(Some(Err(errors::watch_canceled()))),
        }
    }
}

impl Responses {
    /// Everything that waits, up to a DATA frame's length, as one piece: a busy stream then costs one
    /// frame for many responses.
    fn join(&mut self, first: Outgoing) -> Bytes {
        let Outgoing { mut frame, mut bytes } = first;
        let mut joined = BytesMut::new();
        while frame.len() + joined.len() < JOINED_RESPONSE_BYTES {
            match self.receiver.try_recv() {
                Ok(Ok(next)) => {
                    joined.extend_from_slice(&frame);
                    bytes += next.bytes;
                    frame = next.frame;
                }
                Ok(Err(status)) => {
                    self.ended = Some(status);
                    break;
                }
                Err(_) => break,
            }
        }
        self.desk.drained(self.stream, bytes);
        if joined.is_empty() {
            return frame;
        }
        joined.extend_from_slice(&frame);
        joined.freeze()
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.reader.abort();
        self.desk.close(self.stream);
    }
}
