//! Connections of DTM's clients: plain HTTP, and nothing of etcd's.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{Api, call};
use crate::limits::HTTP1_HEAD_BYTES;
use crate::serve::{Connections, HANDED_OVER};

/// Starts taking connections on this runtime.
#[must_use]
pub fn start(api: Api) -> Connections {
    let (sender, mut receiver): (Connections, _) = mpsc::channel(HANDED_OVER);
    tokio::spawn(async move {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).max_buf_size(HTTP1_HEAD_BYTES);
        builder.http2().timer(TokioTimer::new());
        let builder = Arc::new(builder);
        while let Some((stream, permit)) = receiver.recv().await {
            let serving = connection(stream, api.clone(), Arc::clone(&builder));
            tokio::spawn(async move {
                serving.await;
                drop(permit);
            });
        }
    });
    sender
}

async fn connection(stream: TcpStream, api: Api, builder: Arc<auto::Builder<TokioExecutor>>) {
    let metrics = Arc::clone(&api.metrics);
    metrics.connections.fetch_add(1, Ordering::Relaxed);
    let mut stopping = api.stopping.clone();
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(call(&api, request).await) }
    });
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let stop = async {
        let _sender_gone = stopping.wait_for(|stopping| *stopping).await;
    };
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended");
    }
    metrics.connections.fetch_sub(1, Ordering::Relaxed);
}
