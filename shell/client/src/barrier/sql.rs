//! What the SQL databases have in common. Their files hold their statements.

use std::time::Duration;

use sqlx::{Database, Transaction};

use super::{Row, TableName};
use crate::error::Error;

/// Longest gid and branch id, in bytes: DTM's columns have these widths, and MySQL would cut what is longer, so
/// that two rows became one.
const MAX_NAME: usize = 128;
/// Longest of the other columns, in bytes.
const MAX_WORD: usize = 45;

/// The youngest rows that may be removed. Old enough is what no call can come for any more.
pub const MIN_AGE: Duration = Duration::from_secs(3600);
/// Rows that one statement removes at the most.
pub(crate) const CLEANED_AT_ONCE: u32 = 1000;

/// The barrier table of this name, inside an open local transaction: for [`super::Barrier::enter`] and
/// [`super::check_back`], where the table is not the default one.
#[derive(Debug)]
pub struct InTable<'t, C> {
    pub(crate) connection: &'t mut C,
    pub(crate) name: &'t TableName,
}

impl<'t, C> InTable<'t, C> {
    /// The table `name` as this transaction sees it.
    pub fn new<D: Database<Connection = C>>(
        transaction: &'t mut Transaction<'_, D>,
        name: &'t TableName,
    ) -> Self {
        Self { connection: &mut **transaction, name }
    }
}

/// Refuses what one of the databases would not tell apart from something else.
pub(crate) fn check(row: Row<'_>) -> Result<(), Error> {
    let names = [row.gid, row.branch_id].map(|name| (name, MAX_NAME));
    let words = [row.trans_type, row.op, row.barrier_id, row.reason].map(|word| (word, MAX_WORD));
    for (text, most) in names.into_iter().chain(words) {
        // MySQL compares without spaces at the end.
        if text.len() > most || text.ends_with(' ') {
            let why = format!("'{text}' is longer than {most} bytes, or ends with a space");
            return Err(Error::Malformed(why));
        }
    }
    Ok(())
}

/// The number of seconds, if rows of that age may be removed.
pub(crate) fn age_in_seconds(older_than: Duration) -> Result<u64, Error> {
    if older_than < MIN_AGE {
        let least = MIN_AGE.as_secs();
        return Err(Error::Malformed(format!("rows younger than {least} s are still in use")));
    }
    Ok(older_than.as_secs())
}

/// Implements the table over a connection, by the statements `claim_sql`, `reason_sql`, `last_sql` and `clean_sql` of the module that calls it, with `default_name` for a bare transaction; and `clean`.
macro_rules! table_over {
    ($database:ty, $connection:ty) => {
        impl $crate::barrier::BarrierTable for $crate::barrier::InTable<'_, $connection> {
            async fn claim(
                &mut self,
                row: $crate::barrier::Row<'_>,
            ) -> Result<bool, $crate::error::Error> {
                $crate::barrier::sql::check(row)?;
                let insert = sqlx::query(sqlx::AssertSqlSafe(claim_sql(self.name)))
                    .bind(row.trans_type)
                    .bind(row.gid)
                    .bind(row.branch_id)
                    .bind(row.op)
                    .bind(row.barrier_id)
                    .bind(row.reason);
                Ok(insert.execute(&mut *self.connection).await?.rows_affected() == 1)
            }

            async fn reason(
                &mut self,
                row: $crate::barrier::Row<'_>,
            ) -> Result<Option<String>, $crate::error::Error> {
                let select = sqlx::query_scalar(sqlx::AssertSqlSafe(reason_sql(self.name)))
                    .bind(row.gid)
                    .bind(row.branch_id)
                    .bind(row.op)
                    .bind(row.barrier_id);
                Ok(select.fetch_optional(&mut *self.connection).await?)
            }
        }

        impl $crate::barrier::BarrierTable for sqlx::Transaction<'_, $database> {
            async fn claim(
                &mut self,
                row: $crate::barrier::Row<'_>,
            ) -> Result<bool, $crate::error::Error> {
                $crate::barrier::InTable::new(self, &default_name()).claim(row).await
            }

            async fn reason(
                &mut self,
                row: $crate::barrier::Row<'_>,
            ) -> Result<Option<String>, $crate::error::Error> {
                $crate::barrier::InTable::new(self, &default_name()).reason(row).await
            }
        }

        /// Removes the rows that are older than `older_than`, oldest first, at most 1000 in one statement;
        /// gives how many. May be called at any time, also by several programs at once.
        ///
        /// # Errors
        /// `Malformed` for an age below [`MIN_AGE`](crate::barrier::MIN_AGE). `Database`: some rows may have
        /// been removed.
        pub async fn clean(
            pool: &sqlx::Pool<$database>,
            name: &$crate::barrier::TableName,
            older_than: std::time::Duration,
        ) -> Result<u64, $crate::error::Error> {
            let seconds = $crate::barrier::sql::age_in_seconds(older_than)?;
            let mut removed = 0;
            loop {
                // Rows are numbered as they come: what is old lies at the low end of the primary key.
                let last = sqlx::query_scalar(sqlx::AssertSqlSafe(last_sql(name)));
                let last: Option<i64> = last.fetch_one(pool).await?;
                let Some(last) = last else { return Ok(removed) };
                let clean = sqlx::query(sqlx::AssertSqlSafe(clean_sql(name, seconds))).bind(last);
                let count = clean.execute(pool).await?.rows_affected();
                removed += count;
                if count < u64::from($crate::barrier::sql::CLEANED_AT_ONCE) {
                    return Ok(removed);
                }
            }
        }
    };
}

pub(crate) use table_over;
