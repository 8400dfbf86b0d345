//! Watch streams over the wire.

use bytes::Bytes;
use quorate_wire::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::process::{Server, put, revision};

/// One stream.
pub(crate) struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Stream {
    pub(crate) async fn open(server: &Server) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let watching = server.watch().await.watch(ReceiverStream::new(receiver)).await;
        Self { requests, responses: watching.expect("a stream").into_inner() }
    }

    async fn send(&self, request: pb::watch_request::RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.expect("open");
    }

    pub(crate) async fn create(&self, request: pb::WatchCreateRequest) {
        self.send(pb::watch_request::RequestUnion::CreateRequest(request)).await;
    }

    pub(crate) async fn next(&mut self) -> pb::WatchResponse {
        let next =
            tokio::time::timeout(std::time::Duration::from_secs(10), self.responses.message());
        next.await.expect("an answer in time").expect("open").expect("a response")
    }
}

fn of(key: &'static str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.into(), ..Default::default() }
}

#[tokio::test]
async fn watchers_get_what_they_asked_for() {
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut kv = server.kv().await;
    let mut stream = Stream::open(&server).await;

    stream.create(pb::WatchCreateRequest { prev_kv: true, ..of("w") }).await;
    let created = stream.next().await;
    assert!(created.created && !created.canceled && created.events.is_empty());
    assert_eq!((created.watch_id, revision(&created.header)), (0, 1));
    stream.create(pb::WatchCreateRequest { watch_id: 7, ..of("v") }).await;
    assert_eq!(stream.next().await.watch_id, 7);
    stream.create(pb::WatchCreateRequest { watch_id: 7, ..of("v") }).await;
    let duplicate = stream.next().await;
    assert!(duplicate.created && duplicate.canceled);
    assert_eq!(duplicate.watch_id, -1);
    let text = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(duplicate.cancel_reason, text);

    for value in ["1", "2"] {
        kv.put(put("w", value)).await.expect("put");
    }
    let first = stream.next().await;
    assert_eq!((first.watch_id, first.events.len(), revision(&first.header)), (0, 1, 2));
    assert!(first.events[0].prev_kv.is_none());
    let second = stream.next().await;
    let before = second.events[0].prev_kv.as_ref().expect("asked for");
    assert_eq!((before.value.clone(), before.mod_revision), (Bytes::from("1"), 2));

    stream
        .send(pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
        .await;
    let progress = stream.next().await;
    assert_eq!((progress.watch_id, revision(&progress.header)), (-1, 3));

    let cancel = pb::WatchCancelRequest { watch_id: 7 };
    stream.send(pb::watch_request::RequestUnion::CancelRequest(cancel)).await;
    let canceled = stream.next().await;
    assert!(canceled.canceled && canceled.cancel_reason.is_empty());
    assert_eq!(canceled.watch_id, 7);
}

#[tokio::test]
async fn history_is_replayed_and_compaction_is_told() {
    let dir = tempfile::tempdir().expect("temp");
    let mut server = Server::start(dir.path());
    let mut kv = server.kv().await;
    for value in ["1", "2", "3"] {
        kv.put(put("w", value)).await.expect("put");
    }
    // After a restart nothing is in the ring: this is read from the engine.
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(dir.path());
    let mut kv = server.kv().await;
    let mut stream = Stream::open(&server).await;
    stream.create(pb::WatchCreateRequest { start_revision: 2, ..of("w") }).await;
    assert!(stream.next().await.created);
    let replay = stream.next().await;
    let values: Vec<_> =
        replay.events.iter().map(|e| e.kv.clone().expect("a pair").value).collect();
    assert_eq!(values, ["1", "2", "3"]);
    assert_eq!(revision(&replay.header), 4);

    kv.compact(pb::CompactionRequest { revision: 3, physical: false }).await.expect("compact");
    stream.create(pb::WatchCreateRequest { start_revision: 2, ..of("w") }).await;
    let created = stream.next().await;
    assert!(created.created && !created.canceled);
    let canceled = stream.next().await;
    assert!(canceled.canceled && !canceled.created);
    assert_eq!((canceled.compact_revision, revision(&canceled.header)), (3, 0));
}

#[tokio::test]
async fn a_reader_that_sleeps_holds_nobody_up() {
    const VALUE: usize = 64 << 10;
    const PUTS: usize = 200;
    let dir = tempfile::tempdir().expect("temp");
    let server = Server::start(dir.path());
    let mut kv = server.kv().await;
    let (mut slow, mut quick) = (Stream::open(&server).await, Stream::open(&server).await);
    for stream in [&mut slow, &mut quick] {
        stream.create(of("big")).await;
        assert!(stream.next().await.created);
    }
    for _ in 0..PUTS {
        kv.put(put("big", vec![b'x'; VALUE])).await.expect("put");
        assert_eq!(quick.next().await.events.len(), 1);
    }
    let mut seen = Vec::new();
    while seen.len() < PUTS {
        let events = slow.next().await.events;
        seen.extend(events.iter().map(|event| event.kv.as_ref().expect("a pair").mod_revision));
    }
    assert!(seen.iter().copied().eq(2..2 + PUTS as i64), "in order, each once: {seen:?}");
}
