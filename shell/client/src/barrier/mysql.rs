//! The barrier table in MySQL and MariaDB: `dtm_barrier.barrier`.
//!
//! Reasons are read with a lock, and so as they are now: under `repeatable read`, the default, a plain read
//! may show the table as it was when the transaction began, and a check-back would take a message that has
//! committed for one that has not.
//!
//! The table that [`create_table`] makes tells upper from lower case; one that another client made may not:
//! there, no two gids may differ by case alone.

use sqlx::{AssertSqlSafe, MySql, MySqlConnection, MySqlPool};

use super::TableName;
use super::sql::{CLEANED_AT_ONCE, table_over};
use crate::error::Error;

fn default_name() -> TableName {
    TableName::default()
}

/// Makes the table, and the database that its name begins with, if they are not there.
///
/// # Errors
/// `Database`.
pub async fn create_table(pool: &MySqlPool, name: &TableName) -> Result<(), Error> {
    if let Some(database) = name.schema() {
        let create = format!("create database if not exists {database}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(pool).await?;
    }
    let table = format!(
        "create table if not exists {} (
            id bigint not null auto_increment primary key,
            trans_type varchar(45) not null default '',
            gid varchar(128) not null default '',
            branch_id varchar(128) not null default '',
            op varchar(45) not null default '',
            barrier_id varchar(45) not null default '',
            reason varchar(45) not null default '',
            create_time datetime not null default current_timestamp,
            update_time datetime not null default current_timestamp,
            unique key uniq_barrier (gid, branch_id, op, barrier_id)
        ) engine = innodb character set utf8mb4 collate utf8mb4_bin",
        name.as_str()
    );
    sqlx::raw_sql(AssertSqlSafe(table)).execute(pool).await?;
    Ok(())
}

fn claim_sql(name: &TableName) -> String {
    format!(
        "insert ignore into {}
         (trans_type, gid, branch_id, op, barrier_id, reason, create_time, update_time)
         values (?, ?, ?, ?, ?, ?, current_timestamp, current_timestamp)",
        name.as_str()
    )
}

fn reason_sql(name: &TableName) -> String {
    format!(
        "select reason from {} where gid = ? and branch_id = ? and op = ? and barrier_id = ?
         lock in share mode",
        name.as_str()
    )
}

fn last_sql(name: &TableName) -> String {
    let name = name.as_str();
    format!(
        "select cast(max(id) as signed) from (select id from {name} where create_time is not null
         order by id limit {CLEANED_AT_ONCE}) as oldest"
    )
}

fn clean_sql(name: &TableName, seconds: u64) -> String {
    format!(
        "delete from {} where id <= ? and create_time < current_timestamp - interval {seconds} second",
        name.as_str()
    )
}

table_over!(MySql, MySqlConnection);
