//! How attempts ended, on their way to the node thread: many at a time.
//!
//! Each runtime has one. What ends while the runtime works through everything that has become ready is handed over in one
//! piece: one lock and at most one wake of the node thread, which then takes all of it in one burst.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_node::Input;
use quorate_outcall::{AttemptId, AttemptResult};
use tokio::sync::Notify;

use crate::inbox::Inbox;

/// See the module.
pub struct Results {
    inbox: Arc<Inbox>,
    ended: Mutex<Vec<Input>>,
    ready: Notify,
}

impl Results {
    /// Results that go here. Nothing does until [`Self::carry`] runs.
    #[must_use]
    pub fn new(inbox: Arc<Inbox>) -> Arc<Self> {
        Arc::new(Self { inbox, ended: Mutex::default(), ready: Notify::new() })
    }

    /// An attempt has ended.
    pub fn put(&self, attempt: AttemptId, result: AttemptResult) {
        self.lock().push(Input::AttemptDone { attempt, result });
        self.ready.notify_one();
    }

    /// Hands results over until the runtime ends. A task that is woken runs after those that are ready already: on a
    /// runtime of one thread that is what gathers them.
    pub async fn carry(self: Arc<Self>) {
        let mut taken = Vec::new();
        loop {
            self.ready.notified().await;
            std::mem::swap(&mut taken, &mut *self.lock());
            self.inbox.internal_all(&mut taken);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Input>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::Arrived;
    use quorate_outcall::CallFailure;

    #[tokio::test]
    async fn what_ends_together_is_handed_over_together() {
        let inbox = Arc::new(Inbox::default());
        let results = Results::new(Arc::clone(&inbox));
        let carrier = tokio::spawn(Arc::clone(&results).carry());
        for attempt in 0..3 {
            results.put(AttemptId(attempt), AttemptResult::Failed(CallFailure::Timeout));
        }
        assert!(inbox.is_empty(), "the carrier has had no turn");
        tokio::task::yield_now().await;
        let mut arrived = Arrived::default();
        inbox.take(&mut arrived, Some(std::time::Instant::now()));
        let order = arrived.inputs.iter().map(|input| match input {
            Input::AttemptDone { attempt, .. } => attempt.0,
            other => panic!("{other:?}"),
        });
        assert_eq!(order.collect::<Vec<_>>(), [0, 1, 2]);
        carrier.abort();
    }
}
