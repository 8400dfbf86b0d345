//! Connections that are kept: idle ones of HTTP/1.1, and the shared one of HTTP/2, by address.
//!
//! What has not been used for `IDLE_TIME` goes when something else is put in, or taken from the same place.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use quorate_outcall::CallFailure;
use tokio::time::Instant;

use super::connect::{Http1, Http2};
use super::limits::{IDLE_TIME, MAX_IDLE, MAX_IDLE_PER_ADDRESS};
use super::names::Host;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The host that has proved to be at the other end; `None` without TLS.
    proved: Option<String>,
    pub(super) at: SocketAddr,
}

impl Place {
    pub(super) fn new(host: &Host, at: SocketAddr) -> Self {
        Self { proved: host.tls.then(|| host.name.clone()), at }
    }
}

/// A connection, or the making of one; everybody who needs it waits for the same.
pub(super) type Opening = Shared<BoxFuture<'static, Result<Http2, CallFailure>>>;

#[derive(Default)]
struct Kept {
    /// Newest last.
    idle: BTreeMap<Place, Vec<(Http1, Instant)>>,
    /// How many are in `idle`.
    idle_count: usize,
    shared: BTreeMap<Place, (Opening, Instant)>,
    swept: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Pool(Mutex<Kept>);

impl Pool {
    /// An idle connection, the one that was used last.
    pub(super) fn take(&self, place: &Place) -> Option<Http1> {
        let mut kept = self.lock();
        let kept = &mut *kept;
        let idle = kept.idle.get_mut(place)?;
        while let Some((sender, since)) = idle.pop() {
            kept.idle_count -= 1;
            if sender.is_ready() && since.elapsed() < IDLE_TIME {
                return Some(sender);
            }
        }
        kept.idle.remove(place);
        None
    }

    /// Keeps an idle connection, if there is room.
    pub(super) fn put(&self, place: Place, sender: Http1) {
        let mut kept = self.lock();
        kept.sweep();
        if kept.idle_count >= MAX_IDLE {
            return;
        }
        let idle = kept.idle.entry(place).or_default();
        if idle.len() < MAX_IDLE_PER_ADDRESS {
            idle.push((sender, Instant::now()));
            kept.idle_count += 1;
        }
    }

    /// The shared connection, made by `open` if there is none. Also says whether it was there before.
    pub(super) fn share(
        &self,
        place: &Place,
        open: impl FnOnce() -> BoxFuture<'static, Result<Http2, CallFailure>>,
    ) -> (Opening, bool) {
        let mut kept = self.lock();
        if let Some((opening, used)) = kept.shared.get_mut(place)
            && is_good(opening)
        {
            *used = Instant::now();
            return (opening.clone(), true);
        }
        kept.sweep();
        let opening = open().shared();
        if kept.shared.len() < MAX_IDLE {
            kept.shared.insert(place.clone(), (opening.clone(), Instant::now()));
        }
        (opening, false)
    }

    /// This shared connection is not good any more; another that has taken its place stays.
    pub(super) fn forget(&self, place: &Place, opening: &Opening) {
        let mut kept = self.lock();
        if kept.shared.get(place).is_some_and(|(present, _)| present.ptr_eq(opening)) {
            kept.shared.remove(place);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Lets go of what is closed or old, now and then.
    fn sweep(&mut self) {
        if self.swept.is_some_and(|swept| swept.elapsed() < IDLE_TIME / 4) {
            return;
        }
        self.swept = Some(Instant::now());
        self.idle.retain(|_, idle| {
            idle.retain(|(sender, since)| sender.is_ready() && since.elapsed() < IDLE_TIME);
            !idle.is_empty()
        });
        self.idle_count = self.idle.values().map(Vec::len).sum();
        self.shared.retain(|_, (opening, used)| is_good(opening) && used.elapsed() < IDLE_TIME);
    }
}

/// Whether a shared connection is being made, or can take a request.
fn is_good(opening: &Opening) -> bool {
    match opening.peek() {
        None => true,
        Some(Ok(sender)) => sender.is_ready(),
        Some(Err(_)) => false,
    }
}
