//! The hand-off between real threads, and the fate of requests that are given up.

use super::*;
use std::sync::Arc;
use std::task::Waker;

thread_local! {
    static SLOTS: RefCell<Slots<u64>> = RefCell::default();
}

const PATIENCE: Duration = Duration::from_secs(20);

fn poll(pending: &mut Pending<u64>) -> Poll<u64> {
    Pin::new(pending).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_reply_reaches_its_request_and_no_other() {
    let (mut a, mut b) = (Pending::open(&SLOTS), Pending::open(&SLOTS));
    assert!(poll(&mut a).is_pending());
    SLOTS.with_borrow_mut(|s| s.complete(b.ticket(), 2));
    assert!(poll(&mut a).is_pending());
    assert_eq!(poll(&mut b), Poll::Ready(2));
}

#[test]
fn a_late_reply_does_not_reach_the_next_owner_of_the_slot() {
    let given_up = Pending::open(&SLOTS).ticket();
    let mut next = Pending::open(&SLOTS);
    assert_eq!(given_up.slot, next.ticket().slot, "the slot is used again");
    SLOTS.with_borrow_mut(|s| s.complete(given_up, 1));
    assert!(poll(&mut next).is_pending());
}

#[test]
fn every_push_wakes_a_sleeping_consumer() {
    let inbox = Arc::new(Inbox::default());
    let producers: Vec<_> = (0..2)
        .map(|_| {
            let inbox = Arc::clone(&inbox);
            std::thread::spawn(move || (0..5_000_u64).for_each(|i| inbox.push(i)))
        })
        .collect();
    let (mut batch, mut seen, begun) = (Vec::new(), 0, std::time::Instant::now());
    while seen < 10_000 {
        inbox.take(&mut batch, PATIENCE);
        seen += batch.drain(..).count();
    }
    assert!(begun.elapsed() < PATIENCE, "a wake was lost");
    producers.into_iter().for_each(|p| p.join().unwrap());
}

#[test]
fn replies_come_back_through_the_mailbox() {
    let (inbox, mailbox) = (Arc::new(Inbox::default()), Arc::new(Mailbox::default()));
    let node = std::thread::spawn({
        let (inbox, mailbox) = (Arc::clone(&inbox), Arc::clone(&mailbox));
        move || {
            let (mut batch, mut out, mut left) = (Vec::new(), Vec::new(), 2_000_u64);
            while left > 0 {
                inbox.take(&mut batch, PATIENCE);
                left -= batch.len() as u64;
                out.extend(batch.drain(..).map(|(t, n): (Ticket, u64)| (t, n + 1)));
                mailbox.deliver(&mut out);
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let of_task = Arc::clone(&mailbox);
        tokio::spawn(async move { of_task.dispatch(&SLOTS).await });
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..2_000 {
            let inbox = Arc::clone(&inbox);
            tasks.spawn(async move {
                let pending = Pending::open(&SLOTS);
                inbox.push((pending.ticket(), i));
                assert_eq!(pending.await, i + 1);
            });
        }
        tasks.join_all().await;
    });
    node.join().unwrap();
}
