//! The barrier over Redis: the same races, and refusals that leave nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use quorate_client::redis_barrier::{Adjust, RedisBarrier, check_back};
use quorate_client::{BranchError, Entry, Error};
use quorate_e2e::database::{Database, Kind};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;

use super::bank::call;

const DAY: Duration = Duration::from_secs(86_400);

async fn start() -> Result<Option<(Database, MultiplexedConnection)>> {
    let Some(server) = Database::start("databases: barrier over Redis", Kind::Redis, false)? else {
        return Ok(None);
    };
    let client = redis::Client::open(server.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let _: () = connection.mset(&[("account", 1000), ("frozen", 0)]).await?;
    Ok(Some((server, connection)))
}

fn shift(amount: i64) -> [Adjust<'static>; 2] {
    let floor = (amount > 0).then_some(0);
    [
        Adjust { key: "account", amount: -amount, floor },
        Adjust { key: "frozen", amount, floor: None },
    ]
}

async fn pass(
    connection: &mut MultiplexedConnection,
    gid: &str,
    op: &str,
    amount: i64,
) -> Result<Entry, BranchError> {
    RedisBarrier::new(call(gid, "tcc", "01", op), DAY).adjust(connection, &shift(amount)).await
}

#[tokio::test]
async fn tries_and_cancels_race() -> Result<()> {
    let Some((_server, mut connection)) = start().await? else { return Ok(()) };
    for race in 0..60 {
        let gid = format!("race-{race}");
        let mut calls = JoinSet::new();
        for number in 0..6 {
            let op = if (number + race) % 2 == 0 { "try" } else { "cancel" };
            let (mut connection, gid) = (connection.clone(), gid.clone());
            let amount = if op == "try" { 7 } else { -7 };
            calls.spawn(async move { (op, pass(&mut connection, &gid, op, amount).await) });
        }
        let entries = calls.join_all().await;
        let ran = |op: &str| {
            entries
                .iter()
                .filter(|(of, entry)| *of == op && matches!(entry, Ok(Entry::Run)))
                .count()
        };
        assert!(entries.iter().all(|(_, entry)| entry.is_ok()), "{entries:?}");
        assert!(ran("try") <= 1 && ran("cancel") == ran("try"), "{entries:?}");
        let late = pass(&mut connection, &gid, "try", 7).await.ok().context("an entry")?;
        assert!(!late.is_run(), "{gid}: a try ran after its cancel");
        let sums: (i64, i64) = connection.mget(&["account", "frozen"]).await?;
        assert_eq!(sums, (1000, 0), "{gid}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_call_leaves_nothing() -> Result<()> {
    let Some((_server, mut connection)) = start().await? else { return Ok(()) };
    let keys = |connection: &MultiplexedConnection| {
        let mut connection = connection.clone();
        async move { connection.keys::<_, Vec<String>>("*").await }
    };
    assert!(matches!(pass(&mut connection, "g", "try", 1001).await, Err(BranchError::Failure(_))));
    assert_eq!(keys(&connection).await?.len(), 2, "no mark");
    let absent = Adjust { key: "nobody", amount: 1, floor: Some(0) };
    let mut barrier = RedisBarrier::new(call("g", "saga", "01", "action"), DAY);
    // The first change alone would do.
    let both = [shift(5)[0], absent];
    assert!(matches!(barrier.adjust(&mut connection, &both).await, Err(BranchError::Failure(_))));
    assert_eq!(connection.get::<_, i64>("account").await?, 1000);
    let _: () = connection.set("word", "twelve").await?;
    let word = Adjust { key: "word", amount: 1, floor: None };
    let mut barrier = RedisBarrier::new(call("g", "saga", "01", "action"), DAY);
    let broken = barrier.adjust(&mut connection, &[shift(5)[0], word]).await;
    assert!(matches!(broken, Err(BranchError::Error(Error::Redis(_)))), "{broken:?}");
    assert_eq!(connection.get::<_, i64>("account").await?, 1000);
    assert_eq!(keys(&connection).await?.len(), 3, "no mark");
    // The same gid is still free to be tried.
    assert!(matches!(pass(&mut connection, "g", "try", 1000).await, Ok(Entry::Run)));
    assert!(matches!(pass(&mut connection, "g", "try", 1000).await, Ok(Entry::Repeated)));
    Ok(())
}

#[tokio::test]
async fn a_check_back_settles_a_message() -> Result<()> {
    let Some((_server, mut connection)) = start().await? else { return Ok(()) };
    let local = |gid: &'static str| RedisBarrier::new(call(gid, "msg", "00", "msg"), DAY);
    assert!(!check_back(&mut connection, "late", DAY).await?);
    let settled = local("late").adjust(&mut connection, &shift(1)).await;
    assert!(matches!(settled, Err(BranchError::Error(Error::Settled))), "{settled:?}");
    let entry = local("done").adjust(&mut connection, &shift(1)).await;
    assert!(matches!(entry, Ok(Entry::Run)), "{entry:?}");
    assert!(check_back(&mut connection, "done", DAY).await?);
    assert!(!check_back(&mut connection, "late", DAY).await?);
    assert_eq!(connection.get::<_, i64>("account").await?, 999);
    let time_to_live: i64 = connection.ttl("done-00-msg-01").await?;
    assert!((86_000..=86_400).contains(&time_to_live), "{time_to_live}");
    Ok(())
}
