//! Bytes, numbers and byte strings: the alphabet of commands, of the meta record, and of the records
//! that the layers above keep in their keyspaces.
//!
//! Numbers are LEB128 varints (signed ones in zigzag), byte strings a length and the bytes. Every
//! value has exactly one encoding: an overlong varint is refused, as is anything behind the end.

use bytes::Bytes;

/// Why bytes are not what this crate writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("truncated")]
    Truncated,
    /// A version that this binary does not know.
    #[error("unknown version {0}")]
    Version(u8),
    /// A tag, a flag or an enum value that does not exist.
    #[error("unknown tag")]
    Tag,
    /// A number out of its range, or not in its shortest form.
    #[error("malformed number")]
    Number,
    /// Transactions nested too deep.
    #[error("nested too deep")]
    Depth,
    /// A key longer than `MAX_KEY`.
    #[error("key too long")]
    Key,
    /// Bytes behind the end.
    #[error("trailing bytes")]
    Trailing,
}

/// Appends to a growing buffer.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty one with room for this many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    /// An unsigned varint.
    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }

    /// A signed varint.
    pub fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    /// Up to eight flags as the bits of a byte, the first one lowest.
    pub fn flags<const N: usize>(&mut self, flags: [bool; N]) {
        const { assert!(N <= 8) };
        self.byte(flags.iter().rev().fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
    }

    /// The byte of an enum value: its place in the table of all values.
    ///
    /// # Panics
    /// When the table does not hold it.
    pub fn place<T: PartialEq>(&mut self, value: &T, table: &[T]) {
        let place = table.iter().position(|other| other == value);
        self.byte(place.expect("the table holds every value") as u8);
    }

    /// A length and the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// What was written.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.out
    }
}

/// Reads from a shared buffer; byte strings come out as slices of it.
pub struct Reader<'a> {
    all: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the first byte.
    #[must_use]
    pub fn new(all: &'a Bytes) -> Self {
        Self { all, at: 0 }
    }

    /// One byte.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.all.get(self.at).ok_or(DecodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// An unsigned varint.
    ///
    /// # Errors
    /// `Truncated`, `Number`.
    pub fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(DecodeError::Number);
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                let shortest = part != 0 || shift == 0;
                return if shortest { Ok(number) } else { Err(DecodeError::Number) };
            }
        }
        Err(DecodeError::Number)
    }

    /// A signed varint.
    ///
    /// # Errors
    /// `Truncated`, `Number`.
    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    /// `Truncated`, `Number`.
    pub fn small(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError::Number)
    }

    /// As many flags as were written.
    ///
    /// # Errors
    /// `Truncated`; `Tag` for a flag that does not exist.
    pub fn flags<const N: usize>(&mut self) -> Result<[bool; N], DecodeError> {
        const { assert!(N <= 8) };
        let byte = self.byte()?;
        if u32::from(byte) >> N != 0 {
            return Err(DecodeError::Tag);
        }
        Ok(std::array::from_fn(|bit| byte >> bit & 1 == 1))
    }

    /// An enum value by its place in the table of all values.
    ///
    /// # Errors
    /// `Truncated`; `Tag` for a value that does not exist.
    pub fn place<T: Copy>(&mut self, table: &[T]) -> Result<T, DecodeError> {
        table.get(usize::from(self.byte()?)).copied().ok_or(DecodeError::Tag)
    }

    /// A number of things that follow, each at least one byte long: never more than are left.
    ///
    /// # Errors
    /// `Truncated`, `Number`.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| DecodeError::Number)?;
        if count > self.all.len() - self.at {
            return Err(DecodeError::Truncated);
        }
        Ok(count)
    }

    /// A byte string, as a slice of what is read.
    ///
    /// # Errors
    /// `Truncated`, `Number`.
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.count()?;
        let bytes = self.all.slice(self.at..self.at + length);
        self.at += length;
        Ok(bytes)
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// `Trailing`.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.all.len() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}
