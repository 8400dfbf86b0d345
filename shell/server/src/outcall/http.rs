//! An attempt over HTTP/1.1.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use quorate_outcall::{AttemptResult, Call, CallFailure, Method, Target, Wire};

use super::connect::{self, Body, Http1};
use super::draft::Draft;
use super::error::{bad_answer, body, broken, unreachable, worse};
use super::limits::{CONNECT_TIME, MAX_ANSWER_BYTES, MAX_REDIRECTS, SETTLE_TIME};
use super::names::Host;
use super::pool::Place;
use super::redirect::Hop;
use super::{Caller, Parting};

/// Fields that belong to the connection, not to the caller: taken over from the call they could make the server see
/// another request than was sent.
const OURS: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// What a redirect to another host does not get.
const CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

const USER_AGENT: &str = concat!("quorate/", env!("CARGO_PKG_VERSION"));

/// A connection whose answer has been read.
pub(super) struct Connection {
    sender: Http1,
    place: Place,
}

impl Caller {
    pub(super) async fn http(
        &self,
        call: &Call,
        method: Method,
        address: u32,
        parting: &mut Parting,
    ) -> Result<AttemptResult, CallFailure> {
        let mut hop = Hop::first(self.at_home(&call.url), method);
        for _ in 0..=MAX_REDIRECTS {
            let target = Target::parse(&hop.url, call.wire)?;
            let (host, turn) = Host::of(&target, address);
            let draft = Draft::new(|| compose(call, &hop, &host, target.path))?;
            let (response, connection) = self.send(&host, turn, draft).await?;
            let (head, body) = read(response).await?;
            parting.push(connection);
            match hop.follow(head.status, &head.headers) {
                Some(next) => hop = checked(next, call.wire)?,
                None => {
                    let status = head.status.as_u16();
                    return Ok(AttemptResult::Answered { status, message: String::new(), body });
                }
            }
        }
        Err(bad_answer(format!("redirected more than {MAX_REDIRECTS} times")))
    }

    /// The URL as it is reached from here.
    pub(super) fn at_home<'a>(&self, url: &'a str) -> Cow<'a, str> {
        if !self.localhost_is_docker_host {
            return url.into();
        }
        let around = "host.docker.internal";
        url.replacen("localhost", around, 1).replacen("127.0.0.1", around, 1).into()
    }

    /// Sends a request to the first of a host's addresses that takes a connection, and waits for the answer to begin.
    async fn send(
        &self,
        host: &Host,
        turn: usize,
        mut draft: Draft<impl Fn() -> Result<Request<Body>, CallFailure>>,
    ) -> Result<(Response<Incoming>, Connection), CallFailure> {
        let addresses = self.names.addresses(host, turn).await?;
        let mut why = None;
        for (i, at) in addresses.iter().enumerate() {
            let last = i + 1 == addresses.len();
            match self.send_to(host, *at, last, &mut draft).await {
                Err(failure @ CallFailure::Unreachable(_)) => why = Some(failure),
                other => return other,
            }
        }
        self.names.forget(host);
        Err(why.unwrap_or_else(|| unreachable("no address")))
    }

    /// Sends it over a kept connection; if there is none, or that turns out to be dead, over a new one.
    async fn send_to(
        &self,
        host: &Host,
        at: SocketAddr,
        last: bool,
        draft: &mut Draft<impl Fn() -> Result<Request<Body>, CallFailure>>,
    ) -> Result<(Response<Incoming>, Connection), CallFailure> {
        let place = Place::new(host, at);
        let mut before = None;
        if let Some(kept) = self.pool.take(&place) {
            match exchange(kept, place.clone(), draft.take()?).await {
                Err(dead @ (CallFailure::Broken(_) | CallFailure::Unreachable(_))) => {
                    before = Some(dead);
                }
                other => return other,
            }
        }
        // Seldom, and a large future: on its own, so that each attempt does not have to be as large.
        match (Box::pin(self.connect(host, at, last)).await, before) {
            (Ok(new), _) => exchange(new, place, draft.take()?).await,
            (Err(failure), None) => Err(failure),
            (Err(later), Some(failure)) => Err(worse(failure, later)),
        }
    }

    async fn connect(&self, host: &Host, at: SocketAddr, last: bool) -> Result<Http1, CallFailure> {
        in_time(last, connect::http1(&self.tls, host, at)).await
    }

    /// Keeps a connection as soon as it is idle.
    pub(super) async fn keep(&self, connection: Connection) {
        let Connection { mut sender, place } = connection;
        if let Ok(Ok(())) = tokio::time::timeout(SETTLE_TIME, sender.ready()).await {
            self.pool.put(place, sender);
        }
    }
}

/// Bounds the making of a connection, unless it is the last that can be tried.
pub(super) async fn in_time<T>(
    last: bool,
    connecting: impl Future<Output = Result<T, CallFailure>>,
) -> Result<T, CallFailure> {
    let bound = if last { Duration::MAX } else { CONNECT_TIME };
    let connected = tokio::time::timeout(bound, connecting).await;
    connected.unwrap_or_else(|_| Err(unreachable("no connection in time")))
}

async fn exchange(
    mut sender: Http1,
    place: Place,
    request: Request<Body>,
) -> Result<(Response<Incoming>, Connection), CallFailure> {
    match sender.try_send_request(request).await {
        Ok(response) => Ok((response, Connection { sender, place })),
        Err(mut failed) => {
            let unsent = failed.take_message().is_some();
            Err(broken(failed.error(), unsent))
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<(http::response::Parts, Bytes), CallFailure> {
    let (head, answer) = response.into_parts();
    let answer = Limited::new(answer, MAX_ANSWER_BYTES).collect().await;
    let answer = answer.map_err(|error| body(error.as_ref()))?;
    Ok((head, answer.to_bytes()))
}

fn checked(hop: Hop<'static>, wire: Wire) -> Result<Hop<'static>, CallFailure> {
    match Target::parse(&hop.url, wire) {
        Ok(_) => Ok(hop),
        Err(why) => Err(bad_answer(format!("redirected to a {why}"))),
    }
}

fn compose(
    call: &Call,
    hop: &Hop<'_>,
    host: &Host,
    path: &str,
) -> Result<Request<Body>, CallFailure> {
    let path = match path.starts_with('/') {
        true => PathAndQuery::try_from(path),
        false => PathAndQuery::try_from(format!("/{path}")),
    };
    let bare = hop.bare || hop.method == Method::Get;
    let method = match hop.method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
    };
    let body = if bare { Bytes::new() } else { call.body.clone() };
    let length = HeaderValue::from(body.len());
    let mut request = Request::new(Body::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.map_err(bad_request)?.into();
    let headers = request.headers_mut();
    if hop.method == Method::Post {
        // Servers may want it even if there is nothing; hyper leaves it out then.
        headers.insert(header::CONTENT_LENGTH, length);
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    add_headers(headers, &call.headers, &OURS)?;
    headers.insert(header::HOST, HeaderValue::try_from(&host.authority).map_err(bad_request)?);
    if hop.bare {
        headers.remove(header::CONTENT_TYPE);
    }
    if hop.abroad {
        CREDENTIALS.iter().for_each(|name| drop(headers.remove(name)));
    }
    Ok(request)
}

/// Adds a call's fields, but those whose names are `ours`.
pub(super) fn add_headers<'a>(
    headers: &mut HeaderMap,
    fields: impl IntoIterator<Item = &'a (String, String)>,
    ours: &[HeaderName],
) -> Result<(), CallFailure> {
    for (name, value) in fields {
        let name = HeaderName::try_from(name).map_err(bad_request)?;
        if !ours.contains(&name) {
            headers.insert(name, HeaderValue::try_from(value).map_err(bad_request)?);
        }
    }
    Ok(())
}

pub(super) fn bad_request(error: impl std::error::Error) -> CallFailure {
    CallFailure::BadRequest(error.to_string())
}
