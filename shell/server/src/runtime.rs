//! One of the threads that serve connections: what the node sends it, and the tasks that live on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::handle::Desk;
use crate::mailbox::{Delivery, Mailbox};
use crate::outcall::Executor;
use crate::watch::WatchDesk;

/// The node-facing side of one runtime.
pub struct Runtime {
    mailbox: Arc<Mailbox>,
    desk: Arc<Desk>,
    watch: Arc<WatchDesk>,
    executor: Executor,
    /// Memory that is used again for each vector of deliveries.
    taken: Mutex<Vec<Delivery>>,
}

impl Runtime {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        mailbox: Arc<Mailbox>,
        desk: Arc<Desk>,
        watch: Arc<WatchDesk>,
        executor: Executor,
    ) -> Arc<Self> {
        Arc::new(Self { mailbox, desk, watch, executor, taken: Mutex::default() })
    }

    /// Hands on everything that the node has sent, in its order. Called by the delivering task, and by
    /// whoever must not be ahead of it; both run on this runtime's thread.
    pub fn pump(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.mailbox.take(&mut taken);
        for delivery in taken.drain(..) {
            match delivery {
                Delivery::Reply { slot, reply } => self.desk.answer(slot, reply),
                Delivery::Events(batches) => self.watch.events(batches),
                Delivery::Missed { keyspace, revision } => self.watch.missed(keyspace, revision),
                Delivery::Compacted { keyspace, revision } => {
                    self.watch.compacted(keyspace, revision);
                }
                Delivery::State { keyspace, revision, compact_revision } => {
                    self.watch.state(keyspace, revision, compact_revision);
                }
                Delivery::Attempt { attempt, call, address, timeout } => {
                    self.executor.attempt(attempt, call, address, timeout);
                }
                Delivery::AbortAttempt { attempt } => self.executor.abort(attempt),
                Delivery::Stopped => self.desk.stop(),
            }
        }
    }

    /// Delivers until the runtime ends.
    pub async fn deliver(self: Arc<Self>) {
        loop {
            self.mailbox.arrived().await;
            self.pump();
        }
    }

    /// Tells idle watchers their progress from time to time.
    pub async fn tick(self: Arc<Self>, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.watch.notify_tick();
        }
    }
}
