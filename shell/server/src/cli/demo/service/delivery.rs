//! Delivery notes: PREPARED while an order is being paid, CREATED when it is.

use quorate_client::BranchError;

use super::order::int;
use super::{Change, Step, must_change_one};
use crate::cli::demo::order::Order;

pub(super) const SCHEMA: &[&str] = &["create table if not exists notes (
    gid text primary key,
    number integer not null unique,
    status text not null,
    pieces integer not null
)"];

pub(super) const SUMS: &[(&str, &str)] = &[
    ("notes", "select count(*) from notes where status = 'CREATED'"),
    ("prepared", "select count(*) from notes where status = 'PREPARED'"),
    ("pieces", "select sum(pieces) from notes where status = 'CREATED'"),
];

pub(super) async fn step(
    step: Step,
    change: &mut Change<'_>,
    gid: &str,
    order: &Order,
) -> Result<(), BranchError> {
    let new = |status: &'static str| {
        sqlx::query("insert into notes values (?, ?, ?, ?)")
            .bind(gid)
            .bind(int(order.number))
            .bind(status)
            .bind(int(order.pieces))
    };
    let statement = match step {
        Step::Ready => return Ok(()),
        Step::Try => new("PREPARED"),
        Step::Action | Step::Told => new("CREATED"),
        Step::Confirm => {
            sqlx::query("update notes set status = 'CREATED' where gid = ? and status = 'PREPARED'")
                .bind(gid)
        }
        Step::Cancel => {
            sqlx::query("delete from notes where gid = ? and status = 'PREPARED'").bind(gid)
        }
        Step::Compensate => {
            sqlx::query("delete from notes where gid = ? and status = 'CREATED'").bind(gid)
        }
    };
    must_change_one(change, statement, "a delivery note").await
}
