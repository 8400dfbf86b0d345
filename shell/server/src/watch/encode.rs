//! Watch responses as bytes.
//!
//! Many watchers of one key get the same event in the same moment, and mostly under the same watch id
//! (each has its own stream, and the first watcher of a stream is number 0): then the whole frame is the
//! same and is encoded once. Frames are remembered only while one step of the hub is carried out, and
//! the batch with them, so that its address can stand for its content.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_consensus::Term;
use quorate_kv::EventBatch;
use quorate_kv::hub::{Matched, WatchId, WatchReply, WatchReplyKind, Which};
use quorate_node::Stamp;
use quorate_wire::etcdserverpb as pb;

use crate::api::etcd::{Identity, convert};
use crate::grpc;

/// What makes two frames equal: the batch (by its address), the watcher's id, whether it wants the
/// pairs before, and the header's revision.
type Key = (usize, i64, bool, i64);

/// Encodes, and remembers for a moment.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    recent: BTreeMap<Key, (EventBatch, Bytes)>,
}

impl Encoder {
    /// The frame of a response.
    pub(super) fn frame(&mut self, identity: Identity, term: u64, reply: WatchReply) -> Bytes {
        let Some((key, batch)) = shareable(&reply) else {
            return grpc::encode(&response(identity, term, reply));
        };
        if let Some((_, frame)) = self.recent.get(&key) {
            return frame.clone();
        }
        let frame = grpc::encode(&response(identity, term, reply));
        self.recent.insert(key, (batch, frame.clone()));
        frame
    }

    /// The step is over.
    pub(super) fn forget(&mut self) {
        self.recent.clear();
    }
}

/// One whole batch, unfragmented: the common case, and the one that many watchers share.
fn shareable(reply: &WatchReply) -> Option<(Key, EventBatch)> {
    let WatchReplyKind::Events { events, prev_kv, fragment: false } = &reply.kind else {
        return None;
    };
    let [Matched { batch, which: Which::All }] = events.as_slice() else { return None };
    let address = batch.events.as_ptr() as usize;
    Some(((address, reply.watch_id.0, *prev_kv, reply.revision.0), batch.clone()))
}

fn response(identity: Identity, term: u64, reply: WatchReply) -> pb::WatchResponse {
    let stamp = Stamp { revision: reply.revision, term: Term(term) };
    let mut response = pb::WatchResponse {
        header: identity.header(stamp),
        watch_id: reply.watch_id.0,
        ..pb::WatchResponse::default()
    };
    match reply.kind {
        WatchReplyKind::Created => response.created = true,
        WatchReplyKind::Refused { reason } => {
            response.created = true;
            response.canceled = true;
            response.watch_id = WatchId::NONE.0;
            reason.clone_into(&mut response.cancel_reason);
        }
        WatchReplyKind::Canceled { compact_revision } => {
            response.canceled = true;
            response.compact_revision = compact_revision.0;
        }
        WatchReplyKind::Events { events, prev_kv, fragment } => {
            response.fragment = fragment;
            let events = events.iter().flat_map(Matched::events);
            response.events = events.map(|event| convert::event(event, prev_kv)).collect();
        }
        WatchReplyKind::Progress => {}
    }
    response
}
