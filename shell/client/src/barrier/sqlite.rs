//! The barrier table in SQLite.

use sqlx::{Sqlite, SqlitePool, Transaction};

use super::{BarrierTable, Row};
use crate::error::Error;

const TABLE: &str = "create table if not exists barrier (
    id integer primary key,
    trans_type text not null,
    gid text not null,
    branch_id text not null,
    op text not null,
    barrier_id text not null,
    reason text not null,
    create_time text not null default current_timestamp,
    update_time text not null default current_timestamp,
    constraint uniq_barrier unique (gid, branch_id, op, barrier_id)
)";

const CLAIM: &str =
    "insert or ignore into barrier (trans_type, gid, branch_id, op, barrier_id, reason)
     values (?, ?, ?, ?, ?, ?)";

const REASON: &str =
    "select reason from barrier where gid = ? and branch_id = ? and op = ? and barrier_id = ?";

/// Makes the table if it is not there.
///
/// # Errors
/// `Database`.
pub async fn create_table(pool: &SqlitePool) -> Result<(), Error> {
    sqlx::query(TABLE).execute(pool).await?;
    Ok(())
}

impl BarrierTable for Transaction<'_, Sqlite> {
    async fn claim(&mut self, row: Row<'_>) -> Result<bool, Error> {
        let insert = sqlx::query(CLAIM)
            .bind(row.trans_type)
            .bind(row.gid)
            .bind(row.branch_id)
            .bind(row.op)
            .bind(row.barrier_id)
            .bind(row.reason);
        Ok(insert.execute(&mut **self).await?.rows_affected() == 1)
    }

    async fn reason(&mut self, row: Row<'_>) -> Result<Option<String>, Error> {
        let select = sqlx::query_scalar(REASON)
            .bind(row.gid)
            .bind(row.branch_id)
            .bind(row.op)
            .bind(row.barrier_id);
        Ok(select.fetch_optional(&mut **self).await?)
    }
}
