//! XA over PostgreSQL: `PREPARE TRANSACTION` and `COMMIT PREPARED`.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::{Prepared, Verdict, XaDatabase, Xid};
use crate::barrier::{BarrierTable, InTable, TableName};
use crate::error::Error;

/// SQLSTATE `undefined_object`: no prepared transaction of this name.
const NO_SUCH: &str = "42704";

impl XaDatabase for Postgres {
    async fn bound_waiting(connection: &mut PgConnection, wait: Duration) -> Result<(), Error> {
        let set = format!("set lock_timeout = {}", wait.as_millis().max(1000));
        run(connection, set).await
    }

    async fn start(connection: &mut PgConnection, xid: &Xid) -> Result<bool, Error> {
        let find = "select exists (select from pg_prepared_xacts where gid = $1)";
        let find = sqlx::query_scalar(find).bind(xid.to_string());
        if find.fetch_one(&mut *connection).await? {
            return Ok(false);
        }
        // One that is still at work holds the barrier row, which this one will wait for.
        run(connection, "begin".to_owned()).await?;
        Ok(true)
    }

    async fn prepare(connection: &mut PgConnection, xid: &Xid) -> Result<(), Error> {
        // In a transaction in which a statement has failed, PostgreSQL takes PREPARE for ROLLBACK, without an
        // error. Any other statement is refused there, and the rest of the message with it.
        run(connection, format!("select 1; prepare transaction '{xid}'")).await
    }

    async fn end(
        connection: &mut PgConnection,
        verdict: Verdict,
        xid: &Xid,
    ) -> Result<bool, Error> {
        match run(connection, format!("{verdict} prepared '{xid}'")).await {
            Err(Error::Database(error)) if code(&error).as_deref() == Some(NO_SUCH) => Ok(false),
            result => result.map(|()| true),
        }
    }

    async fn prepared(connection: &mut PgConnection) -> Result<Vec<Prepared>, Error> {
        let select = "select gid, greatest(0, extract(epoch from now() - prepared))::bigint
             from pg_prepared_xacts where database = current_database() order by prepared";
        let rows: Vec<(String, i64)> = sqlx::query_as(select).fetch_all(connection).await?;
        let prepared = rows.into_iter().map(|(name, seconds)| Prepared {
            name,
            age: Some(Duration::from_secs(seconds.unsigned_abs())),
        });
        Ok(prepared.collect())
    }

    fn table<'t>(
        connection: &'t mut PgConnection,
        name: &'t TableName,
    ) -> impl BarrierTable + Send + 't {
        InTable { connection, name }
    }
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
