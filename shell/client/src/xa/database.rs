//! What XA needs of a database.

use std::fmt;
use std::time::Duration;

use sqlx::{Connection, Database};

use super::Xid;
use crate::barrier::{BarrierTable, TableName};
use crate::error::Error;

/// How a prepared transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its changes stay.
    Commit,
    /// As if it had not been.
    Rollback,
}

/// Its verb in SQL.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit => "commit",
            Self::Rollback => "rollback",
        })
    }
}

/// A prepared transaction of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Its name, ours or anybody's.
    pub name: String,
    /// How long it has been prepared, if the database knows.
    pub age: Option<Duration>,
}

/// A database with prepared transactions that outlive their connection and a restart.
///
/// The connection of a local transaction is its own, from [`Self::start`] to its closing after
/// [`Self::prepare`].
pub trait XaDatabase: Database<Connection: Connection<Database = Self>> {
    /// No statement of this connection waits for a lock longer than `wait`; whole seconds at least 1.
    ///
    /// # Errors
    /// `Database`.
    fn bound_waiting(
        connection: &mut Self::Connection,
        wait: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Begins a local transaction; false if there is one of this name, at work or prepared.
    ///
    /// # Errors
    /// `Database`: drop the connection.
    fn start(
        connection: &mut Self::Connection,
        xid: &Xid,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Ends the work of the local transaction and prepares it. The connection is to be closed after it.
    ///
    /// # Errors
    /// `Database`: it may be prepared or not. Drop the connection.
    fn prepare(
        connection: &mut Self::Connection,
        xid: &Xid,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ends a prepared transaction; false if there is none of this name that this connection could end.
    ///
    /// # Errors
    /// `Database`: it may have ended or not.
    fn end(
        connection: &mut Self::Connection,
        verdict: Verdict,
        xid: &Xid,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// All prepared transactions, also those whose connection is still open.
    ///
    /// # Errors
    /// `Database`.
    fn prepared(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Vec<Prepared>, Error>> + Send;

    /// The barrier table over a connection: inside its local transaction if there is one.
    fn table<'t>(
        connection: &'t mut Self::Connection,
        name: &'t TableName,
    ) -> impl BarrierTable + Send + 't;
}
