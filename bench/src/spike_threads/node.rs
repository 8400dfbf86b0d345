//! The node's stand-in: takes a batch, counts revisions, answers all of it at once, after the
//! batch is durable if there is a log.

use crate::handoff::{Inbox, Mailbox, Ticket};
use crate::spike_threads::Wal;
use crate::spike_threads::wal::{Log, Persist};
use quorate_wire::etcdserverpb::{PutRequest, PutResponse, ResponseHeader};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest sleep without work.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that a record takes beside its key and value.
const RECORD_OVERHEAD: usize = 48;
/// Most requests for which the adaptive node syncs itself.
const INLINE_REQUESTS: usize = 4;

/// Where an answer goes.
#[derive(Debug)]
pub enum To {
    /// A slot of the runtime with this number.
    Slot(usize, Ticket),
    /// A channel of its own.
    Oneshot(oneshot::Sender<PutResponse>),
}

/// What comes to the node.
#[derive(Debug)]
pub enum Input {
    /// A request and where its answer goes.
    Put(PutRequest, To),
    /// Every `Persist` up to this number is durable.
    Persisted(u64),
}

/// The state that a step works on.
#[derive(Debug)]
pub struct Node {
    revision: i64,
    seq: u64,
    waiting: VecDeque<(u64, To, PutResponse)>,
    wal: Wal,
    log: Option<Log>,
    to_wal: Option<Arc<Inbox<Persist>>>,
    mailboxes: Vec<Arc<Mailbox<PutResponse>>>,
    out: Vec<Vec<(Ticket, PutResponse)>>,
}

impl Node {
    /// A node that answers through `mailboxes`, one a runtime. `log` is its own, `to_wal` the WAL
    /// thread's inbox, as `wal` asks for.
    pub fn new(
        wal: Wal,
        log: Option<Log>,
        to_wal: Option<Arc<Inbox<Persist>>>,
        mailboxes: Vec<Arc<Mailbox<PutResponse>>>,
    ) -> Self {
        let out = mailboxes.iter().map(|_| Vec::new()).collect();
        Self { revision: 1, seq: 0, waiting: VecDeque::new(), wal, log, to_wal, mailboxes, out }
    }

    /// The node thread.
    pub fn run(mut self, inbox: &Inbox<Input>) {
        let mut batch = Vec::new();
        loop {
            inbox.take(&mut batch, PATIENCE);
            self.step(&mut batch);
            self.deliver();
        }
    }

    /// Handles a batch; the replies are collected until [`Node::deliver`] or [`Node::replies`].
    pub fn step(&mut self, batch: &mut Vec<Input>) {
        let (mut bytes, mut requests) = (0, 0);
        self.seq += 1;
        for input in batch.drain(..) {
            match input {
                Input::Put(put, to) => {
                    bytes += put.key.len() + put.value.len() + RECORD_OVERHEAD;
                    requests += 1;
                    let reply = self.apply();
                    self.waiting.push_back((self.seq, to, reply));
                }
                Input::Persisted(seq) => self.release(seq),
            }
        }
        if requests > 0 {
            self.persist(bytes, requests);
        }
    }

    fn apply(&mut self) -> PutResponse {
        self.revision += 1;
        let header = ResponseHeader {
            cluster_id: 0xcdf8_18ed_8e92_7a25,
            member_id: 0x8e9e_05c5_2164_694d,
            revision: self.revision,
            raft_term: 2,
        };
        PutResponse { header: Some(header), prev_kv: None }
    }

    fn persist(&mut self, bytes: usize, requests: usize) {
        let idle = self.waiting.len() == requests;
        let inline = match self.wal {
            Wal::None => return self.release(self.seq),
            Wal::Inline => true,
            Wal::Thread => false,
            Wal::Adaptive => idle && requests <= INLINE_REQUESTS,
        };
        if inline {
            let log = self.log.as_mut().expect("an inline node owns a log");
            log.append(bytes).expect("the spike's disk failed");
            self.release(self.seq);
        } else {
            let to_wal = self.to_wal.as_ref().expect("there is a WAL thread");
            to_wal.push(Persist { seq: self.seq, bytes });
        }
    }

    fn release(&mut self, durable: u64) {
        while self.waiting.front().is_some_and(|(seq, ..)| *seq <= durable) {
            let (_, to, reply) = self.waiting.pop_front().expect("looked at just now");
            match to {
                To::Slot(runtime, ticket) => self.out[runtime].push((ticket, reply)),
                // The client may have gone.
                To::Oneshot(sender) => drop(sender.send(reply)),
            }
        }
    }

    /// Sends the collected replies, one vector a runtime.
    pub fn deliver(&mut self) {
        for (mailbox, replies) in self.mailboxes.iter().zip(&mut self.out) {
            mailbox.deliver(replies);
        }
    }

    /// The collected replies of the only runtime, for a node that runs on its thread.
    pub fn replies(&mut self) -> std::vec::Drain<'_, (Ticket, PutResponse)> {
        self.out[0].drain(..)
    }
}
