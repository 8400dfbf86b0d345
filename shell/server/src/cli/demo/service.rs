//! A participant: an HTTP service with its own SQLite file, and the barrier in the same file.
//!
//! | route | what |
//! |---|---|
//! | `POST /try`, `/confirm`, `/cancel` | the steps of TCC |
//! | `POST /action`, `/compensate` | the steps of a saga |
//! | `POST /told` | what a message says, which cannot be refused |
//! | `POST /can_commit`, `/pre_commit`, `/do_commit`, `/abort` | the steps of three-phase commit |
//! | `POST /message`, `GET /check` | do a deed by message, beginning here |
//! | `POST /workflow`, `/called-back` | run a deed as a workflow |
//! | `POST /create` | a new order (service `order` alone) |
//! | `GET /report` | sums, and what the barrier has seen |
//!
//! A step passes the barrier, makes its change and counts itself in one local transaction. What it knows is
//! in the file alone, so that it may be killed at any moment.

mod bank;
mod delivery;
pub(super) mod message;
mod order;
mod points;
mod stock;
pub(super) mod workflow;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use quorate_client::barrier::create_sqlite_table;
use quorate_client::{
    Barrier, BranchCall, BranchError, Coordinator, Done, Entry, Error, Participant, Told, Workflows,
};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde_json::{Map, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::bank::Leg;
use super::order::Order;
use super::town;
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
    Bank,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Try,
    Confirm,
    Cancel,
    Action,
    Compensate,
    /// Everybody can: nothing is left to be looked at here.
    Ready,
    /// The message is under way: it has happened elsewhere, and has to happen here, too.
    Told,
}

impl Role {
    const ALL: [Self; 5] = [Self::Order, Self::Stock, Self::Points, Self::Delivery, Self::Bank];

    pub(in crate::cli::demo) fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Stock => "stock",
            Self::Points => "points",
            Self::Delivery => "delivery",
            Self::Bank => "bank",
        }
    }

    /// Statements that make its tables.
    fn schema(self) -> &'static [&'static str] {
        match self {
            Self::Order => order::SCHEMA,
            Self::Stock => stock::SCHEMA,
            Self::Points => points::SCHEMA,
            Self::Delivery => delivery::SCHEMA,
            Self::Bank => bank::SCHEMA,
        }
    }

    /// What it says of itself: statements that give one number each.
    fn sums(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Order => order::SUMS,
            Self::Stock => stock::SUMS,
            Self::Points => points::SUMS,
            Self::Delivery => delivery::SUMS,
            Self::Bank => bank::SUMS,
        }
    }
}

impl Step {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "try" | "can_commit" => Self::Try,
            "pre_commit" => Self::Ready,
            "confirm" | "do_commit" => Self::Confirm,
            "cancel" | "abort" => Self::Cancel,
            "action" => Self::Action,
            "compensate" => Self::Compensate,
            "told" => Self::Told,
            _ => return None,
        })
    }
}

type Change<'a> = Transaction<'a, Sqlite>;

/// `quorate demo-service PARENT ROLE flags`: a participant, or a server, that ends with the demo.
pub(super) fn main(args: &[String]) -> Result<(), Fatal> {
    let [parent, name, rest @ ..] = args else {
        return Err(Fatal::Usage("demo-service is started by quorate demo".to_owned()));
    };
    // So that nothing is left behind if the demo itself is killed, be it in this moment.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Fatal::Runtime(format!("cannot follow the demo: {error}")))?;
    if getppid().is_none_or(|pid| pid.as_raw_nonzero().to_string() != *parent) {
        return Err(Fatal::Usage("demo-service ends with the demo that started it".to_owned()));
    }
    if name == "server" {
        return crate::cli::serve::serve(Persona::Quorate, rest);
    }
    let role = Role::ALL.into_iter().find(|role| role.name() == name);
    let role = role.ok_or_else(|| Fatal::Usage(format!("demo-service: no role '{name}'")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fatal::Runtime(error.to_string()))?;
    runtime.block_on(serve(role, Settings::read(rest)?))
}

/// What a participant is told at its start.
#[derive(Debug, Default)]
struct Settings {
    db: PathBuf,
    port: u16,
    fill: u32,
    /// Addresses of the servers.
    dtm: Vec<String>,
}

impl Settings {
    fn read(args: &[String]) -> Result<Self, Fatal> {
        let mut settings = Self::default();
        for given in flags::split(args)? {
            let value = given.value.unwrap_or_default();
            let wrong = |_| Fatal::Usage(format!("demo-service: '{value}'?"));
            match given.name.as_str() {
                "db" => settings.db = PathBuf::from(value),
                "port" => settings.port = value.parse().map_err(wrong)?,
                "fill" => settings.fill = value.parse().map_err(wrong)?,
                "dtm" => settings.dtm = value.split(',').map(str::to_owned).collect(),
                other => return Err(Fatal::Usage(format!("demo-service: --{other}?"))),
            }
        }
        if settings.dtm.is_empty() {
            return Err(Fatal::Usage("demo-service: --dtm URLS".to_owned()));
        }
        Ok(settings)
    }
}

/// Serves until it is killed.
async fn serve(role: Role, settings: Settings) -> Result<(), Fatal> {
    let Settings { db, port, fill, dtm } = settings;
    let failed = |error: Error| Fatal::Runtime(format!("{}: {error}", db.display()));
    let pool = open(role, &db, u64::from(fill)).await.map_err(failed)?;
    let listener = listen(port).await?;
    let service = Service::new(role, pool, &dtm, format!("http://127.0.0.1:{port}"));
    let mut router = Router::new()
        .route("/report", get(report))
        .route("/{step}", post(step))
        .route("/message", post(message::begin))
        .route("/check", get(message::check))
        .route("/workflow", post(workflow::begin))
        .route("/called-back", post(workflow::called_back));
    if role == Role::Order {
        router = router.route("/create", post(create));
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
async fn open(role: Role, db: &Path, fill: u64) -> Result<SqlitePool, Error> {
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
    match role {
        Role::Stock => insert(&mut change, stock::NEW_ROW, stock::rows(fill)).await?,
        Role::Bank => insert(&mut change, bank::NEW_ROW, bank::rows(fill)).await?,
        _ => {}
    }
    change.commit().await?;
    Ok(pool)
}

/// Rows that are there at first; those that are there already stay as they are.
async fn insert<const N: usize>(
    change: &mut Change<'_>,
    statement: &'static str,
    rows: impl Iterator<Item = [i64; N]>,
) -> Result<(), Error> {
    for row in rows {
        let statement = row.into_iter().fold(sqlx::query(statement), sqlx::query::Query::bind);
        statement.execute(&mut **change).await?;
    }
    Ok(())
}

#[derive(Clone)]
struct Service {
    role: Role,
    pool: SqlitePool,
    coordinator: Coordinator,
    /// Its own address.
    own: String,
    workflows: Arc<Workflows>,
}

impl Service {
    fn new(role: Role, pool: SqlitePool, dtm: &[String], own: String) -> Self {
        let coordinator = town::coordinator(dtm);
        let workflows = Arc::new(workflow::all(&coordinator, &own));
        Self { role, pool, coordinator, own, workflows }
    }
}

/// One step of a global transaction.
async fn step(
    State(service): State<Service>,
    Segment(name): Segment<String>,
    call: BranchCall,
    body: Bytes,
) -> Result<Done, BranchError> {
    let step = Step::named(&name).ok_or_else(|| malformed(format!("no step '{name}'")))?;
    let gid = call.gid.clone();
    let mut change = service.pool.begin().await?;
    let (runs, seen) = enter(&mut change, call).await?;
    if runs {
        let done = carry_out(service.role, step, &mut change, &gid, &body).await;
        if let Err(why) = done {
            change.rollback().await?;
            return Err(why);
        }
    }
    sqlx::query("insert into seen values (?, 1) on conflict (what) do update set n = n + 1")
        .bind(seen)
        .execute(&mut *change)
        .await?;
    change.commit().await?;
    Ok(Done)
}

/// Passes the barrier; whether the step is to be carried out, and how that is counted.
async fn enter(
    change: &mut Change<'_>,
    call: BranchCall,
) -> Result<(bool, &'static str), BranchError> {
    if call.trans_type == "3pc" {
        let told = Participant::new(call).enter(change).await?;
        let seen = match told {
            Told::Run => "run",
            Told::Empty => "empty",
            Told::Repeated | Told::Refused | Told::Split => "repeated",
        };
        return Ok((told.is_run()?, seen));
    }
    Ok(match Barrier::new(call).enter(change).await? {
        Entry::Run => (true, "run"),
        Entry::Repeated => (false, "repeated"),
        Entry::Empty => (false, "empty"),
        Entry::Late => (false, "late"),
    })
}

/// The change of one step, behind the barrier.
async fn carry_out(
    role: Role,
    step: Step,
    change: &mut Change<'_>,
    gid: &str,
    body: &[u8],
) -> Result<(), BranchError> {
    if role == Role::Bank {
        let leg = Leg::read(body).ok_or_else(|| malformed("a transfer was expected".to_owned()))?;
        return bank::step(step, change, gid, &leg).await;
    }
    let order = Order::read(body).ok_or_else(|| malformed("an order was expected".to_owned()))?;
    match role {
        Role::Order => order::step(step, change, gid, &order).await,
        Role::Stock => stock::step(step, change, gid, &order).await,
        Role::Points => points::step(step, change, gid, &order).await,
        Role::Delivery => delivery::step(step, change, gid, &order).await,
        Role::Bank => unreachable!("a bank has returned above"),
    }
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

/// Goes on even if whoever asked does not wait for the end.
async fn on_its_own(
    deed: impl Future<Output = Result<Done, BranchError>> + Send + 'static,
) -> Result<Done, BranchError> {
    let ended = tokio::spawn(deed).await;
    ended.unwrap_or_else(|error| Err(malformed(error.to_string())))
}

fn malformed(why: String) -> BranchError {
    BranchError::Error(Error::Malformed(why))
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
