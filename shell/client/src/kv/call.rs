//! One request, to one member after the other until one answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::Client;
use super::error::{Attempt, Error};

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(2);

/// Silence after which a member is asked whether it lives, and how long it may take to say so. A watch on a member that stands still
/// moves on after both.
const PING: Duration = Duration::from_secs(3);

/// Pause when all members have been asked in vain; it doubles up to the second one.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// Whether an attempt that failed may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Making it twice is making it once.
    Freely,
    /// Only if it certainly has had no effect.
    IfNothingWasDone,
}

/// Where an attempt goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The member's number.
    pub(super) member: usize,
    /// The connection to it.
    pub(super) channel: Channel,
    /// How long the attempt may take.
    pub(super) limit: Duration,
}

impl Target {
    /// A request that tells the server how long its client waits.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.limit);
        request
    }
}

/// Connections to all members, and which of them is asked.
#[derive(Debug)]
pub(super) struct Members {
    channels: Vec<Channel>,
    current: AtomicUsize,
}

impl Members {
    pub(super) fn new<'a>(endpoints: impl Iterator<Item = &'a str>) -> Result<Self, Error> {
        let channels: Vec<Channel> = endpoints.map(channel).collect::<Result<_, _>>()?;
        if channels.is_empty() {
            return Err(Error::Malformed("a client needs an endpoint".to_owned()));
        }
        Ok(Self { channels, current: AtomicUsize::new(0) })
    }

    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The member that is asked, and its number.
    fn current(&self) -> (usize, Channel) {
        let at = self.current.load(Ordering::Relaxed);
        (at, self.channels[at].clone())
    }

    /// The member at `at` does not answer. Nothing changes if somebody else has found that out already.
    pub(super) fn leave(&self, at: usize) {
        let next = (at + 1) % self.len();
        let _moved_on =
            self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn channel(endpoint: &str) -> Result<Channel, Error> {
    let malformed = |why: &str| Error::Malformed(format!("'{endpoint}' is no endpoint: {why}"));
    if !endpoint.starts_with("http://") {
        return Err(malformed("it does not begin with http://"));
    }
    let endpoint = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|error| malformed(&error.to_string()))?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

/// The next pause.
pub(super) fn longer(pause: Duration) -> Duration {
    (pause * 2).min(PAUSES.1)
}

impl Client {
    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes attempts until one is answered, the time is over, or the next one could do harm.
    pub(super) async fn call<T, F, R>(&self, repeat: Repeat, attempt: F) -> Result<T, Error>
    where
        F: Fn(Target) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.timeout;
        let (mut asked, mut pause) = (0, PAUSES.0);
        loop {
            let (member, channel) = self.members.current();
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = match repeat {
                // A member that stands still must not use up the time of the others.
                Repeat::Freely => (self.timeout / (self.members.len() as u32 + 1)).min(left),
                Repeat::IfNothingWasDone => left,
            };
            let failed = match timeout(limit, attempt(Target { member, channel, limit })).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Attempt::of(&status),
                Err(_) => Attempt::Open(format!("nothing within {} ms", limit.as_millis())),
            };
            self.members.leave(member);
            let why = match (failed, repeat) {
                (Attempt::Decided(error), _) => return Err(error),
                (Attempt::Open(why), Repeat::IfNothingWasDone) => return Err(Error::Unknown(why)),
                (Attempt::Open(why) | Attempt::DidNothing(why), _) => why,
            };
            asked += 1;
            if asked % self.members.len() == 0 {
                if Instant::now() + pause >= deadline {
                    return Err(Error::Unavailable(why));
                }
                sleep(pause).await;
                pause = longer(pause);
            }
        }
    }
}
