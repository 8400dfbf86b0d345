//! What the node thread sends to one runtime: one vector a step, one wake a vector.
//!
//! The order inside a vector is the order of the node's outputs, so that events reach the watch hub
//! before the replies behind them.
//!
//! Bounded in bytes, should the runtime's thread stand still while the others, or peers, go on:
//!
//! - *Events* past their bound are let go of, all that wait, and [`Delivery::Missed`] stands where the first
//!   of them stood. The hub then has its watchers read history, so they lose time and nothing else.
//! - *Replies* are one a request, and a runtime that stands still makes none. What keys and values they carry
//!   may still be too much: then the newest are told [`Failure::Timeout`], which says that the outcome
//!   is unknown, instead. None is left out.

mod load;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_kv::{EventBatch, KeyspaceId, Revision};
use quorate_node::{Failure, Reply};
use quorate_outcall::{AttemptId, Call};
use tokio::sync::Notify;

use crate::Snapshot;
use crate::limits::{MAX_MAILBOX_EVENT_BYTES, MAX_MAILBOX_REPLY_BYTES};
use load::Load;

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
    /// What happened up to here was too much to be kept for the hub: it stands in history.
    Missed {
        /// Where.
        keyspace: KeyspaceId,
        /// The last revision that was let go of.
        revision: Revision,
    },
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
    /// Call somebody else's service.
    Attempt {
        /// The attempt's number.
        attempt: AttemptId,
        /// What to send.
        call: Arc<Call>,
        /// Which of the destination's addresses, to be taken modulo their number.
        address: u32,
        /// How long it may take.
        timeout: Duration,
    },
    /// Stop this attempt.
    AbortAttempt {
        /// Which.
        attempt: AttemptId,
    },
    /// The node has stopped: nobody will be answered any more.
    Stopped,
}

/// The queue into one runtime.
#[derive(Default)]
pub struct Mailbox {
    queue: Mutex<Queue>,
    ready: Notify,
}

#[derive(Default)]
struct Queue {
    deliveries: Vec<Delivery>,
    load: Load,
}

impl Mailbox {
    /// Adds everything in `deliveries`, leaving it empty, and wakes the runtime once.
    pub fn send(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let arriving = Load::of(deliveries);
        let mut queue = self.lock();
        if queue.deliveries.is_empty() {
            std::mem::swap(&mut queue.deliveries, deliveries);
        } else {
            queue.deliveries.append(deliveries);
        }
        queue.load += arriving;
        queue.keep_bounds();
        drop(queue);
        self.ready.notify_one();
    }

    /// Takes everything that is there into `into`, which must be empty; its memory is used again.
    pub fn take(&self, into: &mut Vec<Delivery>) {
        debug_assert!(into.is_empty(), "deliveries would be lost");
        let mut queue = self.lock();
        std::mem::swap(&mut queue.deliveries, into);
        queue.load = Load::default();
    }

    /// Waits until something has been sent since the last call.
    pub async fn arrived(&self) {
        self.ready.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn keep_bounds(&mut self) {
        if self.load.event_bytes > MAX_MAILBOX_EVENT_BYTES {
            let bytes = self.load.event_bytes;
            tracing::warn!(bytes, "a runtime is too slow: its watchers will read history");
            self.let_go_of_events();
        }
        if self.load.reply_bytes > MAX_MAILBOX_REPLY_BYTES {
            let bytes = self.load.reply_bytes;
            tracing::warn!(
                bytes,
                "a runtime is too slow: its newest requests are called timed out"
            );
            self.shorten_replies();
        }
    }

    fn let_go_of_events(&mut self) {
        let mut missed = BTreeMap::new();
        let mut first = None;
        let mut kept = Vec::with_capacity(self.deliveries.len());
        for delivery in self.deliveries.drain(..) {
            if let Delivery::Events(batches) = delivery {
                first.get_or_insert(kept.len());
                missed.extend(batches.iter().map(|batch| (batch.keyspace, batch.revision)));
            } else {
                kept.push(delivery);
            }
        }
        let place = first.unwrap_or(kept.len());
        let told =
            missed.into_iter().map(|(keyspace, revision)| Delivery::Missed { keyspace, revision });
        kept.splice(place..place, told);
        self.deliveries = kept;
        self.load.event_bytes = 0;
    }

    /// From the newest back, until the rest fits: who has waited longest gets what was found.
    fn shorten_replies(&mut self) {
        for delivery in self.deliveries.iter_mut().rev() {
            if self.load.reply_bytes <= MAX_MAILBOX_REPLY_BYTES {
                return;
            }
            self.load.reply_bytes -= load::reply_bytes(delivery);
            if let Delivery::Reply { reply, .. } = delivery
                && load::carried(reply) > 0
            {
                *reply = Reply::Failed(Failure::Timeout);
            }
        }
    }
}

#[cfg(test)]
mod tests;
