//! Whole exchanges over gRPC.

use ::http::{HeaderMap, HeaderValue};

use super::*;
use crate::outcall::limits::MAX_ANSWER_BYTES;

const METHOD: &str = "/busi.Busi/TransIn";

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat().into()
}

/// An answer with messages and a status behind them.
fn ended(body: Bytes, code: &str, message: &str) -> Response<Reply> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    trailers.insert("grpc-message", message.parse().unwrap());
    let body = Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// An answer that is a status alone, in its head.
fn status_alone(code: &str, message: &str) -> Response<Reply> {
    let mut response = reply(200, "");
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", code.parse().unwrap());
    headers.insert("grpc-message", message.parse().unwrap());
    response
}

fn rpc(server: &Server, body: &'static str) -> Call {
    call(format!("{}{METHOD}", server.at), Wire::Grpc, body)
}

fn said(code: u16, message: &str, body: impl Into<Bytes>) -> AttemptResult {
    AttemptResult::Answered { status: code, message: message.to_owned(), body: body.into() }
}

/// Does what its message says.
async fn obey(request: Request<Bytes>) -> Response<Reply> {
    let message = request.body().slice(5..);
    match &message[..] {
        b"tell" => {
            let mut names: Vec<_> = request
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            names.sort_unstable();
            let method = request.method();
            let text = format!("{method} {} {}", request.uri().path(), names.join("\n"));
            ended(framed(text.as_bytes()), "0", "")
        }
        b"aborted" => ended(Bytes::new(), "10", "not%20enough%3a FAILURE"),
        b"precondition" => status_alone("9", "ONGOING"),
        b"unavailable" => status_alone("14", "soon"),
        b"404" => reply(404, "nothing here"),
        b"503" => reply(503, "nobody here"),
        b"html" => reply(200, "<html>"),
        b"nothing" => ended(Bytes::new(), "0", ""),
        b"half" => ended(Bytes::from_static(b"\0\0\0\0\x09half"), "0", ""),
        b"no status" => {
            let mut response = reply(200, framed(b"x"));
            response
                .headers_mut()
                .insert("content-type", HeaderValue::from_static("application/grpc"));
            response
        }
        b"odd status" => status_alone("many", ""),
        b"largest" => ended(framed(&vec![b'x'; MAX_ANSWER_BYTES]), "0", ""),
        b"too large" => ended(framed(&vec![b'x'; MAX_ANSWER_BYTES + 1]), "0", ""),
        b"never" => std::future::pending().await,
        _ => ended(framed(&message), "0", ""),
    }
}

#[tokio::test]
async fn the_request_is_what_was_asked_for() {
    let server = Server::start(handler(obey)).await;
    let mut client = Client::new();
    let headers = [
        ("Dtm-Gid", "g"),
        ("dtm-dtm", ""),
        ("grpc-timeout", "1n"),
        ("Content-Type", "x"),
        ("te", "y"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let call = Call { headers, ..rpc(&server, "tell") };
    let AttemptResult::Answered { status: 0, body, .. } = client.call(call).await else {
        panic!("not answered")
    };
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "POST {METHOD} content-length: 9\ncontent-type: application/grpc\ndtm-dtm: \ndtm-gid: g\n\
         grpc-timeout: 20000m\nte: trailers\nuser-agent: grpc-rust-quorate/{version}"
    );
    assert_eq!(body, expected);
}

#[tokio::test]
async fn every_code_is_an_answer() {
    let server = Server::start(handler(obey)).await;
    let mut client = Client::new();
    let cases = [
        ("hello", said(0, "", "hello")),
        ("", said(0, "", "")),
        ("aborted", said(10, "not enough: FAILURE", "")),
        ("precondition", said(9, "ONGOING", "")),
        ("unavailable", said(14, "soon", "")),
        ("404", said(12, "HTTP status 404", "")),
        ("503", said(14, "HTTP status 503", "")),
        ("largest", said(0, "", vec![b'x'; MAX_ANSWER_BYTES])),
    ];
    for (message, expected) in cases {
        assert_eq!(client.call(rpc(&server, message)).await, expected, "{message}");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn what_is_no_answer() {
    let server = Server::start(handler(obey)).await;
    let mut client = Client::new();
    let cases = [
        ("html", "not gRPC"),
        ("nothing", "without a message"),
        ("half", "not exactly one message"),
        ("no status", "without a status"),
        ("odd status", "no number"),
        ("too large", "larger than"),
    ];
    for (message, expected) in cases {
        assert_bad_answer(client.call(rpc(&server, message)).await, expected);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_slow_answer_is_given_up_and_others_go_on() {
    let server = Server::start(handler(obey)).await;
    let mut client = Client::new();
    let soon = Duration::from_millis(50);
    let result = client.call_within(rpc(&server, "never"), soon).await;
    assert_eq!(failure(result), CallFailure::Timeout);
    assert_eq!(client.call(rpc(&server, "hello")).await, said(0, "", "hello"));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn many_share_one_connection_and_a_restart_is_not_noticed() {
    let server = Server::start(handler(obey)).await;
    let mut client = Client::new();
    for _ in 0..50 {
        client.start(rpc(&server, "hello"), 0, LONG);
    }
    for _ in 0..50 {
        assert_eq!(client.report().await.1, said(0, "", "hello"));
    }
    assert_eq!(server.connections(), 1);
    let at = server.at.to_string();
    server.stop().await;
    let server = Server::start_at(&at, handler(obey), None).await;
    assert_eq!(client.call(rpc(&server, "hello")).await, said(0, "", "hello"));
    assert_eq!(server.connections(), 1);
    server.stop().await;
    assert!(matches!(
        failure(client.call(call(format!("{at}{METHOD}"), Wire::Grpc, "x")).await),
        CallFailure::Unreachable(_) | CallFailure::Broken(_)
    ));
}

#[tokio::test]
async fn nobody_there_or_no_http2() {
    let mut client = Client::new();
    let at = nobody().await;
    let result = client.call(call(format!("{at}{METHOD}"), Wire::Grpc, "x")).await;
    assert_unreachable(result, "refused");
    // A server that answers every byte with HTTP/1.1.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let old = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        stream.try_write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").unwrap();
    });
    let result = client.call(call(format!("{at}{METHOD}"), Wire::Grpc, "x")).await;
    let why = failure(result);
    assert!(matches!(why, CallFailure::Broken(_) | CallFailure::Unreachable(_)), "{why:?}");
    old.await.unwrap();
}
