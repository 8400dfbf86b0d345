//! Where everything for the node thread arrives: one push a request, drained whole.
//!
//! Invariants: bounded in number and bytes; the node thread is woken only if it sleeps, so a busy node
//! costs its callers no system call; after `close` nothing is accepted, so that whoever asks is told
//! that the server stops instead of waiting for ever. A push that would exceed a bound is refused
//! (requests) or dropped (messages of peers, which consensus sends again).

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quorate_consensus::{NodeId, Witness};
use quorate_node::{Failure, Input, RequestId};

use crate::exit::Fatal;
use crate::limits::{MAX_INBOX_BYTES, MAX_INBOX_MESSAGE_BYTES, MAX_INBOX_REQUESTS};

/// What the node thread finds when it looks.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Inputs in the order of their arrival.
    pub inputs: Vec<Input>,
    /// What peers say they have seen of this node; looked at before any of the inputs.
    pub told: BTreeMap<NodeId, Witness>,
    /// A thread that the node needs has failed, or a peer has refused it for good: the process must end.
    pub failure: Option<Fatal>,
    /// Nobody may ask any more; finish and leave.
    pub closed: bool,
}

#[derive(Debug, Default)]
struct State {
    inputs: Vec<Input>,
    /// One for each member at most: others are not listened to.
    told: BTreeMap<NodeId, Witness>,
    requests: usize,
    request_bytes: usize,
    message_bytes: usize,
    failure: Option<Fatal>,
    closed: bool,
    sleeping: bool,
}

impl State {
    fn is_silent(&self) -> bool {
        let nothing = self.inputs.is_empty() && self.told.is_empty();
        nothing && self.failure.is_none() && !self.closed
    }
}

/// The queue into the node thread.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
}

impl Inbox {
    /// A request of about `bytes` bytes.
    ///
    /// # Errors
    /// `Overloaded` at a bound, `Stopped` after `close`; nothing will happen then.
    pub fn request(
        &self,
        id: RequestId,
        request: quorate_node::Request,
        bytes: usize,
    ) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.closed {
            return Err(Failure::Stopped);
        }
        if state.requests >= MAX_INBOX_REQUESTS || state.request_bytes + bytes > MAX_INBOX_BYTES {
            return Err(Failure::Overloaded);
        }
        state.requests += 1;
        state.request_bytes += bytes;
        self.put(state, Input::Request { id, request });
        Ok(())
    }

    /// A message of a peer of about `bytes` bytes; false if it was dropped.
    pub fn message(&self, input: Input, bytes: usize) -> bool {
        let mut state = self.lock();
        if state.closed || state.message_bytes + bytes > MAX_INBOX_MESSAGE_BYTES {
            return false;
        }
        state.message_bytes += bytes;
        self.put(state, input);
        true
    }

    /// A result of the node's own threads; these are bounded by what the node asked for.
    pub fn internal(&self, input: Input) {
        let state = self.lock();
        self.put(state, input);
    }

    /// Many of them at once, leaving `inputs` empty.
    pub fn internal_all(&self, inputs: &mut Vec<Input>) {
        if inputs.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.inputs.append(inputs);
        self.wake(state);
    }

    /// What `peer` says it has seen of this node. Messages of that connection are pushed after it.
    pub fn told(&self, peer: NodeId, seen: Witness) {
        let mut state = self.lock();
        let known = state.told.entry(peer).or_default();
        *known = known.and(seen);
        self.wake(state);
    }

    /// A thread that the node needs has failed.
    pub fn fail(&self, why: String) {
        self.end(Fatal::Runtime(why));
    }

    /// A peer refuses this node for good, and is right.
    pub fn refuse(&self, why: String) {
        self.end(Fatal::Refused(why));
    }

    fn end(&self, why: Fatal) {
        let mut state = self.lock();
        state.failure.get_or_insert(why);
        self.wake(state);
    }

    /// Nobody may ask any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake(state);
    }

    /// Takes everything that has arrived; waits for it until `deadline` (`None`: as long as it takes)
    /// if there is nothing. `inputs` of `into` must be empty; its memory is used again.
    pub fn take(&self, into: &mut Arrived, deadline: Option<Instant>) {
        debug_assert!(into.inputs.is_empty(), "inputs would be lost");
        let mut state = self.lock();
        while state.is_silent() {
            let now = Instant::now();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            state.sleeping = true;
            state = match left {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let woken = self.wake.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.sleeping = false;
        }
        std::mem::swap(&mut into.inputs, &mut state.inputs);
        into.told = std::mem::take(&mut state.told);
        into.failure = state.failure.clone();
        into.closed = state.closed;
        state.requests = 0;
        state.request_bytes = 0;
        state.message_bytes = 0;
    }

    /// Whether nothing waits: the node thread may afford to write the log itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().inputs.is_empty()
    }

    fn put(&self, mut state: MutexGuard<'_, State>, input: Input) {
        state.inputs.push(input);
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let sleeping = std::mem::take(&mut state.sleeping);
        drop(state);
        if sleeping {
            self.wake.notify_one();
        }
    }

    /// A thread that panicked while it held the lock has left the state whole: every change of it is
    /// a single push or assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_node::Request;
    use std::sync::Arc;
    use std::time::Duration;

    fn ask(inbox: &Inbox, bytes: usize) -> Result<(), Failure> {
        inbox.request(RequestId(1), Request::Status, bytes)
    }

    #[test]
    fn it_is_drained_whole_and_in_order() {
        let inbox = Inbox::default();
        ask(&inbox, 1).expect("room");
        inbox.internal(Input::Tick);
        let mut arrived = Arrived::default();
        inbox.take(&mut arrived, None);
        assert!(matches!(arrived.inputs[..], [Input::Request { .. }, Input::Tick]));
        assert!(inbox.is_empty());
    }

    #[test]
    fn what_peers_say_is_joined_and_wakes() {
        let inbox = Inbox::default();
        let entry = |index| {
            let index = quorate_consensus::LogIndex(index);
            Witness { index, ..Witness::default() }
        };
        inbox.told(NodeId(1), entry(7));
        inbox.told(NodeId(1), entry(5));
        let mut arrived = Arrived::default();
        inbox.take(&mut arrived, None);
        assert_eq!(arrived.told, BTreeMap::from([(NodeId(1), entry(7))]));
        inbox.take(&mut arrived, Some(Instant::now()));
        assert!(arrived.told.is_empty(), "said once");
    }

    #[test]
    fn bounds_refuse_and_draining_makes_room() {
        let inbox = Inbox::default();
        ask(&inbox, MAX_INBOX_BYTES).expect("room");
        assert_eq!(ask(&inbox, 1), Err(Failure::Overloaded));
        inbox.take(&mut Arrived::default(), None);
        assert_eq!(ask(&inbox, 1), Ok(()));
        assert!(!inbox.message(Input::Tick, MAX_INBOX_MESSAGE_BYTES + 1));
    }

    #[test]
    fn after_close_nothing_is_accepted() {
        let inbox = Inbox::default();
        inbox.close();
        assert_eq!(ask(&inbox, 1), Err(Failure::Stopped));
        let mut arrived = Arrived::default();
        inbox.take(&mut arrived, None);
        assert!(arrived.closed && arrived.inputs.is_empty());
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let inbox = Inbox::default();
        let mut arrived = Arrived::default();
        inbox.take(&mut arrived, Some(Instant::now() + Duration::from_millis(1)));
        assert!(arrived.inputs.is_empty() && !arrived.closed);
    }

    #[test]
    fn a_push_wakes_the_sleeper() {
        let inbox = Arc::new(Inbox::default());
        let sleeper = std::thread::spawn({
            let inbox = Arc::clone(&inbox);
            move || {
                let mut arrived = Arrived::default();
                inbox.take(&mut arrived, None);
                arrived.inputs.len()
            }
        });
        ask(&inbox, 1).expect("room");
        assert_eq!(sleeper.join().expect("no panic"), 1);
    }
}
