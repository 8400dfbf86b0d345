//! An attempt over gRPC: one unary call whose messages are bytes (the gRPC specification's "gRPC over HTTP2").

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use quorate_outcall::{AttemptResult, Call, CallFailure, Target};

use super::Caller;
use super::connect::{self, Body, Http2};
use super::draft::Draft;
use super::error::{bad_answer, body, broken, unreachable, worse};
use super::http::{add_headers, bad_request, in_time};
use super::limits::MAX_ANSWER_BYTES;
use super::names::Host;
use super::pool::{Opening, Place};

/// Fields that are the protocol's own. Those whose names begin with `grpc-` are too.
const OURS: [HeaderName; 8] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

const USER_AGENT: &str = concat!("grpc-rust-quorate/", env!("CARGO_PKG_VERSION"));

/// Bytes before a message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

/// The code of a call that failed for a reason that has no code.
const UNKNOWN: u16 = 2;

impl Caller {
    pub(super) async fn grpc(
        &self,
        call: &Call,
        address: u32,
        timeout: Duration,
    ) -> Result<AttemptResult, CallFailure> {
        let url = self.at_home(&call.url);
        let target = Target::parse(&url, call.wire)?;
        let (host, turn) = Host::of(&target, address);
        let draft = Draft::new(|| compose(call, &host, target.path, timeout))?;
        let response = self.ask(&host, turn, draft).await?;
        read(response).await
    }

    async fn ask(
        &self,
        host: &Host,
        turn: usize,
        mut draft: Draft<impl Fn() -> Result<Request<Body>, CallFailure>>,
    ) -> Result<Response<Incoming>, CallFailure> {
        let addresses = self.names.addresses(host, turn).await?;
        let mut why = None;
        for (i, at) in addresses.iter().enumerate() {
            let last = i + 1 == addresses.len();
            match self.ask_at(host, *at, last, &mut draft).await {
                Err(failure @ CallFailure::Unreachable(_)) => why = Some(failure),
                other => return other,
            }
        }
        self.names.forget(host);
        Err(why.unwrap_or_else(|| unreachable("no address")))
    }

    /// Asks over the shared connection; once more over a new one if that was there before, and is dead now.
    async fn ask_at(
        &self,
        host: &Host,
        at: SocketAddr,
        last: bool,
        draft: &mut Draft<impl Fn() -> Result<Request<Body>, CallFailure>>,
    ) -> Result<Response<Incoming>, CallFailure> {
        let place = Place::new(host, at);
        let (opening, kept) = self.share(&place, host);
        let mut sender = in_time(last, opening.clone()).await?;
        let failure = match exchange(&mut sender, draft.take()?).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        // A stream may fail alone; the connection is good for others then.
        if sender.is_ready() {
            return Err(failure);
        }
        self.pool.forget(&place, &opening);
        if !kept {
            return Err(failure);
        }
        match in_time(last, self.share(&place, host).0).await {
            Ok(mut sender) => exchange(&mut sender, draft.take()?).await,
            Err(later) => Err(worse(failure, later)),
        }
    }

    fn share(&self, place: &Place, host: &Host) -> (Opening, bool) {
        self.pool.share(place, || {
            let (tls, host, at) = (self.tls.clone(), host.clone(), place.at);
            async move { connect::http2(&tls, &host, at).await }.boxed()
        })
    }
}

async fn exchange(
    sender: &mut Http2,
    request: Request<Body>,
) -> Result<Response<Incoming>, CallFailure> {
    sender.try_send_request(request).await.map_err(|mut failed| {
        let unsent = failed.take_message().is_some();
        broken(failed.error(), unsent)
    })
}

fn compose(
    call: &Call,
    host: &Host,
    path: &str,
    timeout: Duration,
) -> Result<Request<Body>, CallFailure> {
    let scheme = if host.tls { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(host.authority.as_str());
    let uri = uri.path_and_query(path).build().map_err(bad_request)?;
    let mut request = Request::new(Body::new(frame(&call.body)?));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    let not_reserved =
        |(name, _): &&(String, String)| !name.to_ascii_lowercase().starts_with("grpc-");
    add_headers(headers, call.headers.iter().filter(not_reserved), &OURS)?;
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    // At most eight digits.
    let ms = timeout.as_millis().clamp(1, 99_999_999);
    headers.insert("grpc-timeout", HeaderValue::try_from(format!("{ms}m")).map_err(bad_request)?);
    Ok(request)
}

/// A message with its head.
fn frame(message: &Bytes) -> Result<Bytes, CallFailure> {
    let length = u32::try_from(message.len()).map_err(bad_request)?;
    let mut framed = BytesMut::with_capacity(FRAME_HEAD + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    Ok(framed.freeze())
}

async fn read(response: Response<Incoming>) -> Result<AttemptResult, CallFailure> {
    let (head, answer) = response.into_parts();
    if head.status != StatusCode::OK {
        let message = format!("HTTP status {}", head.status.as_u16());
        return Ok(AttemptResult::Answered {
            status: code_of(head.status),
            message,
            body: Bytes::new(),
        });
    }
    // Without a message, the head alone may say it all.
    if let Some(result) = said(&head.headers)? {
        return Ok(result);
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return Err(bad_answer("not gRPC"));
    }
    let answer = Limited::new(answer, MAX_ANSWER_BYTES + FRAME_HEAD).collect().await;
    let answer = answer.map_err(|error| body(error.as_ref()))?;
    let trailers = answer.trailers().cloned().unwrap_or_default();
    match said(&trailers)? {
        Some(AttemptResult::Answered { status: 0, message, .. }) => {
            let body = unframe(answer.to_bytes())?;
            Ok(AttemptResult::Answered { status: 0, message, body })
        }
        Some(result) => Ok(result),
        None => Err(bad_answer("it ended without a status")),
    }
}

/// The status in header fields or trailers.
fn said(fields: &HeaderMap) -> Result<Option<AttemptResult>, CallFailure> {
    let Some(code) = fields.get("grpc-status") else { return Ok(None) };
    let code = code.to_str().ok().and_then(|code| code.parse().ok());
    let status = code.ok_or_else(|| bad_answer("its status is no number"))?;
    let message =
        fields.get("grpc-message").map_or_else(String::new, |text| decode(text.as_bytes()));
    Ok(Some(AttemptResult::Answered { status, message, body: Bytes::new() }))
}

/// The one message of an answer.
fn unframe(mut answer: Bytes) -> Result<Bytes, CallFailure> {
    if answer.len() < FRAME_HEAD {
        return Err(bad_answer("without a message"));
    }
    let compressed = answer.get_u8() != 0;
    let length = usize::try_from(answer.get_u32()).map_err(|_| bad_answer("too long"))?;
    if compressed {
        return Err(bad_answer("compressed, which was not asked for"));
    }
    if length != answer.len() {
        return Err(bad_answer("not exactly one message"));
    }
    Ok(answer)
}

/// Percent-decoding of a status' message; what is no code stays as it is.
fn decode(text: &[u8]) -> String {
    let hex = |at: usize| text.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).expect("two digits of sixteen"));
                at += 3;
            }
            (byte, ..) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What HTTP's statuses mean to gRPC (its document "HTTP to gRPC Status Code Mapping").
fn code_of(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_a_head() {
        let framed = frame(&Bytes::from_static(b"abc")).unwrap();
        assert_eq!(&framed[..], b"\0\0\0\0\x03abc");
        assert_eq!(unframe(framed).unwrap(), "abc");
        assert_eq!(unframe(Bytes::from_static(b"\0\0\0\0\0")).unwrap(), "");
        for wrong in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x01", b"\0\0\0\0\0a"] {
            assert!(unframe(Bytes::from_static(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn messages_of_a_status_are_decoded() {
        assert_eq!(decode(b"a%20b%e4%bd%a0"), "a b\u{4f60}");
        assert_eq!(decode(b"100%, %4"), "100%, %4");
        assert_eq!(decode(b"%ff"), "\u{fffd}");
    }
}
