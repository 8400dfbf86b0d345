//! HTTP/2 as no library would write it, frame by frame.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use prost::Message;

use crate::process::{Server, get};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// More than the errors after which the library in the server closes a connection (1,024), and than the
/// streams that it remembers.
const CALLS: u32 = 1_300;

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(body);
    frame
}

/// A header's text with its length, not compressed.
fn text(text: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(text.len()).expect("short")];
    out.extend(text.as_bytes());
    out
}

/// POST, http, path, authority, content type: by their numbers in HPACK's table, not remembered.
fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x04];
    block.extend(text(path));
    block.push(0x01);
    block.extend(text("localhost"));
    block.extend([0x0f, 0x10]);
    block.extend(text("application/grpc"));
    block
}

fn message() -> Vec<u8> {
    let request = get("k").encode_to_vec();
    let mut out = vec![0];
    out.extend(u32::try_from(request.len()).expect("short").to_be_bytes());
    out.extend(request);
    out
}

struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(&server.endpoint).expect("it accepts connections");
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let mut connection = Self { stream, unread: Vec::new() };
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        connection.send(&frame(SETTINGS, 0, 0, &[]));
        connection
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection is open");
    }

    /// Whatever frames come until there is silence: kind, flags, stream.
    fn frames(&mut self) -> Vec<(u8, u8, u32)> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => self.unread.extend(&buffer[..read]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    break;
                }
            }
        }
        let mut frames = Vec::new();
        while let Some(head) = self.unread.get(..9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            frames.push((head[3], head[4], stream));
            self.unread.drain(..9 + length);
        }
        frames
    }

    /// Answers of calls on `streams` whose end comes in a frame of its own, long after their message.
    fn call_and_end_late(
        &mut self,
        path: &str,
        streams: impl Iterator<Item = u32> + Clone,
    ) -> usize {
        for stream in streams.clone() {
            self.send(&frame(HEADERS, END_HEADERS, stream, &headers(path)));
            self.send(&frame(DATA, 0, stream, &message()));
        }
        let mut frames = self.frames();
        for stream in streams {
            self.send(&frame(DATA, END_STREAM, stream, &[]));
        }
        frames.extend(self.frames());
        assert!(frames.iter().all(|(kind, ..)| *kind != GOAWAY), "the connection was closed");
        let ends = |(kind, flags, _): &&(u8, u8, u32)| *kind == HEADERS && flags & END_STREAM != 0;
        frames.iter().filter(ends).count()
    }
}

#[test]
fn calls_that_end_late_do_not_cost_the_connection() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    for path in ["/etcdserverpb.KV/Range", "/no.Such/Method"] {
        let mut connection = Connection::open(&server);
        let streams = (0..CALLS).map(|call| 2 * call + 1);
        assert_eq!(connection.call_and_end_late(path, streams), CALLS as usize, "{path}");
        let after = std::iter::once(2 * CALLS + 1);
        assert_eq!(connection.call_and_end_late(path, after), 1, "{path}");
    }
}
