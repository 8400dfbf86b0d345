//! The open loop: puts are sent when they are due, whether or not earlier ones were answered, and
//! latency counts from the time at which a put was due. A server that stalls for a second is
//! charged for every request that fell due in it, which a closed loop hides.
//!
//! What is due is released each millisecond by a thread that only sleeps; all requests of a tick
//! have the tick's time. At most a fixed number is in flight; what would come on top is counted as
//! missed and not sent.

use crate::closed::{CpuMeter, Window};
use crate::keys::{Rng, key, value};
use crate::limits::{CALL_TIMEOUT, KEYS, OPEN_LOOP_IN_FLIGHT, OPEN_LOOP_TICK};
use crate::proc::Pid;
use crate::rows::kv::put;
use crate::sample::{Latencies, Sample, latencies};
use crate::wire::Conn;
use anyhow::{Context, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Ticks that may wait for the sender: a minute's worth, so that the pacer never blocks.
const TICKS: usize = 60_000;

/// What is recorded of the window: all of it, and each second by itself.
struct Record {
    all: Latencies,
    seconds: Vec<Latencies>,
}

/// Sends `rate` puts a second over the connections.
pub async fn run(conns: &[Conn], servers: &[Pid], rate: f64, length: Duration) -> Result<Sample> {
    let window = Window::after_warm_up(length);
    let seconds = window.secs().ceil() as usize;
    let seconds = (0..seconds).map(|_| latencies()).collect();
    let record = Arc::new(Mutex::new(Record { all: latencies(), seconds }));
    let (sender, ticks) = mpsc::channel(TICKS);
    let pacer = std::thread::Builder::new()
        .name("pacer".into())
        .spawn(move || pace(rate, window.end, &sender))?;
    let sending = tokio::spawn(send(conns.to_vec(), ticks, window, Arc::clone(&record)));
    let meter = CpuMeter::over(window, servers).await?;
    let missed = sending.await.context("the sender panicked")??;
    pacer.join().map_err(|_| anyhow::anyhow!("the pacer panicked"))?;
    let record = record.lock().unwrap_or_else(PoisonError::into_inner);
    let sample = Sample::new(&record.all, window.secs(), meter.server_us, meter.generator_us);
    let worst = record.seconds.iter().map(|s| s.value_at_quantile(0.99)).max().unwrap_or(0);
    let worst_second_ms = worst as f64 / 1000.0;
    Ok(Sample { missed, worst_second_ms, ..meter.scale(sample, window) })
}

/// Says each tick how many requests are due.
fn pace(rate: f64, end: Instant, ticks: &mpsc::Sender<(Instant, usize)>) {
    let begun = Instant::now();
    let mut released = 0;
    for n in 1.. {
        let tick = begun + OPEN_LOOP_TICK * n;
        if tick >= end {
            return;
        }
        std::thread::sleep(tick.saturating_duration_since(Instant::now()));
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

/// Sends what is due. Returns how many requests were not sent.
async fn send(
    conns: Vec<Conn>,
    mut ticks: mpsc::Receiver<(Instant, usize)>,
    window: Window,
    record: Arc<Mutex<Record>>,
) -> Result<u64> {
    let (mut rng, value, mut missed) = (Rng::new(1), value(1), 0);
    let mut tasks = JoinSet::new();
    while let Some((due, count)) = ticks.recv().await {
        while let Some(done) = tasks.try_join_next() {
            done.context("a put panicked")??;
        }
        for _ in 0..count {
            if tasks.len() >= OPEN_LOOP_IN_FLIGHT {
                missed += 1;
                continue;
            }
            let i = rng.below(conns.len() as u64) as usize;
            let request = put(key(rng.below(KEYS)), &value);
            let (mut kv, record) = (conns[i].kv(), Arc::clone(&record));
            tasks.spawn(async move {
                kv.put(request).await?;
                note(&record, due, window);
                Ok::<_, tonic::Status>(())
            });
        }
    }
    let rest = tokio::time::timeout(CALL_TIMEOUT, tasks.join_all()).await;
    rest.context("a put was not answered in time")?.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(missed)
}

/// Records a put that was due inside the window, whenever it ended.
fn note(record: &Mutex<Record>, due: Instant, window: Window) {
    if due < window.start || due > window.end {
        return;
    }
    let us = due.elapsed().as_micros() as u64;
    let second = (due - window.start).as_secs() as usize;
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    record.all.saturating_record(us);
    if let Some(hist) = record.seconds.get_mut(second) {
        hist.saturating_record(us);
    }
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
        pace(10_000.0, begun + Duration::from_millis(200), &sender);
        drop(sender);
        let mut total = 0;
        while let Ok((due, count)) = ticks.try_recv() {
            assert!(due > begun);
            total += count;
        }
        assert!((1900..=2000).contains(&total), "{total}");
    }
}
