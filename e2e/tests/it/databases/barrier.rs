//! The barrier's promises while calls race each other for real.

use std::time::Duration;

use anyhow::{Context, Result};
use quorate_client::barrier::{self, InTable, TableName};
use quorate_client::{Barrier, BranchError, Entry, Error};
use quorate_e2e::database::{Database, Kind};
use tokio::task::JoinSet;

use super::bank::{BALANCE, Bank, call, each};

/// Transactions that are raced.
const RACES: usize = 25;
/// Times that each operation of one is called at once.
const CALLS: usize = 3;
/// A call that a database broke off is made again: a deadlock, a locked file.
const TRIES: usize = 30;

/// A bank over each database that there is, and what keeps it alive.
async fn banks(name: &str) -> Result<(Vec<Bank>, impl Sized)> {
    let folder = tempfile::tempdir()?;
    let mut banks = vec![Bank::sqlite(&folder).await?];
    let postgres = Database::shared("databases: barrier over PostgreSQL", Kind::Postgres)?;
    if let Some(server) = &postgres {
        banks.push(Bank::postgres(server, name).await?);
    }
    let mariadb = Database::shared("databases: barrier over MariaDB", Kind::MariaDb)?;
    if let Some(server) = &mariadb {
        banks.push(Bank::mariadb(server, name).await?);
    }
    Ok((banks, (folder, postgres, mariadb)))
}

/// Calls until the database does not break it off.
async fn insist(bank: Bank, barrier: Barrier, change: String) -> Entry {
    for _ in 0..TRIES {
        match bank.pass(barrier.clone(), &change).await {
            Ok(entry) => return entry,
            Err(BranchError::Error(Error::Database(_))) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("{TRIES} tries were broken off");
}

/// Tries and cancels of the same branch at once, several of each: whoever comes first, nothing stays
/// frozen, and a try that comes last does nothing.
#[tokio::test]
async fn tries_and_cancels_race() -> Result<()> {
    let (banks, _servers) = banks("races").await?;
    for bank in banks {
        let mut both = 0;
        for race in 0..RACES {
            let gid = format!("race-{race}");
            let (tries, cancels) = one_race(&bank, &gid, race).await?;
            assert!(tries <= 1 && cancels == tries, "{bank:?} {gid}: {tries} and {cancels} ran");
            both += tries;
            let (free, frozen) = bank.sums().await?;
            assert_eq!((free, frozen), (4 * BALANCE, 0), "{bank:?} {gid}");
            let late =
                insist(bank.clone(), Barrier::new(call(&gid, "tcc", "01", "try")), take()).await;
            assert!(!late.is_run(), "{bank:?} {gid}: a try ran after its cancel");
        }
        println!("{both} of {RACES} tries came before their cancels");
    }
    Ok(())
}

fn take() -> String {
    "update account set free = free - 7, frozen = frozen + 7 where id = 1".to_owned()
}

/// How many tries and cancels were let through.
async fn one_race(bank: &Bank, gid: &str, race: usize) -> Result<(usize, usize)> {
    let give_back = "update account set free = free + 7, frozen = frozen - 7 where id = 1";
    let mut calls = JoinSet::new();
    for number in 0..2 * CALLS {
        // Another one begins each time.
        let op = if (number + race).is_multiple_of(2) { "try" } else { "cancel" };
        let change = if op == "try" { take() } else { give_back.to_owned() };
        let (bank, barrier) = (bank.clone(), Barrier::new(call(gid, "tcc", "01", op)));
        calls.spawn(async move { (op, insist(bank, barrier, change).await) });
    }
    let entries = calls.join_all().await;
    let ran = |op: &str| entries.iter().filter(|(of, e)| *of == op && e.is_run()).count();
    Ok((ran("try"), ran("cancel")))
}

/// A message's local transaction against check-backs: what the coordinator was told is what happened.
#[tokio::test]
async fn a_check_back_races_its_local_transaction() -> Result<()> {
    let (banks, _servers) = banks("checks").await?;
    for bank in banks {
        let mut committed = 0;
        for race in 0..RACES {
            let gid = format!("m-{race}");
            let local = {
                let (bank, gid) = (bank.clone(), gid.clone());
                tokio::spawn(async move {
                    let change = "update account set free = free - 1 where id = 2";
                    bank.pass(Barrier::new(call(&gid, "msg", "00", "msg")), change).await
                })
            };
            if race % 3 > 0 {
                tokio::time::sleep(Duration::from_micros(400 * race as u64)).await;
            }
            let told = loop {
                match bank.check_back(&gid).await {
                    Ok(told) => break told,
                    Err(_broken_off) => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            };
            let happened = local.await?.is_ok();
            assert!(told || !happened, "{bank:?} {gid}: given up, and it happened");
            assert_eq!(bank.check_back(&gid).await?, told, "{bank:?} {gid}: told otherwise again");
            committed += i64::from(told);
        }
        let spent = bank.number("select cast(1000 - free as signed) from account where id = 2");
        let spent = match &bank {
            Bank::MariaDb(_) => spent.await?,
            _ => bank.number("select 1000 - free from account where id = 2").await?,
        };
        assert_eq!(spent, committed, "{bank:?}");
        println!("{committed} of {RACES} were committed");
    }
    Ok(())
}

/// A snapshot that is older than the commit must not make a check-back give the message up.
#[tokio::test]
async fn a_check_back_does_not_answer_from_an_old_snapshot() -> Result<()> {
    let (banks, _servers) = banks("snapshots").await?;
    for bank in banks.into_iter().skip(1) {
        let answer = match &bank {
            Bank::Postgres(pool) => {
                let begin = "begin isolation level repeatable read";
                let mut old = pool.begin_with(begin).await?;
                sqlx::query("select count(*) from account").execute(&mut *old).await?;
                commit_message(&bank).await?;
                barrier::check_back(&mut old, "old").await
            }
            Bank::MariaDb(pool) => {
                let mut old = pool.begin().await?;
                sqlx::query("select count(*) from account").execute(&mut *old).await?;
                commit_message(&bank).await?;
                barrier::check_back(&mut old, "old").await
            }
            Bank::Sqlite(_) => continue,
        };
        // An error is asked about again; "rolled back" would be a lie.
        assert!(!matches!(answer, Ok(false)), "{bank:?}: {answer:?}");
        assert!(bank.check_back("old").await?, "{bank:?}");
    }
    Ok(())
}

async fn commit_message(bank: &Bank) -> Result<()> {
    let change = "update account set free = free - 1 where id = 2";
    let entry = bank.pass(Barrier::new(call("old", "msg", "00", "msg")), change).await;
    assert_eq!(entry.ok().context("the first")?, Entry::Run);
    Ok(())
}

/// Gids that differ by case are two; one that MySQL would cut is refused.
#[tokio::test]
async fn no_two_calls_share_a_row() -> Result<()> {
    let (banks, _servers) = banks("names").await?;
    let change = "update account set free = free - 1 where id = 3";
    for bank in banks {
        for gid in ["Abc", "abc", "abC"] {
            let entry = bank.pass(Barrier::new(call(gid, "tcc", "01", "try")), change).await;
            assert_eq!(entry.ok().context("new")?, Entry::Run, "{bank:?} {gid}");
        }
        for gid in ["g".repeat(129), "abc ".to_owned()] {
            let entry = bank.pass(Barrier::new(call(&gid, "tcc", "01", "try")), change).await;
            let refused = matches!(entry, Err(BranchError::Error(Error::Malformed(_))));
            assert!(refused, "{bank:?} '{gid}': {entry:?}");
        }
    }
    Ok(())
}

/// Old rows go, in several statements; young ones stay; a table of another name works as well.
#[tokio::test]
async fn old_rows_are_removed() -> Result<()> {
    let (banks, _servers) = banks("ages").await?;
    let name = TableName::new("own_barrier")?;
    let week = Duration::from_secs(7 * 86_400);
    for bank in banks {
        match &bank {
            Bank::Postgres(pool) => barrier::postgres::create_table(pool, &name).await?,
            Bank::MariaDb(pool) => barrier::mysql::create_table(pool, &name).await?,
            Bank::Sqlite(pool) => barrier::sqlite::create_table_named(pool, &name).await?,
        }
        insert(&bank, &name, 0..2500).await?;
        bank.run("update own_barrier set create_time = '2020-01-01 00:00:00'").await?;
        insert(&bank, &name, 2500..2510).await?;
        let clean = async |age| match &bank {
            Bank::Postgres(pool) => barrier::postgres::clean(pool, &name, age).await,
            Bank::MariaDb(pool) => barrier::mysql::clean(pool, &name, age).await,
            Bank::Sqlite(pool) => barrier::sqlite::clean(pool, &name, age).await,
        };
        assert!(matches!(clean(Duration::ZERO).await, Err(Error::Malformed(_))), "{bank:?}");
        assert_eq!(clean(week).await?, 2500, "{bank:?}");
        assert_eq!(clean(week).await?, 0, "{bank:?}");
        assert_eq!(bank.number("select count(*) from own_barrier").await?, 10, "{bank:?}");
        // Those are still known.
        let entries = insert(&bank, &name, 2500..2510).await?;
        assert!(entries.iter().all(|entry| *entry == Entry::Repeated), "{bank:?} {entries:?}");
    }
    Ok(())
}

async fn insert(bank: &Bank, name: &TableName, gids: std::ops::Range<u32>) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    each!(bank, pool => {
        let mut transaction = pool.begin().await?;
        for gid in gids {
            let mut barrier = Barrier::new(call(&gid.to_string(), "saga", "01", "action"));
            entries.push(barrier.enter(&mut InTable::new(&mut transaction, name)).await?);
        }
        transaction.commit().await?;
    });
    Ok(entries)
}
