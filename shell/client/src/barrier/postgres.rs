//! The barrier table in PostgreSQL: `dtm_barrier.barrier`.
//!
//! Under `read committed`, the default, the barrier waits for a transaction that has put the same row in and
//! has not ended, and then sees what became of it. Under `repeatable read` and `serializable` the database
//! may answer with a serialization failure instead: an error, so that the call comes again.

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres};

use super::TableName;
use super::sql::{CLEANED_AT_ONCE, table_over};
use crate::error::Error;

/// Taken while the table is made: "if not exists" alone fails where two do it at once.
const CREATION_LOCK: i64 = 0x71_75_6f_72;

fn default_name() -> TableName {
    TableName::default()
}

/// Makes the table, and its schema, if they are not there.
///
/// # Errors
/// `Database`.
pub async fn create_table(pool: &PgPool, name: &TableName) -> Result<(), Error> {
    let schema = name.schema().map(|schema| format!("create schema if not exists {schema};"));
    let schema = schema.unwrap_or_default();
    let name = name.as_str();
    // One message is one transaction.
    let all = format!(
        "select pg_advisory_xact_lock({CREATION_LOCK});
        {schema}
        create table if not exists {name} (
            id bigserial primary key,
            trans_type varchar(45) not null default '',
            gid varchar(128) not null default '',
            branch_id varchar(128) not null default '',
            op varchar(45) not null default '',
            barrier_id varchar(45) not null default '',
            reason varchar(45) not null default '',
            create_time timestamptz not null default now(),
            update_time timestamptz not null default now(),
            constraint uniq_barrier unique (gid, branch_id, op, barrier_id)
        )"
    );
    sqlx::raw_sql(AssertSqlSafe(all)).execute(pool).await?;
    Ok(())
}

fn claim_sql(name: &TableName) -> String {
    format!(
        "insert into {}
         (trans_type, gid, branch_id, op, barrier_id, reason, create_time, update_time)
         values ($1, $2, $3, $4, $5, $6, now(), now())
         on conflict on constraint uniq_barrier do nothing",
        name.as_str()
    )
}

fn reason_sql(name: &TableName) -> String {
    format!(
        "select reason from {} where gid = $1 and branch_id = $2 and op = $3 and barrier_id = $4",
        name.as_str()
    )
}

fn last_sql(name: &TableName) -> String {
    let name = name.as_str();
    format!(
        "select max(id)::bigint from (select id from {name} where create_time is not null order by id
         limit {CLEANED_AT_ONCE}) as oldest"
    )
}

fn clean_sql(name: &TableName, seconds: u64) -> String {
    format!(
        "delete from {} where id <= $1 and create_time < now() - interval '{seconds} seconds'",
        name.as_str()
    )
}

table_over!(Postgres, PgConnection);
