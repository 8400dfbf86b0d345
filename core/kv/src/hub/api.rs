//! What goes into a hub and what comes out.

use std::sync::Arc;

use crate::types::{Event, EventBatch, KeyRange, KeyspaceId, Revision};
use crate::view::History;

/// A stream's name, chosen by the shell, never reused within a hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A watcher's id on the wire, unique within its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

impl WatchId {
    /// What replies bear that concern no watcher.
    pub const NONE: Self = Self(-1);
}

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchCreate {
    /// Its id; 0: the hub chooses.
    pub watch_id: WatchId,
    /// Which keys; an empty key stands for `\0`.
    pub range: KeyRange,
    /// First revision wanted; 0: whatever comes next.
    pub start_revision: i64,
    /// Send the pair before, too.
    pub prev_kv: bool,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
    /// Split large responses, revisions even.
    pub fragment: bool,
    /// Tell progress at each tick without events.
    pub progress_notify: bool,
}

/// What the shell tells the hub.
#[derive(Clone, Debug)]
pub enum HubInput {
    /// Where a keyspace stands: before its first stream is opened (else it is taken to be empty), and
    /// after a jump, when a snapshot was installed. What lies between is read from history by whoever
    /// needs it.
    State {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// Its revision.
        revision: Revision,
        /// Its compact revision.
        compact_revision: Revision,
    },
    /// The events of the keyspace's next revision. One that `State` has jumped over is ignored.
    Events(EventBatch),
    /// A keyspace was compacted.
    Compacted {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The oldest revision that can still be read.
        revision: Revision,
    },
    /// A client opened a stream.
    OpenStream {
        /// Its name.
        stream: StreamId,
        /// The keyspace that its watchers watch.
        keyspace: KeyspaceId,
    },
    /// A stream is gone, with all its watchers.
    CloseStream {
        /// Its name.
        stream: StreamId,
    },
    /// A new watcher.
    Create {
        /// On this stream.
        stream: StreamId,
        /// What is asked for.
        request: WatchCreate,
    },
    /// A client cancels a watcher.
    Cancel {
        /// On this stream.
        stream: StreamId,
        /// The watcher.
        watch_id: WatchId,
    },
    /// A client asks how far its stream is.
    Progress {
        /// The stream.
        stream: StreamId,
    },
    /// The answer to `ReadHistory`.
    History {
        /// Its number.
        read: u64,
        /// What was found.
        found: HistoryFound,
    },
    /// The connection has sent this many bytes' worth of responses (`HubOutput::bytes`).
    Drained {
        /// The stream.
        stream: StreamId,
        /// How many.
        bytes: usize,
    },
    /// Time to tell idle watchers their progress.
    NotifyTick,
    /// Go on with watchers that are behind; asked for by `Hub::has_work`.
    Work,
}

/// Outcome of a read of history.
#[derive(Clone, Debug)]
pub enum HistoryFound {
    /// `View::history` of the range, from the revision asked for.
    Found(History),
    /// It starts only at this revision.
    Compacted(Revision),
}

/// What the hub wants done, in order.
#[derive(Clone, Debug)]
pub enum HubOutput {
    /// Send this to the client.
    Response {
        /// On this stream.
        stream: StreamId,
        /// What.
        reply: WatchReply,
        /// What it counts as; to be returned by `Drained` when it has been sent.
        bytes: usize,
    },
    /// Read history, from a view taken after this (so that it contains what the hub has seen), and
    /// answer with `History`, always, even if the stream is closed meanwhile.
    ReadHistory {
        /// A number for the answer.
        read: u64,
        /// The keyspace.
        keyspace: KeyspaceId,
        /// Which keys.
        range: KeyRange,
        /// From this revision on.
        from: Revision,
        /// About this much.
        max_bytes: usize,
    },
}

/// A response of a watch stream.
#[derive(Clone, Debug)]
pub struct WatchReply {
    /// The watcher, or `WatchId::NONE`.
    pub watch_id: WatchId,
    /// The header's revision.
    pub revision: Revision,
    /// The rest.
    pub kind: WatchReplyKind,
}

/// What a response says.
#[derive(Clone, Debug)]
pub enum WatchReplyKind {
    /// The watcher exists: `created`.
    Created,
    /// It was never created: `created` and `canceled`, with a reason.
    Refused {
        /// etcd's text.
        reason: &'static str,
    },
    /// It exists no longer: `canceled`.
    Canceled {
        /// Where history starts, if compaction was the cause; else 0.
        compact_revision: Revision,
    },
    /// Events, of one revision or several, in order.
    Events {
        /// Which events of which revisions; none is empty.
        events: Vec<Matched>,
        /// Whether to send each event's `prev_kv`.
        prev_kv: bool,
        /// Whether more of the same response follow.
        fragment: bool,
    },
    /// Everything up to the header's revision has been sent.
    Progress,
}

/// Events of one revision that a watcher gets. The batch is shared by everyone who watches, so that an
/// event's encoding can be made once and kept beside it.
#[derive(Clone, Debug)]
pub struct Matched {
    /// All events of the revision that the hub has; from history, those of the watcher's range.
    pub batch: EventBatch,
    /// Which of them.
    pub which: Which,
}

/// A selection of a batch's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those at these places, ascending.
    At(Arc<[u32]>),
}

impl Matched {
    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.places().map(|place| &self.batch.events[place])
    }

    /// Their places in the batch, ascending.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        let (all, some) = match &self.which {
            Which::All => (self.batch.events.len(), &[][..]),
            Which::At(places) => (0, &places[..]),
        };
        (0..all).chain(some.iter().map(|place| *place as usize))
    }
}
