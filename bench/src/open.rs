//! The open loop: operations (puts, unless somebody brings others) are sent when they are due, whether or not
//! earlier ones were answered, and latency counts from the time at which one was due. A server that stalls for a second is
//! charged for every request that fell due in it, which a closed loop hides.
//!
//! What is due is released each millisecond by a thread that only sleeps; all requests of a tick
//! have the tick's time. At most a fixed number is in flight; what would come on top is counted as
//! missed and not sent.
//!
//! A run lasts as long as something else does: a span of time, or a compaction.

use crate::closed::CpuMeter;
use crate::keys::{Rng, key, value};
use crate::limits::{CALL_TIMEOUT, KEYS, OPEN_LOOP_IN_FLIGHT, OPEN_LOOP_TICK, WARM_UP};
use crate::proc::Pid;
use crate::rows::kv::put;
use crate::sample::{Latencies, Sample, latencies};
use crate::wire::Conn;
use anyhow::{Context, Result};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Ticks that may wait for the sender: a minute's worth, so that the pacer never blocks.
const TICKS: usize = 60_000;

/// What is recorded: what fell due between start and end, all of it, and each second by itself.
struct Record {
    start: Instant,
    /// Not known before it is there.
    end: Option<Instant>,
    all: Latencies,
    seconds: Vec<Latencies>,
}

impl Record {
    fn new(start: Instant) -> Self {
        Self { start, end: None, all: latencies(), seconds: Vec::new() }
    }

    fn note(&mut self, due: Instant, us: u64) {
        if due < self.start || self.end.is_some_and(|end| due > end) {
            return;
        }
        let second = (due - self.start).as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize_with(second + 1, latencies);
        }
        self.all.saturating_record(us);
        self.seconds[second].saturating_record(us);
    }

    fn worst_second_ms(&self) -> f64 {
        let worst = self.seconds.iter().map(|s| s.value_at_quantile(0.99)).max();
        worst.unwrap_or(0) as f64 / 1000.0
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends `rate` puts a second over the connections for `length`.
pub async fn run(conns: &[Conn], servers: &[Pid], rate: f64, length: Duration) -> Result<Sample> {
    let waiting = async {
        tokio::time::sleep(length).await;
        Ok(())
    };
    Ok(run_while(conns, servers, rate, waiting).await?.0)
}

/// Sends `rate` puts a second as long as `work` takes. After the warm-up, `work` and the record begin together.
pub async fn run_while<T>(
    conns: &[Conn],
    servers: &[Pid],
    rate: f64,
    work: impl Future<Output = Result<T>>,
) -> Result<(Sample, T)> {
    run_with(puts(conns.to_vec()), servers, rate, work).await
}

/// The same with the operations that `begin` makes.
pub async fn run_with<T, F>(
    begin: impl FnMut() -> F + Send + 'static,
    servers: &[Pid],
    rate: f64,
    work: impl Future<Output = Result<T>>,
) -> Result<(Sample, T)>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let record = Arc::new(Mutex::new(Record::new(Instant::now() + WARM_UP)));
    let (sender, ticks) = mpsc::channel(TICKS);
    let pacing = Arc::clone(&record);
    let pacer = std::thread::Builder::new()
        .name("pacer".into())
        .spawn(move || pace(rate, &pacing, &sender))?;
    let sending = tokio::spawn(send(begin, ticks, Arc::clone(&record)));
    tokio::time::sleep(WARM_UP).await;
    let begun = CpuMeter::begin(servers)?;
    let done = work.await;
    let meter = begun.end(servers)?;
    lock(&record).end = Some(Instant::now());
    let missed = sending.await.context("the sender panicked")??;
    pacer.join().map_err(|_| anyhow::anyhow!("the pacer panicked"))?;
    let record = lock(&record);
    let secs = (record.end.context("it has just ended")? - record.start).as_secs_f64();
    let sample = Sample::new(&record.all, secs, meter.server_us, meter.generator_us);
    let sample = Sample { missed, worst_second_ms: record.worst_second_ms(), ..sample };
    Ok((meter.scale_to(sample, secs), done?))
}

/// Says each tick how many requests are due, until the record has ended.
fn pace(rate: f64, record: &Mutex<Record>, ticks: &mpsc::Sender<(Instant, usize)>) {
    let begun = Instant::now();
    let mut released = 0;
    for n in 1.. {
        let tick = begun + OPEN_LOOP_TICK * n;
        std::thread::sleep(tick.saturating_duration_since(Instant::now()));
        if lock(record).end.is_some_and(|end| tick >= end) {
            return;
        }
        let due = due_by(rate, tick - begun);
        if ticks.blocking_send((tick, due - released)).is_err() {
            return;
        }
        released = due;
    }
}

fn due_by(rate: f64, elapsed: Duration) -> usize {
    (rate * elapsed.as_secs_f64()) as usize
}

/// Puts of random keys over random connections.
fn puts(
    conns: Vec<Conn>,
) -> impl FnMut() -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>> {
    let (mut rng, value) = (Rng::new(1), value(1));
    move || {
        let i = rng.below(conns.len() as u64) as usize;
        let request = put(key(rng.below(KEYS)), &value);
        let mut kv = conns[i].kv();
        Box::pin(async move {
            kv.put(request).await?;
            Ok(())
        })
    }
}

/// Sends what is due. Returns how many requests were not sent.
async fn send<F>(
    mut begin: impl FnMut() -> F,
    mut ticks: mpsc::Receiver<(Instant, usize)>,
    record: Arc<Mutex<Record>>,
) -> Result<u64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut missed = 0;
    let mut tasks = JoinSet::new();
    while let Some((due, count)) = ticks.recv().await {
        while let Some(done) = tasks.try_join_next() {
            done.context("an operation panicked")??;
        }
        for _ in 0..count {
            if tasks.len() >= OPEN_LOOP_IN_FLIGHT {
                missed += 1;
                continue;
            }
            let (operation, record) = (begin(), Arc::clone(&record));
            tasks.spawn(async move {
                operation.await?;
                let us = due.elapsed().as_micros() as u64;
                lock(&record).note(due, us);
                Ok::<_, anyhow::Error>(())
            });
        }
    }
    let rest = tokio::time::timeout(CALL_TIMEOUT, tasks.join_all()).await;
    rest.context("an operation was not answered in time")?.into_iter().collect::<Result<()>>()?;
    Ok(missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_due_adds_up_to_the_rate() {
        let tick = |n: u64| due_by(1234.5, Duration::from_millis(n));
        assert_eq!((tick(1), tick(1000), tick(10_000)), (1, 1234, 12_345));
    }

    #[test]
    fn the_pacer_releases_everything_by_the_end() {
        let (sender, mut ticks) = mpsc::channel(TICKS);
        let begun = Instant::now();
        let mut record = Record::new(begun);
        record.end = Some(begun + Duration::from_millis(200));
        pace(10_000.0, &Mutex::new(record), &sender);
        drop(sender);
        let mut total = 0;
        while let Ok((due, count)) = ticks.try_recv() {
            assert!(due > begun);
            total += count;
        }
        assert!((1900..=2000).contains(&total), "{total}");
    }

    #[test]
    fn only_what_was_due_in_time_is_recorded_whenever_it_is_answered() {
        let start = Instant::now();
        let mut record = Record::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        record.note(start - Duration::from_millis(1), 7);
        record.note(at(100), 1_000);
        record.note(at(1_500), 9_000);
        record.end = Some(at(2_000));
        record.note(at(1_999), 5_000);
        record.note(at(2_001), 99_000);
        assert_eq!((record.all.len(), record.seconds.len()), (3, 2));
        assert!((8.9..9.1).contains(&record.worst_second_ms()));
    }
}
