//! What this node remembers of its peers, what it shows of itself, and what follows (contract 8).
//!
//! A member whose data directory was wiped or replaced by an old copy has forgotten votes and acknowledgements.
//! Under its old name it could help to lose what is committed. So at each handshake both sides show their
//! *papers*: data directory, end of the log, and what they have seen of the other. Then:
//!
//! - This node does not talk to a **peer** whose directory is not the one that it had, or whose log ends before
//!   what it acknowledged here.
//! - **This node** stops for good when a peer knows it by another directory, or has seen it promise what it has
//!   no more (`Raft::forgotten`, asked by the node thread before it takes anything else of that peer). Another
//!   peer might know nothing and take it in.
//!
//! Nobody is refused wrongly. What is remembered stays true for ever (`consensus/raft/witness.rs`), so the
//! node's own look at its log cannot err, whenever it is. The look at a peer's log end compares what was known
//! *before* the peer said it: a hello is made after all that its sender ever sent on connections before, and a
//! welcome after the hello that it answers.
//!
//! At a start, messages of peers wait until each has been asked once, or for `PEER_FIRST_ROUND`: so a node that
//! has forgotten something is told before it can promise anything to those who do not know.
//!
//! What is remembered is written down every `PEER_MEMORY_INTERVAL` and at a stop; a crash forgets what was
//! seen since. What only peers that are not reachable have seen, nobody can say.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_consensus::{Forgotten, NodeId, Raft, Witness};
use quorate_node::MemberInfo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::handshake::{self, Hello, Kind, Verdict, bad};
use super::papers::{GroupPapers, LogEnd, Papers};
use super::{Directories, Local};
use crate::GROUP;
use crate::config::values::Url;
use crate::inbox::Inbox;
use crate::limits::{PEER_FIRST_ROUND, PEER_MEMORY_INTERVAL};

/// Why this node does not talk to a peer, in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Objection {
    #[error("its data directory is not the one it had")]
    OtherDirectory,
    #[error("its log ends before what it acknowledged")]
    LogTooShort,
    #[error("its data directory could not be written down")]
    NotRemembered,
    #[error("it knows this node by another data directory")]
    NotMyself,
}

impl Objection {
    /// What the other side is told.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::OtherDirectory => Verdict::OtherDirectory,
            Self::LogTooShort => Verdict::LogTooShort,
            Self::NotRemembered => Verdict::Busy,
            Self::NotMyself => Verdict::Stopping,
        }
    }
}

#[derive(Default)]
struct Now {
    /// Where the own log ends.
    end: LogEnd,
    seen: BTreeMap<NodeId, Witness>,
    /// Whether `seen` has more than the file.
    unsaved: bool,
    /// For sentences.
    names: BTreeMap<NodeId, String>,
}

/// See the module.
pub(super) struct Memory {
    local: Local,
    inbox: Arc<Inbox>,
    now: Mutex<Now>,
    /// Never locked while `now` is.
    file: Mutex<Directories>,
    /// Peers that have been asked for the first time, or could not be.
    asked: watch::Sender<usize>,
    /// Peers at the start, and how long messages wait for them.
    round: (usize, Instant),
}

impl Memory {
    /// Knows what the file does; the own log ends at `end`; the first round asks `peers`.
    pub(super) fn new(
        local: Local,
        inbox: Arc<Inbox>,
        directories: Directories,
        end: LogEnd,
        peers: usize,
    ) -> Self {
        let now = Now { end, seen: directories.seen(), ..Now::default() };
        Self {
            local,
            inbox,
            now: Mutex::new(now),
            file: Mutex::new(directories),
            asked: watch::Sender::new(0),
            round: (peers, Instant::now() + PEER_FIRST_ROUND),
        }
    }

    /// Where the own log ends and, on a leader, what the peers have acknowledged. Called by the node thread
    /// after each burst, before what it promises leaves.
    pub(super) fn observe(&self, raft: &Raft) {
        let mut now = self.now();
        now.end = LogEnd::of(raft);
        for (peer, _) in raft.progress() {
            now.saw(peer, raft.witnessed(peer));
        }
    }

    /// A message says something about its sender's vote.
    pub(super) fn saw(&self, peer: NodeId, seen: Witness) {
        self.now().saw(peer, seen);
    }

    /// The names that sentences use.
    pub(super) fn name(&self, members: &[MemberInfo]) {
        let names = members.iter().map(|member| (NodeId(member.id), member.name.clone()));
        self.now().names = names.collect();
    }

    /// What this node shows this peer.
    pub(super) fn papers(&self, peer: NodeId) -> Papers {
        let yours = self.file().of(peer).unwrap_or(0);
        let now = self.now();
        let seen = now.seen.get(&peer).copied().unwrap_or_default();
        let group = GroupPapers { group: GROUP, end: now.end, seen };
        Papers { directory: self.local.directory, yours, groups: vec![group] }
    }

    /// Judges the papers of a peer, which were made after `mine`, or on a connection that comes after all
    /// on which it has acknowledged anything.
    pub(super) fn meet(
        &self,
        peer: NodeId,
        kind: Kind,
        mine: &Papers,
        theirs: &Papers,
    ) -> Result<(), Objection> {
        if theirs.yours != 0 && theirs.yours != self.local.directory {
            self.inbox.refuse(self.wiped(peer));
            return Err(Objection::NotMyself);
        }
        if let Some(group) = theirs.group(GROUP) {
            self.inbox.told(peer, group.seen);
        }
        self.check_directory(peer, theirs.directory)?;
        if kind == Kind::Messages { self.check_log(peer, mine, theirs) } else { Ok(()) }
    }

    fn check_directory(&self, peer: NodeId, directory: u64) -> Result<(), Objection> {
        let admitted = self.file().admits(peer, directory).map_err(|error| {
            tracing::error!(%error, "cannot write down the data directory of a peer");
            Objection::NotRemembered
        })?;
        if admitted && directory != 0 {
            return Ok(());
        }
        tracing::error!(
            peer = hex(peer),
            "refused a member that has another data directory than it had: remove it from the cluster, and add \
             a new one as a learner"
        );
        Err(Objection::OtherDirectory)
    }

    fn check_log(&self, peer: NodeId, mine: &Papers, theirs: &Papers) -> Result<(), Objection> {
        let (Some(mine), Some(theirs)) = (mine.group(GROUP), theirs.group(GROUP)) else {
            return Ok(());
        };
        let (seen, end) = (mine.seen, theirs.end);
        if end.index >= seen.index && end.term >= seen.index_term {
            return Ok(());
        }
        tracing::error!(
            peer = hex(peer),
            acknowledged = %seen.index,
            last = %end.index,
            "refused a member whose log ends before what it acknowledged: remove it from the cluster, and add a \
             new one as a learner"
        );
        Err(Objection::LogTooShort)
    }

    /// Connects to a peer; the connection is good for use when both sides have accepted each other's papers.
    pub(super) async fn call(
        &self,
        kind: Kind,
        peer: NodeId,
        urls: &[Url],
    ) -> io::Result<TcpStream> {
        let papers = self.papers(peer);
        let (from, boot) = (self.local.identity, self.local.boot);
        let hello = Hello { kind, from, to: peer, boot, papers };
        let (stream, welcome) = handshake::connect(urls, &hello).await?;
        // Who does not know this node shows nothing.
        let met = match (welcome.papers.directory, welcome.verdict) {
            (0, Verdict::Welcome) => return Err(bad("it shows no data directory")),
            (0, verdict) => return Err(handshake::refused(verdict)),
            _ => self.meet(peer, kind, &hello.papers, &welcome.papers),
        };
        if welcome.verdict != Verdict::Welcome {
            return Err(handshake::refused(welcome.verdict));
        }
        met.map_err(io::Error::other)?;
        Ok(stream)
    }

    /// A peer has been asked for the first time, or could not be.
    pub(super) fn asked_one(&self) {
        self.asked.send_modify(|asked| *asked += 1);
    }

    /// Waits until all peers have been asked once, but not for ever.
    pub(super) async fn first_round(&self) {
        let (peers, until) = self.round;
        let mut asked = self.asked.subscribe();
        let all = asked.wait_for(|asked| *asked >= peers);
        // Either way they have had their chance.
        let _late = tokio::time::timeout_at(until, all).await;
    }

    /// Writes down what is remembered, if there is anything new.
    ///
    /// # Errors
    /// The disk's; what was written before stands, and nothing is forgotten here.
    pub(super) fn save(&self) -> io::Result<()> {
        let mut now = self.now();
        if !std::mem::take(&mut now.unsaved) {
            return Ok(());
        }
        let seen = now.seen.clone();
        drop(now);
        let saved = self.file().remember(&seen);
        if saved.is_err() {
            self.now().unsaved = true;
        }
        saved
    }

    /// Saves now and then until the task is ended.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PEER_MEMORY_INTERVAL).await;
            if !self.now().unsaved {
                continue;
            }
            let memory = Arc::clone(&self);
            let saved = tokio::task::spawn_blocking(move || memory.save()).await;
            if let Err(error) = saved.unwrap_or_else(|ended| Err(io::Error::other(ended))) {
                tracing::warn!(%error, "cannot write down what was seen of the peers");
            }
        }
    }

    /// Why this node stops: a peer knows it by another directory.
    fn wiped(&self, peer: NodeId) -> String {
        format!(
            "refused by {}, which knows this member by another data directory: this one is new or was wiped, and \
             what the member had acknowledged is not in it; {}",
            self.describe(peer),
            self.cure()
        )
    }

    /// Why this node stops: a peer saw it promise what it has no more.
    pub(super) fn outdated(&self, peer: NodeId, forgotten: Forgotten) -> String {
        format!(
            "refused by {}, which saw this member promise what is not in its data directory any more ({forgotten}): \
             the directory was replaced by an old copy, or has lost data; {}",
            self.describe(peer),
            self.cure()
        )
    }

    fn describe(&self, peer: NodeId) -> String {
        let now = self.now();
        let name = now.names.get(&peer).filter(|name| !name.is_empty());
        name.map_or_else(
            || format!("member {}", hex(peer)),
            |name| format!("member '{name}' ({})", hex(peer)),
        )
    }

    fn cure(&self) -> String {
        let id = hex(self.local.identity.node);
        format!(
            "put the right directory back, or remove this member (member remove {id}) and add a new one as a \
             learner, with an empty data directory"
        )
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> MutexGuard<'_, Directories> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn saw(&mut self, peer: NodeId, seen: Witness) {
        let known = self.seen.entry(peer).or_default();
        let both = known.and(seen);
        self.unsaved |= both != *known;
        *known = both;
    }
}

fn hex(id: NodeId) -> String {
    format!("{:x}", id.0)
}

#[cfg(test)]
mod tests;
