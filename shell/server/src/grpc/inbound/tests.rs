//! Requests that come slowly, in pieces, or not at all.

use std::convert::Infallible;

use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tonic::Code;

use super::*;

const SOON: Duration = Duration::from_millis(30);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

type Piece = Result<Frame<Bytes>, Infallible>;

fn pieces(pieces: &'static [&'static [u8]]) -> impl Stream<Item = Piece> + Unpin {
    stream::iter(pieces).map(|piece| Ok(Frame::data(Bytes::from_static(piece))))
}

/// A client that says this, and then neither more nor that this was all.
fn stuck(said: &'static [&'static [u8]]) -> Inbound<impl Body<Data = Bytes, Error = Infallible>> {
    Inbound::new(StreamBody::new(pieces(said).chain(stream::pending())), 100)
}

fn whole(said: &'static [&'static [u8]]) -> Inbound<impl Body<Data = Bytes, Error = Infallible>> {
    Inbound::new(StreamBody::new(pieces(said)), 100)
}

#[tokio::test]
async fn a_message_that_does_not_come_is_not_waited_for() {
    const SAID: [&[&[u8]]; 3] = [&[], &[b"\0\0\0"], &[b"\0\0\0\0\x03", b"ab"]];
    for said in SAID {
        let refused = stuck(said).only_message(SOON).await.unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded, "{said:?}");
        assert!(refused.message().contains("nothing was done"), "{refused}");
    }
}

#[tokio::test]
async fn pieces_that_come_in_time_are_a_message() {
    let mut inbound = whole(&[b"\0\0\0", b"\0\x03", b"ab", b"c"]);
    assert_eq!(inbound.only_message(LONG).await.unwrap(), "abc");
    inbound.finish(LONG).await;
    let none = whole(&[]).only_message(LONG).await.unwrap_err();
    assert_eq!(none.code(), Code::Internal);
}

#[tokio::test]
async fn an_end_that_does_not_come_is_not_waited_for() {
    let mut inbound = stuck(&[b"\0\0\0\0\x01a"]);
    assert_eq!(inbound.only_message(LONG).await.unwrap(), "a");
    tokio::time::timeout(LONG, inbound.finish(SOON)).await.expect("it gave up");
}

#[tokio::test]
async fn a_stream_may_be_silent() {
    let mut inbound = stuck(&[b"\0\0\0\0\x01a"]);
    assert_eq!(inbound.message().await.unwrap().unwrap(), "a");
    let silent = tokio::time::timeout(SOON, inbound.message()).await;
    assert!(silent.is_err(), "no bound but the test's");
}
