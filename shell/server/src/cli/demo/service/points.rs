//! Points of customers: added in advance while an order is being paid, real when it is.

use quorate_client::BranchError;

use super::order::int;
use super::{Change, Step, must_change_one};
use crate::cli::demo::order::Order;

pub(super) const SCHEMA: &[&str] = &["create table if not exists accounts (
    customer integer primary key,
    points integer not null check (points >= 0),
    pre_added integer not null check (pre_added >= 0)
)"];

pub(super) const SUMS: &[(&str, &str)] = &[
    ("points", "select sum(points) from accounts"),
    ("pre_added", "select sum(pre_added) from accounts"),
];

pub(super) async fn step(
    step: Step,
    change: &mut Change<'_>,
    _gid: &str,
    order: &Order,
) -> Result<(), BranchError> {
    sqlx::query("insert or ignore into accounts values (?, 0, 0)")
        .bind(int(order.customer))
        .execute(&mut **change)
        .await?;
    let statement = match step {
        Step::Ready => return Ok(()),
        Step::Try => "update accounts set pre_added = pre_added + ?1 where customer = ?2",
        Step::Confirm => {
            "update accounts set pre_added = pre_added - ?1, points = points + ?1
             where customer = ?2"
        }
        Step::Cancel => "update accounts set pre_added = pre_added - ?1 where customer = ?2",
        Step::Action | Step::Told => "update accounts set points = points + ?1 where customer = ?2",
        Step::Compensate => "update accounts set points = points - ?1 where customer = ?2",
    };
    let statement = sqlx::query(statement).bind(int(order.points)).bind(int(order.customer));
    must_change_one(change, statement, "a customer's points").await
}
