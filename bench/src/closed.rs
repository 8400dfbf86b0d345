//! The closed loop: C clients, each of which sends its next operation when the last was answered.

use crate::limits::{CALL_TIMEOUT, WARM_UP};
use crate::proc::Pid;
use crate::sample::{Latencies, Sample, latencies};
use anyhow::{Context, Result};
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// One client of a closed loop.
pub trait Client: Send + 'static {
    /// Sends one operation and waits for its answer. An error ends the run as failed.
    fn once(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// When a run records.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Operations that began earlier are warm-up.
    pub start: Instant,
    /// Operations that ended later are not counted.
    pub end: Instant,
}

impl Window {
    /// A window of `length` that opens after the warm-up.
    pub fn after_warm_up(length: Duration) -> Self {
        let start = Instant::now() + WARM_UP;
        Self { start, end: start + length }
    }

    /// Its length in seconds.
    pub fn secs(&self) -> f64 {
        (self.end - self.start).as_secs_f64()
    }
}

/// Drives all clients through one window and sums up. Must run inside a runtime.
pub async fn run<C: Client>(clients: Vec<C>, servers: &[Pid], length: Duration) -> Result<Sample> {
    let window = Window::after_warm_up(length);
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(drive(client, window));
    }
    let meter = CpuMeter::over(window, servers).await;
    let merged = tokio::time::timeout(CALL_TIMEOUT, merge(tasks)).await;
    let (all, meter) = (merged.context("a call was not answered in time")??, meter?);
    Ok(meter.scale(Sample::new(&all, window.secs(), meter.server_us, meter.generator_us), window))
}

/// Waits for all tasks; the first error ends the wait.
pub async fn all(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    while let Some(done) = tasks.join_next().await {
        done.context("a client panicked")??;
    }
    Ok(())
}

async fn merge(mut tasks: JoinSet<Result<Vec<u32>>>) -> Result<Latencies> {
    let mut all = latencies();
    while let Some(done) = tasks.join_next().await {
        for us in done.context("a client panicked")?? {
            all.saturating_record(u64::from(us));
        }
    }
    Ok(all)
}

/// Runs one client to the end of the window; gives the recorded latencies in microseconds.
async fn drive<C: Client>(mut client: C, window: Window) -> Result<Vec<u32>> {
    let mut recorded = Vec::with_capacity(1024);
    loop {
        let begun = Instant::now();
        if begun >= window.end {
            return Ok(recorded);
        }
        client.once().await?;
        let done = Instant::now();
        if begun >= window.start && done <= window.end {
            recorded.push((done - begun).as_micros().try_into().unwrap_or(u32::MAX));
        }
    }
}

/// CPU time over a window. The looks come a little late under load, so the figures are scaled
/// from the time that really lay between them.
#[derive(Debug, Clone, Copy)]
pub struct CpuMeter {
    /// CPU time of the servers, in microseconds.
    pub server_us: u64,
    /// CPU time of this process, in microseconds.
    pub generator_us: u64,
    /// Seconds between the two looks.
    pub secs: f64,
}

impl CpuMeter {
    /// Waits for both ends of the window and takes the differences.
    pub async fn over(window: Window, servers: &[Pid]) -> Result<Self> {
        tokio::time::sleep_until(window.start.into()).await;
        let begun = Self::begin(servers)?;
        tokio::time::sleep_until(window.end.into()).await;
        begun.end(servers)
    }

    /// The first look.
    pub fn begin(servers: &[Pid]) -> Result<FirstLook> {
        let (at, server_us) = (Instant::now(), total(servers)?);
        Ok(FirstLook { at, server_us, generator_us: Pid::own().cpu_us()? })
    }

    /// Corrects the CPU figures of a sample for late looks.
    pub fn scale(&self, sample: Sample, window: Window) -> Sample {
        self.scale_to(sample, window.secs())
    }

    /// The same for a sample that was taken over `secs`.
    pub fn scale_to(&self, mut sample: Sample, secs: f64) -> Sample {
        sample.cpu_us *= secs / self.secs;
        sample.generator_us *= secs / self.secs;
        sample
    }
}

/// CPU times at the beginning of what is metered.
#[derive(Debug, Clone, Copy)]
pub struct FirstLook {
    at: Instant,
    server_us: u64,
    generator_us: u64,
}

impl FirstLook {
    /// The second look: what lies between.
    pub fn end(self, servers: &[Pid]) -> Result<CpuMeter> {
        Ok(CpuMeter {
            server_us: total(servers)? - self.server_us,
            generator_us: Pid::own().cpu_us()? - self.generator_us,
            secs: self.at.elapsed().as_secs_f64(),
        })
    }
}

fn total(servers: &[Pid]) -> Result<u64> {
    servers.iter().map(|p| p.cpu_us()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleeper;
    impl Client for Sleeper {
        async fn once(&mut self) -> Result<()> {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        }
    }

    struct Failing;
    impl Client for Failing {
        async fn once(&mut self) -> Result<()> {
            anyhow::bail!("refused")
        }
    }

    fn block_on<F: Future>(f: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
    }

    #[test]
    fn it_counts_what_ends_inside_the_window() {
        let clients = vec![Sleeper, Sleeper];
        let s = block_on(run(clients, &[Pid::own()], Duration::from_millis(500))).unwrap();
        assert!(s.rate > 10.0 && s.rate < 401.0, "{s:?}");
        assert!(s.p50_ms >= 5.0, "{s:?}");
    }

    #[test]
    fn a_failing_call_fails_the_run() {
        let failed = block_on(run(vec![Failing], &[], Duration::from_millis(50)));
        assert!(failed.is_err_and(|e| e.to_string().contains("refused")));
    }
}
