//! SplitMix64 (Steele, Lea, Flood 2014): a seeded generator of 64 bits of state, the same numbers in a replay.
//!
//! It tells election timeouts apart, spreads pauses, draws lease ids, and picks what simulations, tests and
//! benchmarks do. The seed is an input: core has no source of chance of its own. Nothing drawn here is secret.
//!
//! **The stream is fixed.** Seeds that once found a bug are kept, and so are the seeds that catch planted ones; they
//! mean something as long as the numbers stay what they are.
#![forbid(unsafe_code)]

/// The generator. A clone goes on with the same numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers depend on the seed alone. Every seed is as good as another.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and nobody iterates over it")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..bound`, with a bias of less than `bound` / 2^64.
    ///
    /// # Panics
    ///
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True in `chance` of a hundred cases.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// Spreads a number over 64 bits, one to one.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the reference implementation (Vigna, splitmix64.c).
    #[test]
    fn numbers_are_those_of_the_reference() {
        let first = |seed| {
            let mut rng = Rng::new(seed);
            [(); 3].map(|()| rng.next())
        };
        let of_0 = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        assert_eq!(first(0), of_0);
        let of_1234567 = [0x599e_d017_fb08_fc85, 0x2c73_f084_5854_0fa5, 0x883e_bce5_a3f2_7c77];
        assert_eq!(first(1_234_567), of_1234567);
        // The state goes around.
        let of_the_last = [0xe4d9_7177_1b65_2c20, 0xe99f_f867_dbf6_82c9, 0x382f_f84c_b272_81e9];
        assert_eq!(first(u64::MAX), of_the_last);
    }

    #[test]
    fn bounds_are_kept_and_numbers_below_them_fixed() {
        let mut rng = Rng::new(7);
        assert_eq!([10, 1_000, 1 << 40].map(|bound| rng.below(bound)), [7, 804, 552_887_986_690]);
        let mut seen = [0; 3];
        (0..3_000).for_each(|_| seen[rng.below(3) as usize] += 1);
        assert!(seen.iter().all(|count| (900..1_100).contains(count)), "{seen:?}");
        let often = (0..1_000).filter(|_| rng.percent(30)).count();
        assert!((250..350).contains(&often), "{often}");
    }
}
