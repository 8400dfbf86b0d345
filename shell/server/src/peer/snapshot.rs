//! A whole state from one node to another, on a connection of its own.
//!
//! Frames: first a header (group u32, index u64, term u64, time u64 in ms, then the membership as consensus
//! encodes it), then pairs in key order (each: key length u32, key, value length u32, value), many a
//! frame, then an empty frame. All numbers little-endian. The receiver answers, when it stands on that
//! state, with the index it has applied (u64), or 0 when it will not.
//!
//! The receiver writes the pairs into the engine directory of a new generation, synced, and offers it
//! to the node; what the node does not want is deleted.

use std::future::Future;
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use quorate_consensus::codec::{decode_membership, encode_membership};
use quorate_consensus::{GroupId, GroupTime, LogIndex, LogStart, Membership, NodeId, Term};
use quorate_engine::{Direction, EngineError, Pair, Read};
use quorate_node::{Failure, Input};
use quorate_storage::{DiskEngine, EngineOptions, remove_generation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use super::frame::{self, Frames};
use super::handshake::{Kind, bad};
use super::memory::Memory;
use crate::Snapshot;
use crate::config::values::Url;
use crate::handle::Handle;
use crate::inbox::Inbox;
use crate::limits::SNAPSHOT_STALL;

/// Content of one frame of pairs, in bytes, unless one pair is larger.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks between the scan and the connection.
const CHUNKS_AHEAD: usize = 4;

/// How long the receiver may take to go over to the state.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two looks whether it has.
const INSTALL_POLL: Duration = Duration::from_millis(20);

/// Sends a state; `Some` with what the peer has applied when it stands on it.
pub(super) async fn send(
    memory: Arc<Memory>,
    to: NodeId,
    urls: &[Url],
    group: GroupId,
    start: LogStart,
    membership: Membership,
    snapshot: Snapshot,
) -> io::Result<Option<LogIndex>> {
    let mut stream = memory.call(Kind::Snapshot, to, urls).await?;
    let mut buffer = Vec::new();
    frame::put(&mut buffer, |out| put_header(out, group, start, &membership));
    in_time(stream.write_all(&buffer)).await?;
    let (chunks, mut receiver) = mpsc::channel(CHUNKS_AHEAD);
    let scan = tokio::task::spawn_blocking(move || scan(&snapshot, &chunks));
    while let Some(chunk) = receiver.recv().await {
        in_time(stream.write_all(&chunk)).await?;
    }
    scan.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
    buffer.clear();
    frame::put(&mut buffer, |_| ());
    in_time(stream.write_all(&buffer)).await?;
    let answer = tokio::time::timeout(INSTALL_TIMEOUT, stream.read_u64_le());
    let applied = answer.await.map_err(|_| bad("no answer in time"))??;
    Ok((applied > 0).then_some(LogIndex(applied)))
}

/// One step of a transfer: a peer that has stopped without a word must not hold it for ever.
async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(SNAPSHOT_STALL, step).await.map_err(|_| bad("it stands still"))?
}

fn put_header(out: &mut Vec<u8>, group: GroupId, start: LogStart, membership: &Membership) {
    out.put_u32_le(group.0);
    out.put_u64_le(start.index.0);
    out.put_u64_le(start.term.0);
    out.put_u64_le(start.time.0);
    encode_membership(membership, out);
}

fn take_header(mut content: Bytes) -> io::Result<(GroupId, LogStart, Membership)> {
    const FIXED: usize = 28;
    if content.len() < FIXED {
        return Err(bad("a header that is too short"));
    }
    let group = GroupId(content.get_u32_le());
    let start = LogStart {
        index: LogIndex(content.get_u64_le()),
        term: Term(content.get_u64_le()),
        time: GroupTime(content.get_u64_le()),
    };
    let membership = decode_membership(content).map_err(|error| bad(&error.to_string()))?;
    Ok((group, start, membership))
}

fn scan(snapshot: &Snapshot, chunks: &mpsc::Sender<Vec<u8>>) -> Result<(), EngineError> {
    let mut pairs = Vec::with_capacity(CHUNK_BYTES);
    let send = |pairs: &mut Vec<u8>| {
        let mut chunk = Vec::with_capacity(pairs.len() + 16);
        frame::put(&mut chunk, |out| out.append(pairs));
        chunks.blocking_send(chunk).is_ok()
    };
    for pair in snapshot.scan((Bound::Unbounded, Bound::Unbounded), Direction::Forward) {
        put_pair(&mut pairs, &pair?);
        if pairs.len() >= CHUNK_BYTES && !send(&mut pairs) {
            return Ok(());
        }
    }
    if !pairs.is_empty() {
        send(&mut pairs);
    }
    Ok(())
}

fn put_pair(out: &mut Vec<u8>, (key, value): &Pair) {
    for bytes in [key, value] {
        out.put_u32_le(u32::try_from(bytes.len()).expect("pairs are bounded by the request size"));
        out.put_slice(bytes);
    }
}

fn take_pair(chunk: &mut Bytes) -> Option<Pair> {
    let mut take = || {
        let len = chunk.len().checked_sub(4).map(|_| chunk.get_u32_le() as usize)?;
        (chunk.len() >= len).then(|| chunk.split_to(len))
    };
    Some((take()?, take()?))
}

/// Takes snapshots in, one at a time.
pub struct Receiver {
    root: PathBuf,
    options: EngineOptions,
    inbox: Arc<Inbox>,
    handle: Handle,
    /// The last generation that was given out.
    generation: AtomicU64,
    one: Semaphore,
}

impl Receiver {
    /// Generations above `generation` are free.
    #[must_use]
    pub fn new(
        root: PathBuf,
        options: EngineOptions,
        inbox: Arc<Inbox>,
        handle: Handle,
        generation: u64,
    ) -> Self {
        let generation = AtomicU64::new(generation);
        Self { root, options, inbox, handle, generation, one: Semaphore::new(1) }
    }

    pub(super) async fn receive(&self, stream: TcpStream) -> io::Result<()> {
        let _one = self.one.try_acquire().map_err(|_| bad("a snapshot is under way"))?;
        let mut frames = Frames::new(stream);
        let header = in_time(frames.next()).await?.ok_or_else(|| bad("no header"))?;
        let (group, start, membership) = take_header(header)?;
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let (chunks, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let (root, options) = (self.root.clone(), self.options.clone());
        let ingest = tokio::task::spawn_blocking(move || {
            DiskEngine::ingest(&root, group, generation, &options, pairs(receiver))
        });
        let received = forward(&mut frames, chunks).await;
        let ingested = ingest.await.map_err(io::Error::other)?;
        if let Err(error) = received.and_then(|()| ingested.map_err(io::Error::other)) {
            remove_generation(&self.root, group, generation).map_err(io::Error::other)?;
            return Err(error);
        }
        self.inbox.internal(Input::SnapshotOffered { start, membership, generation });
        let applied = self.wait_for(start.index).await;
        frames.into_inner().write_u64_le(applied.map_or(0, |index| index.0)).await
    }

    /// Waits until the node stands on a state of at least this index.
    async fn wait_for(&self, index: LogIndex) -> Option<LogIndex> {
        let looks = INSTALL_TIMEOUT.as_millis() / INSTALL_POLL.as_millis() / 2;
        for _ in 0..looks {
            match self.handle.status().await {
                Ok(status) if status.applied >= index => return Some(status.applied),
                Err(Failure::Stopped) => return None,
                // While it goes over it answers nobody.
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(INSTALL_POLL).await;
        }
        None
    }
}

/// Hands chunks on until the empty one; an end before it is an error.
async fn forward(
    frames: &mut Frames<TcpStream>,
    chunks: mpsc::Sender<Option<Bytes>>,
) -> io::Result<()> {
    loop {
        let chunk = in_time(frames.next()).await?.ok_or_else(|| bad("the snapshot ends early"))?;
        let last = chunk.is_empty();
        let handed = chunks.send((!last).then_some(chunk)).await;
        if last || handed.is_err() {
            return Ok(());
        }
    }
}

/// The pairs of all chunks. Ends well only after the last chunk: if the sender is dropped before, the
/// last item is an error, so that no half state is ever taken for a whole one.
fn pairs(
    mut chunks: mpsc::Receiver<Option<Bytes>>,
) -> impl Iterator<Item = Result<Pair, EngineError>> {
    let mut chunk = Bytes::new();
    let mut ended = false;
    std::iter::from_fn(move || {
        while chunk.is_empty() {
            if ended {
                return None;
            }
            match chunks.blocking_recv() {
                Some(Some(next)) => chunk = next,
                Some(None) => ended = true,
                None => {
                    ended = true;
                    return Some(Err(EngineError::Io("the snapshot ends early".to_owned())));
                }
            }
        }
        let pair = take_pair(&mut chunk);
        if pair.is_none() {
            (chunk, ended) = (Bytes::new(), true);
        }
        Some(pair.ok_or_else(|| EngineError::Corrupt("a malformed chunk of a snapshot".to_owned())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let start = LogStart { index: LogIndex(7), term: Term(2), time: GroupTime(9) };
        let membership = Membership::default();
        let mut bytes = Vec::new();
        put_header(&mut bytes, GroupId(1), start, &membership);
        let header = take_header(bytes.into()).expect("valid");
        assert_eq!(header, (GroupId(1), start, membership));
        assert!(take_header(Bytes::from_static(b"short")).is_err());
    }

    #[test]
    fn pairs_round_trip_and_a_missing_end_is_an_error() {
        let pair = (Bytes::from_static(b"k"), Bytes::from_static(b"value"));
        let mut chunk = Vec::new();
        put_pair(&mut chunk, &pair);
        put_pair(&mut chunk, &pair);
        let chunk = Bytes::from(chunk);
        let read = |chunks: Vec<Option<Bytes>>| {
            let (sender, receiver) = mpsc::channel(8);
            for chunk in chunks {
                sender.try_send(chunk).expect("room");
            }
            drop(sender);
            pairs(receiver).collect::<Result<Vec<_>, _>>()
        };
        let whole = read(vec![Some(chunk.clone()), None]).expect("whole");
        assert_eq!(whole, [pair.clone(), pair]);
        assert!(read(vec![Some(chunk.clone())]).is_err(), "no end");
        assert!(read(vec![Some(chunk.slice(..chunk.len() - 1)), None]).is_err(), "cut");
    }
}
