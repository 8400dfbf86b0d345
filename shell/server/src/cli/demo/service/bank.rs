//! A bank: money of an account is there, frozen for a transfer that is being decided, or announced to it.
//!
//! A message cannot be refused once it is under way: money for a closed account is put aside then, where
//! its owner finds it.

use quorate_client::BranchError;

use super::order::int;
use super::{Change, Step, must_change_one};
use crate::cli::demo::bank::{ACCOUNTS, Leg, Way};

pub(super) const SCHEMA: &[&str] = &[
    "create table if not exists accounts (
        account integer primary key,
        is_open integer not null,
        balance integer not null check (balance >= 0),
        frozen integer not null check (frozen >= 0),
        announced integer not null check (announced >= 0),
        aside integer not null check (aside >= 0)
    )",
    // What a transfer that is not decided holds here.
    "create table if not exists reservations (
        gid text not null,
        way text not null,
        account integer not null,
        amount integer not null,
        primary key (gid, way)
    )",
    // What has been transferred.
    "create table if not exists entries (
        gid text not null,
        way text not null,
        transfer integer not null,
        amount integer not null,
        primary key (gid, way)
    )",
];

pub(super) const SUMS: &[(&str, &str)] = &[
    ("balance", "select sum(balance) from accounts"),
    ("frozen", "select sum(frozen) from accounts"),
    ("announced", "select sum(announced) from accounts"),
    ("aside", "select sum(aside) from accounts"),
    ("overdrawn", "select count(*) from accounts where balance < 0"),
    ("out", "select count(*) from entries where way = 'out'"),
    ("in", "select count(*) from entries where way = 'in'"),
    ("amounts_out", "select sum(amount) from entries where way = 'out'"),
    ("amounts_in", "select sum(amount) from entries where way = 'in'"),
    ("numbers_out", "select sum(transfer) from entries where way = 'out'"),
    ("numbers_in", "select sum(transfer) from entries where way = 'in'"),
];

/// One account that nobody has touched: its number, whether it is open, and its money.
pub(super) const NEW_ROW: &str = "insert or ignore into accounts values (?, ?, ?, 0, 0, 0)";

/// The accounts, with so much money in each open one.
pub(super) fn rows(money: u64) -> impl Iterator<Item = [i64; 3]> {
    (0..int(ACCOUNTS)).map(move |account| {
        let is_open = i64::from(account < int(ACCOUNTS) - 1);
        [account, is_open, is_open * int(money)]
    })
}

pub(super) async fn step(
    step: Step,
    change: &mut Change<'_>,
    gid: &str,
    leg: &Leg,
) -> Result<(), BranchError> {
    match (step, leg.way) {
        (Step::Ready, _) => Ok(()),
        (Step::Try, Way::Out) => {
            take(change, leg, "balance = balance - ?1, frozen = frozen + ?1").await?;
            reserve(change, gid, leg).await
        }
        (Step::Try, Way::In) => {
            give(change, leg, "announced = announced + ?1").await?;
            reserve(change, gid, leg).await
        }
        (Step::Confirm, way) => {
            release(change, gid, leg).await?;
            let set = match way {
                Way::Out => "frozen = frozen - ?1",
                Way::In => "announced = announced - ?1, balance = balance + ?1",
            };
            must(change, leg, set).await?;
            enter(change, gid, leg).await
        }
        (Step::Cancel, way) => {
            release(change, gid, leg).await?;
            let set = match way {
                Way::Out => "frozen = frozen - ?1, balance = balance + ?1",
                Way::In => "announced = announced - ?1",
            };
            must(change, leg, set).await
        }
        (Step::Action | Step::Told, Way::Out) => {
            take(change, leg, "balance = balance - ?1").await?;
            enter(change, gid, leg).await
        }
        (Step::Action, Way::In) => {
            give(change, leg, "balance = balance + ?1").await?;
            enter(change, gid, leg).await
        }
        (Step::Told, Way::In) => {
            if !set(change, leg, "balance = balance + ?1", "is_open").await? {
                must(change, leg, "aside = aside + ?1").await?;
            }
            enter(change, gid, leg).await
        }
        (Step::Compensate, way) => {
            let taken = sqlx::query("delete from entries where gid = ? and way = ?");
            let taken = taken.bind(gid).bind(way.name());
            must_change_one(change, taken, "an entry").await?;
            let set = match way {
                Way::Out => "balance = balance + ?1",
                // If it has been spent meanwhile, this is tried until there is money again.
                Way::In => "balance = balance - ?1",
            };
            must(change, leg, set).await
        }
    }
}

/// Changes the account if `only_if` holds; whether it did.
async fn set(
    change: &mut Change<'_>,
    leg: &Leg,
    what: &'static str,
    only_if: &'static str,
) -> Result<bool, BranchError> {
    let statement = format!("update accounts set {what} where account = ?2 and {only_if}");
    let done = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(int(leg.amount))
        .bind(int(leg.account))
        .execute(&mut **change)
        .await?;
    Ok(done.rows_affected() == 1)
}

async fn must(change: &mut Change<'_>, leg: &Leg, what: &'static str) -> Result<(), BranchError> {
    if set(change, leg, what, "true").await? {
        return Ok(());
    }
    Err(super::malformed(format!("there is no account {}", leg.account)))
}

/// Money leaves, if there is enough.
async fn take(change: &mut Change<'_>, leg: &Leg, what: &'static str) -> Result<(), BranchError> {
    if set(change, leg, what, "is_open and balance >= ?1").await? {
        return Ok(());
    }
    let Leg { account, amount, .. } = leg;
    Err(BranchError::Failure(format!("overdraft: account {account} has less than {amount}")))
}

/// Money comes, if somebody is there to take it.
async fn give(change: &mut Change<'_>, leg: &Leg, what: &'static str) -> Result<(), BranchError> {
    if set(change, leg, what, "is_open").await? {
        return Ok(());
    }
    Err(BranchError::Failure(format!("account {} is closed", leg.account)))
}

async fn reserve(change: &mut Change<'_>, gid: &str, leg: &Leg) -> Result<(), BranchError> {
    let statement = sqlx::query("insert into reservations values (?, ?, ?, ?)")
        .bind(gid)
        .bind(leg.way.name())
        .bind(int(leg.account))
        .bind(int(leg.amount));
    must_change_one(change, statement, "a reservation").await
}

/// A transfer consumes its own reservation and nothing else that is frozen.
async fn release(change: &mut Change<'_>, gid: &str, leg: &Leg) -> Result<(), BranchError> {
    let statement = sqlx::query(
        "delete from reservations where gid = ? and way = ? and account = ? and amount = ?",
    )
    .bind(gid)
    .bind(leg.way.name())
    .bind(int(leg.account))
    .bind(int(leg.amount));
    must_change_one(change, statement, "the reservation").await
}

async fn enter(change: &mut Change<'_>, gid: &str, leg: &Leg) -> Result<(), BranchError> {
    let statement = sqlx::query("insert into entries values (?, ?, ?, ?)")
        .bind(gid)
        .bind(leg.way.name())
        .bind(int(leg.transfer))
        .bind(int(leg.amount));
    must_change_one(change, statement, "an entry").await
}
