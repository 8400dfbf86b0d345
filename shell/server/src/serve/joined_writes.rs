//! A connection that does not offer vectored writes, so that HTTP/2 joins small frames into one write.
//!
//! Where a connection takes several buffers at once, `h2` hands over each DATA frame above 256 bytes by
//! itself: one system call an answer, and with watches that was two thirds of the server's time. Where it
//! does not, frames up to 1 KiB are copied together, up to 16 KiB a call; a copy of that length costs a few
//! nanoseconds, a call microseconds. Larger payloads are still written from where they lie.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// See the module.
#[derive(Debug)]
pub(super) struct JoinedWrites<T>(pub(super) T);

impl<T: Read + Unpin> Read for JoinedWrites<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<T: Write + Unpin> Write for JoinedWrites<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}
