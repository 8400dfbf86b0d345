//! A capped doubling with jitter.

use std::time::Duration;

use quorate_rng::Rng;

/// `first`, doubled so often, at most `longest`; of that a random part between half and all, so that those
/// who failed together do not come back together.
pub(crate) fn backoff(
    rng: &mut Rng,
    first: Duration,
    doublings: u32,
    longest: Duration,
) -> Duration {
    let factor = 1 << doublings.min(31);
    let full = first.checked_mul(factor).unwrap_or(longest).min(longest);
    let half = full / 2;
    let part = f64::from(u32::try_from(rng.next() >> 32).expect("32 bits"));
    half + half.mul_f64(part / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn backoff_doubles_within_bounds_and_differs() {
        let mut rng = Rng::new(7);
        for doublings in [0, 1, 2, 3, 4, 31, 400] {
            let full = (100 * MS).saturating_mul(1 << doublings.min(20)).min(1_000 * MS);
            let drawn: Vec<_> =
                (0..50).map(|_| backoff(&mut rng, 100 * MS, doublings, 1_000 * MS)).collect();
            assert!(drawn.iter().all(|pause| (full / 2..=full).contains(pause)), "{drawn:?}");
            assert!(drawn.iter().any(|pause| *pause < full * 6 / 10));
            assert!(drawn.iter().any(|pause| *pause > full * 9 / 10));
        }
        assert_eq!(backoff(&mut rng, Duration::ZERO, 9, 1_000 * MS), Duration::ZERO);
        assert_eq!(backoff(&mut rng, MS, 9, Duration::ZERO), Duration::ZERO);
    }
}
