//! The generator's client for HTTP/1.1: one kept connection, one request at a time, as DTM's clients have it.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// One connection.
#[derive(Debug)]
pub struct HttpConn {
    send: SendRequest<Full<Bytes>>,
    host: String,
}

impl HttpConn {
    /// Connects to `address`. Must be called inside a runtime, which then owns the connection.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let tcp = TcpStream::connect(address).await.with_context(|| format!("to {address}"))?;
        tcp.set_nodelay(true)?;
        let (send, driver) = handshake(TokioIo::new(tcp)).await?;
        // It ends when `send` is dropped; an error shows at the next call.
        tokio::spawn(driver);
        Ok(Self { send, host: address.to_string() })
    }

    /// Posts JSON; gives status and body.
    pub async fn post(&mut self, path: &str, json: String) -> Result<(StatusCode, Bytes)> {
        self.call(Method::POST, path, json).await
    }

    /// Gets; gives status and body.
    pub async fn get(&mut self, path: &str) -> Result<(StatusCode, Bytes)> {
        self.call(Method::GET, path, String::new()).await
    }

    async fn call(
        &mut self,
        method: Method,
        path: &str,
        json: String,
    ) -> Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(json)))?;
        self.send.ready().await?;
        let response = self.send.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Posts JSON; anything but 200 is an error.
    pub async fn done(&mut self, path: &str, json: String) -> Result<()> {
        let (status, body) = self.post(path, json).await?;
        ensure!(status == StatusCode::OK, "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(())
    }
}
