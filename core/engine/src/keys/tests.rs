//! Order, round trips and totality, on random keys that are rich in zeros and common prefixes.

use std::ops::RangeBounds;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::{MAX_KEY_BYTES, MAX_KEY_DECORATION_BYTES, MAX_USER_KEY_BYTES};

fn form(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_user_key(&mut out, key);
    out
}

fn read(bytes: &[u8]) -> Option<(Bytes, Bytes)> {
    let mut reader = KeyReader::new(Bytes::copy_from_slice(bytes));
    let key = reader.user_key()?;
    Some((key, reader.rest()))
}

/// Runs of few different bytes: zeros around the longest run, the codes themselves, neighbours.
fn user_key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(0u8), 1 => Just(1), 1 => Just(0x80), 1 => Just(0xff), 1 => any::<u8>()];
    let run = (byte, prop_oneof![6 => 1usize..4, 1 => 98usize..103, 1 => 198usize..203]);
    vec(run, 0..6).prop_map(|runs| {
        runs.into_iter().flat_map(|(byte, n)| std::iter::repeat_n(byte, n)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn composite_keys_sort_by_user_key_first(
        (a, b) in (user_key(), user_key()),
        (x, y) in (vec(any::<u8>(), 0..4), vec(any::<u8>(), 0..4)),
    ) {
        let composite = |key: &[u8], suffix: &[u8]| [&form(key), suffix].concat();
        prop_assert_eq!((&a, &x).cmp(&(&b, &y)), composite(&a, &x).cmp(&composite(&b, &y)));
    }

    #[test]
    fn a_key_and_its_suffix_come_back(key in user_key(), suffix in vec(any::<u8>(), 0..6)) {
        let (back, rest) = read(&[&form(&key)[..], &suffix].concat()).unwrap();
        prop_assert_eq!(&back[..], &key[..]);
        prop_assert_eq!(&rest[..], &suffix[..]);
    }

    #[test]
    fn a_form_is_at_most_half_as_long_again(key in user_key()) {
        prop_assert!(form(&key).len() <= key.len() + key.len().div_ceil(2) + 2);
    }

    /// Totality, and one form a key: whatever can be read is what writing gives.
    #[test]
    fn what_can_be_read_is_a_form(bytes in user_key()) {
        if let Some((key, rest)) = read(&bytes) {
            prop_assert_eq!([&form(&key)[..], &rest].concat(), bytes);
        }
    }

    #[test]
    fn integers_sort_as_numbers(a in any::<u64>(), b in any::<u64>()) {
        let both = |put: fn(&mut Vec<u8>, u64)| {
            let (mut x, mut y) = (Vec::new(), Vec::new());
            put(&mut x, a);
            put(&mut y, b);
            x.cmp(&y)
        };
        prop_assert_eq!(both(put_u64), a.cmp(&b));
        prop_assert_eq!(both(put_u64_desc), b.cmp(&a));
        prop_assert_eq!(both(|out, n| put_u32(out, n as u32)), (a as u32).cmp(&(b as u32)));
        prop_assert_eq!(both(|out, n| put_u32_desc(out, n as u32)), (b as u32).cmp(&(a as u32)));
        prop_assert_eq!(both(|out, n| put_i64(out, n as i64)), (a as i64).cmp(&(b as i64)));
    }

    #[test]
    fn a_prefix_range_holds_exactly_the_keys_with_the_prefix(prefix in user_key(), key in user_key(), tail in user_key()) {
        let range = prefix_range(&prefix);
        let inside = |key: &[u8]| {
            RangeBounds::<[u8]>::contains(&as_range(&range), key)
        };
        prop_assert_eq!(inside(&key), key.starts_with(&prefix));
        prop_assert!(inside(&[&prefix[..], &tail].concat()));
    }
}

#[test]
fn integers_come_back() {
    let mut out = Vec::new();
    put_u8(&mut out, 7);
    put_u32(&mut out, 1 << 31);
    put_u32_desc(&mut out, 9);
    put_u64(&mut out, u64::MAX - 1);
    put_u64_desc(&mut out, 11);
    put_i64(&mut out, i64::MIN);
    let mut reader = KeyReader::new(Bytes::from(out));
    assert_eq!((reader.u8(), reader.u32(), reader.u32_desc()), (Some(7), Some(1 << 31), Some(9)));
    assert_eq!((reader.u64(), reader.u64_desc()), (Some(u64::MAX - 1), Some(11)));
    assert_eq!(reader.i64(), Some(i64::MIN));
    assert!(reader.is_empty());
    assert_eq!(
        (reader.u8(), reader.u32(), reader.u64(), reader.user_key()),
        (None, None, None, None)
    );
}

#[test]
fn the_forms_are_as_documented() {
    assert_eq!(form(b""), [0, 1]);
    assert_eq!(form(b"ab"), [b'a', b'b', 0, 1]);
    assert_eq!(form(b"a\0b"), [b'a', 0, 0xff, b'b', 0, 1]);
    assert_eq!(form(b"a\0\0"), [b'a', 0, 3]);
    assert_eq!(form(&[0; 100]), [0, 101]);
    assert_eq!(form(&[0; 101]), [0, 0x80, 0, 2]);
    assert_eq!(form(&[&[0; 100][..], b"z"].concat()), [0, 156, b'z', 0, 1]);
}

#[test]
fn broken_forms_are_refused() {
    let broken: [&[u8]; 9] = [
        b"",
        b"abc",
        &[0],
        &[0, 0],
        &[0, 0x70],
        &[0, 0xff],
        &[0, 0xff, 0, 1],
        &[0, 0x80, b'x', 0, 1],
        // A hundred zeros have a form of their own.
        &[0, 0x80, 0, 1],
    ];
    for bytes in broken {
        assert_eq!(read(bytes), None, "{bytes:?}");
    }
}

#[test]
fn the_longest_user_keys_fit_into_the_engine() {
    let zeros = vec![0; MAX_USER_KEY_BYTES];
    let every_other: Vec<u8> = (0..MAX_USER_KEY_BYTES).map(|n| (n % 2) as u8).collect();
    for key in [zeros, every_other] {
        let form = form(&key);
        assert!(form.len() + MAX_KEY_DECORATION_BYTES <= MAX_KEY_BYTES);
        assert_eq!(&read(&form).unwrap().0[..], &key[..]);
    }
}
