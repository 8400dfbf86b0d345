//! The services whose branches are called: an HTTP/1.1 server with kept connections, on a thread of its own in the
//! generator's process, so that its cost is the generator's and not the server's.
//!
//! It answers at once: `/ok` always with success, `/hold` with 425 and ONGOING until [`Participants::release`]. What it
//! counts is what was really called: transactions are done when their branches say so, not when the server does.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::oneshot;

/// Two services, as a two-branch transaction needs them.
#[derive(Debug)]
pub struct Participants {
    addresses: [SocketAddr; 2],
    shared: Arc<Shared>,
    /// Dropped to end the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    succeeded: AtomicU64,
    held: AtomicU64,
    released: AtomicBool,
    census: Mutex<Option<Census>>,
}

/// Who has been called since the census began, by the number in its gid; and how it went since the mark.
#[derive(Debug, Clone)]
pub struct Census {
    seen: Vec<bool>,
    /// Transactions that have been called.
    pub distinct: usize,
    /// Calls since the mark of those that had been called before it.
    pub repeated: usize,
    /// Of `distinct`, those before the mark.
    before: usize,
    /// The first call since the mark.
    pub first: Option<Instant>,
    /// The last call since the mark of one that had not been called before.
    pub last: Option<Instant>,
}

impl Census {
    fn new(population: usize) -> Self {
        let seen = vec![false; population];
        Self { seen, distinct: 0, repeated: 0, before: 0, first: None, last: None }
    }

    fn mark(&mut self) {
        (self.before, self.repeated) = (self.distinct, 0);
        (self.first, self.last) = (None, None);
    }

    fn note(&mut self, number: usize) {
        let now = Instant::now();
        let Some(seen) = self.seen.get_mut(number) else { return };
        self.first.get_or_insert(now);
        if std::mem::replace(seen, true) {
            self.repeated += 1;
        } else {
            self.distinct += 1;
            self.last = Some(now);
        }
    }

    /// Transactions that were called for the first time since the mark, a second, from the first call to the last.
    pub fn rate(&self) -> Option<f64> {
        Some((self.distinct - self.before) as f64 / (self.last? - self.first?).as_secs_f64())
    }
}

impl Participants {
    /// Starts them on free ports of loopback.
    pub fn start() -> Result<Self> {
        let bind = || {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        };
        let listeners = [bind()?, bind()?];
        let addresses = [listeners[0].local_addr()?, listeners[1].local_addr()?];
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let run = move || {
            runtime.block_on(async {
                for listener in listeners {
                    tokio::spawn(accept(listener, Arc::clone(&serving)));
                }
                let _sender_dropped = ended.await;
            });
        };
        let thread = std::thread::Builder::new().name("participants".into()).spawn(run)?;
        Ok(Self { addresses, shared, end: Some(end), thread: Some(thread) })
    }

    /// Where they listen.
    pub fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses
    }

    /// Calls that were answered with success.
    pub fn succeeded(&self) -> u64 {
        self.shared.succeeded.load(Ordering::Relaxed)
    }

    /// Calls that were told to come back.
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// What was held succeeds from now on, or is held again.
    pub fn release(&self, released: bool) {
        self.shared.released.store(released, Ordering::Relaxed);
    }

    /// Counts who is called from now on, among so many.
    pub fn begin_census(&self, population: usize) {
        *self.shared.census() = Some(Census::new(population));
    }

    /// First, last, rate and repetitions count from now on.
    pub fn mark(&self) {
        if let Some(census) = self.shared.census().as_mut() {
            census.mark();
        }
    }

    /// How it stands.
    pub fn census(&self) -> Result<Census> {
        self.shared.census().clone().context("no census was begun")
    }

    /// How many have been called in it.
    pub fn counted(&self) -> usize {
        self.shared.census().as_ref().map_or(0, |census| census.distinct)
    }
}

impl Drop for Participants {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It has panicked at the worst, and then there is nothing to wait for.
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn census(&self) -> MutexGuard<'_, Option<Census>> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, path: &str, query: &str) -> Response<Full<Bytes>> {
        if path == "/hold" && !self.released.load(Ordering::Relaxed) {
            self.held.fetch_add(1, Ordering::Relaxed);
            let mut response = json(r#"{"dtm_result":"ONGOING"}"#);
            *response.status_mut() = StatusCode::TOO_EARLY;
            return response;
        }
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        if let Some(census) = self.census().as_mut()
            && let Some(number) = number(query)
        {
            census.note(number);
        }
        json(r#"{"dtm_result":"SUCCESS"}"#)
    }
}

/// The number at the end of a gid, behind its last `-`.
fn number(query: &str) -> Option<usize> {
    let gid = query.split('&').find_map(|pair| pair.strip_prefix("gid="))?;
    gid.rsplit_once('-')?.1.parse().ok()
}

fn json(text: &'static str) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(text.as_bytes())))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        // Without it an answer may wait for an acknowledgement.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| serve(request, Arc::clone(&shared)));
        let mut builder = http1::Builder::new();
        let serving = builder.pipeline_flush(false).serve_connection(TokioIo::new(stream), service);
        // A server that is killed breaks its connections.
        tokio::spawn(async { drop(serving.await) });
    }
}

async fn serve(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    body.collect().await?;
    Ok(shared.answer(head.uri.path(), head.uri.query().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::http::HttpConn;

    #[tokio::test]
    async fn calls_are_answered_held_and_counted() {
        let participants = Participants::start().unwrap();
        let mut conn = HttpConn::open(participants.addresses()[1]).await.unwrap();
        conn.done("/ok?gid=x-1&op=action", "{}".to_owned()).await.unwrap();
        let (status, body) = conn.post("/hold?gid=x-1", String::new()).await.unwrap();
        assert!(status == StatusCode::TOO_EARLY && body.starts_with(b"{\"dtm_result\":\"ONGOING"));
        participants.begin_census(3);
        participants.release(true);
        for gid in ["x-2", "x-0", "x-2", "nobody"] {
            conn.done(&format!("/hold?gid={gid}"), String::new()).await.unwrap();
        }
        assert_eq!((participants.succeeded(), participants.held()), (5, 1));
        let census = participants.census().unwrap();
        assert_eq!((census.distinct, census.repeated, participants.counted()), (2, 1, 2));
        assert!(census.first < census.last && census.rate().unwrap() > 0.0);
        participants.mark();
        conn.done("/ok?gid=x-1", String::new()).await.unwrap();
        let census = participants.census().unwrap();
        assert_eq!((census.distinct, census.repeated, census.first), (3, 0, census.last));
    }
}
