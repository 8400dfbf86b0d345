//! The kinds of fault that a run can meet, and how often each happened.

use std::collections::BTreeMap;
use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// A kind of fault. `docs/internals/simulation.md` says what each does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind {
            $($(#[$doc])* $name),*
        }

        impl FaultKind {
            /// All kinds, in the order of the report.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }

        impl fmt::Display for FaultKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$name => $text),* })
            }
        }
    };
}

kinds! {
    /// Messages between servers are lost.
    Loss = "messages lost",
    /// Messages arrive twice.
    Double = "messages doubled",
    /// Messages overtake each other.
    Reorder = "messages reordered",
    /// A link takes much longer.
    SlowLink = "slow link",
    /// The servers are split in two, both ways.
    Partition = "partition",
    /// One direction of one link is cut.
    OneWay = "one-way cut",
    /// One machine loses power.
    PowerLoss = "power loss of one",
    /// All machines lose power at once.
    PowerLossAll = "power loss of all",
    /// One process dies; what it wrote stays in the page cache.
    Kill = "process killed",
    /// Power fails in the middle of an operation of the log's disk.
    CrashAtWrite = "crash at a write",
    /// Power fails right after a server has sent a vote or an acknowledgement.
    CrashAfterPromise = "crash after a promise",
    /// For a while most new leaders fail: they reach nobody, or have a slow disk, and then they stop.
    LeaderFails = "leaders fail early",
    /// Power fails in the middle of recovery.
    CrashInRecovery = "crash in recovery",
    /// Power loss took sectors or names that were not synced.
    LostSectors = "unsynced sectors lost",
    /// A stop came with a checkpoint of the engine that was complete but not reported.
    UnreportedCheckpoint = "checkpoint unreported",
    /// A stop came with sealed tables that were not written out.
    LostTables = "sealed tables lost",
    /// Syncs take long for a while.
    SlowSync = "slow syncs",
    /// An operation of the log's disk fails, and the process stops.
    DiskError = "disk error",
    /// No space is left for a while.
    DiskFull = "disk full",
    /// A bit of a closed segment turns around, on a minority of the servers.
    BitFlip = "bit flipped",
    /// Clocks run at different speeds.
    Skew = "clock skew",
    /// A server's clock jumps forward.
    Jump = "clock jump",
    /// A process does not run for a while.
    Pause = "process paused",
    /// A server is stopped and started in an orderly way, its leadership handed over.
    Graceful = "graceful restart",
    /// Leadership is handed over.
    Transfer = "leadership transfer",
    /// A member is added, promoted or removed.
    Members = "membership change",
    /// A watch stream's client stops reading, or goes away and comes back.
    WatchStall = "watch stall",
    /// A client cancels a watcher of a stream that goes on.
    WatchCancel = "watch cancelled",
    /// The quota is used up, and the alarm is raised; clients make room and disarm it.
    QuotaAlarm = "quota alarm",
    /// History is compacted without being asked.
    AutoCompaction = "automatic compaction",
    /// An operator has all files merged.
    Defragment = "defragmentation",
    /// The node's own thread writes and syncs the log.
    InlineSync = "inline sync",
}

impl FaultKind {
    /// Whether it happens when the hand that breaks things chooses it. The others happen by themselves
    /// where they are on, or come with one of these.
    #[must_use]
    pub fn is_broken_by_hand(self) -> bool {
        !matches!(
            self,
            Self::Loss
                | Self::Double
                | Self::Reorder
                | Self::CrashAfterPromise
                | Self::LostSectors
                | Self::UnreportedCheckpoint
                | Self::LostTables
                | Self::Skew
                | Self::WatchStall
                | Self::WatchCancel
                | Self::QuotaAlarm
                | Self::AutoCompaction
                | Self::InlineSync
        )
    }
}

/// How often each kind happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts(BTreeMap<FaultKind, u64>);

impl FaultCounts {
    /// One more.
    pub fn hit(&mut self, kind: FaultKind) {
        self.add(kind, 1);
    }

    /// So many more.
    pub fn add(&mut self, kind: FaultKind, times: u64) {
        *self.0.entry(kind).or_default() += times;
    }

    /// How often.
    #[must_use]
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }
}
