//! What one run measured, and the median of several.

use crate::limits::MAX_LATENCY_US;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// Latencies in microseconds, three significant digits.
pub type Latencies = Histogram<u64>;

/// An empty histogram.
pub fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("the bounds are constants")
}

/// One run of one row on one side.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Operations a second.
    pub rate: f64,
    /// Latencies in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// The highest p99 of a single second; 0 where seconds are not told apart.
    pub worst_second_ms: f64,
    /// CPU time of all server processes per operation, in microseconds.
    pub cpu_us: f64,
    /// CPU time of the generator per operation, in microseconds.
    pub generator_us: f64,
    /// Operations that the generator could not send, because too many were in flight.
    pub missed: u64,
}

impl Sample {
    /// Sums a window up. `server_us` and `generator_us` are CPU times over the same `secs`.
    pub fn new(hist: &Latencies, secs: f64, server_us: u64, generator_us: u64) -> Self {
        let ops = hist.len().max(1) as f64;
        let ms = |q| hist.value_at_quantile(q) as f64 / 1000.0;
        Self {
            rate: hist.len() as f64 / secs,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            cpu_us: server_us as f64 / ops,
            generator_us: generator_us as f64 / ops,
            ..Self::default()
        }
    }
}

/// The median of each figure by itself. Errors if there is no run.
pub fn median(runs: &[Sample]) -> Result<Sample> {
    anyhow::ensure!(!runs.is_empty(), "no run to take the median of");
    let of = |f: fn(&Sample) -> f64| middle(runs.iter().map(f).collect()).context("no figures");
    Ok(Sample {
        rate: of(|s| s.rate)?,
        p50_ms: of(|s| s.p50_ms)?,
        p99_ms: of(|s| s.p99_ms)?,
        p999_ms: of(|s| s.p999_ms)?,
        worst_second_ms: of(|s| s.worst_second_ms)?,
        cpu_us: of(|s| s.cpu_us)?,
        generator_us: of(|s| s.generator_us)?,
        missed: runs.iter().map(|s| s.missed).sum(),
    })
}

fn middle(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let (low, high) = (figures.len().checked_sub(1)? / 2, figures.len() / 2);
    Some((figures[low] + figures[high]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_an_outlier() {
        assert_eq!(middle(vec![3.0, 900.0, 1.0]), Some(3.0));
        assert_eq!(middle(vec![1.0, 2.0]), Some(1.5));
        assert_eq!(middle(vec![]), None);
        assert!(median(&[]).is_err());
    }

    #[test]
    fn a_window_becomes_rates_and_costs() {
        let mut hist = latencies();
        for us in 1..=1000 {
            hist.record(us * 10).unwrap();
        }
        let s = Sample::new(&hist, 2.0, 30_000, 10_000);
        assert_eq!((s.rate, s.cpu_us, s.generator_us), (500.0, 30.0, 10.0));
        assert!((s.p50_ms - 5.0).abs() < 0.01 && (s.p99_ms - 9.9).abs() < 0.02, "{s:?}");
    }
}
