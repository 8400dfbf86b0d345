//! Orders: CREATED, then UPDATING while they are being paid, then PAYED or CANCELED.

use quorate_client::{BranchError, Error};
use sqlx::SqlitePool;

use super::{Change, Step, must_change_one};
use crate::cli::demo::order::Order;

pub(super) const SCHEMA: &[&str] = &["create table if not exists orders (
    number integer primary key,
    status text not null,
    paid_by text,
    pieces integer not null,
    points integer not null
)"];

pub(super) const SUMS: &[(&str, &str)] = &[
    ("CREATED", "select count(*) from orders where status = 'CREATED'"),
    ("UPDATING", "select count(*) from orders where status = 'UPDATING'"),
    ("PAYED", "select count(*) from orders where status = 'PAYED'"),
    ("CANCELED", "select count(*) from orders where status = 'CANCELED'"),
    ("pieces", "select sum(pieces) from orders where status = 'PAYED'"),
    ("points", "select sum(points) from orders where status = 'PAYED'"),
];

/// Numbers fit: they come from a plan of at most ten million orders.
pub(super) fn int(number: u64) -> i64 {
    number as i64
}

/// A new order, unless it is there.
pub(super) async fn create(pool: &SqlitePool, order: &Order) -> Result<(), Error> {
    sqlx::query("insert or ignore into orders values (?, 'CREATED', null, ?, ?)")
        .bind(int(order.number))
        .bind(int(order.pieces))
        .bind(int(order.points))
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn step(
    step: Step,
    change: &mut Change<'_>,
    gid: &str,
    order: &Order,
) -> Result<(), BranchError> {
    match step {
        Step::Ready => Ok(()),
        Step::Try => begin(change, gid, order, "UPDATING").await,
        Step::Confirm => turn(change, gid, order, "UPDATING", "PAYED").await,
        Step::Cancel => turn(change, gid, order, "UPDATING", "CANCELED").await,
        Step::Action | Step::Told => begin(change, gid, order, "PAYED").await,
        Step::Compensate => turn(change, gid, order, "PAYED", "CANCELED").await,
    }
}

/// Takes an order that waits for payment; any other is refused.
async fn begin(
    change: &mut Change<'_>,
    gid: &str,
    order: &Order,
    to: &str,
) -> Result<(), BranchError> {
    let taken = sqlx::query(
        "update orders set status = ?, paid_by = ? where number = ? and status = 'CREATED'",
    )
    .bind(to)
    .bind(gid)
    .bind(int(order.number))
    .execute(&mut **change)
    .await?;
    if taken.rows_affected() == 1 {
        return Ok(());
    }
    let status: Option<String> = sqlx::query_scalar("select status from orders where number = ?")
        .bind(int(order.number))
        .fetch_optional(&mut **change)
        .await?;
    let why = match status.as_deref() {
        Some("PAYED") => "is already paid".to_owned(),
        Some(other) => format!("is {other}"),
        None => "does not exist".to_owned(),
    };
    Err(BranchError::Failure(format!("order {} {why}", order.number)))
}

async fn turn(
    change: &mut Change<'_>,
    gid: &str,
    order: &Order,
    from: &str,
    to: &str,
) -> Result<(), BranchError> {
    let statement =
        sqlx::query("update orders set status = ? where number = ? and status = ? and paid_by = ?")
            .bind(to)
            .bind(int(order.number))
            .bind(from)
            .bind(gid);
    must_change_one(change, statement, &format!("order {} to {to}", order.number)).await
}
