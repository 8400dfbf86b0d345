//! What participants of each kind usually do in their own databases: that, and nothing of the coordinator's, decides
//! how isolated a global transaction is.

use quorate_global_txn::Kind;

/// A kind, with how its participants work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// Each action commits at once; its compensation puts back what it found.
    Saga,
    /// *Try* reserves amounts, which nobody sees; *confirm* moves them.
    Tcc,
    /// A prepared transaction of the database holds its write locks; reads take none.
    XaReadCommitted,
    /// The same, and reads take locks, too.
    XaSerializable,
    /// The sender's own transaction, at read committed; then the deliveries, which commit at once.
    Msg,
    /// Steps commit at once, as in a saga; the application undoes them itself.
    Workflow,
    /// From *can commit* to the end the branch holds its write locks.
    ThreePhase,
}

/// What a branch does when it is first asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Commits.
    AtOnce,
    /// Reserves.
    Reserve,
    /// Changes under locks, and does not commit.
    Lock,
}

impl Discipline {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Saga,
        Self::Tcc,
        Self::XaReadCommitted,
        Self::XaSerializable,
        Self::Msg,
        Self::Workflow,
        Self::ThreePhase,
    ];

    /// Its part of a scenario's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Saga => "saga",
            Self::Tcc => "tcc",
            Self::XaReadCommitted => "xa-read-committed",
            Self::XaSerializable => "xa-serializable",
            Self::Msg => "msg",
            Self::Workflow => "workflow",
            Self::ThreePhase => "3pc",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Saga => Kind::Saga,
            Self::Tcc => Kind::Tcc,
            Self::XaReadCommitted | Self::XaSerializable => Kind::Xa,
            Self::Msg => Kind::Msg,
            Self::Workflow => Kind::Workflow,
            Self::ThreePhase => Kind::ThreePhase,
        }
    }

    pub(super) fn first_phase(self) -> Phase {
        match self {
            Self::Saga | Self::Workflow => Phase::AtOnce,
            Self::Tcc => Phase::Reserve,
            Self::XaReadCommitted | Self::XaSerializable | Self::Msg | Self::ThreePhase => {
                Phase::Lock
            }
        }
    }
}
