//! Reads old entries from the log on disk, for followers that lag, off the node thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use quorate_consensus::{Entry, GroupId, LogIndex, NodeId};
use quorate_node::Input;
use quorate_storage::WalHandle;
use quorate_wal::{ReadError, read_entries};

use crate::inbox::Inbox;

/// Orders that may wait. Consensus has one read a peer under way, so that this is never reached.
const MAX_ORDERS: usize = 256;

/// What to read, for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) to: NodeId,
    pub(super) group: GroupId,
    pub(super) from: LogIndex,
    pub(super) until: LogIndex,
    pub(super) max_bytes: usize,
}

/// The thread and the way to it.
#[derive(Debug)]
pub(super) struct LogReader {
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
}

impl LogReader {
    pub(super) fn start(wal: WalHandle, inbox: Arc<Inbox>) -> std::io::Result<Self> {
        let (orders, receiver) = sync_channel(MAX_ORDERS);
        let thread = std::thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(move || serve(&wal, &inbox, &receiver))?;
        Ok(Self { orders, thread })
    }

    /// Gives an order. When the thread has failed, the inbox knows already.
    pub(super) fn order(&self, order: Order) {
        let _ended = self.orders.send(order);
    }

    pub(super) fn stop(self) {
        drop(self.orders);
        let _ended = self.thread.join();
    }
}

fn serve(wal: &WalHandle, inbox: &Inbox, orders: &Receiver<Order>) {
    for order in orders {
        match read(wal, &order) {
            Ok(entries) => inbox.internal(Input::LogRead { to: order.to, entries }),
            Err(error) => return inbox.fail(format!("reading the log: {error}")),
        }
    }
}

/// Empty when the entries are gone: then the peer gets a snapshot.
fn read(wal: &WalHandle, order: &Order) -> Result<Vec<Entry>, ReadError> {
    let Some(plan) = wal.plan_read(order.group, order.from, order.until) else {
        return Ok(Vec::new());
    };
    match read_entries(wal.disk(), &plan, order.max_bytes) {
        Err(ReadError::Gone) => Ok(Vec::new()),
        result => result,
    }
}
