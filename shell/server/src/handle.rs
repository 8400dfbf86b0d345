//! How the faces of the server ask the node: an async call that is safe to abandon.
//!
//! Each runtime has one [`Desk`]: the slots of those who wait. A request takes a slot, the node answers
//! each request exactly once, and the answer frees the slot, whether or not somebody still waits. All
//! of a desk's slots are used by one thread (handlers and the task that delivers answers run on the
//! same runtime), so that its lock is never contended and waking is a push to a local queue.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_consensus::{NodeId, Term};
use quorate_kv::{Command, KeyspaceId, LeaseId, LeaseStatus, Reply as KvReply, View};
use quorate_node::{
    Failure, LayerFigures, MemberChange, MemberInfo, Reply, Request, RequestId, Stamp, Status,
};
use tokio::sync::oneshot;

use crate::Snapshot;
use crate::inbox::Inbox;

/// Bits of a request's number that name its slot; those above name the runtime.
const SLOT_BITS: u32 = 32;

/// Which runtime a request came from, and its slot there.
#[must_use]
pub fn address(id: RequestId) -> (usize, u32) {
    let runtime = usize::try_from(id.0 >> SLOT_BITS).expect("runtimes are few");
    let slot = u32::try_from(id.0 & u64::from(u32::MAX)).expect("32 bits");
    (runtime, slot)
}

/// What the node thread tells everybody without being asked.
#[derive(Debug, Default)]
pub struct Shared {
    /// Id of the leader as this node knows it; 0 = none.
    leader: AtomicU64,
    /// The node's term.
    term: AtomicU64,
    /// Whether this node has published itself and answered for the first time.
    ready: AtomicBool,
    /// Snapshots of peers taken over since the start.
    snapshots_installed: AtomicU64,
}

impl Shared {
    /// Whether a leader is known.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.leader.load(Ordering::Relaxed) != 0
    }

    /// The leader's id; 0 = none known.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    /// The node's term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// Set by the node thread.
    pub fn set_leader(&self, term: Term, leader: Option<NodeId>) {
        self.term.store(term.0, Ordering::Relaxed);
        self.leader.store(leader.map_or(0, |id| id.0), Ordering::Relaxed);
    }

    /// Whether clients may expect answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Snapshots of peers that this process has taken over.
    #[must_use]
    pub fn snapshots_installed(&self) -> u64 {
        self.snapshots_installed.load(Ordering::Relaxed)
    }

    /// One more.
    pub fn count_snapshot(&self) {
        self.snapshots_installed.fetch_add(1, Ordering::Relaxed);
    }

    /// Clients may expect answers.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Slots {
    waiting: Vec<Option<oneshot::Sender<Reply<Snapshot>>>>,
    free: Vec<u32>,
}

/// The slots of one runtime.
pub struct Desk {
    runtime: u64,
    inbox: Arc<Inbox>,
    slots: Mutex<Slots>,
}

impl Desk {
    /// The desk of this runtime.
    #[must_use]
    pub fn new(runtime: usize, inbox: Arc<Inbox>) -> Self {
        Self { runtime: runtime as u64, inbox, slots: Mutex::default() }
    }

    /// Hands an answer to whoever waits for it, and frees the slot.
    pub fn answer(&self, slot: u32, reply: Reply<Snapshot>) {
        if let Some(waiter) = self.release(slot) {
            // Nobody waits any more if the client has gone: the answer is dropped.
            let _gone = waiter.send(reply);
        }
    }

    /// Tells everybody who waits that no answer will come.
    pub fn stop(&self) {
        let waiting: Vec<_> = self.lock().waiting.iter_mut().filter_map(Option::take).collect();
        for waiter in waiting {
            let _gone = waiter.send(Reply::Failed(Failure::Stopped));
        }
    }

    fn reserve(&self) -> (RequestId, oneshot::Receiver<Reply<Snapshot>>) {
        let (sender, receiver) = oneshot::channel();
        let mut slots = self.lock();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.waiting.push(None);
            u32::try_from(slots.waiting.len() - 1).expect("bounded by the inbox and the node")
        });
        slots.waiting[slot as usize] = Some(sender);
        (RequestId(self.runtime << SLOT_BITS | u64::from(slot)), receiver)
    }

    fn release(&self, slot: u32) -> Option<oneshot::Sender<Reply<Snapshot>>> {
        let mut slots = self.lock();
        let waiter = slots.waiting.get_mut(slot as usize)?.take();
        slots.free.push(slot);
        waiter
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the node. Cheap to clone. Dropping a call's future abandons the answer, not the request: a
/// command that was handed over may still be carried out.
#[derive(Clone)]
pub struct Handle {
    desk: Arc<Desk>,
    shared: Arc<Shared>,
}

impl Handle {
    /// A handle for the runtime of this desk.
    #[must_use]
    pub fn new(desk: Arc<Desk>, shared: Arc<Shared>) -> Self {
        Self { desk, shared }
    }

    /// What the node last said of itself.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Replicates and applies a command of about `bytes` bytes.
    ///
    /// # Errors
    /// `Refused` for a result that is a refusal; after `Timeout` the outcome is unknown; after
    /// anything else the command was not and will not be applied.
    pub async fn command(
        &self,
        keyspace: KeyspaceId,
        command: Command,
        bytes: usize,
    ) -> Result<(Stamp, KvReply), Failure> {
        match self.ask(Request::Command { keyspace, command }, bytes).await? {
            Reply::Applied { stamp, result } => Ok((stamp, result.map_err(Failure::Refused)?)),
            other => Err(unexpected(&other)),
        }
    }

    /// A view of a keyspace: of what is applied here, or of everything acknowledged anywhere.
    ///
    /// # Errors
    /// Nothing was read; safe to retry.
    pub async fn view(
        &self,
        keyspace: KeyspaceId,
        linearizable: bool,
    ) -> Result<(Stamp, View<Snapshot>), Failure> {
        match self.ask(Request::View { keyspace, linearizable }, 0).await? {
            Reply::View { stamp, view } => Ok((stamp, view)),
            other => Err(unexpected(&other)),
        }
    }

    /// Extends a lease; the TTL in seconds, 0 if there is none such.
    ///
    /// # Errors
    /// After `Timeout` the outcome is unknown.
    pub async fn keep_alive(
        &self,
        keyspace: KeyspaceId,
        id: LeaseId,
    ) -> Result<(Stamp, i64), Failure> {
        match self.ask(Request::LeaseKeepAlive { keyspace, id }, 0).await? {
            Reply::LeaseRenewed { stamp, ttl_s } => Ok((stamp, ttl_s)),
            other => Err(unexpected(&other)),
        }
    }

    /// A lease with its remaining time.
    ///
    /// # Errors
    /// Nothing was read; safe to retry.
    pub async fn lease(&self, keyspace: KeyspaceId, id: LeaseId) -> Result<LeaseAnswer, Failure> {
        match self.ask(Request::LeaseTimeToLive { keyspace, id }, 0).await? {
            Reply::Lease { stamp, lease, now_ms, view } => {
                Ok(LeaseAnswer { stamp, lease, now_ms, view })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// All leases, soonest deadline first.
    ///
    /// # Errors
    /// Nothing was read; safe to retry.
    pub async fn leases(&self, keyspace: KeyspaceId) -> Result<(Stamp, Vec<LeaseStatus>), Failure> {
        match self.ask(Request::Leases { keyspace }, 0).await? {
            Reply::Leases { stamp, leases } => Ok((stamp, leases)),
            other => Err(unexpected(&other)),
        }
    }

    /// What the node knows of itself.
    ///
    /// # Errors
    /// `Stopped`, `Overloaded`.
    pub async fn status(&self) -> Result<Status, Failure> {
        match self.ask(Request::Status, 0).await? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// What global transactions and calls to other services count on this node.
    ///
    /// # Errors
    /// `Stopped`, `Overloaded`.
    pub async fn layer_figures(&self) -> Result<LayerFigures, Failure> {
        match self.ask(Request::LayerFigures, 0).await? {
            Reply::LayerFigures(figures) => Ok(*figures),
            other => Err(unexpected(&other)),
        }
    }

    /// The members.
    ///
    /// # Errors
    /// Nothing was read; safe to retry.
    pub async fn members(&self, linearizable: bool) -> Result<(Stamp, Vec<MemberInfo>), Failure> {
        match self.ask(Request::Members { linearizable }, 0).await? {
            Reply::Members { stamp, members, .. } => Ok((stamp, members)),
            other => Err(unexpected(&other)),
        }
    }

    /// Changes the membership; answers with all members after the change.
    ///
    /// # Errors
    /// After `Timeout` the outcome is unknown.
    pub async fn change_member(
        &self,
        change: MemberChange,
    ) -> Result<(Stamp, Vec<MemberInfo>), Failure> {
        match self.ask(Request::ChangeMember(change), 0).await? {
            Reply::Members { stamp, members, .. } => Ok((stamp, members)),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the machine of global transactions; `bytes` is about what the request holds. A submit that waits for
    /// the result is answered when there is one.
    ///
    /// # Errors
    /// `NoLeader`, `Stopped`, `Overloaded`: nothing was done. What the machine itself refuses is in the reply.
    pub async fn global_txn(
        &self,
        request: quorate_global_txn::Request,
        bytes: usize,
    ) -> Result<quorate_global_txn::Reply, Failure> {
        match self.ask(Request::GlobalTxn(Box::new(request)), bytes).await? {
            Reply::GlobalTxn(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands leadership over.
    ///
    /// # Errors
    /// `NotLeader`, `BadTransferee`, `TransferTimeout`: it stays where it is.
    pub async fn move_leader(&self, to: NodeId) -> Result<Stamp, Failure> {
        match self.ask(Request::MoveLeader { to }, 0).await? {
            Reply::Done { stamp } => Ok(stamp),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives the space of what is dead back to the file system.
    ///
    /// # Errors
    /// `Timeout`: not far enough within the request timeout; what was begun goes on.
    pub async fn defragment(&self) -> Result<Stamp, Failure> {
        match self.ask(Request::Defragment, 0).await? {
            Reply::Done { stamp } => Ok(stamp),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits, however long it takes, until this node has removed what was compacted so far.
    ///
    /// # Errors
    /// `Stopped`; `Overloaded` when too many wait. What is waited for goes on by itself.
    pub async fn finish_compaction(&self) -> Result<(), Failure> {
        match self.ask(Request::FinishCompaction, 0).await? {
            Reply::Done { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The data cannot be read: the process must end, as after any failure of the engine.
    pub fn fail(&self, why: &str) {
        self.desk.inbox.fail(why.to_owned());
    }

    async fn ask(&self, request: Request, bytes: usize) -> Result<Reply<Snapshot>, Failure> {
        let (id, answer) = self.desk.reserve();
        if let Err(failure) = self.desk.inbox.request(id, request, bytes) {
            self.desk.release(address(id).1);
            return Err(failure);
        }
        match answer.await {
            Ok(Reply::Failed(failure)) => Err(failure),
            Ok(reply) => Ok(reply),
            // The desk has been dropped: the process is ending.
            Err(_) => Err(Failure::Stopped),
        }
    }
}

/// Answer about a lease.
#[derive(Clone)]
pub struct LeaseAnswer {
    /// Revision and term.
    pub stamp: Stamp,
    /// The lease, if it exists.
    pub lease: Option<LeaseStatus>,
    /// Group time now, in ms.
    pub now_ms: u64,
    /// Where its keys can be looked up.
    pub view: View<Snapshot>,
}

/// The node answered a request with the reply to another kind: only a bug does that, and an answer of
/// the wrong kind must not pass for a result.
fn unexpected(reply: &Reply<Snapshot>) -> Failure {
    let kind = std::mem::discriminant(reply);
    tracing::error!(?kind, "the node answered with the wrong kind of reply");
    debug_assert!(false, "wrong kind of reply: {kind:?}");
    Failure::Timeout
}
