//! Reading and writing of the few structures that `core/node` stores itself. Reading is total: every
//! function answers `None` on bytes that are not whole.

use bytes::BufMut;

/// Appends a text with its length; the caller has bounded it.
pub(crate) fn put_text(buf: &mut Vec<u8>, text: &str) {
    buf.put_u32_le(u32::try_from(text.len()).expect("texts are bounded by the request size"));
    buf.put_slice(text.as_bytes());
}

/// A cursor over stored bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text of at most `max` bytes.
    pub(crate) fn text(&mut self, max: usize) -> Option<String> {
        let len = usize::try_from(self.u32()?).ok().filter(|len| *len <= max)?;
        String::from_utf8(self.take(len)?.to_vec()).ok()
    }

    /// Nothing may be left over.
    pub(crate) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}
