//! The generator's own side of the wire: one HTTP/2 connection as a gRPC service.
//!
//! It is hyper's client without tonic's `Channel`: no queue, no reconnecting, no load balancing.
//! A generator that spends less leaves more of the two cores to the server, and a connection
//! that breaks during a measurement is a failure to be reported, not to be repaired.

use crate::limits::{MAX_STREAMS, WINDOW_BYTES};
use anyhow::{Context as _, Result};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quorate_wire::dtmgimp::dtm_client::DtmClient;
use quorate_wire::etcdserverpb::kv_client::KvClient;
use quorate_wire::etcdserverpb::lease_client::LeaseClient;
use quorate_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_wire::etcdserverpb::watch_client::WatchClient;
use quorate_wire::v3lockpb::lock_client::LockClient;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tonic::body::Body;
use tower_service::Service;

/// One connection; clones share it.
#[derive(Clone, Debug)]
pub struct Conn {
    send: SendRequest<Body>,
    origin: Uri,
}

impl Conn {
    /// Connects to `address`. Must be called inside a runtime, which then owns the connection.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let tcp = TcpStream::connect(address).await.with_context(|| format!("to {address}"))?;
        tcp.set_nodelay(true)?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_max_send_streams(MAX_STREAMS as usize);
        let (send, driver) = builder.handshake(TokioIo::new(tcp)).await?;
        // It ends when the last clone of `send` is dropped; an error shows at the next call.
        tokio::spawn(driver);
        Ok(Self { send, origin: format!("http://{address}").parse()? })
    }

    /// `count` connections, spread over `addresses` in turn.
    pub async fn open_many(addresses: &[SocketAddr], count: usize) -> Result<Vec<Self>> {
        let mut conns = Vec::with_capacity(count);
        for i in 0..count {
            conns.push(Self::open(addresses[i % addresses.len()]).await?);
        }
        Ok(conns)
    }

    /// A client of the key-value service.
    pub fn kv(&self) -> KvClient<Self> {
        KvClient::with_origin(self.clone(), self.origin.clone())
    }

    /// A client of global transactions.
    pub fn dtm(&self) -> DtmClient<Self> {
        DtmClient::with_origin(self.clone(), self.origin.clone())
    }

    /// A client of the maintenance service.
    pub fn maintenance(&self) -> MaintenanceClient<Self> {
        MaintenanceClient::with_origin(self.clone(), self.origin.clone())
    }

    /// A client of the watch service.
    pub fn watch(&self) -> WatchClient<Self> {
        WatchClient::with_origin(self.clone(), self.origin.clone())
    }

    /// A client of the lock service.
    pub fn lock(&self) -> LockClient<Self> {
        LockClient::with_origin(self.clone(), self.origin.clone())
    }

    /// A client of the lease service.
    pub fn lease(&self) -> LeaseClient<Self> {
        LeaseClient::with_origin(self.clone(), self.origin.clone())
    }
}

impl Service<Request<Body>> for Conn {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.send.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.send.send_request(request))
    }
}
