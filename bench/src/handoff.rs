//! The hand-off between gRPC handlers and the node thread, in both directions.
//!
//! ```text
//!  runtime thread                                node thread
//!  handler ── Inbox::push ─────────────────────▶ Inbox::take (all that has come, one swap)
//!     │ awaits its Pending                           │ steps, collects one Vec a runtime
//!  slot.complete ◀─ Mailbox task ◀─ one wake ─── Mailbox::deliver(Vec<(Ticket, reply)>)
//! ```
//!
//! - [`Inbox`]: many producers, one consumer. A push is a lock, a `Vec::push` and, only if the
//!   consumer sleeps, one unpark. The consumer swaps the vector out, so that under load a batch costs
//!   one lock.
//! - [`Slots`]: where the answers of one runtime's requests land. It lives in a thread-local of the
//!   runtime's only thread, so that completing a request is neither a lock nor an atomic, and the
//!   futures that wait stay `Send`, as tonic's traits demand.
//! - [`Mailbox`]: a vector of replies for one runtime, with one wake for all of them.
//!
//! Invariants: a ticket is answered at most once; an answer to a request whose client has gone is
//! dropped (its slot carries a new generation); both vectors are bounded by the number of slots,
//! since nothing is pushed without one.
//!
//! What it leaves out: deadlines (the node keeps them) and orderly shutdown.

use futures_util::task::AtomicWaker;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{LocalKey, Thread};
use std::time::Duration;

/// Requests on their way to the one thread that consumes them.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Mutex<Vec<T>>,
    asleep: AtomicBool,
    consumer: OnceLock<Thread>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            queue: Mutex::new(Vec::new()),
            asleep: AtomicBool::new(false),
            consumer: OnceLock::new(),
        }
    }
}

impl<T> Inbox<T> {
    /// Adds one item and wakes the consumer if it sleeps.
    pub fn push(&self, item: T) {
        lock(&self.queue).push(item);
        // The consumer sets `asleep` before it looks at the queue for the last time, and both are
        // ordered by the lock: either it sees this item or we see that it sleeps.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.consumer.get().expect("asleep is set by a registered consumer").unpark();
        }
    }

    /// Moves everything that has come into `into`, which must be empty; sleeps up to `patience`
    /// if nothing has. Only one thread may ever call this.
    pub fn take(&self, into: &mut Vec<T>, patience: Duration) {
        assert!(into.is_empty(), "the last batch must have been handled");
        self.swap(into);
        if !into.is_empty() {
            return;
        }
        self.consumer.get_or_init(std::thread::current);
        let mut queue = lock(&self.queue);
        self.asleep.store(true, Ordering::Release);
        std::mem::swap(&mut *queue, into);
        drop(queue);
        if into.is_empty() {
            std::thread::park_timeout(patience);
            self.swap(into);
        }
        self.asleep.store(false, Ordering::Release);
    }

    /// Moves what has come into `into` without waiting.
    pub fn swap(&self, into: &mut Vec<T>) {
        std::mem::swap(&mut *lock(&self.queue), into);
    }
}

/// The waiting requests of one runtime. Bounded by the streams that its connections may open.
#[derive(Debug)]
pub struct Slots<R> {
    slots: Vec<Slot<R>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<R> {
    generation: u32,
    state: State<R>,
}

#[derive(Debug)]
enum State<R> {
    Free,
    Waiting(Option<Waker>),
    Done(R),
}

/// Names one waiting request of one runtime. Travels with the request and comes back with the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    slot: u32,
    generation: u32,
}

impl<R> Default for Slots<R> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<R> Slots<R> {
    fn open(&mut self) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, state: State::Free });
            u32::try_from(self.slots.len() - 1).expect("streams are bounded far below 2^32")
        });
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Waiting(None);
        Ticket { slot, generation: entry.generation }
    }

    fn close(&mut self, ticket: Ticket) {
        let entry = &mut self.slots[ticket.slot as usize];
        assert_eq!(entry.generation, ticket.generation, "a ticket is closed once, by its owner");
        entry.generation = entry.generation.wrapping_add(1);
        entry.state = State::Free;
        self.free.push(ticket.slot);
    }

    /// Hands a reply to the request that waits for it and wakes it. A reply to a request that was
    /// given up is dropped.
    pub fn complete(&mut self, ticket: Ticket, reply: R) {
        let entry = &mut self.slots[ticket.slot as usize];
        if entry.generation != ticket.generation {
            return;
        }
        if let State::Waiting(Some(waker)) = std::mem::replace(&mut entry.state, State::Done(reply))
        {
            waker.wake();
        }
    }

    fn poll(&mut self, ticket: Ticket, cx: &Context<'_>) -> Poll<R> {
        let entry = &mut self.slots[ticket.slot as usize];
        match std::mem::replace(&mut entry.state, State::Waiting(None)) {
            State::Done(reply) => Poll::Ready(reply),
            State::Waiting(waker) => {
                let waker = waker.filter(|w| w.will_wake(cx.waker()));
                entry.state = State::Waiting(Some(waker.unwrap_or_else(|| cx.waker().clone())));
                Poll::Pending
            }
            State::Free => unreachable!("the owner of a ticket closes it last"),
        }
    }
}

/// Where a runtime keeps its slots: a thread-local of the server.
pub type SlotsKey<R> = &'static LocalKey<RefCell<Slots<R>>>;

/// A request that waits for its reply. It must be created, polled and dropped on one thread, which
/// a current-thread runtime guarantees.
#[derive(Debug)]
pub struct Pending<R: 'static> {
    key: SlotsKey<R>,
    ticket: Ticket,
}

impl<R: 'static> Pending<R> {
    /// Opens a slot on this thread.
    pub fn open(key: SlotsKey<R>) -> Self {
        Self { key, ticket: key.with_borrow_mut(Slots::open) }
    }

    /// What the reply has to carry.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl<R> Future for Pending<R> {
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        self.key.with_borrow_mut(|slots| slots.poll(self.ticket, cx))
    }
}

impl<R> Drop for Pending<R> {
    fn drop(&mut self) {
        // At the end of the thread the slots may be gone before their owners: nothing to close.
        let _ = self.key.try_with(|slots| slots.borrow_mut().close(self.ticket));
    }
}

/// Replies on their way to one runtime.
#[derive(Debug)]
pub struct Mailbox<R> {
    replies: Mutex<Vec<(Ticket, R)>>,
    waker: AtomicWaker,
}

impl<R> Default for Mailbox<R> {
    fn default() -> Self {
        Self { replies: Mutex::new(Vec::new()), waker: AtomicWaker::new() }
    }
}

impl<R> Mailbox<R> {
    /// Adds the replies of one step and wakes the runtime once. `replies` is empty afterwards and
    /// keeps or gains capacity.
    pub fn deliver(&self, replies: &mut Vec<(Ticket, R)>) {
        if replies.is_empty() {
            return;
        }
        let mut waiting = lock(&self.replies);
        if waiting.is_empty() {
            std::mem::swap(&mut *waiting, replies);
        } else {
            waiting.append(replies);
        }
        drop(waiting);
        self.waker.wake();
    }

    /// Waits until there are replies and moves them into `into`. One task of the runtime calls it.
    pub async fn receive(&self, into: &mut Vec<(Ticket, R)>) {
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            std::mem::swap(&mut *lock(&self.replies), into);
            if into.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// The task that a runtime runs for its mailbox: completes slots for as long as it lives.
    pub async fn dispatch(&self, key: SlotsKey<R>) {
        let mut batch = Vec::new();
        loop {
            self.receive(&mut batch).await;
            key.with_borrow_mut(|slots| {
                for (ticket, reply) in batch.drain(..) {
                    slots.complete(ticket, reply);
                }
            });
        }
    }
}

/// A panic of another thread under the lock leaves a vector of whole items: safe to go on with.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
