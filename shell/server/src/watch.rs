//! Watch streams of one runtime: the hub machine of `quorate-kv`, fed with the node's events, and the
//! channels to the streams' connections.
//!
//! Everything here runs on one runtime, so its lock is never contended. Invariants: events reach the hub
//! before the replies behind them, and before any watcher that is created later; what a stream's channel
//! holds is bounded by the hub, which counts bytes until they are reported drained; a response that is
//! the same for many watchers is encoded once and shared.

mod encode;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate_kv::hub::{HistoryFound, Hub, HubInput, HubOutput, StreamId, WatchCreate, WatchId};
use quorate_kv::limits::HubLimits;
use quorate_kv::{EventBatch, KeyRange, KeyspaceId, ReadError, Refusal, Revision};
use quorate_node::Failure;
use tokio::sync::{Notify, mpsc};
use tonic::Status;

use crate::api::etcd::Identity;
use crate::handle::Handle;
use crate::limits::WATCH_STREAM_BYTES;
use encode::Encoder;

/// A response on its way to a connection.
#[derive(Debug)]
pub struct Outgoing {
    /// The encoded message, with its prefix.
    pub frame: Bytes,
    /// What the hub counts it as.
    pub bytes: usize,
}

type Channel = mpsc::UnboundedSender<Result<Outgoing, Status>>;

struct State {
    hub: Hub,
    encoder: Encoder,
    streams: BTreeMap<StreamId, Channel>,
    last_stream: u64,
    out: Vec<HubOutput>,
}

/// The hub of one runtime and its streams.
pub struct WatchDesk {
    state: Mutex<State>,
    handle: Handle,
    identity: Identity,
    /// The hub has work for a later moment.
    work: Notify,
}

impl WatchDesk {
    /// A desk without streams.
    #[must_use]
    pub fn new(handle: Handle, identity: Identity) -> Arc<Self> {
        let limits = HubLimits { stream_bytes: WATCH_STREAM_BYTES, ..HubLimits::default() };
        let state = State {
            hub: Hub::new(limits),
            encoder: Encoder::default(),
            streams: BTreeMap::new(),
            last_stream: 0,
            out: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), handle, identity, work: Notify::new() })
    }

    /// Opens a stream; its responses come out of the receiver.
    pub fn open(self: &Arc<Self>) -> (StreamId, mpsc::UnboundedReceiver<Result<Outgoing, Status>>) {
        // Unbounded, because the hub bounds it by bytes: see the module.
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.lock();
        state.last_stream += 1;
        let stream = StreamId(state.last_stream);
        state.streams.insert(stream, sender);
        drop(state);
        self.step(HubInput::OpenStream { stream, keyspace: KeyspaceId::ETCD });
        (stream, receiver)
    }

    /// A stream's connection is gone.
    pub fn close(self: &Arc<Self>, stream: StreamId) {
        self.lock().streams.remove(&stream);
        self.step(HubInput::CloseStream { stream });
    }

    /// A client wants a watcher.
    pub fn create(self: &Arc<Self>, stream: StreamId, request: WatchCreate) {
        self.step(HubInput::Create { stream, request });
    }

    /// A client cancels a watcher.
    pub fn cancel(self: &Arc<Self>, stream: StreamId, watch_id: i64) {
        self.step(HubInput::Cancel { stream, watch_id: WatchId(watch_id) });
    }

    /// A client asks how far its stream is.
    pub fn progress(self: &Arc<Self>, stream: StreamId) {
        self.step(HubInput::Progress { stream });
    }

    /// A response has been handed to the connection.
    pub fn drained(self: &Arc<Self>, stream: StreamId, bytes: usize) {
        self.step(HubInput::Drained { stream, bytes });
    }

    /// Whether so much waits for a stream's connection that no more requests should be read from it.
    #[must_use]
    pub fn is_stalled(&self, stream: StreamId) -> bool {
        self.lock().hub.is_stalled(stream)
    }

    /// Ends a stream with a status.
    pub fn end(&self, stream: StreamId, status: Status) {
        if let Some(channel) = self.lock().streams.get(&stream) {
            let _gone = channel.send(Err(status));
        }
    }

    /// Where the keyspace stands when the node starts.
    pub fn state(self: &Arc<Self>, keyspace: KeyspaceId, revision: Revision, compact: Revision) {
        self.step(HubInput::State { keyspace, revision, compact_revision: compact });
    }

    /// Events up to this revision were let go of, unseen: watchers read history. About compaction this
    /// says nothing new.
    pub fn missed(self: &Arc<Self>, keyspace: KeyspaceId, revision: Revision) {
        if keyspace == KeyspaceId::ETCD {
            self.state(keyspace, revision, Revision(0));
        }
    }

    /// What happened.
    pub fn events(self: &Arc<Self>, batches: Vec<EventBatch>) {
        let mut state = self.lock();
        for batch in batches.into_iter().filter(|batch| batch.keyspace == KeyspaceId::ETCD) {
            let State { hub, out, .. } = &mut *state;
            hub.step(HubInput::Events(batch), out);
        }
        self.carry_out(state);
    }

    /// History is gone.
    pub fn compacted(self: &Arc<Self>, keyspace: KeyspaceId, revision: Revision) {
        self.step(HubInput::Compacted { keyspace, revision });
    }

    /// Tells idle watchers how far they are.
    pub fn notify_tick(self: &Arc<Self>) {
        self.step(HubInput::NotifyTick);
    }

    /// Streams and watchers.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.lock().hub.counts()
    }

    /// Serves watchers that are behind, a bounded number at a time, between everything else that the
    /// runtime has to do. Runs as long as the runtime.
    pub async fn work(self: Arc<Self>) {
        loop {
            self.work.notified().await;
            while self.lock().hub.has_work() {
                self.step(HubInput::Work);
                tokio::task::yield_now().await;
            }
        }
    }

    fn step(self: &Arc<Self>, input: HubInput) {
        let mut state = self.lock();
        let State { hub, out, .. } = &mut *state;
        hub.step(input, out);
        self.carry_out(state);
    }

    fn carry_out(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let term = self.handle.shared().term();
        let State { hub, encoder, streams, out, .. } = &mut *state;
        for output in out.drain(..) {
            match output {
                HubOutput::Response { stream, reply, bytes } => {
                    let Some(channel) = streams.get(&stream) else { continue };
                    let frame = encoder.frame(self.identity, term, reply);
                    let _gone = channel.send(Ok(Outgoing { frame, bytes }));
                }
                HubOutput::ReadHistory { read, keyspace, range, from, max_bytes } => {
                    let desk = Arc::clone(self);
                    tokio::spawn(desk.read_history(read, keyspace, range, from, max_bytes));
                }
            }
        }
        encoder.forget();
        if hub.has_work() {
            self.work.notify_one();
        }
    }

    /// Reads history on the pool and hands it to the hub. The view is of what is applied here, so it
    /// is at least as new as what the hub has seen.
    async fn read_history(
        self: Arc<Self>,
        read: u64,
        keyspace: KeyspaceId,
        range: KeyRange,
        from: Revision,
        max_bytes: usize,
    ) {
        let view = loop {
            match self.handle.view(keyspace, false).await {
                Ok((_, view)) => break view,
                Err(Failure::Stopped) => return,
                // Overload passes; the watcher waits as long as it takes.
                Err(_) => tokio::time::sleep(crate::limits::HISTORY_RETRY).await,
            }
        };
        let compact_revision = view.compact_revision;
        let found =
            tokio::task::spawn_blocking(move || view.history(&range, from, max_bytes)).await;
        let found = match found {
            Ok(Ok(history)) => HistoryFound::Found(history),
            Ok(Err(ReadError::Refused(Refusal::Compacted))) => {
                HistoryFound::Compacted(compact_revision)
            }
            Ok(Err(error)) => return self.handle.fail(&format!("reading history: {error}")),
            Err(error) => return self.handle.fail(&format!("reading history: {error}")),
        };
        self.step(HubInput::History { read, found });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
