//! The barrier table in SQLite: `barrier`, without a schema.

use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection, SqlitePool};

use super::TableName;
use super::sql::{CLEANED_AT_ONCE, table_over};
use crate::error::Error;

/// What is used where no other name is given: `barrier`.
#[must_use]
pub fn default_name() -> TableName {
    TableName::new("barrier").expect("letters")
}

/// Makes the table `barrier` if it is not there.
///
/// # Errors
/// `Database`.
pub async fn create_table(pool: &SqlitePool) -> Result<(), Error> {
    create_table_named(pool, &default_name()).await
}

/// Makes the table if it is not there.
///
/// # Errors
/// `Database`.
pub async fn create_table_named(pool: &SqlitePool, name: &TableName) -> Result<(), Error> {
    let name = name.as_str();
    let table = format!(
        "create table if not exists {name} (
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
        )"
    );
    sqlx::query(AssertSqlSafe(table)).execute(pool).await?;
    Ok(())
}

fn claim_sql(name: &TableName) -> String {
    format!(
        "insert or ignore into {} (trans_type, gid, branch_id, op, barrier_id, reason)
         values (?, ?, ?, ?, ?, ?)",
        name.as_str()
    )
}

fn reason_sql(name: &TableName) -> String {
    format!(
        "select reason from {} where gid = ? and branch_id = ? and op = ? and barrier_id = ?",
        name.as_str()
    )
}

fn last_sql(name: &TableName) -> String {
    let name = name.as_str();
    format!(
        "select max(id) from (select id from {name} where create_time is not null order by id
         limit {CLEANED_AT_ONCE}) as oldest"
    )
}

fn clean_sql(name: &TableName, seconds: u64) -> String {
    format!(
        "delete from {} where id <= ? and create_time < datetime('now', '-{seconds} seconds')",
        name.as_str()
    )
}

table_over!(Sqlite, SqliteConnection);
