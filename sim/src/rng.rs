//! The only source of randomness: a seeded generator that can be split, so that one part of the simulation
//! drawing more numbers does not change what another draws.

/// The generator. Equal seeds give equal numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng(quorate_rng::Rng);

impl Rng {
    /// A generator from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(quorate_rng::Rng::new(seed ^ 0x5155_4f52_4154_4531));
        rng.next();
        rng
    }

    /// An independent generator; the label tells the parts apart.
    #[must_use]
    pub fn split(&mut self, label: u64) -> Self {
        Self::new(self.next() ^ label.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A number in `0..n`. `n` is at least 1.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a choice among nothing");
        // The bias of a multiplication without rejection is below 2^-32 for every n used here.
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `permille` of a thousand cases.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// An index by weight; the weights are not all zero.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut at = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if at < *weight {
                return index;
            }
            at -= weight;
        }
        unreachable!("the numbers drawn are below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers_and_others_do_not() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            let mut part = rng.split(1);
            [rng.next(), part.next(), rng.below(10), part.between(5, 6)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7)[..2], draw(8)[..2]);
    }

    /// Seeds of this project are kept: what they mean must stay.
    #[test]
    fn numbers_are_those_that_they_always_were() {
        let mut rng = Rng::new(7);
        let mut part = rng.split(1);
        assert_eq!([rng.next(), part.next()], [0xbacf_630f_4434_b8b5, 0x76ca_0fae_12c1_e7bf]);
        assert_eq!([rng.below(1_000_000), part.between(5, 100)], [909_134, 37]);
    }

    #[test]
    fn choices_stay_inside_and_reach_everything() {
        let mut rng = Rng::new(1);
        let mut seen = [0; 3];
        for _ in 0..1_000 {
            assert!((3..=5).contains(&rng.between(3, 5)));
            seen[rng.weighted(&[1, 0, 3])] += 1;
        }
        assert!(seen[0] > 100 && seen[1] == 0 && seen[2] > 500, "{seen:?}");
    }
}
