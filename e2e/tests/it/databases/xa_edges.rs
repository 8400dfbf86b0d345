//! XA's corners, one at a time, over PostgreSQL and MariaDB: calls that come twice, too early or too late, and
//! what operators leave behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quorate_client::xa::{Outcome, Sweeper, Swept, Verdict, XaDatabase, Xid};
use quorate_client::{BranchError, Coordinator, Done, Error, Options, Xa, XaBranch, XaCall};
use quorate_e2e::database::{Database, Kind};
use quorate_e2e::http1::send;
use quorate_e2e::server::Server;
use serde_json::json;
use sqlx::{Connection, MySql};

use super::bank::{Bank, call};
use super::coordinator;
use super::xa::Banks;

/// Servers and banks of one test.
struct Setting {
    _server: Server,
    endpoint: String,
    coordinator: Coordinator,
    _databases: [std::sync::Arc<Database>; 2],
    banks: Banks,
}

async fn setting(name: &str) -> Result<Option<Setting>> {
    let suite = "databases: XA";
    let Some((server, endpoint, coordinator)) = coordinator(suite)? else { return Ok(None) };
    let Some(postgres) = Database::shared(suite, Kind::Postgres)? else { return Ok(None) };
    let Some(mariadb) = Database::shared(suite, Kind::MariaDb)? else { return Ok(None) };
    let banks = Banks::new(&postgres, &mariadb, name, &coordinator).await?;
    let databases = [postgres, mariadb];
    Ok(Some(Setting { _server: server, endpoint, coordinator, _databases: databases, banks }))
}

fn xa_call(gid: &str, op: &str) -> XaCall {
    let phase2_url = (op == "action").then(|| "http://127.0.0.1:9/never".to_owned());
    XaCall { step: call(gid, "xa", "01", op), phase2_url }
}

async fn begin(coordinator: &Coordinator, gid: &str) -> Result<()> {
    Xa::begin(coordinator, gid, Options::default()).await?;
    Ok(())
}

fn is_failure<T: std::fmt::Debug>(result: &Result<T, BranchError>) -> bool {
    matches!(result, Err(BranchError::Failure(_)))
}

/// The life of a branch with every call repeated and some in the wrong order.
async fn life<D: XaDatabase>(
    name: &str,
    branch: &XaBranch<D>,
    coordinator: &Coordinator,
) -> Result<()> {
    let gid = format!("{name}-commit");
    begin(coordinator, &gid).await?;
    let early = branch.finish(&xa_call(&gid, "commit")).await;
    assert!(is_failure(&early), "{name}: nothing to commit: {early:?}");
    let local = branch.begin(&xa_call(&gid, "action")).await?.context("new")?;
    local.prepare().await?;
    assert!(branch.begin(&xa_call(&gid, "action")).await?.is_none(), "{name}: prepared already");
    assert_eq!(branch.finish(&xa_call(&gid, "commit")).await?, Done);
    assert_eq!(branch.finish(&xa_call(&gid, "commit")).await?, Done, "{name}: again");
    assert!(branch.begin(&xa_call(&gid, "action")).await?.is_none(), "{name}: committed already");
    let contradiction = branch.finish(&xa_call(&gid, "rollback")).await;
    assert!(is_failure(&contradiction), "{name}: committed: {contradiction:?}");

    let gid = format!("{name}-back");
    begin(coordinator, &gid).await?;
    branch.begin(&xa_call(&gid, "action")).await?.context("new")?.prepare().await?;
    assert_eq!(branch.finish(&xa_call(&gid, "rollback")).await?, Done);
    assert_eq!(branch.finish(&xa_call(&gid, "rollback")).await?, Done, "{name}: again");

    // The rollback overtakes the action.
    let gid = format!("{name}-late");
    begin(coordinator, &gid).await?;
    assert_eq!(branch.finish(&xa_call(&gid, "rollback")).await?, Done);
    let late = branch.begin(&xa_call(&gid, "action")).await;
    assert!(is_failure(&late.map(drop)), "{name}: rolled back before");
    Ok(())
}

/// A rollback while the action is at work waits, gives up, and finds it prepared the next time.
async fn overtaken<D: XaDatabase>(
    name: &str,
    branch: &XaBranch<D>,
    coordinator: &Coordinator,
) -> Result<()> {
    let branch = branch.clone();
    let gid = format!("{name}-overtaken");
    begin(coordinator, &gid).await?;
    let local = branch.begin(&xa_call(&gid, "action")).await?.context("new")?;
    let again = branch.begin(&xa_call(&gid, "action")).await;
    assert!(again.is_err(), "{name}: the same action twice at once");
    let early = branch.finish(&xa_call(&gid, "rollback")).await;
    assert!(matches!(early, Err(BranchError::Error(_))), "{name}: {early:?}");
    local.prepare().await?;
    assert_eq!(branch.finish(&xa_call(&gid, "rollback")).await?, Done);
    let late = branch.begin(&xa_call(&gid, "action")).await;
    assert!(is_failure(&late.map(drop)), "{name}: rolled back");
    Ok(())
}

/// Names that could end a string are refused before anything is sent.
async fn quoted<D: XaDatabase>(branch: &XaBranch<D>, coordinator: &Coordinator) {
    let gid = "a'; drop table account; --";
    let result = Xa::begin(coordinator, gid, Options::default()).await;
    assert!(matches!(result, Err(Error::Malformed(_))), "{result:?}");
    for op in ["commit", "rollback"] {
        let result = branch.finish(&xa_call(gid, op)).await;
        assert!(matches!(result, Err(BranchError::Error(Error::Malformed(_)))), "{result:?}");
    }
    let result = branch.begin(&xa_call(gid, "action")).await.map(drop);
    assert!(matches!(result, Err(BranchError::Error(Error::Malformed(_)))), "{result:?}");
}

#[tokio::test]
async fn calls_come_twice_early_and_late() -> Result<()> {
    let Some(setting) = setting("corners").await? else { return Ok(()) };
    let (banks, coordinator) = (&setting.banks, &setting.coordinator);
    life("pg", &banks.over_postgres, coordinator).await?;
    life("my", &banks.over_mariadb, coordinator).await?;
    overtaken("pg", &banks.over_postgres, coordinator).await?;
    overtaken("my", &banks.over_mariadb, coordinator).await?;
    quoted(&banks.over_postgres, coordinator).await;
    quoted(&banks.over_mariadb, coordinator).await;
    Ok(())
}

/// PostgreSQL takes PREPARE for ROLLBACK where a statement has failed, and says nothing.
#[tokio::test]
async fn a_failed_statement_is_not_prepared_away() -> Result<()> {
    let Some(setting) = setting("failed").await? else { return Ok(()) };
    begin(&setting.coordinator, "failed").await?;
    let branch = &setting.banks.over_postgres;
    let mut local = branch.begin(&xa_call("failed", "action")).await?.context("new")?;
    let wrong = sqlx::query("select 1 / 0").execute(local.connection()).await;
    assert!(wrong.is_err());
    let prepared = local.prepare().await;
    assert!(matches!(prepared, Err(BranchError::Error(_))), "{prepared:?}");
    Ok(())
}

/// MySQL hides what is prepared from others while its session lives: a commit must not take that for done.
#[tokio::test]
async fn a_commit_waits_for_the_session_that_prepared() -> Result<()> {
    let Some(setting) = setting("sessions").await? else { return Ok(()) };
    let Bank::MariaDb(pool) = &setting.banks.mariadb else { unreachable!() };
    let xid = Xid::new("sessions", "01")?;
    let mut session =
        <MySql as sqlx::Database>::Connection::connect_with(&pool.connect_options()).await?;
    assert!(MySql::start(&mut session, &xid).await?);
    sqlx::query("update account set free = free - 1 where id = 1").execute(&mut session).await?;
    MySql::prepare(&mut session, &xid).await?;
    let mut other = pool.acquire().await?;
    let seen = MySql::end(&mut other, Verdict::Commit, &xid).await?;
    println!("another session could commit at once: {seen}");
    if seen {
        return Ok(());
    }
    let branch = setting.banks.over_mariadb.clone();
    let commit = tokio::spawn(async move { branch.finish(&xa_call("sessions", "commit")).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!commit.is_finished(), "it was taken for done");
    session.close().await?;
    assert_eq!(commit.await??, Done);
    let free = "select free from account where id = 1";
    assert_eq!(setting.banks.mariadb.number(free).await?, 999);
    Ok(())
}

/// An operator stops a transaction, and nobody is told: the sweeper ends what is prepared, and nothing else.
#[tokio::test]
async fn the_sweeper_ends_what_an_operator_left() -> Result<()> {
    let Some(setting) = setting("sweeps").await? else { return Ok(()) };
    let (banks, coordinator) = (&setting.banks, &setting.coordinator);
    for gid in ["stopped", "open"] {
        begin(coordinator, gid).await?;
        for result in [
            banks
                .over_postgres
                .begin(&xa_call(gid, "action"))
                .await?
                .context("new")?
                .prepare()
                .await,
            {
                let mut second = xa_call(gid, "action");
                second.step.branch_id = "02".to_owned();
                banks.over_mariadb.begin(&second).await?.context("new")?.prepare().await
            },
        ] {
            result?;
        }
    }
    let stop = json!({ "gid": "stopped" }).to_string();
    let answer = send(&setting.endpoint, "POST", "/api/dtmsvr/forceStop", &stop)?;
    ensure!(answer.status == 200, "{answer:?}");
    let (mut over_postgres, mut over_mariadb) =
        (Sweeper::new(&banks.over_postgres), Sweeper::new(&banks.over_mariadb));
    let hour = Duration::from_secs(3600);
    assert_eq!(over_postgres.sweep(hour).await?, [], "nothing is an hour old");
    assert_eq!(over_mariadb.sweep(hour).await?, []);
    sweep_once(&mut over_postgres).await?;
    sweep_once(&mut over_mariadb).await?;
    for (gid, branch_id) in [("open", "01"), ("open", "02")] {
        let left: Vec<String> = banks.prepared().await?.into_iter().map(|one| one.name).collect();
        assert!(left.contains(&format!("{gid}-{branch_id}")), "{left:?}");
        assert!(!left.contains(&format!("stopped-{branch_id}")), "{left:?}");
    }
    assert_eq!(banks.over_postgres.finish(&xa_call("open", "rollback")).await?, Done);
    let mut second = xa_call("open", "rollback");
    second.step.branch_id = "02".to_owned();
    assert_eq!(banks.over_mariadb.finish(&second).await?, Done);
    Ok(())
}

async fn sweep_once<D: XaDatabase>(sweeper: &mut Sweeper<D>) -> Result<()> {
    let swept = sweeper.sweep(Duration::ZERO).await?;
    let of = |gid: &str| -> Vec<&Swept> { swept.iter().filter(|s| s.xid.gid() == gid).collect() };
    let (stopped, open) = (of("stopped"), of("open"));
    ensure!(stopped.len() == 1 && stopped[0].outcome == Outcome::RolledBack, "{swept:?}");
    ensure!(open.len() == 1 && matches!(open[0].outcome, Outcome::Left(_)), "{swept:?}");
    Ok(())
}
