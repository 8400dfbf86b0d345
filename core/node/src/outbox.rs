//! Messages that wait for the disk (contract 2): each names the last `Persist` it promises something
//! of, and leaves when that is durable. Messages without a condition do not queue behind others.

use std::collections::VecDeque;

use quorate_consensus::{Message, NodeId, Seq};

use crate::limits::MAX_HELD_MESSAGES;

/// Messages in the order they were made, each with its condition.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    persisted: Seq,
    held: VecDeque<(Seq, NodeId, Message)>,
}

impl Outbox {
    /// Takes a message; gives it back if it may leave now.
    pub(crate) fn offer(&mut self, to: NodeId, after: Seq, message: Message) -> Option<Message> {
        if after <= self.persisted {
            return Some(message);
        }
        assert!(self.held.len() < MAX_HELD_MESSAGES, "more held messages than any window allows");
        self.held.push_back((after, to, message));
        None
    }

    /// Everything up to `seq` is durable: the messages that may leave now, in order.
    pub(crate) fn persisted(&mut self, seq: Seq) -> Vec<(NodeId, Message)> {
        assert!(seq >= self.persisted, "durability went back");
        self.persisted = seq;
        let mut free = Vec::new();
        let mut kept = VecDeque::new();
        for (after, to, message) in self.held.drain(..) {
            if after <= seq {
                free.push((to, message));
            } else {
                kept.push_back((after, to, message));
            }
        }
        self.held = kept;
        free
    }

    /// Nothing that could leave is held.
    pub(crate) fn invariants(&self) {
        assert!(self.held.iter().all(|(after, ..)| *after > self.persisted));
    }
}
