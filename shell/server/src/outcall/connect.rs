//! New connections, as hyper has them.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quorate_outcall::CallFailure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::error::unreachable;
use super::limits::{MAX_HEAD_BYTES, MAX_HEADER_LIST_BYTES, PING};
use super::names::Host;
use super::tls::{Inside, Tls};

/// A request's body: whole, and cheap to send again.
pub(super) type Body = Full<Bytes>;
pub(super) type Http1 = http1::SendRequest<Body>;
pub(super) type Http2 = http2::SendRequest<Body>;

/// A connection for one request at a time.
pub(super) async fn http1(tls: &Tls, host: &Host, at: SocketAddr) -> Result<Http1, CallFailure> {
    let stream = tcp(at).await?;
    if host.tls {
        speak_http1(tls.wrap(host, stream, Inside::Http1).await?).await
    } else {
        speak_http1(stream).await
    }
}

/// A connection for many requests at a time.
pub(super) async fn http2(tls: &Tls, host: &Host, at: SocketAddr) -> Result<Http2, CallFailure> {
    let stream = tcp(at).await?;
    if host.tls {
        speak_http2(tls.wrap(host, stream, Inside::Http2).await?).await
    } else {
        speak_http2(stream).await
    }
}

async fn tcp(at: SocketAddr) -> Result<TcpStream, CallFailure> {
    let named = |error: std::io::Error| unreachable(format!("{at}: {error}"));
    let stream = TcpStream::connect(at).await.map_err(named)?;
    stream.set_nodelay(true).map_err(named)?;
    Ok(stream)
}

async fn speak_http1<T>(stream: T) -> Result<Http1, CallFailure>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    let speaking = builder.max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(stream));
    let (sender, connection) = speaking.await.map_err(unreachable)?;
    // It ends with the sender, or tells it why it ended earlier.
    tokio::spawn(connection);
    Ok(sender)
}

async fn speak_http2<T>(stream: T) -> Result<Http2, CallFailure>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (interval, timeout) = PING;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let builder = builder
        .timer(TokioTimer::new())
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout)
        .max_header_list_size(MAX_HEADER_LIST_BYTES);
    let speaking = builder.handshake(TokioIo::new(stream));
    let (sender, connection) = speaking.await.map_err(unreachable)?;
    tokio::spawn(connection);
    Ok(sender)
}
