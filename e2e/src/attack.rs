//! Bytes that a hostile or broken client might send: pieces of HTTP/2 by hand, and noise.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What an HTTP/2 client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113, section 6).
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub const RESET: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// WINDOW_UPDATE.
    pub const WINDOW: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}

/// Flag of HEADERS and CONTINUATION: the header block ends here.
pub const END_HEADERS: u8 = 4;
/// Flag of DATA and HEADERS: the stream ends here.
pub const END_STREAM: u8 = 1;

/// A frame with its header; only the low 24 bits of the length are sent.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = lying_frame(payload.len() as u32, kind, flags, stream);
    frame.extend_from_slice(payload);
    frame
}

/// The header of a frame that claims `length` bytes of payload.
#[must_use]
pub fn lying_frame(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let mut header = length.to_be_bytes()[1..].to_vec();
    header.extend_from_slice(&[kind, flags]);
    header.extend_from_slice(&stream.to_be_bytes());
    header
}

/// A header field, never indexed, not compressed (RFC 7541, section 6.2.2); parts up to 126 bytes.
#[must_use]
pub fn field(name: &str, value: &str) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127, "longer parts need a longer integer");
    let mut field = vec![0x00, name.len() as u8];
    field.extend_from_slice(name.as_bytes());
    field.push(value.len() as u8);
    field.extend_from_slice(value.as_bytes());
    field
}

/// The header block of a gRPC call.
#[must_use]
pub fn call(path: &str) -> Vec<u8> {
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "localhost"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]
    .concat()
}

/// The start of every HTTP/2 conversation: preface and empty settings.
#[must_use]
pub fn hello() -> Vec<u8> {
    [PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat()
}

/// Bytes without a pattern, the same for the same seed (xorshift64).
#[must_use]
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Sends `bytes`, ignores whatever the server thinks of them, and reads its answer for at most
/// `patience`; the answer is returned as far as it came.
#[must_use]
pub fn send(endpoint: &str, bytes: &[u8], patience: Duration) -> Vec<u8> {
    let mut answer = Vec::new();
    let Ok(mut stream) = TcpStream::connect(endpoint) else { return answer };
    // A server may close at any moment: an error here is an answer too.
    let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
    let _ = stream.set_read_timeout(Some(patience));
    let _ = stream.write_all(bytes);
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
        if answer.len() > 1 << 20 {
            break;
        }
    }
    answer
}
