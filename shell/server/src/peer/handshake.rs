//! How a connection between nodes begins. All numbers little-endian.
//!
//! | offset | hello (who connects) | bytes |
//! |---|---|---|
//! | 0 | `QUORPEER` | 8 |
//! | 8 | format version, 1 | 2 |
//! | 10 | kind: 1 messages, 2 snapshot, 3 question about the cluster | 1 |
//! | 11 | 0 | 1 |
//! | 12 | cluster (0 in a question) | 8 |
//! | 20 | sender (0 in a question) | 8 |
//! | 28 | receiver (0 in a question) | 8 |
//! | 36 | boot of the sender | 8 |
//! | 44 | data directory of the sender | 8 |
//! | 52 | CRC-32C of all before | 4 |
//!
//! | offset | welcome (who accepts) | bytes |
//! |---|---|---|
//! | 0 | `QUORPEER` | 8 |
//! | 8 | format version, 1 | 2 |
//! | 10 | verdict: 0 welcome, else why not | 1 |
//! | 11 | 0 | 1 |
//! | 12 | cluster | 8 |
//! | 20 | node | 8 |
//! | 28 | boot | 8 |
//! | 36 | CRC-32C of all before | 4 |

use std::io;

use bytes::{Buf, BufMut};
use quorate_consensus::NodeId;
use quorate_wal::{ClusterId, Identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Local;
use crate::config::values::Url;
use crate::limits::PEER_HANDSHAKE_TIMEOUT;

const MAGIC: &[u8; 8] = b"QUORPEER";
const VERSION: u16 = 1;
const HELLO_BYTES: usize = 56;
const WELCOME_BYTES: usize = 40;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Messages = 1,
    Snapshot = 2,
    Question = 3,
}

/// Whether it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Verdict {
    #[error("welcome")]
    Welcome = 0,
    #[error("it is of another cluster")]
    OtherCluster = 1,
    #[error("it is another node")]
    OtherNode = 2,
    #[error("it does not know us as a member")]
    NotAMember = 3,
    #[error(
        "our data directory is not the one it knows: remove this member and add it as a new one"
    )]
    OtherDirectory = 4,
    #[error("it is busy")]
    Busy = 5,
}

/// Who connects, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) kind: Kind,
    pub(super) from: Identity,
    pub(super) to: NodeId,
    pub(super) boot: u64,
    pub(super) directory: u64,
}

impl Hello {
    pub(super) fn new(kind: Kind, local: Local, to: NodeId) -> Self {
        Self { kind, from: local.identity, to, boot: local.boot, directory: local.directory }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HELLO_BYTES);
        bytes.put_slice(MAGIC);
        bytes.put_u16_le(VERSION);
        bytes.put_u8(self.kind as u8);
        bytes.put_u8(0);
        bytes.put_u64_le(self.from.cluster.0);
        bytes.put_u64_le(self.from.node.0);
        bytes.put_u64_le(self.to.0);
        bytes.put_u64_le(self.boot);
        bytes.put_u64_le(self.directory);
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        bytes
    }

    fn decode(bytes: &[u8; HELLO_BYTES]) -> io::Result<Self> {
        let mut rest = checked(bytes)?;
        let kind = match rest.get_u8() {
            1 => Kind::Messages,
            2 => Kind::Snapshot,
            3 => Kind::Question,
            _ => return Err(bad("an unknown kind of connection")),
        };
        rest.advance(1);
        let cluster = ClusterId(rest.get_u64_le());
        let node = NodeId(rest.get_u64_le());
        Ok(Self {
            kind,
            from: Identity { cluster, node },
            to: NodeId(rest.get_u64_le()),
            boot: rest.get_u64_le(),
            directory: rest.get_u64_le(),
        })
    }
}

/// Answer to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    pub(super) verdict: Verdict,
    pub(super) identity: Identity,
    pub(super) boot: u64,
}

impl Welcome {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(WELCOME_BYTES);
        bytes.put_slice(MAGIC);
        bytes.put_u16_le(VERSION);
        bytes.put_u8(self.verdict as u8);
        bytes.put_u8(0);
        bytes.put_u64_le(self.identity.cluster.0);
        bytes.put_u64_le(self.identity.node.0);
        bytes.put_u64_le(self.boot);
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        bytes
    }

    fn decode(bytes: &[u8; WELCOME_BYTES]) -> io::Result<Self> {
        let mut rest = checked(bytes)?;
        let verdict = match rest.get_u8() {
            0 => Verdict::Welcome,
            1 => Verdict::OtherCluster,
            2 => Verdict::OtherNode,
            3 => Verdict::NotAMember,
            4 => Verdict::OtherDirectory,
            5 => Verdict::Busy,
            _ => return Err(bad("an unknown verdict")),
        };
        rest.advance(1);
        let cluster = ClusterId(rest.get_u64_le());
        let node = NodeId(rest.get_u64_le());
        let boot = rest.get_u64_le();
        Ok(Self { verdict, identity: Identity { cluster, node }, boot })
    }
}

/// Checks magic, checksum and version; returns what follows the version.
fn checked(bytes: &[u8]) -> io::Result<&[u8]> {
    let (content, sum) = bytes.split_last_chunk::<4>().expect("both are longer");
    if !content.starts_with(MAGIC) {
        return Err(bad("not a node of this kind"));
    }
    if crc32c::crc32c(content) != u32::from_le_bytes(*sum) {
        return Err(bad("a damaged handshake"));
    }
    let mut rest = &content[MAGIC.len()..];
    let version = rest.get_u16_le();
    if version != VERSION {
        return Err(bad(&format!("format version {version}, this node speaks {VERSION}")));
    }
    Ok(rest)
}

pub(super) fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Connects to the first address that answers and introduces this node.
pub(super) async fn connect(urls: &[Url], hello: Hello) -> io::Result<(TcpStream, Welcome)> {
    let mut last = bad("the peer has no address");
    for url in urls {
        match tokio::time::timeout(PEER_HANDSHAKE_TIMEOUT, connect_to(url, hello)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        }
    }
    Err(last)
}

async fn connect_to(url: &Url, hello: Hello) -> io::Result<(TcpStream, Welcome)> {
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((host, url.port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&hello.encode()).await?;
    let mut bytes = [0; WELCOME_BYTES];
    stream.read_exact(&mut bytes).await?;
    let welcome = Welcome::decode(&bytes)?;
    if welcome.verdict != Verdict::Welcome {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, welcome.verdict.to_string()));
    }
    Ok((stream, welcome))
}

/// Reads a hello off a fresh connection.
pub(super) async fn read_hello(stream: &mut TcpStream) -> io::Result<Hello> {
    let mut bytes = [0; HELLO_BYTES];
    let reading = tokio::time::timeout(PEER_HANDSHAKE_TIMEOUT, stream.read_exact(&mut bytes));
    reading.await.map_err(|_| bad("no handshake in time"))??;
    Hello::decode(&bytes)
}

/// Answers it.
pub(super) async fn answer(
    stream: &mut TcpStream,
    local: Local,
    verdict: Verdict,
) -> io::Result<()> {
    let welcome = Welcome { verdict, identity: local.identity, boot: local.boot };
    stream.write_all(&welcome.encode()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let from = Identity { cluster: ClusterId(1), node: NodeId(2) };
        Hello { kind: Kind::Messages, from, to: NodeId(3), boot: 4, directory: 5 }
    }

    #[test]
    fn both_sides_round_trip() {
        let bytes: [u8; HELLO_BYTES] = hello().encode().try_into().expect("its length");
        assert_eq!(Hello::decode(&bytes).expect("valid"), hello());
        let identity = hello().from;
        let welcome = Welcome { verdict: Verdict::Busy, identity, boot: 9 };
        let bytes: [u8; WELCOME_BYTES] = welcome.encode().try_into().expect("its length");
        assert_eq!(Welcome::decode(&bytes).expect("valid"), welcome);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let bytes: [u8; HELLO_BYTES] = hello().encode().try_into().expect("its length");
        for at in 0..HELLO_BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert!(Hello::decode(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = hello().encode();
        bytes[8] = 9;
        let sum = crc32c::crc32c(&bytes[..HELLO_BYTES - 4]);
        bytes[HELLO_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        let bytes: [u8; HELLO_BYTES] = bytes.try_into().expect("its length");
        let error = Hello::decode(&bytes).expect_err("another version");
        assert!(error.to_string().contains("version 9"), "{error}");
    }
}
