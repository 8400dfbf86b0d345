//! Accounts in a database, and changes of them behind the barrier.

use std::time::Duration;

use anyhow::{Context, Result};
use quorate_client::barrier::{self, TableName};
use quorate_client::{Barrier, BranchCall, BranchError, Entry, Error};
use quorate_e2e::database::Database;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row};

/// Accounts of one bank.
pub(super) const ACCOUNTS: i64 = 4;
/// What each account has at first.
pub(super) const BALANCE: i64 = 1000;
/// Open connections of a pool.
const CONNECTIONS: u32 = 16;
/// For a connection of a pool.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bank over one of the databases.
#[derive(Clone, Debug)]
pub(super) enum Bank {
    Postgres(PgPool),
    MariaDb(MySqlPool),
    Sqlite(SqlitePool),
}

/// The same code for each of the pools.
macro_rules! each {
    ($bank:expr, $pool:ident => $body:expr) => {
        match $bank {
            $crate::databases::bank::Bank::Postgres($pool) => $body,
            $crate::databases::bank::Bank::MariaDb($pool) => $body,
            $crate::databases::bank::Bank::Sqlite($pool) => $body,
        }
    };
}
pub(super) use each;

impl Bank {
    /// A bank `name` of its own in a server that others may use, too.
    pub(super) async fn postgres(server: &Database, name: &str) -> Result<Self> {
        let first = PgPool::connect(&server.url()).await.context("postgres")?;
        let create = AssertSqlSafe(format!("create database {name}"));
        sqlx::raw_sql(create).execute(&first).await?;
        let options = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        let pool = options.connect(&server.url_of(name)).await?;
        barrier::postgres::create_table(&pool, &TableName::default()).await?;
        Self::Postgres(pool).with_accounts().await
    }

    /// As [`Self::postgres`]; the barrier table is one for all banks of this server.
    pub(super) async fn mariadb(server: &Database, name: &str) -> Result<Self> {
        let first = MySqlPool::connect(&server.url()).await.context("mariadb")?;
        let create = AssertSqlSafe(format!("create database {name}"));
        sqlx::raw_sql(create).execute(&first).await?;
        let options = MySqlPoolOptions::new().max_connections(CONNECTIONS);
        let pool = options.acquire_timeout(PATIENCE).connect(&server.url_of(name)).await?;
        barrier::mysql::create_table(&pool, &TableName::default()).await?;
        Self::MariaDb(pool).with_accounts().await
    }

    /// A bank in a file.
    pub(super) async fn sqlite(folder: &tempfile::TempDir) -> Result<Self> {
        let file = SqliteConnectOptions::new().filename(folder.path().join("bank"));
        let options = SqlitePoolOptions::new().max_connections(1);
        let pool = options.connect_with(file.create_if_missing(true)).await?;
        barrier::create_sqlite_table(&pool).await?;
        Self::Sqlite(pool).with_accounts().await
    }

    async fn with_accounts(self) -> Result<Self> {
        self.run("create table account (id int primary key, free bigint check (free >= 0), frozen bigint)")
            .await?;
        self.run("create table done (gid varchar(64) primary key, amount bigint)").await?;
        for id in 0..ACCOUNTS {
            self.run(&format!("insert into account values ({id}, {BALANCE}, 0)")).await?;
        }
        Ok(self)
    }

    /// Runs a statement by itself; the number of rows that it changed.
    pub(super) async fn run(&self, statement: &str) -> Result<u64> {
        let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        Ok(each!(self, pool => statement.execute(pool).await?.rows_affected()))
    }

    /// One whole number.
    pub(super) async fn number(&self, select: &str) -> Result<i64> {
        let select = AssertSqlSafe(select.to_owned());
        Ok(each!(self, pool => sqlx::query(select).fetch_one(pool).await?.try_get::<i64, _>(0)?))
    }

    /// What all accounts hold, and what of it is frozen.
    pub(super) async fn sums(&self) -> Result<(i64, i64)> {
        let cast = match self {
            Self::MariaDb(_) => "signed",
            _ => "bigint",
        };
        let sum = |of: &str| format!("select cast(sum({of}) as {cast}) from account");
        Ok((self.number(&sum("free + frozen")).await?, self.number(&sum("frozen")).await?))
    }

    /// Makes the change if the barrier lets the call through. A change of no row is a refusal.
    pub(super) async fn pass(
        &self,
        mut barrier: Barrier,
        change: &str,
    ) -> Result<Entry, BranchError> {
        let change = sqlx::raw_sql(AssertSqlSafe(change.to_owned()));
        each!(self, pool => {
            let mut transaction = pool.begin().await?;
            let entry = barrier.enter(&mut transaction).await?;
            if entry.is_run() && change.execute(&mut *transaction).await?.rows_affected() == 0 {
                return Err(BranchError::Failure("not enough".to_owned()));
            }
            transaction.commit().await?;
            Ok(entry)
        })
    }

    /// Answers a check-back.
    pub(super) async fn check_back(&self, gid: &str) -> Result<bool, Error> {
        each!(self, pool => {
            let mut transaction = pool.begin().await?;
            let committed = barrier::check_back(&mut transaction, gid).await?;
            transaction.commit().await?;
            Ok(committed)
        })
    }
}

/// Which step a call is.
pub(super) fn call(gid: &str, kind: &str, branch_id: &str, op: &str) -> BranchCall {
    BranchCall {
        gid: gid.to_owned(),
        trans_type: kind.to_owned(),
        branch_id: branch_id.to_owned(),
        op: op.to_owned(),
        dtm: String::new(),
    }
}
