//! A participant: an HTTP service with its own SQLite file, and the barrier in the same file.
//!
//! | route | what |
//! |---|---|
//! | `POST /try`, `/confirm`, `/cancel` | the steps of TCC |
//! | `POST /action`, `/compensate` | the steps of a saga |
//! | `POST /buy` | what a message asks of the stock |
//! | `POST /create`, `/message`, `GET /check` | a new order; pay it by message (service `order` alone) |
//! | `GET /report` | sums, and what the barrier has seen |
//!
//! A step passes the barrier, makes its change and counts itself in one local transaction. What it knows is
//! in the file alone, so that it may be killed at any moment.

mod delivery;
pub(super) mod message;
mod order;
mod points;
mod stock;

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use quorate_client::barrier::create_sqlite_table;
use quorate_client::{Barrier, BranchCall, BranchError, Done, Entry, Error};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::{Map, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::plan::Order;
use crate::config::Persona;
use crate::config::flags;
use crate::exit::Fatal;

/// How long a port may still be taken by the process that was killed.
const BIND_TRIES: u32 = 100;
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::demo) enum Role {
    Order,
    Stock,
    Points,
    Delivery,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Try,
    Confirm,
    Cancel,
    Action,
    Compensate,
    /// For an order that was paid by message.
    Buy,
}

impl Role {
    pub(in crate::cli::demo) const ALL: [Self; 4] =
        [Self::Order, Self::Stock, Self::Points, Self::Delivery];

    pub(in crate::cli::demo) fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Stock => "stock",
            Self::Points => "points",
            Self::Delivery => "delivery",
        }
    }

    /// Statements that make its tables.
    fn schema(self) -> &'static [&'static str] {
        match self {
            Self::Order => order::SCHEMA,
            Self::Stock => stock::SCHEMA,
            Self::Points => points::SCHEMA,
            Self::Delivery => delivery::SCHEMA,
        }
    }

    /// What it says of itself: statements that give one number each.
    fn sums(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Order => order::SUMS,
            Self::Stock => stock::SUMS,
            Self::Points => points::SUMS,
            Self::Delivery => delivery::SUMS,
        }
    }
}

impl Step {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "try" => Self::Try,
            "confirm" => Self::Confirm,
            "cancel" => Self::Cancel,
            "action" => Self::Action,
            "compensate" => Self::Compensate,
            "buy" => Self::Buy,
            _ => return None,
        })
    }
}

type Change<'a> = Transaction<'a, Sqlite>;

/// `quorate demo-service ROLE flags`: a participant, or the server, that ends with the demo.
pub(super) fn main(args: &[String]) -> Result<(), Fatal> {
    // So that nothing is left behind if the demo itself is killed.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Fatal::Runtime(format!("cannot follow the demo: {error}")))?;
    let Some((name, rest)) = args.split_first() else {
        return Err(Fatal::Usage("demo-service is started by quorate demo".to_owned()));
    };
    if name == "server" {
        return crate::cli::serve::serve(Persona::Quorate, rest);
    }
    let role = Role::ALL.into_iter().find(|role| role.name() == name);
    let role = role.ok_or_else(|| Fatal::Usage(format!("demo-service: no role '{name}'")))?;
    let (mut db, mut port, mut stock) = (None, 0, 0);
    for given in flags::split(rest)? {
        let value = given.value.unwrap_or_default();
        let number = || value.parse().map_err(|_| Fatal::Usage(format!("'{value}'?")));
        match given.name.as_str() {
            "db" => db = Some(value),
            "port" => port = number()?,
            "stock" => stock = i64::from(number()?),
            other => return Err(Fatal::Usage(format!("demo-service: --{other}?"))),
        }
    }
    let db = db.ok_or_else(|| Fatal::Usage("demo-service: --db FILE".to_owned()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fatal::Runtime(error.to_string()))?;
    runtime.block_on(serve(role, Path::new(&db), port as u16, stock))
}

/// Serves until it is killed.
async fn serve(role: Role, db: &Path, port: u16, stock: i64) -> Result<(), Fatal> {
    let failed = |error: Error| Fatal::Runtime(format!("{}: {error}", role.name()));
    let pool = open(role, db, stock).await.map_err(failed)?;
    let listener = listen(port).await?;
    let service = Service { role, pool };
    let mut router = Router::new().route("/report", get(report)).route("/{step}", post(step));
    if role == Role::Order {
        router = router
            .route("/create", post(create))
            .route("/message", post(message::pay))
            .route("/check", get(message::check));
    }
    let served = axum::serve(listener, router.with_state(service)).await;
    served.map_err(|error| Fatal::Runtime(error.to_string()))
}

async fn listen(port: u16) -> Result<TcpListener, Fatal> {
    let mut tries = 0;
    loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if tries == BIND_TRIES => {
                return Err(Fatal::Runtime(format!("port {port}: {error}")));
            }
            Err(_) => sleep(BIND_PAUSE).await,
        }
        tries += 1;
    }
}

/// Opens the file, and makes the tables if they are not there.
async fn open(role: Role, db: &Path, stock: i64) -> Result<SqlitePool, Error> {
    let file = SqliteConnectOptions::new()
        .filename(db)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    // SQLite has one writer at a time anyway: queueing here is fairer than its waiting.
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(file).await?;
    create_sqlite_table(&pool).await?;
    let mut change = pool.begin().await?;
    sqlx::query("create table if not exists seen (what text primary key, n integer not null)")
        .execute(&mut *change)
        .await?;
    for statement in role.schema() {
        sqlx::query(*statement).execute(&mut *change).await?;
    }
    if role == Role::Stock {
        stock::fill(&mut change, stock).await?;
    }
    change.commit().await?;
    Ok(pool)
}

#[derive(Clone)]
struct Service {
    role: Role,
    pool: SqlitePool,
}

/// One step of a global transaction.
async fn step(
    State(service): State<Service>,
    Segment(name): Segment<String>,
    call: BranchCall,
    body: Bytes,
) -> Result<Done, BranchError> {
    let step = Step::named(&name).ok_or_else(|| malformed(format!("no step '{name}'")))?;
    let order = Order::read(&body).ok_or_else(|| malformed("an order was expected".to_owned()))?;
    let gid = call.gid.clone();
    let mut change = service.pool.begin().await?;
    let entry = Barrier::new(call).enter(&mut change).await?;
    if entry.is_run() {
        let done = match service.role {
            Role::Order => order::step(step, &mut change, &gid, &order).await,
            Role::Stock => stock::step(step, &mut change, &gid, &order).await,
            Role::Points => points::step(step, &mut change, &gid, &order).await,
            Role::Delivery => delivery::step(step, &mut change, &gid, &order).await,
        };
        if let Err(why) = done {
            change.rollback().await?;
            return Err(why);
        }
    }
    let seen = match entry {
        Entry::Run => "run",
        Entry::Repeated => "repeated",
        Entry::Empty => "empty",
        Entry::Late => "late",
    };
    sqlx::query("insert into seen values (?, 1) on conflict (what) do update set n = n + 1")
        .bind(seen)
        .execute(&mut *change)
        .await?;
    change.commit().await?;
    Ok(Done)
}

/// A new order, unless it is there.
async fn create(State(service): State<Service>, body: Bytes) -> Result<Done, BranchError> {
    let order = Order::read(&body).ok_or_else(|| malformed("an order was expected".to_owned()))?;
    order::create(&service.pool, &order).await?;
    Ok(Done)
}

async fn report(State(service): State<Service>) -> Result<String, (StatusCode, String)> {
    let failed = |error: sqlx::Error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let mut read = service.pool.begin().await.map_err(failed)?;
    let mut report = Map::new();
    for (name, statement) in service.role.sums() {
        let sum: Option<i64> =
            sqlx::query_scalar(*statement).fetch_one(&mut *read).await.map_err(failed)?;
        report.insert((*name).to_owned(), sum.unwrap_or(0).into());
    }
    let seen: Vec<(String, i64)> =
        sqlx::query_as("select what, n from seen").fetch_all(&mut *read).await.map_err(failed)?;
    report.extend(seen.into_iter().map(|(what, n)| (what, n.into())));
    Ok(Value::Object(report).to_string())
}

fn malformed(why: String) -> BranchError {
    BranchError::Error(Error::Malformed(why))
}

fn no_such_step(step: Step) -> BranchError {
    malformed(format!("no step {step:?} here"))
}

/// A statement that must change exactly one row: else the books are wrong, and the call is repeated until
/// somebody looks.
async fn must_change_one(
    change: &mut Change<'_>,
    statement: sqlx::query::Query<'_, Sqlite, sqlx::sqlite::SqliteArguments>,
    what: &str,
) -> Result<(), BranchError> {
    match statement.execute(&mut **change).await?.rows_affected() {
        1 => Ok(()),
        n => Err(malformed(format!("{what}: {n} rows instead of one"))),
    }
}

#[cfg(test)]
mod tests;
