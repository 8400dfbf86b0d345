//! HTTP as much as is needed: one request, one answer, a time limit, and patience with servers that are
//! being restarted.

mod connect;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::error::Error;
use connect::{Connector, connector};

/// Longest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How long to ask again where nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// No attempt begins later than this after the first one. Zero: a single attempt.
    pub total: Duration,
    /// Between two attempts.
    pub pause: Duration,
}

impl Patience {
    /// A single attempt.
    pub const NONE: Self = Self { total: Duration::ZERO, pause: Duration::ZERO };
}

/// Calls made so far.
#[derive(Debug, Default)]
struct Counts {
    attempts: AtomicU64,
    repeated: AtomicU64,
}

/// An HTTP client with a pool of connections. Cheap to clone; clones share the pool.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<Connector, Full<Bytes>>,
    timeout: Duration,
    counts: Arc<Counts>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body, complete.
    pub body: Bytes,
}

impl Http {
    /// A client whose requests take at most `timeout`, each.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector(timeout));
        Self { client, timeout, counts: Arc::default() }
    }

    /// Requests sent so far, those of clones included.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.counts.attempts.load(Ordering::Relaxed)
    }

    /// How many of them were further attempts at the same request.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.counts.repeated.load(Ordering::Relaxed)
    }

    /// GET.
    ///
    /// # Errors
    /// `Malformed`, `Unavailable`. An answer with any status is no error here.
    pub async fn get(&self, url: &str, patience: Patience) -> Result<Answer, Error> {
        self.send(Method::GET, url, Bytes::new(), patience).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, url: &str, json: Bytes, patience: Patience) -> Result<Answer, Error> {
        self.send(Method::POST, url, json, patience).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
        patience: Patience,
    ) -> Result<Answer, Error> {
        let deadline = Instant::now() + patience.total;
        loop {
            let result = self.attempt(method.clone(), url, body.clone()).await;
            if !is_answerless(&result) || Instant::now() + patience.pause >= deadline {
                return result;
            }
            tokio::time::sleep(patience.pause).await;
            self.count_repeated();
        }
    }

    /// The next attempt is a further one at the same request.
    pub(crate) fn count_repeated(&self) {
        self.counts.repeated.fetch_add(1, Ordering::Relaxed);
    }

    async fn attempt(&self, method: Method, url: &str, body: Bytes) -> Result<Answer, Error> {
        self.counts.attempts.fetch_add(1, Ordering::Relaxed);
        let mut request = Request::builder().method(method.clone()).uri(url);
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Error::Malformed(format!("'{url}' is no address: {error}")))?;
        let unavailable = |why: String| Error::Unavailable { url: url.to_owned(), why };
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(result) => result.map_err(unavailable),
            Err(_) => Err(unavailable(format!("nothing within {} ms", self.timeout.as_millis()))),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let response = self.client.request(request).await.map_err(|error| chain(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status, body })
    }
}

/// Whether the same request may be sent again, there or elsewhere.
pub(crate) fn is_answerless(result: &Result<Answer, Error>) -> bool {
    match result {
        Ok(answer) => answer.status == 503,
        Err(Error::Unavailable { .. }) => true,
        Err(_) => false,
    }
}

impl Answer {
    /// The answer of a participant or of the coordinator as a result, by DTM's rules: the words count as
    /// much as the status, for the sake of old clients and services.
    ///
    /// # Errors
    /// `Refused`, `Ongoing`, `Unavailable` (status 503) or `Failed`.
    pub fn result(self, url: &str) -> Result<Bytes, Error> {
        let text = String::from_utf8_lossy(&self.body);
        if self.status == 425 || text.contains("ONGOING") {
            return Err(Error::Ongoing(text.into_owned()));
        }
        if self.status == 409 || text.contains("FAILURE") {
            return Err(Error::Refused(text.into_owned()));
        }
        let (url, message) = (url.to_owned(), text.into_owned());
        match self.status {
            200 => Ok(self.body),
            503 => Err(Error::Unavailable { url, why: message }),
            status => Err(Error::Failed { url, status, message }),
        }
    }
}

/// The error with its causes: the innermost one is what says why a connection failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(status: u16, body: &'static str) -> Result<Bytes, Error> {
        Answer { status, body: Bytes::from_static(body.as_bytes()) }.result("u")
    }

    #[test]
    fn words_count_as_much_as_the_status() {
        assert!(matches!(result(200, "{\"dtm_result\":\"FAILURE\"}"), Err(Error::Refused(_))));
        assert!(matches!(result(500, "ONGOING"), Err(Error::Ongoing(_))));
        assert!(matches!(result(409, "no"), Err(Error::Refused(_))));
        assert!(matches!(result(425, "FAILURE"), Err(Error::Ongoing(_))));
        assert!(matches!(result(201, ""), Err(Error::Failed { status: 201, .. })));
        assert!(matches!(result(503, ""), Err(Error::Unavailable { .. })));
        assert_eq!(result(200, "a whim").expect("success"), "a whim");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_not_asked() {
        let http = Http::new(Duration::from_secs(1));
        let result = http.get("http://[", Patience::NONE).await;
        assert!(matches!(result, Err(Error::Malformed(_))), "{result:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_said_after_the_patience() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let url = format!("http://{}/", free.local_addr().expect("bound"));
        drop(free);
        let http = Http::new(Duration::from_secs(1));
        let patience =
            Patience { total: Duration::from_millis(60), pause: Duration::from_millis(10) };
        let result = http.get(&url, patience).await;
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
        assert!(http.repeated() >= 1 && http.attempts() == http.repeated() + 1);
    }
}
