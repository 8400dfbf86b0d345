//! Bugs on purpose: each breaks one promise and has a checker that must find it. A checker that has never
//! caught anything has shown nothing.
//!
//! Most sit in the driver, where the real server could break the promise too. Those that can only sit
//! inside core need its feature `planted`, which no other crate may turn on.

use std::fmt;
use std::str::FromStr;

use quorate_consensus as consensus;
use quorate_global_txn as global_txn;
use quorate_wal as wal;

use crate::check::Property;

macro_rules! planted {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $checker:ident;)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Planted {
            $($(#[$doc])* $name),*
        }

        impl Planted {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The checker that must catch it.
            #[must_use]
            pub fn checker(self) -> Property {
                match self { $(Self::$name => Property::$checker),* }
            }
        }

        impl fmt::Display for Planted {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text),* })
            }
        }
    };
}

planted! {
    /// What is written counts as durable before it is synced.
    AckBeforeSync = "ack-before-sync", Durability;
    /// A leader counts itself before its own disk has the entry.
    CountUnsyncedLeader = "count-unsynced-leader", Durability;
    /// Linearizable reads take no barrier.
    ReadWithoutBarrier = "read-without-barrier", Linearizability;
    /// A leader answers read requests with the index before.
    StaleReadIndex = "stale-read-index", Linearizability;
    /// Term and vote are not written: a restart knows only the terms of its entries.
    ForgetVote = "forget-vote", ElectionSafety;
    /// A voter says yes to everybody.
    VoteTwice = "vote-twice", ElectionSafety;
    /// Recovery takes the last good record for torn.
    CutGoodRecord = "cut-good-record", Durability;
    /// A follower takes entries for committed that the leader only sent.
    ApplyBeforeCommit = "apply-before-commit", StateMachineSafety;
    /// A forwarded command is proposed a second time, under a new number.
    ForwardTwice = "forward-twice", Linearizability;
    /// The log is released before the engine's checkpoint is complete.
    ReleaseEarly = "release-early", Durability;
    /// A restarted server uses the boot number of its last life.
    SameBoot = "same-boot", Linearizability;
    /// Conditions of transactions are dropped.
    IgnoreCompare = "ignore-compare", Linearizability;
    /// Progress is told up to the server's revision, whatever has been sent.
    ProgressEarly = "progress-early", Watch;
    /// Compaction takes the tombstones of its own revision, too.
    LoseTombstone = "lose-tombstone", Watch;
    /// A watcher that comes back goes on one revision too late.
    SkipOnResume = "skip-on-resume", Watch;
    /// Group time follows a clock that jumps.
    LeaseByJumpingClock = "lease-by-jumping-clock", LeaseExpiry;
    /// The header of a response tells the revision before.
    OldRevision = "old-revision", MonotoneRevisions;
    /// A follower says that entries match which it has refused.
    AcceptMismatch = "accept-mismatch", Availability;
    /// A candidate claims a newer log than it has.
    BoastInElection = "boast-in-election", LeaderCompleteness;
    /// A follower keeps another value than the leader sent.
    ChangeEntry = "change-entry", LogMatching;
    /// An alarm disarms itself when somebody is refused.
    SelfDisarm = "self-disarm", Quota;
    /// Automatic compaction keeps half of what it should.
    CompactEarly = "compact-early", Compaction;
    /// A cancelled watcher goes on getting events.
    DeafToCancel = "deaf-to-cancel", Watch;
    /// Participants have no barrier.
    NoBarrier = "no-barrier", GlobalAtomicity;
    /// A submit or an abort is acknowledged before it is in the log.
    AnswerBeforeLog = "answer-before-log", GlobalDecisions;
    /// Inside core: a second submit ends a transaction without its second phase (DTM's defect).
    ResubmitEnds = "resubmit-ends", GlobalAtomicity;
    /// Inside core: a driver acts upon a timeout that is not in the log.
    CallBeforeApplied = "call-before-applied", GlobalCalls;
    /// Inside core: a driver neither hears of its deposition nor compares its epoch.
    EpochNotCompared = "epoch-not-compared", GlobalCalls;
    /// Inside core: a driver that hears of its deposition goes on.
    GoesOnDeposed = "goes-on-deposed", GlobalCalls;
    /// Inside core: a new driver does not read the index of what is due.
    IndexNotRead = "index-not-read", GlobalEnd;
    /// Inside core: only actions that are known to have succeeded are compensated.
    CompensateOnlyKnown = "compensate-only-known", GlobalAtomicity;
    /// Inside core: the next action of a saga is called before the success of the last one is in the log.
    CallAheadUndecided = "call-ahead-undecided", GlobalAtomicity;
    /// Inside core: the first branch that has confirmed stands for all.
    FirstConfirmEnds = "first-confirm-ends", GlobalAtomicity;
    /// Inside core: a check-back that did not come through counts as "committed".
    SilenceIsConsent = "silence-is-consent", GlobalDecisions;
    /// Inside core: a timeout that lost its race against a submit is carried out.
    StaleTimeout = "stale-timeout", Assertion;
    /// Inside core: a leader counts entries of earlier terms (Raft, figure 8).
    CountOldTerm = "count-old-term", LeaderCompleteness;
    /// Inside core: a follower takes entries whatever stands before them.
    SkipPredecessor = "skip-predecessor", LogMatching;
    /// Inside core: recovery reads behind the end that a segment's successor names.
    ReadBehindEnd = "read-behind-end", Durability;
    /// Inside core: a segment opens without the vote that stood in the one before.
    ForgetVoteWithSegment = "forget-vote-with-segment", Durability;
}

impl Planted {
    /// The bug of consensus that it is, if it sits there.
    #[must_use]
    pub fn of_consensus(self) -> Option<consensus::PlantedBug> {
        match self {
            Self::CountOldTerm => Some(consensus::PlantedBug::CountOldTerm),
            Self::SkipPredecessor => Some(consensus::PlantedBug::SkipPredecessor),
            _ => None,
        }
    }

    /// The bug of global transactions that it is, if it sits there.
    #[must_use]
    pub fn of_global_txn(self) -> Option<global_txn::PlantedBug> {
        match self {
            Self::ResubmitEnds => Some(global_txn::PlantedBug::ResubmitEnds),
            Self::CallBeforeApplied => Some(global_txn::PlantedBug::CallBeforeApplied),
            Self::EpochNotCompared => Some(global_txn::PlantedBug::EpochNotCompared),
            Self::GoesOnDeposed => Some(global_txn::PlantedBug::GoesOnDeposed),
            Self::IndexNotRead => Some(global_txn::PlantedBug::IndexNotRead),
            Self::CompensateOnlyKnown => Some(global_txn::PlantedBug::CompensateOnlyKnown),
            Self::CallAheadUndecided => Some(global_txn::PlantedBug::CallAheadUndecided),
            Self::FirstConfirmEnds => Some(global_txn::PlantedBug::FirstConfirmEnds),
            Self::SilenceIsConsent => Some(global_txn::PlantedBug::SilenceIsConsent),
            Self::StaleTimeout => Some(global_txn::PlantedBug::StaleTimeout),
            _ => None,
        }
    }

    /// The bug of the log that it is, if it sits there.
    #[must_use]
    pub fn of_log(self) -> Option<wal::PlantedBug> {
        match self {
            Self::ReadBehindEnd => Some(wal::PlantedBug::ReadBehindEnd),
            Self::ForgetVoteWithSegment => Some(wal::PlantedBug::ForgetVoteWithSegment),
            _ => None,
        }
    }
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|planted| planted.to_string() == text);
        found.copied().ok_or_else(|| format!("no such planted bug; there are: {}", known()))
    }
}
