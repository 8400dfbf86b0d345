//! Attempts against little servers on loopback.

mod grpc;
mod http;
mod raw;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use quorate_outcall::{AttemptId, AttemptResult, Call, CallFailure, Method, RetryPolicy, Wire};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{Executor, Options};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

type Reply = BoxBody<Bytes, Infallible>;
type Handler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Reply>> + Send + Sync>;

fn handler<F, R>(handle: F) -> Handler
where
    F: Fn(Request<Bytes>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Reply>> + Send + 'static,
{
    Arc::new(move |request| Box::pin(handle(request)))
}

fn reply(status: u16, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status.try_into().unwrap();
    response
}

#[test]
fn a_destination_has_one_lane() {
    let lane = |url: &str| super::lane_of(&post(url, ""), 7);
    assert_eq!(lane("http://a:1/x?y=1"), lane("http://a:1/z"));
    let used: std::collections::BTreeSet<_> =
        (0..100).map(|port| lane(&format!("http://a:{}/", port + 1))).collect();
    assert_eq!(used.len(), 7, "many destinations use all lanes");
    assert_eq!(super::lane_of(&post("no URL", ""), 1), 0);
}

/// A server that ends, with its connections, when it is dropped.
struct Server {
    at: SocketAddr,
    /// Connections so far.
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(handler: Handler) -> Self {
        Self::start_at("127.0.0.1:0", handler, None).await
    }

    async fn start_at(at: &str, handler: Handler, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut all = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (handler, tls) = (Arc::clone(&handler), tls.clone());
                all.spawn(async move {
                    match tls {
                        None => serve(stream, handler).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, handler).await,
                            Err(_) => drop(handler),
                        },
                    }
                });
            }
        });
        Self { at, connections, task }
    }

    /// Ends it, and everything of it has ended when this returns.
    async fn stop(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<T>(stream: T, handler: Handler)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let handler = Arc::clone(&handler);
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await else { std::future::pending().await };
            Ok::<_, Infallible>(handler(Request::from_parts(head, body.to_bytes())).await)
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // How a connection ends is the client's matter.
    drop(builder.serve_connection(TokioIo::new(stream), service).await);
}

/// An executor and what it reports.
struct Client {
    executor: Executor,
    reports: mpsc::UnboundedReceiver<(AttemptId, AttemptResult)>,
    last: AtomicU64,
}

impl Client {
    fn new() -> Self {
        Self::with(&Options::default())
    }

    fn with(options: &Options) -> Self {
        let (report, reports) = mpsc::unbounded_channel();
        let deliver = move |attempt, result| report.send((attempt, result)).unwrap();
        let runtime = tokio::runtime::Handle::current();
        let executor = Executor::new(runtime, options, deliver).unwrap();
        Self { executor, reports, last: AtomicU64::new(0) }
    }

    fn start(&self, call: Call, address: u32, timeout: Duration) -> AttemptId {
        let attempt = AttemptId(self.last.fetch_add(1, Ordering::Relaxed));
        self.executor.attempt(attempt, Arc::new(call), address, timeout);
        attempt
    }

    async fn report(&mut self) -> (AttemptId, AttemptResult) {
        tokio::time::timeout(LONG, self.reports.recv()).await.expect("a report in time").unwrap()
    }

    /// Makes one attempt, at the first address.
    async fn call(&mut self, call: Call) -> AttemptResult {
        self.call_within(call, LONG).await
    }

    async fn call_within(&mut self, call: Call, timeout: Duration) -> AttemptResult {
        let attempt = self.start(call, 0, timeout);
        let (reported, result) = self.report().await;
        assert_eq!(reported, attempt);
        result
    }

    /// Makes one attempt at this address, and only wants to know the status.
    async fn status_at(&mut self, call: Call, address: u32) -> Result<u16, CallFailure> {
        self.start(call, address, LONG);
        match self.report().await.1 {
            AttemptResult::Answered { status, .. } => Ok(status),
            AttemptResult::Failed(why) => Err(why),
        }
    }
}

fn call(url: impl Into<String>, wire: Wire, body: impl Into<Bytes>) -> Call {
    Call {
        url: url.into(),
        wire,
        headers: Vec::new(),
        body: body.into(),
        timeout: LONG,
        retry: RetryPolicy::once(LONG),
        verdicts: &[],
    }
}

fn post(url: impl Into<String>, body: impl Into<Bytes>) -> Call {
    call(url, Wire::Http { method: Method::Post }, body)
}

fn get(url: impl Into<String>) -> Call {
    call(url, Wire::Http { method: Method::Get }, Bytes::new())
}

fn answered(status: u16, body: impl Into<Bytes>) -> AttemptResult {
    AttemptResult::Answered { status, message: String::new(), body: body.into() }
}

fn failure(result: AttemptResult) -> CallFailure {
    match result {
        AttemptResult::Failed(why) => why,
        AttemptResult::Answered { status, .. } => panic!("answered {status}"),
    }
}

#[track_caller]
fn assert_unreachable(result: AttemptResult, expected: &str) {
    let why = failure(result);
    let CallFailure::Unreachable(text) = &why else { panic!("{why:?}") };
    assert!(text.contains(expected), "{text}");
}

#[track_caller]
fn assert_bad_answer(result: AttemptResult, expected: &str) {
    let why = failure(result);
    let CallFailure::BadAnswer(text) = &why else { panic!("{why:?}") };
    assert!(text.contains(expected), "{text}");
}

/// An address that nobody listens at.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
