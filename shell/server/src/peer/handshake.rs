//! How a connection between nodes begins. All numbers little-endian.
//!
//! | offset | hello (who connects) | bytes |
//! |---|---|---|
//! | 0 | `QUORPEER` | 8 |
//! | 8 | format version, 2 | 2 |
//! | 10 | kind: 1 messages, 2 snapshot, 3 question about the cluster | 1 |
//! | 11 | number of group records | 1 |
//! | 12 | cluster (0 in a question) | 8 |
//! | 20 | sender (0 in a question) | 8 |
//! | 28 | receiver (0 in a question) | 8 |
//! | 36 | boot of the sender | 8 |
//! | 44 | data directory of the sender (0 in a question) | 8 |
//! | 52 | data directory of the receiver as the sender knows it; 0: not yet | 8 |
//! | 60 | group records, 52 bytes each | |
//! | | CRC-32C of all before | 4 |
//!
//! | offset | welcome (who accepts) | bytes |
//! |---|---|---|
//! | 0 | `QUORPEER` | 8 |
//! | 8 | format version, 2 | 2 |
//! | 10 | verdict: 0 welcome, else why not | 1 |
//! | 11 | number of group records | 1 |
//! | 12 | cluster | 8 |
//! | 20 | node | 8 |
//! | 28 | boot | 8 |
//! | 36 | data directory (0 to strangers) | 8 |
//! | 44 | data directory of the other side as this one knows it; 0: not yet | 8 |
//! | 52 | group records | |
//! | | CRC-32C of all before | 4 |
//!
//! Directories and group records are the *papers* of a side (`papers.rs`); what the other makes of them stands
//! in `memory.rs`. A side of another version is told apart by the first ten bytes, which no version changes.

use std::io;

use bytes::{Buf, BufMut};
use quorate_consensus::NodeId;
use quorate_wal::{ClusterId, Identity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Local;
use super::papers::{GROUP_BYTES, Papers};
use crate::config::values::Url;
use crate::limits::PEER_HANDSHAKE_TIMEOUT;

const MAGIC: &[u8; 8] = b"QUORPEER";
const VERSION: u16 = 2;

/// What comes before the cluster, in bytes.
const HEAD_BYTES: usize = 12;

/// A hello without group records and checksum, in bytes.
const HELLO_BYTES: usize = 60;

/// A welcome without group records and checksum, in bytes.
const WELCOME_BYTES: usize = 52;

const SUM_BYTES: usize = 4;

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
    #[error("our data directory is not the one it knows")]
    OtherDirectory = 4,
    #[error("it is busy")]
    Busy = 5,
    #[error("our log ends before what it saw us acknowledge")]
    LogTooShort = 6,
    #[error("it has lost what we know of it, and stops")]
    Stopping = 7,
}

/// Who connects, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) kind: Kind,
    pub(super) from: Identity,
    pub(super) to: NodeId,
    pub(super) boot: u64,
    pub(super) papers: Papers,
}

impl Hello {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = head(self.kind as u8, &self.papers);
        bytes.put_u64_le(self.from.cluster.0);
        bytes.put_u64_le(self.from.node.0);
        bytes.put_u64_le(self.to.0);
        bytes.put_u64_le(self.boot);
        self.papers.encode(&mut bytes);
        sealed(bytes)
    }

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        let (kind, groups, mut rest) = checked(bytes)?;
        let kind = match kind {
            1 => Kind::Messages,
            2 => Kind::Snapshot,
            3 => Kind::Question,
            _ => return Err(bad("an unknown kind of connection")),
        };
        let cluster = ClusterId(rest.get_u64_le());
        let node = NodeId(rest.get_u64_le());
        Ok(Self {
            kind,
            from: Identity { cluster, node },
            to: NodeId(rest.get_u64_le()),
            boot: rest.get_u64_le(),
            papers: Papers::decode(rest, groups),
        })
    }
}

/// Answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    pub(super) verdict: Verdict,
    pub(super) identity: Identity,
    pub(super) boot: u64,
    pub(super) papers: Papers,
}

impl Welcome {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = head(self.verdict as u8, &self.papers);
        bytes.put_u64_le(self.identity.cluster.0);
        bytes.put_u64_le(self.identity.node.0);
        bytes.put_u64_le(self.boot);
        self.papers.encode(&mut bytes);
        sealed(bytes)
    }

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        let (verdict, groups, mut rest) = checked(bytes)?;
        let verdict = match verdict {
            0 => Verdict::Welcome,
            1 => Verdict::OtherCluster,
            2 => Verdict::OtherNode,
            3 => Verdict::NotAMember,
            4 => Verdict::OtherDirectory,
            5 => Verdict::Busy,
            6 => Verdict::LogTooShort,
            7 => Verdict::Stopping,
            _ => return Err(bad("an unknown verdict")),
        };
        let cluster = ClusterId(rest.get_u64_le());
        let node = NodeId(rest.get_u64_le());
        let boot = rest.get_u64_le();
        let papers = Papers::decode(rest, groups);
        Ok(Self { verdict, identity: Identity { cluster, node }, boot, papers })
    }
}

/// The first bytes of either side; `what` is the kind or the verdict.
fn head(what: u8, papers: &Papers) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HELLO_BYTES + papers.groups.len() * GROUP_BYTES + SUM_BYTES);
    bytes.put_slice(MAGIC);
    bytes.put_u16_le(VERSION);
    bytes.put_u8(what);
    bytes.put_u8(papers.count());
    bytes
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.put_u32_le(crc32c::crc32c(&bytes));
    bytes
}

/// Checks the checksum; returns kind or verdict, the number of group records, and what follows the head.
/// `bytes` are whole, as `read_whole` reads them.
fn checked(bytes: &[u8]) -> io::Result<(u8, u8, &[u8])> {
    let (content, sum) = bytes.split_last_chunk::<SUM_BYTES>().expect("they are whole");
    if crc32c::crc32c(content) != u32::from_le_bytes(*sum) {
        return Err(bad("a damaged handshake"));
    }
    let (head, rest) = content.split_at(HEAD_BYTES);
    Ok((head[HEAD_BYTES - 2], head[HEAD_BYTES - 1], rest))
}

/// Reads a hello or a welcome, whose fixed part has `fixed` bytes. Magic and version come first: a side
/// of another version may send less than this one would wait for.
async fn read_whole(stream: &mut (impl AsyncRead + Unpin), fixed: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEAD_BYTES];
    stream.read_exact(&mut bytes).await?;
    let mut version = bytes.strip_prefix(MAGIC).ok_or_else(|| bad("not a node of this kind"))?;
    let version = version.get_u16_le();
    if version != VERSION {
        return Err(bad(&format!("format version {version}, this node speaks {VERSION}")));
    }
    let groups = usize::from(bytes[HEAD_BYTES - 1]);
    bytes.resize(fixed + groups * GROUP_BYTES + SUM_BYTES, 0);
    stream.read_exact(&mut bytes[HEAD_BYTES..]).await?;
    Ok(bytes)
}

pub(super) fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Connects to the first address where the node answers that is looked for, and introduces this one. The
/// answer may be a refusal.
pub(super) async fn connect(urls: &[Url], hello: &Hello) -> io::Result<(TcpStream, Welcome)> {
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

async fn connect_to(url: &Url, hello: &Hello) -> io::Result<(TcpStream, Welcome)> {
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((host, url.port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&hello.encode()).await?;
    let welcome = Welcome::decode(&read_whole(&mut stream, WELCOME_BYTES).await?)?;
    let looked_for = Identity { cluster: hello.from.cluster, node: hello.to };
    if hello.kind != Kind::Question && welcome.identity != looked_for {
        // What another node says is nothing to this one.
        return Err(refused(match welcome.verdict {
            Verdict::Welcome => Verdict::OtherNode,
            verdict => verdict,
        }));
    }
    Ok((stream, welcome))
}

/// The error that a refusal is.
pub(super) fn refused(verdict: Verdict) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, verdict.to_string())
}

/// Reads a hello off a fresh connection.
pub(super) async fn read_hello(stream: &mut TcpStream) -> io::Result<Hello> {
    let reading = tokio::time::timeout(PEER_HANDSHAKE_TIMEOUT, read_whole(stream, HELLO_BYTES));
    Hello::decode(&reading.await.map_err(|_| bad("no handshake in time"))??)
}

/// Answers it.
pub(super) async fn answer(
    stream: &mut TcpStream,
    local: Local,
    verdict: Verdict,
    papers: Papers,
) -> io::Result<()> {
    let welcome = Welcome { verdict, identity: local.identity, boot: local.boot, papers };
    stream.write_all(&welcome.encode()).await
}

#[cfg(test)]
mod tests {
    use quorate_consensus::{GroupId, LogIndex, Term, Witness};

    use super::super::papers::{GroupPapers, LogEnd};
    use super::*;

    fn papers() -> Papers {
        let end = LogEnd { index: LogIndex(7), term: Term(8) };
        let seen = Witness {
            index: LogIndex(9),
            index_term: Term(10),
            vote_term: Term(11),
            vote: NodeId(12),
        };
        Papers {
            directory: 5,
            yours: 6,
            groups: vec![GroupPapers { group: GroupId(1), end, seen }],
        }
    }

    fn hello() -> Hello {
        let from = Identity { cluster: ClusterId(1), node: NodeId(2) };
        Hello { kind: Kind::Messages, from, to: NodeId(3), boot: 4, papers: papers() }
    }

    async fn read(bytes: &[u8]) -> io::Result<Hello> {
        let mut stream = bytes;
        let whole = read_whole(&mut stream, HELLO_BYTES).await?;
        assert!(stream.is_empty(), "a handshake ends where it says");
        Hello::decode(&whole)
    }

    #[tokio::test]
    async fn both_sides_round_trip() {
        let nothing = Hello { kind: Kind::Question, papers: Papers::default(), ..hello() };
        for hello in [hello(), nothing] {
            assert_eq!(read(&hello.encode()).await.expect("valid"), hello);
        }
        let identity = hello().from;
        let welcome =
            Welcome { verdict: Verdict::LogTooShort, identity, boot: 9, papers: papers() };
        let bytes = welcome.encode();
        let whole = read_whole(&mut &bytes[..], WELCOME_BYTES).await.expect("whole");
        assert_eq!(Welcome::decode(&whole).expect("valid"), welcome);
    }

    #[tokio::test]
    async fn every_flipped_byte_and_every_cut_is_noticed() {
        let bytes = hello().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            // One group less: the rest is not read, and its checksum is missed.
            let noticed = match read_whole(&mut &damaged[..], HELLO_BYTES).await {
                Ok(whole) => Hello::decode(&whole).is_err(),
                Err(_) => true,
            };
            assert!(noticed, "byte {at}");
            assert!(read(&bytes[..at]).await.is_err(), "cut at {at}");
        }
    }

    #[tokio::test]
    async fn another_version_is_named_even_if_it_says_less() {
        let mut bytes = hello().encode();
        bytes[8] = 9;
        let error = read(&bytes[..HEAD_BYTES]).await.expect_err("another version");
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    /// The bytes of version 2: a change of them is another version.
    #[test]
    fn the_format_is_this() {
        let text: String = hello().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers: String =
            [1_u8, 2, 3, 4, 5, 6].map(|n| format!("{n:02x}00000000000000")).concat();
        let group: String =
            [7_u8, 8, 9, 10, 11, 12].map(|n| format!("{n:02x}00000000000000")).concat();
        let head = "51554f52504545520200".to_owned() + "0101";
        assert_eq!(text[..text.len() - 8], format!("{head}{numbers}01000000{group}"));
    }
}
