//! From a TCP connection to the handler: four ways, one of which the server will take.

use crate::limits::{MAX_STREAMS, WINDOW_BYTES};
use crate::spike_threads::Stack;
use crate::spike_threads::server::Door;
use anyhow::{Context as _, Result};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use quorate_wire::etcdserverpb::kv_server::{Kv, KvServer};
use quorate_wire::etcdserverpb::{PutRequest, PutResponse};
use std::convert::Infallible;
use std::net::TcpStream as StdTcp;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower_service::Service as _;

/// gRPC's message prefix: a flag and a length.
const PREFIX_BYTES: usize = 5;

#[tonic::async_trait]
impl Kv for Door {
    async fn put(
        &self,
        request: tonic::Request<PutRequest>,
    ) -> Result<tonic::Response<PutResponse>, tonic::Status> {
        Ok(tonic::Response::new(Self::put(self, request.into_inner()).await))
    }
}

/// Serves every connection that comes through `connections`.
pub async fn serve(
    stack: Stack,
    door: Door,
    mut connections: mpsc::UnboundedReceiver<StdTcp>,
) -> Result<()> {
    if stack == Stack::Tonic {
        return serve_tonic(door, connections).await;
    }
    while let Some(tcp) = connections.recv().await {
        let (tcp, door) = (TcpStream::from_std(tcp)?, door.clone());
        tokio::spawn(async move {
            let served = match stack {
                Stack::H2 => serve_h2(tcp, door).await,
                Stack::Raw => serve_raw(tcp, door).await,
                _ => serve_hyper(tcp, door).await,
            };
            // A generator that ends drops its connections in the middle: not worth a line.
            drop(served);
        });
    }
    Ok(())
}

async fn serve_tonic(door: Door, tcp: mpsc::UnboundedReceiver<StdTcp>) -> Result<()> {
    let incoming = UnboundedReceiverStream::new(tcp);
    let incoming = tokio_stream::StreamExt::map(incoming, TcpStream::from_std);
    tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(KvServer::new(door))
        .serve_with_incoming(incoming)
        .await
        .context("tonic")
}

fn http2() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .auto_date_header(false);
    builder
}

async fn serve_hyper(tcp: TcpStream, door: Door) -> Result<()> {
    let kv = KvServer::new(door);
    let service = service_fn(move |request: Request<Incoming>| kv.clone().call(request));
    Ok(http2().serve_connection(TokioIo::new(tcp), service).await?)
}

async fn serve_raw(tcp: TcpStream, door: Door) -> Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let door = door.clone();
        async move {
            let body = request.into_body().collect().await.map_err(std::io::Error::other)?;
            let put = decode(body.to_bytes()).map_err(std::io::Error::other)?;
            let body = Unary { data: Some(encode(&door.put(put).await)), trailers: true };
            let mut response = Response::new(body);
            response.headers_mut().insert("content-type", GRPC);
            Ok::<_, std::io::Error>(response)
        }
    });
    Ok(http2().serve_connection(TokioIo::new(tcp), service).await?)
}

async fn serve_h2(tcp: TcpStream, door: Door) -> Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .handshake::<_, Bytes>(tcp)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(answer_h2(request, respond, door.clone()));
    }
    Ok(())
}

async fn answer_h2(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    door: Door,
) -> Result<()> {
    let mut body = request.into_body();
    let mut whole = Bytes::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        whole = if whole.is_empty() { chunk } else { [whole, chunk].concat().into() };
    }
    let reply = door.put(decode(whole)?).await;
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", GRPC);
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(encode(&reply), false)?;
    stream.send_trailers(trailers())?;
    Ok(())
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

fn decode(mut body: Bytes) -> Result<PutRequest> {
    anyhow::ensure!(body.len() >= PREFIX_BYTES && body[0] == 0, "not an uncompressed message");
    Ok(PutRequest::decode(body.split_off(PREFIX_BYTES))?)
}

fn encode(reply: &PutResponse) -> Bytes {
    let len = reply.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + len);
    out.put_u8(0);
    out.put_u32(u32::try_from(len).expect("replies are small"));
    reply.encode_raw(&mut out);
    out.freeze()
}

/// One message and the trailers.
struct Unary {
    data: Option<Bytes>,
    trailers: bool,
}

impl Body for Unary {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let last = std::mem::take(&mut self.trailers);
        Poll::Ready(last.then(|| Ok(Frame::trailers(trailers()))))
    }
}
