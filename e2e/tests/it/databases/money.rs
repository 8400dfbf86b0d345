//! Transfers between PostgreSQL and MariaDB as TCC, saga and message, many at once, with answers that get lost
//! and senders that fall silent: no money is made or lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{any, get};
use quorate_client::{
    Barrier, BranchCall, BranchError, Coordinator, Done, Error, Message, Options, Saga, SagaStep,
    Tcc, TccBranch,
};
use quorate_e2e::database::{Database, Kind};
use tokio::task::JoinSet;

use super::bank::{ACCOUNTS, BALANCE, Bank};
use super::{Dice, coordinator, outcome, serve};

/// Transfers of each kind.
const TRANSFERS: u64 = 40;
/// Programs that make them.
const WORKERS: u64 = 6;
/// One answer of this many gets lost.
const LOST: u64 = 7;

/// A bank as a service.
#[derive(Clone)]
struct Service {
    bank: Bank,
    answers: Arc<AtomicU64>,
}

/// What a step does to an account.
fn change(step: &str, account: i64, amount: i64) -> Option<String> {
    let set = match step {
        "hold" => format!("free = free - {amount}, frozen = frozen + {amount}"),
        "spend" => format!("frozen = frozen - {amount}"),
        "release" => format!("free = free + {amount}, frozen = frozen - {amount}"),
        "take" => format!("free = free - {amount}"),
        "give" => format!("free = free + {amount}"),
        "look" => "free = free".to_owned(),
        _ => return None,
    };
    let enough = matches!(step, "hold" | "take").then(|| format!(" and free >= {amount}"));
    let enough = enough.unwrap_or_default();
    Some(format!("update account set {set} where id = {account}{enough}"))
}

async fn step(
    State(service): State<Service>,
    Path((step, account, amount)): Path<(String, i64, i64)>,
    call: BranchCall,
) -> Result<Done, BranchError> {
    let change = change(&step, account, amount);
    let change = change.ok_or_else(|| BranchError::Failure(format!("no {step}")))?;
    let _entry = service.bank.pass(Barrier::new(call), &change).await?;
    if service.answers.fetch_add(1, Ordering::Relaxed) % LOST == LOST - 1 {
        // It has happened, and nobody hears of it.
        return Err(Error::Malformed("lost".to_owned()).into());
    }
    Ok(Done)
}

async fn check(State(service): State<Service>, call: BranchCall) -> Result<Done, BranchError> {
    match service.bank.check_back(&call.gid).await? {
        true => Ok(Done),
        false => Err(BranchError::Failure("it did not commit".to_owned())),
    }
}

async fn service(bank: &Bank) -> Result<String> {
    let service = Service { bank: bank.clone(), answers: Arc::default() };
    let router = Router::new()
        .route("/{step}/{account}/{amount}", any(step))
        .route("/check", get(check))
        .with_state(service);
    serve(router).await
}

/// One transfer, and the services that it is between.
#[derive(Clone)]
struct Transfer {
    gid: String,
    from: (Bank, String, i64),
    to: (String, i64),
    amount: i64,
}

impl Transfer {
    fn taker(&self, step: &str) -> String {
        format!("{}/{step}/{}/{}", self.from.1, self.from.2, self.amount)
    }

    fn giver(&self, step: &str) -> String {
        format!("{}/{step}/{}/{}", self.to.0, self.to.1, self.amount)
    }
}

fn options() -> Options {
    Options {
        retry_interval: Duration::from_millis(100),
        timeout_to_fail: Duration::from_secs(2),
        ..Options::default()
    }
}

async fn tcc(coordinator: &Coordinator, transfer: &Transfer) -> Result<(), Error> {
    let mut tcc = Tcc::begin(coordinator, &transfer.gid, options()).await?;
    let branch = |try_url, confirm_url, cancel_url| TccBranch {
        try_url,
        confirm_url,
        cancel_url,
        body: "{}".to_owned(),
    };
    let taker = |step: &str| transfer.taker(step);
    let giver = |step: &str| transfer.giver(step);
    for branch in [
        branch(taker("hold"), taker("spend"), taker("release")),
        branch(giver("look"), giver("give"), giver("look")),
    ] {
        if let Err(why) = tcc.call_branch(&branch).await {
            return tcc.abort(&why.to_string()).await;
        }
    }
    tcc.submit().await
}

/// The step in the middle says no to large amounts.
async fn saga(coordinator: &Coordinator, transfer: &Transfer) -> Result<(), Error> {
    let step =
        |action_url, compensate_url| SagaStep { action_url, compensate_url, body: "{}".to_owned() };
    let middle = if transfer.amount > 200 { "refuse" } else { "look" };
    let saga = Saga::new(&transfer.gid, Options { timeout_to_fail: Duration::ZERO, ..options() })
        .step(step(transfer.taker("take"), transfer.taker("give")))
        .step(step(transfer.giver(middle), String::new()))
        .step(step(transfer.giver("give"), String::new()));
    saga.submit(coordinator).await
}

/// The sender falls silent now and then: before its local transaction, or after it.
async fn message(coordinator: &Coordinator, transfer: &Transfer, fate: u64) -> Result<(), Error> {
    let message = Message::new(&transfer.gid, options()).call(&transfer.giver("give"), "{}");
    message.prepare(coordinator, &format!("{}/check", transfer.from.1)).await?;
    if fate == 0 {
        return Ok(());
    }
    let take = change("take", transfer.from.2, transfer.amount).expect("a step");
    let committed = transfer.from.0.pass(message.barrier(), &take).await;
    match committed {
        _ if fate == 1 => Ok(()),
        Ok(_) => message.submit(coordinator).await,
        Err(BranchError::Failure(_)) => message.abort(coordinator).await,
        // Nobody knows: the check-back finds out.
        Err(_) => Ok(()),
    }
}

async fn work(
    coordinator: Coordinator,
    banks: [(Bank, String); 2],
    worker: u64,
) -> Result<Vec<String>> {
    let mut dice = Dice(worker);
    let mut gids = Vec::new();
    for number in (worker..3 * TRANSFERS).step_by(WORKERS as usize) {
        let (from, to) = if dice.roll(2) == 0 { (0, 1) } else { (1, 0) };
        let account = |dice: &mut Dice| dice.roll(ACCOUNTS as u64) as i64;
        let transfer = Transfer {
            gid: format!("money-{number}"),
            from: (banks[from].0.clone(), banks[from].1.clone(), account(&mut dice)),
            to: (banks[to].1.clone(), account(&mut dice)),
            amount: 1 + dice.roll(300) as i64,
        };
        let done = match number % 3 {
            0 => tcc(&coordinator, &transfer).await,
            1 => saga(&coordinator, &transfer).await,
            _ => message(&coordinator, &transfer, dice.roll(5)).await,
        };
        // An abort or a submit that comes too late is refused; how it ended is looked up below.
        if !matches!(done, Ok(()) | Err(Error::Refused(_))) {
            bail!("{}: {done:?}", transfer.gid);
        }
        gids.push(transfer.gid);
    }
    Ok(gids)
}

#[tokio::test]
async fn is_neither_made_nor_lost() -> Result<()> {
    let Some((_server, _, coordinator)) = coordinator("databases: money")? else { return Ok(()) };
    let Some(postgres) = Database::shared("databases: money", Kind::Postgres)? else {
        return Ok(());
    };
    let Some(mariadb) = Database::shared("databases: money", Kind::MariaDb)? else { return Ok(()) };
    let (a, b) =
        (Bank::postgres(&postgres, "money").await?, Bank::mariadb(&mariadb, "money").await?);
    let banks = [(a.clone(), service(&a).await?), (b.clone(), service(&b).await?)];

    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(work(coordinator.clone(), banks.clone(), worker));
    }
    let mut ends = [[0; 2]; 3];
    while let Some(gids) = workers.join_next().await {
        for gid in gids?? {
            let number: usize = gid.trim_start_matches("money-").parse()?;
            let ended = outcome(&coordinator, &gid).await?.with_context(|| gid.clone())?;
            ends[number % 3][usize::from(ended)] += 1;
        }
    }
    let ((all_a, frozen_a), (all_b, frozen_b)) = (a.sums().await?, b.sums().await?);
    assert_eq!(all_a + all_b, 2 * ACCOUNTS * BALANCE, "{all_a} + {all_b}; {ends:?}");
    assert_eq!((frozen_a, frozen_b), (0, 0), "{ends:?}");
    println!("failed and succeeded: tcc, saga, message: {ends:?}");
    assert!(ends.iter().all(|[failed, succeeded]| *failed > 0 && *succeeded > 0), "{ends:?}");
    Ok(())
}
