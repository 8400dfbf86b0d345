//! The latency of a TCC beside that of its calls.
//!
//! One TCC is what DTM's clients make of it: prepare, then for each of two branches register and try, then submit,
//! waiting for the end. Its *calls* are the four calls of its branches. The application makes the tries and times
//! them; the confirms are the server's, and count as much as the try of the same branch did: the same participant,
//! over the same kind of connection. So what is allowed is 1.5 times (2 × first try + 2 × second try), as p99 over
//! the TCCs, and 5 ms for six durable writes.

use crate::closed::{self, Client};
use crate::limits::WARM_UP;
use crate::open;
use crate::sample::{Latencies, Sample, latencies};
use crate::txn::http::HttpConn;
use crate::txn::participants::Participants;
use crate::txn::saga::{Names, Place, SUBMIT};
use anyhow::Result;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const PREPARE: &str = "/api/dtmsvr/prepare";
const REGISTER: &str = "/api/dtmsvr/registerBranch";

/// What one run found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tcc {
    /// TCCs.
    pub whole: Sample,
    /// p99 of what the calls of one TCC took together, in ms.
    pub calls_p99_ms: f64,
}

impl Tcc {
    /// What p99 may be: this many times the calls and this many ms.
    pub fn allowed_ms(&self, times: f64, plus_ms: f64) -> f64 {
        times * self.calls_p99_ms + plus_ms
    }
}

/// What calls took, after the warm-up.
#[derive(Debug)]
struct Times {
    from: Instant,
    calls: Mutex<Latencies>,
}

impl Times {
    fn new() -> Arc<Self> {
        Arc::new(Self { from: Instant::now() + WARM_UP, calls: Mutex::new(latencies()) })
    }

    fn calls(&self) -> MutexGuard<'_, Latencies> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, tries: Duration) {
        if Instant::now() >= self.from {
            self.calls().saturating_record(2 * tries.as_micros() as u64);
        }
    }
}

/// One application with a connection to each of whom it calls.
struct Application {
    server: HttpConn,
    branches: [HttpConn; 2],
    addresses: [SocketAddr; 2],
    names: Names,
    times: Arc<Times>,
}

impl Client for Application {
    async fn once(&mut self) -> Result<()> {
        let gid = self.names.fresh();
        self.server.done(PREPARE, format!(r#"{{"gid":"{gid}","trans_type":"tcc"}}"#)).await?;
        let mut tries = Duration::ZERO;
        for (i, branch) in ["01", "02"].into_iter().enumerate() {
            let at = self.addresses[i];
            let register = format!(
                r#"{{"gid":"{gid}","trans_type":"tcc","branch_id":"{branch}","status":"prepared","data":"{{\"amount\":30}}","confirm":"http://{at}/ok","cancel":"http://{at}/ok"}}"#
            );
            self.server.done(REGISTER, register).await?;
            let begun = Instant::now();
            let path = format!("/ok?gid={gid}&trans_type=tcc&branch_id={branch}&op=try");
            self.branches[i].done(&path, r#"{"amount":30}"#.to_owned()).await?;
            tries += begun.elapsed();
        }
        let submit = format!(r#"{{"gid":"{gid}","trans_type":"tcc","wait_result":true}}"#);
        self.server.done(SUBMIT, submit).await?;
        self.times.note(tries);
        Ok(())
    }
}

/// Applications for one run.
async fn applications(
    place: &Place,
    participants: &Participants,
    run: &str,
    count: usize,
) -> Result<(Vec<Application>, Arc<Times>)> {
    let (mut all, given) = (Vec::with_capacity(count), Arc::new(AtomicU64::new(0)));
    let (times, addresses) = (Times::new(), participants.addresses());
    for i in 0..count {
        all.push(Application {
            server: HttpConn::open(place.dtm[i % place.dtm.len()]).await?,
            branches: [HttpConn::open(addresses[0]).await?, HttpConn::open(addresses[1]).await?],
            addresses,
            names: Names::new(run, i, &given),
            times: Arc::clone(&times),
        });
    }
    Ok((all, times))
}

fn found(whole: Sample, times: &Times) -> Tcc {
    Tcc { whole, calls_p99_ms: times.calls().value_at_quantile(0.99) as f64 / 1000.0 }
}

/// A closed loop of `clients` applications.
pub async fn closed(
    place: &Place,
    participants: &Participants,
    run: &str,
    clients: usize,
    length: Duration,
) -> Result<Tcc> {
    let (all, times) = applications(place, participants, run, clients).await?;
    Ok(found(closed::run(all, &place.pids, length).await?, &times))
}

/// Applications of the open loop that are connected before it begins; more join when all of them are busy.
const READY: usize = 64;

/// An open loop of `rate` TCCs a second.
pub async fn open(
    place: &Place,
    participants: &Participants,
    run: &str,
    rate: f64,
    length: Duration,
) -> Result<Tcc> {
    let (ready, times) = applications(place, participants, run, READY).await?;
    let idle = Arc::new(Mutex::new(ready));
    let mut late = Late {
        addresses: participants.addresses(),
        server: place.dtm[0],
        run: run.to_owned(),
        joined: READY,
        times: Arc::clone(&times),
    };
    let begin = move || {
        let taken = lock(&idle).pop();
        let (idle, late) = (Arc::clone(&idle), taken.is_none().then(|| late.next()));
        async move {
            let mut application = match (taken, late) {
                (Some(application), _) => application,
                (None, Some(late)) => late.connect().await?,
                (None, None) => unreachable!("whoever is not taken is late"),
            };
            application.once().await?;
            lock(&idle).push(application);
            Ok(())
        }
    };
    let waiting = async {
        tokio::time::sleep(length).await;
        Ok(())
    };
    let (whole, ()) = open::run_with(begin, &place.pids, rate, waiting).await?;
    Ok(found(whole, &times))
}

fn lock(idle: &Mutex<Vec<Application>>) -> MutexGuard<'_, Vec<Application>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An application that joins late.
#[derive(Clone)]
struct Late {
    server: SocketAddr,
    addresses: [SocketAddr; 2],
    run: String,
    joined: usize,
    times: Arc<Times>,
}

impl Late {
    fn next(&mut self) -> Self {
        self.joined += 1;
        self.clone()
    }

    async fn connect(self) -> Result<Application> {
        let [a, b] = self.addresses;
        Ok(Application {
            server: HttpConn::open(self.server).await?,
            branches: [HttpConn::open(a).await?, HttpConn::open(b).await?],
            addresses: self.addresses,
            names: Names::new(&self.run, self.joined, &Arc::default()),
            times: self.times,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_grows_with_the_calls() {
        let found = Tcc { calls_p99_ms: 10.0, ..Tcc::default() };
        assert!((found.allowed_ms(1.5, 5.0) - 20.0).abs() < 1e-9);
        let times = Times::new();
        times.note(Duration::from_secs(9));
        assert!(times.calls().is_empty(), "it is still warming up");
    }
}
