//! What a response consists of.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Frame, SizeHint};
use tonic::Status;

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A response's content: plain bytes, or gRPC messages followed by trailers.
pub struct Body(Content);

enum Content {
    Done,
    /// Bytes and nothing after them.
    Plain(Bytes),
    /// One message, then the status OK.
    Unary(Bytes),
    Stream(Messages),
    Trailers(HeaderMap),
}

impl Body {
    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self(Content::Done)
    }

    /// Bytes, for HTTP.
    #[must_use]
    pub fn plain(bytes: impl Into<Bytes>) -> Self {
        Self(Content::Plain(bytes.into()))
    }

    /// One encoded message and the status OK.
    pub(super) fn unary(message: Bytes) -> Self {
        Self(Content::Unary(message))
    }

    /// Encoded messages; the first error is the status, else it is OK.
    pub(super) fn stream(
        messages: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
    ) -> Self {
        Self(Content::Stream(Box::pin(messages)))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Content::Done => "Done",
            Content::Plain(_) => "Plain",
            Content::Unary(_) => "Unary",
            Content::Stream(_) => "Stream",
            Content::Trailers(_) => "Trailers",
        })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let content = &mut self.get_mut().0;
        let (frame, next) = match std::mem::replace(content, Content::Done) {
            Content::Done => return Poll::Ready(None),
            Content::Plain(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Content::Plain(bytes) => (Frame::data(bytes), Content::Done),
            Content::Unary(message) => (Frame::data(message), Content::Trailers(ok())),
            Content::Trailers(trailers) => (Frame::trailers(trailers), Content::Done),
            Content::Stream(mut messages) => match messages.as_mut().poll_next(context) {
                Poll::Pending => {
                    *content = Content::Stream(messages);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(message))) => (Frame::data(message), Content::Stream(messages)),
                Poll::Ready(Some(Err(status))) => (Frame::trailers(failed(&status)), Content::Done),
                Poll::Ready(None) => (Frame::trailers(ok()), Content::Done),
            },
        };
        *content = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Done => true,
            Content::Plain(bytes) => bytes.is_empty(),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Done => SizeHint::with_exact(0),
            Content::Plain(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // No length is announced where trailers follow.
            _ => SizeHint::default(),
        }
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

fn failed(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if status.add_header(&mut trailers).is_err() {
        trailers.insert(GRPC_STATUS, HeaderValue::from(status.code() as i32));
    }
    trailers
}
