//! A branch of global transactions over gRPC: one service, `e2e.Busi`, that takes any method and any bytes,
//! answers as it is told, and remembers what it was asked, in order.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Wake, Poll};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::raw::Opaque;

/// One call.
#[derive(Clone, Debug)]
pub struct GrpcAsked {
    /// Its method, without the service.
    pub method: String,
    /// Header fields, the metadata among them.
    pub headers: HeaderMap,
    /// The message, as it came.
    pub message: Bytes,
    /// When it had been read.
    pub at: Instant,
}

impl GrpcAsked {
    /// A header field or an entry of the metadata; empty if there is none or it is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What a call is answered: an empty message or a status.
pub type Verdict = Result<(), tonic::Status>;

type Answer = dyn Fn(&GrpcAsked) -> Verdict + Send + Sync;

/// A service that runs until the process ends.
#[derive(Clone)]
pub struct GrpcParticipant {
    address: String,
    service: Busi,
}

#[derive(Clone)]
struct Busi {
    asked: Arc<Mutex<Vec<GrpcAsked>>>,
    answer: Arc<Answer>,
}

impl GrpcParticipant {
    /// Starts one. `answer` may block: each call has a thread of its own.
    ///
    /// # Errors
    /// If no port is free, or there is no runtime to be had.
    pub fn start(answer: impl Fn(&GrpcAsked) -> Verdict + Send + Sync + 'static) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let incoming = {
            let _inside = runtime.enter();
            TcpIncoming::bind("127.0.0.1:0".parse()?)?
        };
        let address = incoming.local_addr()?.to_string();
        let service = Busi { asked: Arc::default(), answer: Arc::new(answer) };
        let server = Server::builder().add_service(service.clone());
        std::thread::spawn(move || {
            if let Err(error) = runtime.block_on(server.serve_with_incoming(incoming)) {
                eprintln!("gRPC participant: {error:#}");
            }
        });
        Ok(Self { address, service })
    }

    /// A method's URL as DTM's clients give it: `host:port/e2e.Busi/Method`.
    #[must_use]
    pub fn url(&self, method: &str) -> String {
        format!("{}/{}/{method}", self.address, Busi::NAME)
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it was asked so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<GrpcAsked> {
        self.service.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Methods of what it was asked, in order.
    #[must_use]
    pub fn methods(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.method).collect()
    }
}

impl NamedService for Busi {
    const NAME: &'static str = "e2e.Busi";
}

impl Service<Request<Body>> for Busi {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Wake<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let headers = request.headers().clone();
        let call = One { busi: self.clone(), method, headers };
        Box::pin(async move { Ok(tonic::server::Grpc::new(Opaque).unary(call, request).await) })
    }
}

/// A call whose message has not been read.
struct One {
    busi: Busi,
    method: String,
    headers: HeaderMap,
}

impl UnaryService<Bytes> for One {
    type Response = Bytes;
    type Future = BoxFuture<tonic::Response<Bytes>, tonic::Status>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (busi, method) = (self.busi.clone(), self.method.clone());
        let (headers, message) = (self.headers.clone(), request.into_inner());
        let asked = GrpcAsked { method, headers, message, at: Instant::now() };
        Box::pin(async move {
            let verdict = tokio::task::spawn_blocking(move || busi.judge(asked)).await;
            let verdict = verdict.context("an answer panicked");
            verdict.map_err(|error| tonic::Status::internal(format!("{error:#}")))??;
            Ok(tonic::Response::new(Bytes::new()))
        })
    }
}

impl Busi {
    fn judge(&self, asked: GrpcAsked) -> Verdict {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
        (self.answer)(&asked)
    }
}
