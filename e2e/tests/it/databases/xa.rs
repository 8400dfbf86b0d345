//! XA transfers between PostgreSQL and MariaDB while either database or the coordinator is killed: each is
//! carried out in both or in neither, and nothing stays prepared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use quorate_client::xa::{Prepared, XaDatabase};
use quorate_client::{
    BranchError, Coordinator, Done, Error, Options, Patience, Xa, XaBranch, XaCall,
};
use quorate_e2e::database::{Database, Kind};
use quorate_e2e::limits::RECOVERY;
use quorate_e2e::server::Server;
use sqlx::{AssertSqlSafe, MySql, Postgres};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bank::{ACCOUNTS, BALANCE, Bank};
use super::{Dice, coordinator, outcome, serve};

/// Kills at random moments.
const KILLS: u64 = 6;
/// Programs that make transfers meanwhile.
const WORKERS: u64 = 4;

/// A branch as its author writes it: one address for the action and both ends.
macro_rules! transfer_of {
    ($name:ident, $database:ty) => {
        pub(super) async fn $name(
            State(branch): State<XaBranch<$database>>,
            Path((account, amount)): Path<(i64, i64)>,
            call: XaCall,
        ) -> Result<Done, BranchError> {
            if call.is_second_phase() {
                return branch.finish(&call).await;
            }
            let Some(mut local) = branch.begin(&call).await? else { return Ok(Done) };
            let change = format!(
                "update account set free = free + {amount} where id = {account} and free + {amount} >= 0"
            );
            let changed = sqlx::raw_sql(AssertSqlSafe(change)).execute(local.connection()).await?;
            if changed.rows_affected() == 0 {
                return Err(BranchError::Failure("not enough".to_owned()));
            }
            let gid = &call.step.gid;
            let note = format!("insert into done values ('{gid}', {amount})");
            sqlx::raw_sql(AssertSqlSafe(note)).execute(local.connection()).await?;
            local.prepare().await
        }
    };
}

transfer_of!(over_postgres, Postgres);
transfer_of!(over_mariadb, MySql);

/// Both banks as services.
pub(super) struct Banks {
    pub(super) postgres: Bank,
    pub(super) mariadb: Bank,
    pub(super) over_postgres: XaBranch<Postgres>,
    pub(super) over_mariadb: XaBranch<MySql>,
    /// Addresses, in that order.
    pub(super) urls: [String; 2],
}

impl Banks {
    pub(super) async fn new(
        postgres: &Database,
        mariadb: &Database,
        name: &str,
        coordinator: &Coordinator,
    ) -> Result<Self> {
        let (a, b) = (Bank::postgres(postgres, name).await?, Bank::mariadb(mariadb, name).await?);
        let (Bank::Postgres(pool_a), Bank::MariaDb(pool_b)) = (&a, &b) else { unreachable!() };
        let wait = Duration::from_secs(1);
        let over_postgres = XaBranch::new(pool_a.clone(), coordinator).lock_wait(wait);
        let over_mariadb = XaBranch::new(pool_b.clone(), coordinator).lock_wait(wait);
        let path = "/{account}/{amount}";
        let route = Router::new().route(path, post(self::over_postgres));
        let first = serve(route.with_state(over_postgres.clone())).await?;
        let route = Router::new().route(path, post(self::over_mariadb));
        let second = serve(route.with_state(over_mariadb.clone())).await?;
        Ok(Self { postgres: a, mariadb: b, over_postgres, over_mariadb, urls: [first, second] })
    }

    /// How often this transaction was carried out in each bank.
    pub(super) async fn done(&self, gid: &str) -> Result<(i64, i64)> {
        let count = format!("select count(*) from done where gid = '{gid}'");
        Ok((self.postgres.number(&count).await?, self.mariadb.number(&count).await?))
    }

    /// What both databases have prepared.
    pub(super) async fn prepared(&self) -> Result<Vec<Prepared>> {
        let (Bank::Postgres(a), Bank::MariaDb(b)) = (&self.postgres, &self.mariadb) else {
            unreachable!()
        };
        let mut all = Postgres::prepared(&mut *a.acquire().await?).await?;
        all.extend(MySql::prepared(&mut *b.acquire().await?).await?);
        Ok(all)
    }
}

fn options(timeout_to_fail: Duration) -> Options {
    Options {
        retry_interval: Duration::from_millis(200),
        timeout_to_fail,
        request_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

/// Moves money from one bank to the other; prepared in both when this returns `Ok`.
async fn act(banks: [&str; 2], xa: &mut Xa, account: i64, amount: i64) -> Result<(), Error> {
    xa.call_branch(&format!("{}/{account}/{}", banks[0], -amount), "").await?;
    xa.call_branch(&format!("{}/{account}/{amount}", banks[1]), "").await?;
    Ok(())
}

struct Machines {
    coordinator: Server,
    postgres: Database,
    mariadb: Database,
}

impl Machines {
    fn kill(&mut self, victim: u64) -> Result<()> {
        match victim {
            0 => self.postgres.kill9(),
            1 => self.mariadb.kill9(),
            _ => self.coordinator.kill9(),
        }
    }

    fn restart(&mut self, victim: u64) -> Result<()> {
        match victim {
            0 => self.postgres.restart(),
            1 => self.mariadb.restart(),
            _ => self.coordinator.restart(),
        }
    }

    /// Kills whom chance picks, when chance says, and starts it again.
    fn haunt(mut self) -> Result<Self> {
        let mut dice = Dice(11);
        for kill in 0..KILLS {
            std::thread::sleep(Duration::from_millis(150 + dice.roll(400)));
            self.kill(kill % 3)?;
            std::thread::sleep(Duration::from_millis(dice.roll(300)));
            self.restart(kill % 3)?;
        }
        std::thread::sleep(Duration::from_millis(300));
        Ok(self)
    }
}

/// One transfer after the other until told to stop; their names. Errors are what the kills are for.
async fn work(
    coordinator: Coordinator,
    urls: [String; 2],
    worker: u64,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let mut dice = Dice(worker);
    let mut gids = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let gid = format!("xa-{worker}-{}", gids.len());
        gids.push(gid.clone());
        let ends = if dice.roll(2) == 0 { [0, 1] } else { [1, 0] };
        let (account, amount) = (dice.roll(ACCOUNTS as u64) as i64, 1 + dice.roll(300) as i64);
        let options = options(Duration::from_secs(3));
        let Ok(mut xa) = Xa::begin(&coordinator, &gid, options).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let ends = ends.map(|end: usize| urls[end].as_str());
        let _may_fail = match act(ends, &mut xa, account, amount).await {
            Ok(()) => xa.submit().await,
            Err(why) => xa.abort(&why.to_string()).await,
        };
    }
    gids
}

#[tokio::test]
async fn kills_leave_all_or_nothing() -> Result<()> {
    let suite = "databases: XA under kills";
    let Some((server, _, coordinator)) = coordinator(suite)? else { return Ok(()) };
    let Some(postgres) = Database::start(suite, Kind::Postgres, true)? else { return Ok(()) };
    let Some(mariadb) = Database::start(suite, Kind::MariaDb, true)? else { return Ok(()) };
    let patience = Patience { total: Duration::from_secs(3), pause: Duration::from_millis(50) };
    let coordinator = coordinator.with_patience(patience);
    let banks = Banks::new(&postgres, &mariadb, "kills", &coordinator).await?;
    let mut machines = Machines { coordinator: server, postgres, mariadb };

    let begun = Instant::now();
    for victim in 0..3 {
        for commit in [true, false] {
            machines =
                between_prepare_and_end(machines, &banks, &coordinator, victim, commit).await?;
        }
    }

    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (coordinator, urls) = (coordinator.clone(), banks.urls.clone());
        workers.spawn(work(coordinator, urls, worker, Arc::clone(&stop)));
    }
    println!("killed between prepare and end: {} ms", begun.elapsed().as_millis());
    let machines = tokio::task::spawn_blocking(|| machines.haunt()).await??;
    println!("killed at random: {} ms", begun.elapsed().as_millis());
    stop.store(true, Ordering::Relaxed);
    let gids: Vec<String> = workers.join_all().await.into_iter().flatten().collect();
    let patience = Patience { total: RECOVERY, pause: Duration::from_millis(50) };
    settle(&banks, &coordinator.with_patience(patience), &gids).await?;
    println!("settled: {} ms", begun.elapsed().as_millis());
    drop(machines);
    Ok(())
}

/// Both branches are prepared; then one of the three dies, before it is told how it ends.
async fn between_prepare_and_end(
    mut machines: Machines,
    banks: &Banks,
    coordinator: &Coordinator,
    victim: u64,
    commit: bool,
) -> Result<Machines> {
    let gid = format!("between-{victim}-{commit}");
    // Whoever starts it waits for as long as the victim is away, and the coordinator waits for the decision.
    let patience = Patience { total: RECOVERY, pause: Duration::from_millis(50) };
    let patient = coordinator.clone().with_patience(patience);
    let mut xa = Xa::begin(&patient, &gid, options(2 * RECOVERY)).await?;
    act([&banks.urls[0], &banks.urls[1]], &mut xa, 0, 10).await?;
    assert_eq!(banks.prepared().await?.len(), 2, "{gid}");
    machines.kill(victim)?;
    let decide =
        tokio::spawn(
            async move { if commit { xa.submit().await } else { xa.abort("by plan").await } },
        );
    tokio::time::sleep(Duration::from_millis(250)).await;
    let restart = move || machines.restart(victim).map(|()| machines);
    let machines = tokio::task::spawn_blocking(restart).await??;
    decide.await?.with_context(|| gid.clone())?;
    try_now(&patient).await?;
    assert_eq!(outcome(&patient, &gid).await?, Some(commit), "{gid}");
    let times = i64::from(commit);
    assert_eq!(banks.done(&gid).await?, (times, times), "{gid}");
    assert_eq!(banks.prepared().await?, [], "{gid}");
    Ok(machines)
}

/// What an operator does after an outage.
async fn try_now(coordinator: &Coordinator) -> Result<()> {
    coordinator.get("resetCronTime?timeout=0&limit=10000").await?;
    Ok(())
}

async fn settle(banks: &Banks, coordinator: &Coordinator, gids: &[String]) -> Result<()> {
    try_now(coordinator).await?;
    let (mut carried_out, mut not) = (0, 0);
    for gid in gids {
        let times = match outcome(coordinator, gid).await? {
            Some(true) => 1,
            Some(false) | None => 0,
        };
        let done = banks.done(gid).await?;
        assert_eq!(done, (times, times), "{gid}: {}", coordinator.query(gid).await?);
        if times == 1 { carried_out += 1 } else { not += 1 }
    }
    println!("{carried_out} transfers carried out, {not} not");
    ensure!(carried_out > 5 && not > 0, "{carried_out} and {not}: nothing was tested");
    assert_eq!(banks.prepared().await?, []);
    let (a, b) = (banks.postgres.sums().await?.0, banks.mariadb.sums().await?.0);
    assert_eq!(a + b, 2 * ACCOUNTS * BALANCE, "{a} + {b}");
    Ok(())
}
