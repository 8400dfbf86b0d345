//! The messages of a call, as they come in.
//!
//! A message that arrived in one piece is a slice of it; only one that is spread over several is
//! copied together, once. A stream of messages may be silent for as long as its client likes; the one message of
//! a unary call has to come in time, and so has the end behind it.

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::poll_immediate;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tonic::Status;

use super::frame::{PREFIX, Prefix, prefix};
use crate::limits::UNREAD_BYTES;

/// Reads messages off a request body.
#[derive(Debug)]
pub struct Inbound<B = Incoming> {
    body: B,
    max_bytes: usize,
    /// What came and was not handed out: one piece, or several copied together.
    rest: Bytes,
}

impl<B> Inbound<B>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    /// Messages of at most `max_bytes`.
    #[must_use]
    pub fn new(body: B, max_bytes: usize) -> Self {
        Self { body, max_bytes, rest: Bytes::new() }
    }

    /// The one message of a call, which comes within this time.
    ///
    /// # Errors
    /// As [`Self::message`]; that there is none; that it did not come in time.
    pub async fn only_message(&mut self, within: Duration) -> Result<Bytes, Status> {
        match in_time(within, self.message()).await {
            Some(Ok(Some(message))) => Ok(message),
            Some(Ok(None)) => Err(Status::internal("grpc: the request has no message")),
            Some(Err(status)) => Err(status),
            None => Err(Status::deadline_exceeded(format!(
                "grpc: the request did not come within {within:?}; nothing was done"
            ))),
        }
    }

    /// The next message; `None` when the client has said that there are no more. Safe to cancel.
    ///
    /// # Errors
    /// What gRPC answers to messages that are too large, compressed or cut short.
    pub async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let wanted = match prefix(&self.rest) {
                None => PREFIX,
                Some(prefix) => {
                    self.check(prefix)?;
                    let whole = PREFIX + prefix.len;
                    if self.rest.len() >= whole {
                        let mut message = self.rest.split_to(whole);
                        message.advance(PREFIX);
                        return Ok(Some(message));
                    }
                    whole
                }
            };
            if !self.more(wanted).await? {
                return self.end();
            }
        }
    }

    fn check(&self, prefix: Prefix) -> Result<(), Status> {
        if prefix.len > self.max_bytes {
            return Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({} vs. {})",
                prefix.len, self.max_bytes
            )));
        }
        if prefix.compressed {
            return Err(Status::unimplemented("grpc: compressed messages are not supported"));
        }
        Ok(())
    }

    /// Takes the next piece; false at the end. `wanted` is the size of the whole message, so that
    /// its pieces are gathered in one buffer.
    async fn more(&mut self, wanted: usize) -> Result<bool, Status> {
        let Some(piece) = self.piece().await? else { return Ok(false) };
        if self.rest.is_empty() {
            self.rest = piece;
            return Ok(true);
        }
        let mut whole = match std::mem::take(&mut self.rest).try_into_mut() {
            Ok(owned) => owned,
            Err(shared) => {
                let mut copy = BytesMut::with_capacity(wanted.max(shared.len() + piece.len()));
                copy.extend_from_slice(&shared);
                copy
            }
        };
        whole.extend_from_slice(&piece);
        self.rest = whole.freeze();
        Ok(true)
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Status::cancelled(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Waits until the client has said that no more comes, and lets go of what comes before that. A call that
    /// is answered and forgotten before its end has arrived makes HTTP/2 count that end as an error of the
    /// client, and at some number of errors it closes the connection with everything on it. So the end is
    /// waited for, unless the client sends more than [`UNREAD_BYTES`] instead of it, or takes longer than this.
    pub async fn finish(mut self, within: Duration) {
        let rest = async {
            let mut unread = 0;
            while let Ok(Some(piece)) = self.piece().await {
                unread += piece.len();
                if unread > UNREAD_BYTES {
                    return;
                }
            }
        };
        // In time or not, the call is answered.
        let _in_time = in_time(within, rest).await;
    }

    fn end(&self) -> Result<Option<Bytes>, Status> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        Err(Status::internal("grpc: the request ends within a message"))
    }
}

/// What comes within this time. Most requests are here already when they are looked at; these need no timer.
async fn in_time<F: Future>(within: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    if let Some(output) = poll_immediate(future.as_mut()).await {
        return Some(output);
    }
    tokio::time::timeout(within, future).await.ok()
}

#[cfg(test)]
mod tests;
