//! Calls that leave the house: what `quorate_outcall` decides, carried out over sockets.
//!
//! An [`Executor`] takes attempts and reports each exactly once, unless it was aborted: HTTP/1.1 and gRPC (over HTTP/2),
//! both with or without TLS. Whether, when and how often there is an attempt is the machine's business; here is only
//! how one is made:
//!
//! 1. `names`: the address whose turn it is, among the hosts of the URL and the addresses of its name. One that takes no
//!    connection is passed by for the next: nothing has been sent, so nothing is repeated.
//! 2. `pool`: a kept connection, or a new one (`connect`, `tls`). HTTP/1.1 keeps idle connections, each for one request at a
//!    time; gRPC shares one connection per address. A kept connection that turns out to be dead before an answer began
//!    was closed by a participant that restarted, most likely: the request goes out once more, on a new one.
//! 3. `http` and `grpc`: the request is composed (`draft`) and the answer read, both bounded. `redirect` follows as Go's client does,
//!    which is the one of DTM.
//!
//! Each runtime has one, with connections of its own; `node_thread` sends all attempts at one destination to the same
//! runtime, so that its connections stay in use (`lane_of`). `results` carries back how attempts ended.
//!
//! All of it happens within the attempt's timeout; whoever runs out of it, or is aborted, drops the connection (HTTP/1.1)
//! or resets the stream (HTTP/2), so that the participant can notice.
//!
//! Left out: proxies of the environment, client certificates, compressed answers, and cookies. A redirect leads past the
//! limits of the destination it goes to, as it counts for the one it came from.

mod connect;
mod draft;
mod error;
mod grpc;
mod http;
pub mod limits;
mod names;
mod pool;
mod redirect;
mod results;
mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_outcall::{AttemptId, AttemptResult, Call, CallFailure, Target, Wire};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use results::Results;
pub use tls::TlsError;

/// What an operator chooses.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// PEM file with certificates of authorities that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether `localhost` and `127.0.0.1` mean the machine around the container that this runs in (DTM's `IS_DOCKER`).
    pub localhost_is_docker_host: bool,
}

/// See the module. Dropping it aborts what is under way.
pub struct Executor {
    runtime: Handle,
    caller: Arc<Caller>,
    deliver: Arc<dyn Fn(AttemptId, AttemptResult) + Send + Sync>,
    under_way: Arc<UnderWay>,
}

/// Whether calls could be made so.
///
/// # Errors
/// The file of authorities cannot be used.
pub fn check(options: &Options) -> Result<(), TlsError> {
    options.ca_file.as_deref().map_or(Ok(()), |path| tls::Tls::new(Some(path)).map(drop))
}

/// Which of so many runtimes makes the calls to the destination of this URL: always the same one.
#[must_use]
pub fn lane_of(call: &Call, lanes: usize) -> usize {
    if lanes <= 1 {
        return 0;
    }
    let authority = Target::parse(&call.url, call.wire).map_or("", |target| target.authority);
    let hash = xxhash_rust::xxh3::xxh3_64(authority.as_bytes());
    usize::try_from(hash % lanes as u64).expect("lanes are few")
}

/// What attempts share.
struct Caller {
    names: Arc<names::Names>,
    pool: pool::Pool,
    tls: tls::Tls,
    localhost_is_docker_host: bool,
}

#[derive(Default)]
struct UnderWay(Mutex<BTreeMap<AttemptId, AbortHandle>>);

impl Executor {
    /// An executor on this runtime. `deliver` is called on its threads, once for each attempt, and must not block.
    ///
    /// # Errors
    /// The file of authorities cannot be used.
    pub fn new(
        runtime: Handle,
        options: &Options,
        deliver: impl Fn(AttemptId, AttemptResult) + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let caller = Caller {
            names: Arc::default(),
            pool: pool::Pool::default(),
            tls: tls::Tls::new(options.ca_file.as_deref())?,
            localhost_is_docker_host: options.localhost_is_docker_host,
        };
        Ok(Self {
            runtime,
            caller: Arc::new(caller),
            deliver: Arc::new(deliver),
            under_way: Arc::default(),
        })
    }

    /// Carries out an attempt, of at most this time.
    pub fn attempt(&self, attempt: AttemptId, call: Arc<Call>, address: u32, timeout: Duration) {
        let (caller, deliver) = (Arc::clone(&self.caller), Arc::clone(&self.deliver));
        let under_way = Arc::clone(&self.under_way);
        // Locked until the attempt is written down: it may end before this thread goes on.
        let mut all = self.under_way.lock();
        let task = self.runtime.spawn(async move {
            let done = tokio::time::timeout(timeout, caller.perform(&call, address, timeout)).await;
            let (result, parting) = done.unwrap_or_else(|_| {
                (AttemptResult::Failed(CallFailure::Timeout), Parting::default())
            });
            if under_way.lock().remove(&attempt).is_some() {
                deliver(attempt, result);
            }
            caller.part(parting).await;
        });
        all.insert(attempt, task.abort_handle());
    }

    /// Stops an attempt; it is not reported any more. One that is not under way is no error.
    pub fn abort(&self, attempt: AttemptId) {
        if let Some(task) = self.under_way.lock().remove(&attempt) {
            task.abort();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        for task in std::mem::take(&mut *self.under_way.lock()).into_values() {
            task.abort();
        }
    }
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left to do when an attempt has been reported: connections to be kept.
type Parting = Vec<http::Connection>;

impl Caller {
    async fn perform(
        &self,
        call: &Call,
        address: u32,
        timeout: Duration,
    ) -> (AttemptResult, Parting) {
        let mut parting = Parting::new();
        let result = match call.wire {
            Wire::Http { method } => self.http(call, method, address, &mut parting).await,
            // On its own, so that attempts over HTTP need not be as large.
            Wire::Grpc => Box::pin(self.grpc(call, address, timeout)).await,
        };
        (result.unwrap_or_else(AttemptResult::Failed), parting)
    }

    async fn part(&self, parting: Parting) {
        for connection in parting {
            self.keep(connection).await;
        }
    }
}

#[cfg(test)]
mod tests;
