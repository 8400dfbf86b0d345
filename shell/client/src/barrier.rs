//! The branch barrier: what makes a branch safe against calls that come twice, too late, or without the one
//! that they undo.
//!
//! Each call leaves a row in a table beside the branch's own data, in the same local transaction as its
//! change; the table's unique key decides. Three things that happen on real networks are absorbed:
//!
//! | what arrives | what the barrier says |
//! |---|---|
//! | the same call again | [`Entry::Repeated`]: answer success, change nothing |
//! | a cancel whose try never came | [`Entry::Empty`]: answer success, change nothing |
//! | that try, after its cancel (*hanging*) | [`Entry::Late`]: answer success, change nothing |
//!
//! How: a cancel first puts in the row of its try, as if it had come, with the reason `cancel`. If that
//! worked the try had not come, and when it does come it finds its row taken.
//!
//! | database | feature | table by default | made by | old rows removed by |
//! |---|---|---|---|---|
//! | SQLite | `sqlite` (default) | `barrier` | `create_sqlite_table` | `sqlite::clean` |
//! | PostgreSQL | `postgres` | `dtm_barrier.barrier` | `postgres::create_table` | `postgres::clean` |
//! | MySQL, MariaDB | `mysql` | `dtm_barrier.barrier` | `mysql::create_table` | `mysql::clean` |
//! | Redis | `redis` | keys | | their time to live: `redis_barrier` |
//!
//! Table, columns and the constraint `uniq_barrier` are those of DTM's clients: services in other languages
//! may use the same table of the same database. [`InTable`] is for a table of another name.
//!
//! A row may go once its global transaction has ended and no call of it can still be on its way. Nobody but
//! you can know when that is, so cleaning is called by you, with an age that leaves room: days.

mod name;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(test)]
mod tests;

#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use name::TableName;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use sql::{InTable, MIN_AGE};
#[cfg(feature = "sqlite")]
pub use sqlite::create_table as create_sqlite_table;

use crate::branch::BranchCall;
use crate::error::Error;

/// A row of the table, without its dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row<'a> {
    /// Kind of the transaction; not part of the key.
    pub trans_type: &'a str,
    /// The global transaction.
    pub gid: &'a str,
    /// The branch.
    pub branch_id: &'a str,
    /// The operation.
    pub op: &'a str,
    /// Which call of the barrier within one request: `01`, `02`, ...
    pub barrier_id: &'a str,
    /// The operation that put the row in; not part of the key.
    pub reason: &'a str,
}

/// The barrier table as seen inside an open local transaction of a database.
pub trait BarrierTable {
    /// Inserts the row unless one with its key exists; whether it was inserted.
    ///
    /// # Errors
    /// The database's.
    fn claim(&mut self, row: Row<'_>) -> impl Future<Output = Result<bool, Error>> + Send;

    /// The reason of the row with this row's key, if there is one.
    ///
    /// # Errors
    /// The database's.
    fn reason(
        &mut self,
        row: Row<'_>,
    ) -> impl Future<Output = Result<Option<String>, Error>> + Send;
}

/// What to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "only `Run` may change anything"]
pub enum Entry {
    /// Carry it out.
    Run,
    /// It has been carried out.
    Repeated,
    /// What it undoes has not happened, and cannot happen any more.
    Empty,
    /// It was undone before it came.
    Late,
}

impl Entry {
    /// Whether the change is to be made.
    #[must_use]
    pub fn is_run(self) -> bool {
        self == Self::Run
    }
}

/// The barrier of one request. Make a new one for each request, so that a repeated request counts its calls
/// alike.
#[derive(Clone, Debug)]
pub struct Barrier {
    call: BranchCall,
    entered: u32,
}

impl Barrier {
    /// For this request.
    #[must_use]
    pub fn new(call: BranchCall) -> Self {
        Self { call, entered: 0 }
    }

    /// Which step the request is.
    #[must_use]
    pub fn call(&self) -> &BranchCall {
        &self.call
    }

    /// Passes the barrier inside an open local transaction. Whatever the entry is, commit; make the change,
    /// in the same transaction, only for [`Entry::Run`]. If the change fails, roll back: then the call has
    /// not happened.
    ///
    /// # Errors
    /// `Database`: roll back. `Settled`: the local transaction of a message that is decided already. `Malformed`:
    /// a gid longer than 128 bytes.
    pub async fn enter<T: BarrierTable>(&mut self, transaction: &mut T) -> Result<Entry, Error> {
        self.entered += 1;
        let barrier_id = format!("{:02}", self.entered);
        let call = &self.call;
        let own = Row {
            trans_type: &call.trans_type,
            gid: &call.gid,
            branch_id: &call.branch_id,
            op: &call.op,
            barrier_id: &barrier_id,
            reason: &call.op,
        };
        let undone = call.undoes();
        let never_came = match undone {
            Some(op) => transaction.claim(Row { op, ..own }).await?,
            None => false,
        };
        let first = transaction.claim(own).await?;
        if call.op == "msg" && !first {
            return Err(Error::Settled);
        }
        if never_came {
            return Ok(Entry::Empty);
        }
        if first {
            return Ok(Entry::Run);
        }
        let reason = transaction.reason(own).await?;
        Ok(if reason.as_deref() == Some(own.op) { Entry::Repeated } else { Entry::Late })
    }
}

/// Whether the local transaction of a message has committed; if not, it cannot commit any more once this
/// transaction has. Commit before answering.
///
/// # Errors
/// `Database`: roll back, nothing is known.
pub async fn check_back<T: BarrierTable>(transaction: &mut T, gid: &str) -> Result<bool, Error> {
    let row = Row {
        trans_type: "msg",
        gid,
        branch_id: "00",
        op: "msg",
        barrier_id: "01",
        reason: "rollback",
    };
    transaction.claim(row).await?;
    // Not to see the row that is there is no answer: the message would be given up.
    let reason = transaction.reason(row).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(reason == "msg")
}
