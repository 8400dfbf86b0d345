//! Stock: pieces are available, frozen for somebody who is paying, or sold; or bought for an order that was
//! paid by message.
//!
//! A confirm consumes the reservation of its own transaction and nothing else that is frozen.

use quorate_client::BranchError;

use super::order::int;
use super::{Change, Step, must_change_one};
use crate::cli::demo::order::{ITEMS, Order, pieces_of};

pub(super) const SCHEMA: &[&str] = &[
    "create table if not exists items (
        item integer primary key,
        available integer not null check (available >= 0),
        frozen integer not null check (frozen >= 0),
        sold integer not null check (sold >= 0),
        bought integer not null check (bought >= 0)
    )",
    "create table if not exists reservations (
        gid text primary key,
        item integer not null,
        pieces integer not null
    )",
];

pub(super) const SUMS: &[(&str, &str)] = &[
    ("available", "select sum(available) from items"),
    ("frozen", "select sum(frozen) from items"),
    ("sold", "select sum(sold) from items"),
    ("bought", "select sum(bought) from items"),
    ("reservations", "select count(*) from reservations"),
];

/// One item that nobody has touched: its number and its pieces.
pub(super) const NEW_ROW: &str = "insert or ignore into items values (?, ?, 0, 0, 0)";

/// The items, with about so many pieces of each.
pub(super) fn rows(pieces: u64) -> impl Iterator<Item = [i64; 2]> {
    (0..ITEMS).map(move |item| [int(item), int(pieces_of(item, pieces))])
}

pub(super) async fn step(
    step: Step,
    change: &mut Change<'_>,
    gid: &str,
    order: &Order,
) -> Result<(), BranchError> {
    match step {
        Step::Ready => Ok(()),
        Step::Try => {
            take(
                change,
                order,
                "update items set available = available - ?1, frozen = frozen + ?1
                                 where item = ?2 and available >= ?1",
            )
            .await?;
            let reserve = sqlx::query("insert into reservations values (?, ?, ?)")
                .bind(gid)
                .bind(int(order.item))
                .bind(int(order.pieces));
            must_change_one(change, reserve, "a reservation").await
        }
        Step::Confirm => {
            release(
                change,
                gid,
                order,
                "update items set frozen = frozen - ?1, sold = sold + ?1
                                         where item = ?2",
            )
            .await
        }
        Step::Cancel => {
            release(
                change,
                gid,
                order,
                "update items set frozen = frozen - ?1,
                                         available = available + ?1 where item = ?2",
            )
            .await
        }
        Step::Action => {
            take(
                change,
                order,
                "update items set available = available - ?1, sold = sold + ?1
                                 where item = ?2 and available >= ?1",
            )
            .await
        }
        // Whoever has been told cannot refuse any more: what is missing is bought.
        Step::Told => {
            let buy = move_pieces("update items set bought = bought + ?1 where item = ?2", order);
            must_change_one(change, buy, "pieces bought").await
        }
        Step::Compensate => {
            let back = move_pieces(
                "update items set sold = sold - ?1, available = available + ?1 where item = ?2",
                order,
            );
            must_change_one(change, back, "pieces given back").await
        }
    }
}

type Statement = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn move_pieces(statement: &'static str, order: &Order) -> Statement {
    sqlx::query(statement).bind(int(order.pieces)).bind(int(order.item))
}

async fn take(
    change: &mut Change<'_>,
    order: &Order,
    statement: &'static str,
) -> Result<(), BranchError> {
    let taken = move_pieces(statement, order).execute(&mut **change).await?;
    if taken.rows_affected() == 1 {
        return Ok(());
    }
    let (pieces, item) = (order.pieces, order.item);
    Err(BranchError::Failure(format!("out of stock: there are no {pieces} of item {item}")))
}

async fn release(
    change: &mut Change<'_>,
    gid: &str,
    order: &Order,
    statement: &'static str,
) -> Result<(), BranchError> {
    let reservation = sqlx::query("delete from reservations where gid = ?").bind(gid);
    must_change_one(change, reservation, "the reservation").await?;
    must_change_one(change, move_pieces(statement, order), "reserved pieces").await
}
