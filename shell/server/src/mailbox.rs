//! What the node thread sends to one runtime: one vector a step, one wake a vector.
//!
//! The order inside a vector is the order of the node's outputs, so that events reach the watch hub
//! before the replies behind them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_kv::{EventBatch, KeyspaceId, Revision};
use quorate_node::Reply;
use tokio::sync::Notify;

use crate::Snapshot;

/// One thing for a runtime.
pub enum Delivery {
    /// The answer to the request in this slot.
    Reply {
        /// Where the one who asked waits.
        slot: u32,
        /// The answer.
        reply: Reply<Snapshot>,
    },
    /// What happened, for the hub.
    Events(Vec<EventBatch>),
    /// History is gone, for the hub.
    Compacted {
        /// Where.
        keyspace: KeyspaceId,
        /// The oldest readable revision.
        revision: Revision,
    },
    /// Where a keyspace stands when the node starts, before all events.
    State {
        /// Which.
        keyspace: KeyspaceId,
        /// Its revision.
        revision: Revision,
        /// The oldest readable revision.
        compact_revision: Revision,
    },
    /// The node has stopped: nobody will be answered any more.
    Stopped,
}

/// The queue into one runtime.
#[derive(Default)]
pub struct Mailbox {
    queue: Mutex<Vec<Delivery>>,
    ready: Notify,
}

impl Mailbox {
    /// Adds everything in `deliveries`, leaving it empty, and wakes the runtime once.
    pub fn send(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let mut queue = self.lock();
        if queue.is_empty() {
            std::mem::swap(&mut *queue, deliveries);
        } else {
            queue.append(deliveries);
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// Takes everything that is there into `into`, which must be empty; its memory is used again.
    pub fn take(&self, into: &mut Vec<Delivery>) {
        debug_assert!(into.is_empty(), "deliveries would be lost");
        std::mem::swap(&mut *self.lock(), into);
    }

    /// Waits until something has been sent since the last call.
    pub async fn arrived(&self) {
        self.ready.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
