//! Requests to `/v1/` of the first endpoint that can be reached.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::text::plain;
use crate::api::v1::types::{Code, Failed};
use crate::config::values::{Url, UrlError};
use crate::exit::Fatal;

/// How long connecting may take, and an answer: longer than the server's own bound.
const CONNECT_TIME: Duration = Duration::from_secs(3);
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// Longest answer, in bytes.
const ANSWER_BYTES: usize = 64 << 20;

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// A segment of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// See the module.
pub(super) struct Client {
    endpoints: Vec<Url>,
}

/// Why there was no answer.
enum Trouble {
    /// Nothing was sent.
    Unreachable(String),
    /// Something was.
    Broken(String),
}

impl Client {
    pub(super) fn new(endpoints: &[String]) -> Result<Self, Fatal> {
        let read = |text: &String| {
            let full = if text.contains("://") { text.clone() } else { format!("http://{text}") };
            Url::parse(&full).map_err(|error| {
                Fatal::Usage(match error {
                    UrlError::Tls => format!("--endpoints: {full}: TLS is not built yet"),
                    UrlError::Malformed => format!("--endpoints: {full} {error}"),
                })
            })
        };
        Ok(Self { endpoints: endpoints.iter().map(read).collect::<Result<_, _>>()? })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fatal> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Fatal> {
        let body = serde_json::to_vec(body).map_err(|error| Fatal::Runtime(error.to_string()))?;
        self.ask(Method::POST, path, body.into()).await
    }

    /// A request that was sent is not sent again, unless it only reads.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Fatal> {
        let mut why = Vec::new();
        for endpoint in &self.endpoints {
            match exchange(endpoint, &method, path, &body).await {
                // Nothing was done, whatever was asked for: the next one may know better.
                Ok((503, answer)) if self.endpoints.len() > 1 && is_unavailable(&answer) => {
                    why.push(format!("{endpoint}: nobody can answer now"));
                }
                Ok((status, answer)) => return read(endpoint, status, &answer),
                Err(Trouble::Broken(error)) if method == Method::POST => {
                    let text = format!(
                        "{endpoint}: {error}; nobody knows whether it was done: look at the \
                         transaction before doing it again"
                    );
                    return Err(Fatal::Runtime(text));
                }
                Err(Trouble::Unreachable(error) | Trouble::Broken(error)) => {
                    why.push(format!("{endpoint}: {error}"));
                }
            }
        }
        Err(Fatal::Runtime(format!("no answer from {}", why.join("; "))))
    }
}

fn read<T: DeserializeOwned>(endpoint: &Url, status: u16, answer: &[u8]) -> Result<T, Fatal> {
    if status == 200 {
        let strange = |error| Fatal::Runtime(format!("{endpoint}: a strange answer: {error}"));
        return serde_json::from_slice(answer).map_err(strange);
    }
    let Ok(Failed { error }) = serde_json::from_slice(answer) else {
        let text = format!("{endpoint}: status {status}: is this a server of this version?");
        return Err(Fatal::Runtime(text));
    };
    let message = plain(&error.message);
    Err(Fatal::Runtime(match error.code {
        Code::Unavailable => format!("{endpoint}: {message}; nothing was done, try again"),
        Code::UnknownOutcome => format!(
            "{endpoint}: {message}; nobody knows whether it was done: look at the transaction \
             before doing it again"
        ),
        _ => message,
    }))
}

fn is_unavailable(answer: &[u8]) -> bool {
    serde_json::from_slice::<Failed>(answer).is_ok_and(|said| said.error.code == Code::Unavailable)
}

async fn exchange(
    endpoint: &Url,
    method: &Method,
    path: &str,
    body: &Bytes,
) -> Result<(u16, Bytes), Trouble> {
    let unreachable = |error: &dyn std::fmt::Display| Trouble::Unreachable(error.to_string());
    let broken = |error: &dyn std::fmt::Display| Trouble::Broken(error.to_string());
    let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    let connected = timeout(CONNECT_TIME, TcpStream::connect((host, endpoint.port))).await;
    let stream = connected.map_err(|_| unreachable(&"cannot connect in time"))?;
    let stream = TokioIo::new(stream.map_err(|error| unreachable(&error))?);
    let spoken = hyper::client::conn::http1::handshake(stream).await;
    let (mut sender, connection) = spoken.map_err(|error| unreachable(&error))?;
    // It ends with the sender.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, format!("{}:{}", endpoint.host, endpoint.port))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.clone()))
        .map_err(|error| unreachable(&error))?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        Ok((status, body.map_err(|error| broken(&error))?.to_bytes()))
    };
    timeout(ANSWER_TIME, answered).await.map_err(|_| broken(&"no answer in time"))?
}
