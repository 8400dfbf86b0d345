//! A branch of a three-phase transaction, as rows of its barrier table.
//!
//! | it has | rows | it hears nothing more |
//! |---|---|---|
//! | said yes | `can_commit` | it drops what it holds |
//! | acknowledged the announcement | and `pre_commit` | it commits |
//! | committed or aborted | and `do_commit`, whose reason says which | – |
//!
//! The unique key of each row decides every race: between `pre_commit` and an abort or a drop the row
//! `pre_commit`, between committing and aborting the row `do_commit`.

use crate::barrier::{BarrierTable, Row};
use crate::branch::{BranchCall, BranchError};
use crate::error::Error;

const CAN: &str = "can_commit";
const PRE: &str = "pre_commit";
const DO: &str = "do_commit";
const ABORT: &str = "abort";

/// Reasons of what was decided here after a silence.
const COMMIT_ALONE: &str = "commit_alone";
const DROP_ALONE: &str = "drop_alone";

/// What to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "only `Run` may change anything"]
pub enum Told {
    /// Carry it out: hold, take note, make the change, or drop what is held, by the operation. If it cannot be
    /// held, roll back and answer with a failure.
    Run,
    /// It has been carried out.
    Repeated,
    /// An abort of what was never asked for here, and now cannot be any more.
    Empty,
    /// It was aborted before: the answer is FAILURE.
    Refused,
    /// This branch has decided the opposite by itself, after a silence. A person has to repair that; the answer is
    /// FAILURE, which the coordinator counts and shows.
    Split,
}

impl Told {
    /// Whether the change is to be made, or what is to be answered instead of a success.
    ///
    /// # Errors
    /// `Failure` for `Refused` and `Split`. Nothing was written then, so it does not matter whether the
    /// local transaction is committed.
    pub fn is_run(self) -> Result<bool, BranchError> {
        let failure = |why: &str| Err(BranchError::Failure(why.to_owned()));
        match self {
            Self::Run => Ok(true),
            Self::Repeated | Self::Empty => Ok(false),
            Self::Refused => failure("this branch has aborted"),
            Self::Split => failure("split: after a silence this branch decided the opposite"),
        }
    }
}

/// What a branch does that hears nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the branch has to do it"]
pub enum Alone {
    /// Make the change.
    Commit,
    /// Drop what is held.
    Drop,
    /// Nothing: it is settled, or was never asked.
    Nothing,
}

/// A branch of a three-phase transaction, during one request.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn step(pool: sqlx::SqlitePool, call: BranchCall) -> Result<Done, BranchError> {
/// let mut local = pool.begin().await?;
/// if Participant::new(call.clone()).enter(&mut local).await?.is_run()? {
///     match call.op.as_str() {
///         "can_commit" => { /* hold it, or return Err(BranchError::Failure(..)) */ }
///         "do_commit" => { /* make the change */ }
///         "abort" => { /* drop what is held */ }
///         _ => {}
///     }
/// }
/// local.commit().await?;
/// Ok(Done)
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Participant {
    call: BranchCall,
}

impl Participant {
    /// For this request.
    #[must_use]
    pub fn new(call: BranchCall) -> Self {
        Self { call }
    }

    /// Decides what the call means, inside an open local transaction. Make the change in the same transaction, only for
    /// [`Told::Run`], and commit; if the change fails roll back: then the call has not happened.
    ///
    /// # Errors
    /// `Database`, and `Malformed` for a call that no coordinator makes in this state or that is none of the
    /// four: roll back.
    pub async fn enter<T: BarrierTable>(&self, table: &mut T) -> Result<Told, Error> {
        let rows = Rows { gid: &self.call.gid, branch_id: &self.call.branch_id };
        match self.call.op.as_str() {
            CAN => rows.can_commit(table).await,
            PRE => rows.pre_commit(table).await,
            DO => rows.do_commit(table).await,
            ABORT => rows.abort(table).await,
            other => Err(Error::Malformed(format!("'{other}' is no operation of 3pc"))),
        }
    }
}

/// What a branch does that has waited long enough, inside an open local transaction that makes the change as well. How long
/// is for the service to say: longer than the transaction's `timeout_to_fail`. It finds what it holds in its own tables.
///
/// # Errors
/// `Database`: roll back.
pub async fn silence<T: BarrierTable>(
    table: &mut T,
    gid: &str,
    branch_id: &str,
) -> Result<Alone, Error> {
    let rows = Rows { gid, branch_id };
    if rows.reason(table, CAN).await?.as_deref() != Some(CAN) {
        return Ok(Alone::Nothing);
    }
    match rows.reason(table, PRE).await?.as_deref() {
        Some(PRE) if rows.claim(table, DO, COMMIT_ALONE).await? => Ok(Alone::Commit),
        None if rows.claim(table, PRE, DROP_ALONE).await? => {
            let dropped = rows.claim(table, DO, DROP_ALONE).await?;
            Ok(if dropped { Alone::Drop } else { Alone::Nothing })
        }
        // Settled, or heard of at this very moment.
        _ => Ok(Alone::Nothing),
    }
}

/// The rows of one branch.
#[derive(Clone, Copy)]
struct Rows<'a> {
    gid: &'a str,
    branch_id: &'a str,
}

impl<'a> Rows<'a> {
    fn row(&self, op: &'a str, reason: &'a str) -> Row<'a> {
        let Self { gid, branch_id } = *self;
        Row { trans_type: "3pc", gid, branch_id, op, barrier_id: "01", reason }
    }

    async fn claim<T: BarrierTable>(
        &self,
        table: &mut T,
        op: &'a str,
        reason: &'a str,
    ) -> Result<bool, Error> {
        table.claim(self.row(op, reason)).await
    }

    async fn reason<T: BarrierTable>(
        &self,
        table: &mut T,
        op: &'a str,
    ) -> Result<Option<String>, Error> {
        table.reason(self.row(op, "")).await
    }

    async fn has_aborted<T: BarrierTable>(&self, table: &mut T) -> Result<bool, Error> {
        let end = self.reason(table, DO).await?;
        Ok(matches!(end.as_deref(), Some(ABORT | DROP_ALONE)))
    }

    async fn can_commit<T: BarrierTable>(&self, table: &mut T) -> Result<Told, Error> {
        if self.has_aborted(table).await? {
            return Ok(Told::Refused);
        }
        let first = self.claim(table, CAN, CAN).await?;
        Ok(if first { Told::Run } else { Told::Repeated })
    }

    async fn pre_commit<T: BarrierTable>(&self, table: &mut T) -> Result<Told, Error> {
        if self.has_aborted(table).await? {
            return Ok(Told::Refused);
        }
        self.must_have(table, CAN).await?;
        let first = self.claim(table, PRE, PRE).await?;
        Ok(if first { Told::Run } else { Told::Repeated })
    }

    async fn do_commit<T: BarrierTable>(&self, table: &mut T) -> Result<Told, Error> {
        if self.has_aborted(table).await? {
            return Ok(Told::Split);
        }
        self.must_have(table, PRE).await?;
        let first = self.claim(table, DO, DO).await?;
        Ok(if first { Told::Run } else { Told::Repeated })
    }

    async fn abort<T: BarrierTable>(&self, table: &mut T) -> Result<Told, Error> {
        let never_asked = self.claim(table, CAN, ABORT).await?;
        // From now on no announcement is acknowledged.
        self.claim(table, PRE, ABORT).await?;
        let first = self.claim(table, DO, ABORT).await?;
        if first {
            return Ok(if never_asked { Told::Empty } else { Told::Run });
        }
        Ok(if self.has_aborted(table).await? { Told::Repeated } else { Told::Split })
    }

    /// The phase before this one, which was acknowledged here.
    async fn must_have<T: BarrierTable>(&self, table: &mut T, op: &'a str) -> Result<(), Error> {
        if self.reason(table, op).await?.as_deref() == Some(op) {
            return Ok(());
        }
        let Self { gid, branch_id } = self;
        Err(Error::Malformed(format!("branch {branch_id} of {gid} never acknowledged {op}")))
    }
}
