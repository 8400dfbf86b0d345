//! Keys whose byte order is the order that is meant: the parts of composite keys.
//!
//! A composite key is a concatenation of parts, and the engine sorts it by bytes. Integers are
//! big-endian, complemented where the order is to be descending. A user key may hold any bytes and be a
//! prefix of another, so it is written with an end that sorts below every continuation:
//! `(prefix, "a", suffix)` stays below `(prefix, "a\0", suffix)`, whatever the suffixes are.
//!
//! **The form of a user key.** Bytes other than zero stand for themselves. A run of zeros, and the end,
//! is a zero and a code:
//!
//! | code | meaning |
//! |---|---|
//! | `01 + n` | n zeros (0 to 100), then the end |
//! | `80` | 100 zeros, then more zeros |
//! | `100 - n` | n zeros (1 to 100), then a byte that is not zero |
//!
//! Why this sorts: among keys that continue with zeros, those that end after them come first, and the
//! shorter run is the smaller one; those that go on to a greater byte come last, and the longer run is
//! the smaller one. That is the order of the codes. In the usual cases it is the well-known escape
//! (`00` → `00 FF`, end `00 01`), but a key of 32,767 zeros would not fit into the engine when doubled;
//! here the worst case is every other byte a zero, half as much again.
//!
//! Every key has exactly one form, and reading is total: what is no form of any key gives `None`.
//! Left out: types and versions of composite keys; they belong to whoever composes them.

use std::ops::Bound;

use bytes::{Buf, Bytes};

/// Longest run of zeros under one code.
const MAX_RUN: usize = 100;
/// Code of the end after no zeros; n zeros before the end are `END + n`.
const END: u8 = 0x01;
/// Code of `MAX_RUN` zeros before another zero.
const MORE: u8 = 0x80;
/// Code of one zero before a byte that is not zero; n zeros are `ON - (n - 1)`.
const ON: u8 = 0xff;

/// Appends one byte, usually the kind of the key.
pub fn put_u8(out: &mut Vec<u8>, n: u8) {
    out.push(n);
}

/// Appends an integer in ascending order.
pub fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_be_bytes());
}

/// Appends an integer in ascending order.
pub fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_be_bytes());
}

/// Appends an integer in descending order: greater ones sort first.
pub fn put_u32_desc(out: &mut Vec<u8>, n: u32) {
    put_u32(out, !n);
}

/// Appends an integer in descending order: greater ones sort first.
pub fn put_u64_desc(out: &mut Vec<u8>, n: u64) {
    put_u64(out, !n);
}

/// Appends a signed integer in ascending order (sign bit flipped).
pub fn put_i64(out: &mut Vec<u8>, n: i64) {
    put_u64(out, n.cast_unsigned() ^ (1 << 63));
}

/// Appends a user key and its end, as the module describes. At most 1.5 times the length of `key`,
/// rounded up, and two bytes.
pub fn put_user_key(out: &mut Vec<u8>, key: &[u8]) {
    out.reserve(key.len() + 2);
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..zero]);
        rest = &rest[zero..];
        let run = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
        rest = &rest[run..];
        let run = put_full_runs(out, run);
        if rest.is_empty() {
            out.extend_from_slice(&[0, END + run as u8]);
            return;
        }
        out.extend_from_slice(&[0, ON - (run as u8 - 1)]);
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, END]);
}

/// Writes all but the last of the codes of a run; returns how many zeros are left for that, at least 1.
fn put_full_runs(out: &mut Vec<u8>, mut run: usize) -> usize {
    while run > MAX_RUN {
        out.extend_from_slice(&[0, MORE]);
        run -= MAX_RUN;
    }
    run
}

/// The least key above every key that starts with `prefix`; `None` if there is no such key (the
/// prefix is empty or all `FF`), so the range is open above.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The bounds of all keys that start with `prefix`.
#[must_use]
pub fn prefix_range(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let end = prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(prefix.to_vec()), end)
}

/// Owned bounds as [`crate::Read::scan`] takes them.
#[must_use]
pub fn as_range(range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (range.0.as_ref().map(Vec::as_slice), range.1.as_ref().map(Vec::as_slice))
}

/// Reads the parts of a composite key, front to back. Each method returns `None` where the bytes are
/// not what it reads; what was read before that is then gone, so the caller treats the key as corrupt.
#[derive(Clone, Debug)]
pub struct KeyReader {
    rest: Bytes,
}

impl KeyReader {
    /// Starts at the front of `key`.
    #[must_use]
    pub fn new(key: Bytes) -> Self {
        Self { rest: key }
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.rest
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.rest.try_get_u8().ok()
    }

    /// Reverse of [`put_u32`].
    pub fn u32(&mut self) -> Option<u32> {
        self.rest.try_get_u32().ok()
    }

    /// Reverse of [`put_u64`].
    pub fn u64(&mut self) -> Option<u64> {
        self.rest.try_get_u64().ok()
    }

    /// Reverse of [`put_u32_desc`].
    pub fn u32_desc(&mut self) -> Option<u32> {
        self.u32().map(|n| !n)
    }

    /// Reverse of [`put_u64_desc`].
    pub fn u64_desc(&mut self) -> Option<u64> {
        self.u64().map(|n| !n)
    }

    /// Reverse of [`put_i64`].
    pub fn i64(&mut self) -> Option<i64> {
        self.u64().map(|n| (n ^ (1 << 63)).cast_signed())
    }

    /// Reverse of [`put_user_key`]. Shares the bytes of the composite key unless it holds a zero.
    pub fn user_key(&mut self) -> Option<Bytes> {
        let zero = self.rest.iter().position(|byte| *byte == 0)?;
        if *self.rest.get(zero + 1)? == END {
            let key = self.rest.split_to(zero);
            self.rest.advance(2);
            return Some(key);
        }
        let mut key = Vec::with_capacity(self.rest.len());
        let read = read_user_key(&self.rest, &mut key)?;
        self.rest.advance(read);
        Some(Bytes::from(key))
    }
}

/// Reads a user key into `key`; returns how many bytes it took.
fn read_user_key(from: &[u8], key: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let zero = at + from[at..].iter().position(|byte| *byte == 0)?;
        key.extend_from_slice(&from[at..zero]);
        let code = *from.get(zero + 1)?;
        at = zero + 2;
        let next = from.get(at);
        let max_run = MAX_RUN as u8;
        match code {
            _ if code >= END && code <= END + max_run => {
                key.resize(key.len() + usize::from(code - END), 0);
                return Some(at);
            }
            // Only another run of at least one zero may follow, else the key has two forms.
            MORE if next == Some(&0) && from.get(at + 1) != Some(&END) => {
                key.resize(key.len() + MAX_RUN, 0);
            }
            _ if code > ON - max_run && next.is_some_and(|byte| *byte != 0) => {
                key.resize(key.len() + usize::from(ON - code) + 1, 0);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
