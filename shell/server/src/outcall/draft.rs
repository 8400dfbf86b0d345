//! A request to be sent, perhaps more than once: to the next address, or over a new connection when a kept one was dead.
//!
//! A connection takes the request that it sends, so a further try composes it again; nearly always the first one is enough.

use http::Request;
use quorate_outcall::CallFailure;

use super::connect::Body;

pub(super) struct Draft<F> {
    composed: Option<Request<Body>>,
    compose: F,
}

impl<F: Fn() -> Result<Request<Body>, CallFailure>> Draft<F> {
    /// # Errors
    /// It cannot be composed; nothing need be tried.
    pub(super) fn new(compose: F) -> Result<Self, CallFailure> {
        Ok(Self { composed: Some(compose()?), compose })
    }

    /// The request, for one try.
    ///
    /// # Errors
    /// As before, so never.
    pub(super) fn take(&mut self) -> Result<Request<Body>, CallFailure> {
        self.composed.take().map_or_else(&self.compose, Ok)
    }
}
