//! The way to one peer: a bounded queue and the task that empties it.
//!
//! While nobody answers there, attempts come with growing pauses. A peer that has connected to us is there: the
//! pause ends at once, since the others' votes and heartbeats are what it waits for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_consensus::codec::encode_message;
use quorate_consensus::{Body, Message, NodeId};
use quorate_node::Input;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::frame;
use super::handshake::Kind;
use super::memory::Memory;
use crate::config::values::Url;
use crate::inbox::Inbox;
use crate::limits::{PEER_BACKOFF, PEER_QUEUE_BYTES, PEER_QUEUE_FRAMES, PEER_WRITE_TIMEOUT};

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// The peer has connected to this node.
    met: Notify,
}

/// One peer's queue and task; dropping it ends the task.
#[derive(Debug)]
pub(super) struct Link {
    urls: Vec<Url>,
    queue: Arc<Queue>,
    task: AbortHandle,
}

impl Link {
    pub(super) fn start(
        runtime: &tokio::runtime::Handle,
        memory: Arc<Memory>,
        peer: NodeId,
        urls: Vec<Url>,
        inbox: Arc<Inbox>,
    ) -> Self {
        let queue = Arc::new(Queue::default());
        let sender = Sender { memory, peer, urls: urls.clone(), queue: Arc::clone(&queue), inbox };
        let task = runtime.spawn(sender.run()).abort_handle();
        Self { urls, queue, task }
    }

    pub(super) fn urls(&self) -> Vec<Url> {
        self.urls.clone()
    }

    /// Queues a message; true if older ones had to be dropped for it.
    pub(super) fn push(&self, message: Message) -> bool {
        let mut waiting = self.queue.lock();
        waiting.bytes += size(&message);
        waiting.messages.push_back(message);
        let mut dropped = false;
        while waiting.messages.len() > PEER_QUEUE_FRAMES || waiting.bytes > PEER_QUEUE_BYTES {
            let Some(oldest) = waiting.messages.pop_front() else { break };
            waiting.bytes -= size(&oldest);
            dropped = true;
        }
        drop(waiting);
        self.queue.filled.notify_one();
        dropped
    }

    /// The peer is there: it has connected to this node.
    pub(super) fn met(&self) {
        self.queue.met.notify_one();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Queue {
    fn take(&self) -> VecDeque<Message> {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.messages)
    }

    /// Waits before the next attempt, until the time is over or the peer shows itself; gives the pause after that one.
    async fn rest(&self, pause: Duration) -> Duration {
        let (shortest, longest) = PEER_BACKOFF;
        tokio::select! {
            () = self.met.notified() => shortest,
            () = tokio::time::sleep(pause) => (pause * 2).min(longest),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About what a message takes, for the bounds.
fn size(message: &Message) -> usize {
    const FIXED: usize = 64;
    FIXED
        + match &message.body {
            Body::Append { entries, .. } => {
                entries.iter().map(quorate_consensus::Entry::size).sum()
            }
            Body::Forward { proposals } => {
                proposals.iter().map(|(_, data)| FIXED + data.len()).sum()
            }
            _ => 0,
        }
}

struct Sender {
    memory: Arc<Memory>,
    peer: NodeId,
    urls: Vec<Url>,
    queue: Arc<Queue>,
    inbox: Arc<Inbox>,
}

impl Sender {
    async fn run(self) {
        let mut pause = PEER_BACKOFF.0;
        let mut told = String::new();
        let mut first = true;
        loop {
            let called = self.memory.call(Kind::Messages, self.peer, &self.urls).await;
            if std::mem::take(&mut first) {
                self.memory.asked_one();
            }
            let error = match called {
                Ok(stream) => {
                    pause = PEER_BACKOFF.0;
                    told.clear();
                    tracing::info!(peer = self.name(), "connected to a peer");
                    let error = self.serve(stream).await;
                    self.inbox.internal(Input::Unreachable { peer: self.peer });
                    error
                }
                Err(error) => error,
            };
            // The same reason again and again is said once.
            let reason = error.to_string();
            if reason != told {
                tracing::warn!(peer = self.name(), reason, "no connection to a peer");
                told = reason;
            }
            pause = self.queue.rest(pause).await;
        }
    }

    fn name(&self) -> String {
        format!("{:x}", self.peer.0)
    }

    /// Sends until the connection breaks. What was queued while there was none is old: consensus has
    /// given it up already.
    async fn serve(&self, mut stream: TcpStream) -> std::io::Error {
        self.queue.take();
        let mut buffer = Vec::new();
        let mut nothing = [0; 1];
        loop {
            let (mut read, mut write) = stream.split();
            tokio::select! {
                // The other side never speaks after its welcome: it can only end.
                ended = read.read(&mut nothing) => {
                    return ended.err().unwrap_or_else(|| super::handshake::bad("it closed"));
                }
                () = self.queue.filled.notified() => {}
            }
            buffer.clear();
            for message in self.queue.take() {
                frame::put(&mut buffer, |out| encode_message(&message, out));
            }
            match tokio::time::timeout(PEER_WRITE_TIMEOUT, write.write_all(&buffer)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_) => return std::io::Error::from(std::io::ErrorKind::TimedOut),
            }
            shrink(&mut buffer);
        }
    }
}

/// A burst's memory is not kept for ever.
fn shrink(buffer: &mut Vec<u8>) {
    const KEPT: usize = 1 << 20;
    if buffer.capacity() > KEPT {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pauses_grow_until_the_peer_shows_itself() {
        let queue = Queue::default();
        let brief = Duration::from_millis(1);
        assert_eq!(queue.rest(brief).await, 2 * brief);
        // Before the pause begins, too; and it shortens one pause, not all.
        queue.met.notify_one();
        let day = Duration::from_secs(86_400);
        assert_eq!(queue.rest(day).await, PEER_BACKOFF.0);
        tokio::select! {
            biased;
            _ = queue.rest(day) => panic!("nobody was met"),
            () = tokio::task::yield_now() => {}
        }
    }
}
