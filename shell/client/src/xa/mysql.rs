//! XA over MySQL and MariaDB: `XA START`, `XA PREPARE` and `XA COMMIT`.
//!
//! A prepared transaction belongs to its session until that has gone; before, others are told that there is none
//! of its name (`XAER_NOTA`), though `XA RECOVER` lists it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, MySql, MySqlConnection, Row as _};

use super::{Prepared, Verdict, XaDatabase, Xid};
use crate::barrier::{BarrierTable, InTable, TableName};
use crate::error::Error;

/// SQLSTATE of `XAER_NOTA`: no such transaction, or not one that this session could end.
const NO_SUCH: &str = "XAE04";
/// SQLSTATE of `XAER_DUPID`: there is one of this name.
const TAKEN: &str = "XAE08";

impl XaDatabase for MySql {
    async fn bound_waiting(connection: &mut MySqlConnection, wait: Duration) -> Result<(), Error> {
        let seconds = wait.as_secs().max(1);
        run(connection, format!("set session innodb_lock_wait_timeout = {seconds}")).await
    }

    async fn start(connection: &mut MySqlConnection, xid: &Xid) -> Result<bool, Error> {
        unless(TAKEN, run(connection, format!("xa start '{xid}'")).await)
    }

    async fn prepare(connection: &mut MySqlConnection, xid: &Xid) -> Result<(), Error> {
        run(connection, format!("xa end '{xid}'")).await?;
        run(connection, format!("xa prepare '{xid}'")).await
    }

    async fn end(
        connection: &mut MySqlConnection,
        verdict: Verdict,
        xid: &Xid,
    ) -> Result<bool, Error> {
        unless(NO_SUCH, run(connection, format!("xa {verdict} '{xid}'")).await)
    }

    async fn prepared(connection: &mut MySqlConnection) -> Result<Vec<Prepared>, Error> {
        let rows = sqlx::raw_sql("xa recover").fetch_all(connection).await?;
        let mut prepared = Vec::new();
        for row in rows {
            // A global name and a qualifier, one after the other; ours have no qualifier.
            let name: Vec<u8> = row.try_get_unchecked("data")?;
            prepared.extend(String::from_utf8(name).map(|name| Prepared { name, age: None }));
        }
        Ok(prepared)
    }

    fn table<'t>(
        connection: &'t mut MySqlConnection,
        name: &'t TableName,
    ) -> impl BarrierTable + Send + 't {
        InTable { connection, name }
    }
}

async fn run(connection: &mut MySqlConnection, statement: String) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

/// False for an error with this SQLSTATE.
fn unless(state: &str, result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Err(Error::Database(sqlx::Error::Database(error)))
            if error.code().as_deref() == Some(state) =>
        {
            Ok(false)
        }
        result => result.map(|()| true),
    }
}
