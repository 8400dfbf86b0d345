//! XA: each branch's database keeps the change ready, durable and locked, until the coordinator says commit or
//! rollback. Over PostgreSQL (feature `postgres`) and over MySQL and MariaDB (feature `mysql`).
//!
//! What the other kinds ask of the programmer (reservations, compensations) the databases do here. The price:
//! rows stay locked until the second phase, so if the coordinator or the program that started the
//! transaction is away, others wait.
//!
//! The program that starts it:
//!
//! ```no_run
//! # use quorate_client::*;
//! # async fn pay(coordinator: &Coordinator) -> Result<(), Error> {
//! let gid = coordinator.new_gid().await?;
//! let mut transfer = Xa::begin(coordinator, &gid, Options::default()).await?;
//! for (url, body) in [("http://a/take", "30"), ("http://b/give", "30")] {
//!     if let Err(why) = transfer.call_branch(url, body).await {
//!         return transfer.abort(&why.to_string()).await;
//!     }
//! }
//! transfer.submit().await
//! # }
//! ```
//!
//! A branch, one address for all three operations:
//!
//! ```no_run
//! # #[cfg(feature = "postgres")]
//! # mod example {
//! # use quorate_client::xa::{XaBranch, XaCall};
//! # use quorate_client::{BranchError, Done};
//! # use sqlx::Postgres;
//! async fn take(
//!     bank: XaBranch<Postgres>, call: XaCall, amount: i64,
//! ) -> Result<Done, BranchError> {
//!     if call.is_second_phase() {
//!         return bank.finish(&call).await;
//!     }
//!     // `None`: the action has been carried out before.
//!     let Some(mut local) = bank.begin(&call).await? else { return Ok(Done) };
//!     let change = sqlx::query("update account set free = free - $1 where free >= $1");
//!     let changed = change.bind(amount).execute(local.connection()).await?;
//!     if changed.rows_affected() == 0 {
//!         return Err(BranchError::Failure("not enough".to_owned()));
//!     }
//!     local.prepare().await
//! }
//! # }
//! ```
//!
//! How: the local transaction first puts a barrier row in (operation `action`), then registers the branch,
//! then does the work, then is prepared under the name `GID-BRANCH`; its connection is closed, because
//! MySQL lets nobody else finish it before. A rollback also puts the barrier row in, so that an action that comes
//! later finds it and fails. A commit that finds nothing to commit looks for the row that its action
//! left: no row, no success.
//!
//! What databases have to be told: PostgreSQL `max_prepared_transactions` above 0; MySQL 8
//! the privilege `XA_RECOVER_ADMIN`. Both must keep what they answer (fsync on,
//! `innodb_flush_log_at_trx_commit=1`). Before MariaDB 10.5 and MySQL 5.7 a restart forgets what was prepared: not
//! for XA.
//!
//! Branches of different transactions can wait for each other in a circle that leads through two databases, which
//! neither sees. So no statement waits for a lock longer than [`XaBranch::lock_wait`]. And what is read in
//! two databases may be of before a transaction in one and of after it in the other, unless all
//! transactions lock what they read.
//!
//! What may be left behind when an operator ends a transaction by hand is found and finished by the [`Sweeper`].

mod branch;
mod database;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod start;
mod sweep;
mod xid;

pub use branch::{XaBranch, XaLocal};
pub use database::{Prepared, Verdict, XaDatabase};
pub use start::{Xa, XaCall};
pub use sweep::{Outcome, Sweeper, Swept};
pub use xid::Xid;
