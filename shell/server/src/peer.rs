//! The other nodes of the cluster: framed TCP, one connection a direction and peer.
//!
//! - *Out:* a queue and a task a peer. The node thread pushes; the task connects (with growing pauses),
//!   shakes hands, and writes whatever has gathered as one write. A queue that reaches its bound drops
//!   its oldest messages, and the node is told that the peer is unreachable: consensus sends again.
//! - *In:* a task a connection. The handshake proves cluster, sender and receiver; each frame has its own
//!   checksum. Messages go into the node's inbox.
//! - *Papers:* who has lost what it promised is not talked to, and stops when it learns of it (`memory.rs`).
//! - *Snapshots* have connections of their own, so that they never stand in front of heartbeats.
//!
//! Who the peers are is what the membership says: `set_members` starts and ends the tasks. The bytes are
//! specified in `handshake.rs`, `frame.rs` and `snapshot.rs`. Left out until TLS is built: encryption
//! and proof of identity against someone who forges it; the peer port belongs on a trusted network.

mod directories;
mod frame;
mod handshake;
mod join;
mod link;
mod listener;
mod memory;
mod papers;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_consensus::{Forgotten, GroupId, LogStart, Membership, Message, NodeId, Raft};
use quorate_node::{Input, MemberInfo};
use quorate_wal::Identity;
use tokio::task::AbortHandle;

use crate::Snapshot;
use crate::config::values::Url;
use crate::inbox::Inbox;

pub use directories::Directories;
pub use join::find_cluster;
pub use listener::serve;
pub use papers::LogEnd;
pub use snapshot::Receiver;

use link::Link;
use memory::Memory;

/// The node's identity on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Cluster and node.
    pub identity: Identity,
    /// Random number of this start.
    pub boot: u64,
    /// Random number of this data directory: a wiped node is recognised by its new one.
    pub directory: u64,
}

struct State {
    members: Vec<MemberInfo>,
    links: BTreeMap<NodeId, Link>,
    /// The others are being asked about someone unknown.
    asking: bool,
}

/// All peers.
pub struct Switchboard {
    local: Local,
    inbox: Arc<Inbox>,
    memory: Arc<Memory>,
    /// Where the tasks run.
    runtime: tokio::runtime::Handle,
    /// Writes down what is remembered.
    keeper: AbortHandle,
    state: Mutex<State>,
}

impl Switchboard {
    /// Knows these members, and connects to all of them but itself. The own log ends at `end`.
    #[must_use]
    pub fn new(
        local: Local,
        directories: Directories,
        end: LogEnd,
        inbox: Arc<Inbox>,
        runtime: tokio::runtime::Handle,
        members: Vec<MemberInfo>,
    ) -> Arc<Self> {
        let own = local.identity.node.0;
        let peers = members.iter().filter(|member| member.id != own).count();
        let memory = Memory::new(local, Arc::clone(&inbox), directories, end, peers);
        let memory = Arc::new(memory);
        let keeper = runtime.spawn(Arc::clone(&memory).keep()).abort_handle();
        let state = State { members: Vec::new(), links: BTreeMap::new(), asking: false };
        let state = Mutex::new(state);
        let board = Arc::new(Self { local, inbox, memory, runtime, keeper, state });
        board.set_members(members);
        board
    }

    /// What the node thread has to say after each burst, before anything of it leaves.
    pub fn observe(&self, raft: &Raft) {
        self.memory.observe(raft);
    }

    /// Why this node must stop: `peer` saw it promise what it has no more.
    #[must_use]
    pub fn outdated(&self, peer: NodeId, forgotten: Forgotten) -> String {
        self.memory.outdated(peer, forgotten)
    }

    /// This node.
    #[must_use]
    pub fn local(&self) -> Local {
        self.local
    }

    /// Sends a message, or loses it.
    pub fn send(&self, to: NodeId, message: Message) {
        let dropped = match self.lock().links.get(&to) {
            Some(link) => link.push(message),
            None => true,
        };
        if dropped {
            self.inbox.internal(Input::Unreachable { peer: to });
        }
    }

    /// Sends a whole state; the node is told how it ended.
    pub fn send_snapshot(
        &self,
        to: NodeId,
        group: GroupId,
        start: LogStart,
        membership: Membership,
        snapshot: Snapshot,
    ) {
        let address = self.lock().links.get(&to).map(Link::urls).unwrap_or_default();
        let (memory, inbox) = (Arc::clone(&self.memory), Arc::clone(&self.inbox));
        self.runtime.spawn(async move {
            let sending = snapshot::send(memory, to, &address, group, start, membership, snapshot);
            let installed = sending.await.unwrap_or_else(|error| {
                tracing::warn!(peer = format!("{:x}", to.0), %error, "sending a snapshot failed");
                None
            });
            inbox.internal(Input::SnapshotSent { to, installed });
        });
    }

    /// The membership has changed: connects to who is new, lets go of who has left.
    pub fn set_members(&self, members: Vec<MemberInfo>) {
        self.memory.name(&members);
        let mut state = self.lock();
        let wanted: BTreeMap<NodeId, Vec<Url>> = members
            .iter()
            .filter(|member| member.id != self.local.identity.node.0)
            .map(|member| (NodeId(member.id), urls(member)))
            .collect();
        state.links.retain(|id, link| wanted.get(id).is_some_and(|urls| *urls == link.urls()));
        for (id, urls) in wanted {
            state.links.entry(id).or_insert_with(|| self.link(id, urls));
        }
        state.members = members;
    }

    /// The members as last told.
    #[must_use]
    pub fn members(&self) -> Vec<MemberInfo> {
        self.lock().members.clone()
    }

    /// Whether there are others.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        !self.lock().links.is_empty()
    }

    /// Ends all connections, and writes down what is remembered of the peers.
    pub fn stop(&self) {
        self.lock().links.clear();
        self.keeper.abort();
        if let Err(error) = self.memory.save() {
            tracing::warn!(%error, "cannot write down what was seen of the peers");
        }
    }

    /// What is remembered of the peers.
    fn memory(&self) -> &Memory {
        &self.memory
    }

    /// A member has connected to this node: the way back need not wait.
    fn met(&self, peer: NodeId) {
        if let Some(link) = self.lock().links.get(&peer) {
            link.met();
        }
    }

    /// Whether this is a member, as far as is known.
    fn knows(&self, node: NodeId) -> bool {
        let state = self.lock();
        state.members.is_empty() || state.members.iter().any(|member| member.id == node.0)
    }

    fn link(&self, peer: NodeId, urls: Vec<Url>) -> Link {
        let (memory, inbox) = (Arc::clone(&self.memory), Arc::clone(&self.inbox));
        Link::start(&self.runtime, memory, peer, urls, inbox)
    }

    /// Someone unknown wants to send. This node may have been away while a member was added, and if that one
    /// leads now, nobody else brings the news: so the others are asked, and whom they name is a peer until
    /// the log says who the members are.
    fn ask_about(self: &Arc<Self>, unknown: NodeId) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.asking, true) {
            return;
        }
        let others: Vec<Vec<Url>> = state.links.values().map(Link::urls).collect();
        drop(state);
        let board = Arc::clone(self);
        tokio::spawn(async move {
            for urls in others {
                let Ok((cluster, members)) = join::ask(&urls).await else { continue };
                let found = members.into_iter().find(|member| member.id == unknown.0);
                if let Some(member) = found.filter(|_| cluster == board.local.identity.cluster) {
                    board.introduce(member);
                    break;
                }
            }
            board.lock().asking = false;
        });
    }

    fn introduce(&self, member: MemberInfo) {
        let mut state = self.lock();
        if state.members.iter().any(|known| known.id == member.id) {
            return;
        }
        let (id, urls) = (NodeId(member.id), urls(&member));
        tracing::info!(peer = format!("{:x}", id.0), "learnt of a new member from the others");
        state.links.insert(id, self.link(id, urls));
        state.members.push(member);
        self.memory.name(&state.members);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn urls(member: &MemberInfo) -> Vec<Url> {
    member.peer_urls.iter().filter_map(|url| Url::parse(url).ok()).collect()
}
