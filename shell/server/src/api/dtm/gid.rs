//! Names for new transactions, as DTM's clients know them: a random number of 128 bits in 22 characters
//! that cannot be mistaken for one another when read aloud.

/// Without 0, 1, I, O and l.
const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const LENGTH: usize = 22;

/// A name that nobody else has.
pub(super) fn fresh() -> String {
    text(u128::from(crate::run::random()) << 64 | u128::from(crate::run::random()))
}

fn text(mut number: u128) -> String {
    let base = ALPHABET.len() as u128;
    let mut digits = [0; LENGTH];
    for digit in digits.iter_mut().rev() {
        let at = usize::try_from(number % base).expect("below 57");
        *digit = ALPHABET[at];
        number /= base;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_22_characters() {
        assert_eq!(text(0), "2".repeat(22));
        assert_eq!(text(57), format!("{}32", "2".repeat(20)));
        // 57 to the 22nd is above 2 to the 128th: the largest number fits.
        assert_eq!(text(u128::MAX).len(), 22);
        assert_ne!(text(u128::MAX), text(u128::MAX - 1));
        assert_ne!(fresh(), fresh());
    }
}
