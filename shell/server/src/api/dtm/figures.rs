//! `/api/metrics`: figures of global transactions for Prometheus; `/metrics` of the other face has them as well.
//!
//! What the node counts is asked of it; what has not ended is counted in the keyspace as far as it is applied here. Neither
//! needs a leader: one looks at figures when there is none.

use http::{HeaderValue, Response, header};
use quorate_global_txn::{KEYSPACE, keys};
use quorate_node::Failure;

use crate::grpc::Body;
use crate::handle::Handle;
use crate::metrics::{Metrics, dtm};

/// The version of the exposition format stands in it.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The figures as text.
///
/// # Errors
/// The node has stopped, or is overloaded.
pub(crate) async fn text(handle: &Handle, metrics: &Metrics) -> Result<String, Failure> {
    let figures = handle.layer_figures().await?;
    Ok(dtm::text(&metrics.dtm, &figures, unfinished(handle).await))
}

pub(super) async fn response(
    handle: &Handle,
    metrics: &Metrics,
) -> Result<Response<Body>, Failure> {
    let mut response = Response::new(Body::plain(text(handle, metrics).await?));
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    Ok(response)
}

/// Transactions that have not ended; `None` if that cannot be read.
async fn unfinished(handle: &Handle) -> Option<usize> {
    let (_, view) = handle.view(KEYSPACE, false).await.ok()?;
    let count = move || view.page(&keys::unfinished(), dtm::MAX_COUNTED).map(|page| page.kvs.len());
    tokio::task::spawn_blocking(count).await.ok()?.ok()
}
