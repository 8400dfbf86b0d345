//! Quorum arithmetic: what a majority of the voters has reached.
//!
//! With one value a voter, [`reached`] is the highest value that a majority holds or exceeds. It serves
//! the commit index (values: durable positions), read barriers (confirmed rounds) and check-quorum
//! (times of last contact).

/// The highest value that more than half of `values` have reached; `None` without any value.
///
/// Sorts `values`.
pub fn reached<T: Ord + Copy>(values: &mut [T]) -> Option<T> {
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.get(values.len() / 2).copied()
}

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A majority granted.
    Won,
    /// A majority can no longer grant.
    Lost,
    /// Neither yet.
    Open,
}

/// Counts votes: one item a voter, `None` while it has not answered. Without voters nobody wins.
#[must_use]
pub fn tally(votes: impl Iterator<Item = Option<bool>>) -> Tally {
    let (mut granted, mut refused, mut voters) = (0, 0, 0);
    for vote in votes {
        voters += 1;
        granted += usize::from(vote == Some(true));
        refused += usize::from(vote == Some(false));
    }
    let needed = voters / 2 + 1;
    if granted >= needed {
        Tally::Won
    } else if voters - refused < needed {
        Tally::Lost
    } else {
        Tally::Open
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By definition: try every value, count who has reached it.
    fn dumb(values: &[u8]) -> Option<u8> {
        (0..=u8::MAX).rev().find(|v| {
            !values.is_empty() && 2 * values.iter().filter(|x| *x >= v).count() > values.len()
        })
    }

    #[test]
    fn small_groups_by_hand() {
        assert_eq!(reached::<u8>(&mut []), None);
        assert_eq!(reached(&mut [7]), Some(7));
        assert_eq!(reached(&mut [7, 3]), Some(3));
        assert_eq!(reached(&mut [7, 3, 5]), Some(5));
        assert_eq!(reached(&mut [1, 2, 3, 4]), Some(2));
        assert_eq!(tally([].into_iter()), Tally::Lost);
        assert_eq!(tally([Some(true), Some(true), None, None].into_iter()), Tally::Open);
        assert_eq!(tally([Some(true), Some(false), Some(false), None].into_iter()), Tally::Lost);
    }

    proptest! {
        #[test]
        fn reached_equals_its_definition(mut values in prop::collection::vec(any::<u8>(), 0..9)) {
            let expected = dumb(&values);
            prop_assert_eq!(reached(&mut values), expected);
        }

        #[test]
        fn two_winners_share_a_voter(a in 0u16..512, b in 0u16..512, n in 1usize..9) {
            let votes = |set: u16| (0..n).map(move |i| Some(set >> i & 1 == 1));
            if tally(votes(a)) == Tally::Won && tally(votes(b)) == Tally::Won {
                prop_assert!((0..n).any(|i| a >> i & b >> i & 1 == 1));
            }
        }
    }
}
