//! Frames between nodes: length u32, CRC-32C of the content u32 (both little-endian), content.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::handshake::bad;
use crate::limits::MAX_PEER_FRAME_BYTES;

const PREFIX: usize = 8;

/// Bytes that are asked of the socket at a time.
const READ_BYTES: usize = 64 << 10;

/// Appends a frame whose content `write` appends.
pub(super) fn put(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    write(out);
    let content = &out[at + PREFIX..];
    let len = u32::try_from(content.len()).expect("frames are bounded");
    let sum = crc32c::crc32c(content);
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
    out[at + 4..at + PREFIX].copy_from_slice(&sum.to_le_bytes());
}

/// Takes frames off a connection. A frame's content is copied out of the read buffer: entries live for
/// long in the log's tail cache, and a slice would keep the whole buffer with each of them.
#[derive(Debug)]
pub(super) struct Frames<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::new() }
    }

    /// The next frame's content; `None` when the connection has ended between two frames.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(content) = self.take()? {
                return Ok(Some(content));
            }
            self.buffer.reserve(READ_BYTES);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                let whole = self.buffer.is_empty();
                return if whole { Ok(None) } else { Err(bad("it ends within a frame")) };
            }
        }
    }

    /// The connection, for answering on it.
    pub(super) fn into_inner(self) -> R {
        self.from
    }

    fn take(&mut self) -> io::Result<Option<Bytes>> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let mut fields = &prefix[..];
        let (len, sum) = (fields.get_u32_le() as usize, fields.get_u32_le());
        if len > MAX_PEER_FRAME_BYTES {
            return Err(bad(&format!("a frame of {len} bytes")));
        }
        if self.buffer.len() < PREFIX + len {
            self.buffer.reserve(PREFIX + len - self.buffer.len());
            return Ok(None);
        }
        let content = Bytes::copy_from_slice(&self.buffer[PREFIX..PREFIX + len]);
        self.buffer.advance(PREFIX + len);
        if crc32c::crc32c(&content) != sum {
            return Err(bad("a damaged frame"));
        }
        Ok(Some(content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(contents: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for content in contents {
            put(&mut out, |out| out.extend_from_slice(content));
        }
        out
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let bytes = frames(&[b"one", b"", b"three"]);
        let mut frames = Frames::new(&bytes[..]);
        assert_eq!(frames.next().await.expect("whole").as_deref(), Some(&b"one"[..]));
        assert_eq!(frames.next().await.expect("whole").as_deref(), Some(&b""[..]));
        assert_eq!(frames.next().await.expect("whole").as_deref(), Some(&b"three"[..]));
        assert_eq!(frames.next().await.expect("the end"), None);
    }

    #[tokio::test]
    async fn damage_is_an_error_and_never_a_message() {
        let bytes = frames(&[b"content"]);
        for at in 4..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(Frames::new(&damaged[..]).next().await.is_err(), "byte {at}");
        }
        assert!(Frames::new(&bytes[..bytes.len() - 1]).next().await.is_err(), "cut short");
        assert!(Frames::new(&[0xff; 8][..]).next().await.is_err(), "too long");
    }
}
