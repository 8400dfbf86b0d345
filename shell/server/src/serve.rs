//! Connections of clients: HTTP/1 and HTTP/2 on one port, gRPC or plain.

mod joined_writes;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use joined_writes::JoinedWrites;
use quorate_storage::{LatencyHistogram, WalHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::api::etcd::{self, Api};
use crate::api::v1;
use crate::grpc::{self, Body};
use crate::http as plain;
use crate::limits::{
    ACCEPT_PAUSE, CONNECTION_WINDOW_BYTES, HTTP1_HEAD_BYTES, MAX_CONNECTIONS,
    MAX_STREAMS_PER_CONNECTION, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
};
use crate::metrics::Metrics;

/// Pings of the server to idle clients, as etcd's.
const PING_INTERVAL: Duration = Duration::from_secs(2 * 3600);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections on their way from the accepting runtime to the one that serves them.
const HANDED_OVER: usize = 1024;

/// What serving a connection needs.
#[derive(Clone)]
pub struct Faces {
    /// etcd's API.
    pub api: Api,
    /// What operators ask over HTTP.
    pub v1: v1::Api,
    /// The log, for its figures.
    pub wal: WalHandle,
    /// Checkpoints of the engine, for their figures.
    pub checkpoints: Arc<LatencyHistogram>,
}

/// Where a runtime gets its connections.
pub type Connections = mpsc::Sender<(TcpStream, OwnedSemaphorePermit)>;

/// Starts taking connections of etcd's clients on this runtime.
#[must_use]
pub fn start(faces: Faces) -> Connections {
    let (stopping, metrics) = (faces.api.stopping.clone(), Arc::clone(&faces.api.metrics));
    take(stopping, metrics, move |request| call(faces.clone(), request))
}

/// Starts taking connections on this runtime; `answer` makes the response to each request.
pub(crate) fn take<F, R, B>(
    stopping: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    answer: F,
) -> Connections
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, mut receiver): (Connections, _) = mpsc::channel(HANDED_OVER);
    tokio::spawn(async move {
        let builder = Arc::new(builder());
        while let Some((stream, permit)) = receiver.recv().await {
            let (builder, answer) = (Arc::clone(&builder), answer.clone());
            let (stopping, metrics) = (stopping.clone(), Arc::clone(&metrics));
            tokio::spawn(async move {
                metrics.connections.fetch_add(1, Ordering::Relaxed);
                connection(stream, &builder, stopping, answer).await;
                metrics.connections.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
            });
        }
    });
    sender
}

/// Accepts connections and hands them to the runtimes in turn.
pub async fn accept(listener: TcpListener, runtimes: Vec<(tokio::runtime::Handle, Connections)>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for turn in 0.. {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (runtime, connections) = &runtimes[turn % runtimes.len()];
        if let Some(stream) = moved(stream, runtime) {
            // Fails only while the server stops.
            let _stopping = connections.send((stream, permit)).await;
        }
    }
}

/// Registers a connection with the runtime that will serve it.
fn moved(stream: TcpStream, runtime: &tokio::runtime::Handle) -> Option<TcpStream> {
    let registered = stream.set_nodelay(true).and_then(|()| stream.into_std()).and_then(|stream| {
        let _entered = runtime.enter();
        TcpStream::from_std(stream)
    });
    registered.inspect_err(|error| tracing::debug!(%error, "a connection was lost")).ok()
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .auto_date_header(false);
    builder.http1().timer(TokioTimer::new()).max_buf_size(HTTP1_HEAD_BYTES);
    builder
}

async fn connection<F, R, B>(
    stream: TcpStream,
    builder: &auto::Builder<TokioExecutor>,
    mut stopping: watch::Receiver<bool>,
    answer: F,
) where
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let serving = builder.serve_connection(JoinedWrites(TokioIo::new(stream)), service_fn(answer));
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
}

async fn call(faces: Faces, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.version() == Version::HTTP_2 && grpc::is_grpc(request.headers()) {
        return Ok(etcd::call(faces.api, request).await);
    }
    if v1::is_ours(request.uri().path()) {
        return Ok(Box::pin(v1::call(&faces.v1, request)).await);
    }
    Ok(Box::pin(plain::call(&faces, &request)).await)
}
