//! Stock and points as two services with SQLite and the branch barrier, and one order that changes both.
//!
//! ```text
//! cargo run -p quorate-client --example order [http://127.0.0.1:36789/api/dtmsvr]
//! ```

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use quorate_client::barrier::create_sqlite_table;
use quorate_client::{
    Barrier, BranchCall, BranchError, Coordinator, Done, Error, Options, Tcc, TccBranch,
};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let dtm = std::env::args().nth(1);
    let dtm = dtm.unwrap_or_else(|| "http://127.0.0.1:36789/api/dtmsvr".to_owned());
    let coordinator = Coordinator::new(&dtm);
    let stock = serve("stock", 5).await?;
    let points = serve("points", 1000).await?;

    for pieces in [2, 9] {
        let gid = coordinator.new_gid().await?;
        match order(&coordinator, &gid, &[(&stock, pieces), (&points, 10 * pieces)]).await {
            Ok(()) => println!("{pieces} pieces: ordered"),
            Err(why) => println!("{pieces} pieces: {why}"),
        }
        println!("  {gid} is {:?}", coordinator.status(&gid).await?);
    }
    Ok(())
}

/// Takes the amounts from both services, or from neither.
async fn order(coordinator: &Coordinator, gid: &str, amounts: &[(&str, i64)]) -> Result<(), Error> {
    let options = Options { wait_result: true, ..Options::default() };
    let mut tcc = Tcc::begin(coordinator, gid, options).await?;
    for (base, amount) in amounts {
        let branch = TccBranch {
            try_url: format!("{base}/try"),
            confirm_url: format!("{base}/confirm"),
            cancel_url: format!("{base}/cancel"),
            body: amount.to_string(),
        };
        if let Err(why) = tcc.call_branch(&branch).await {
            tcc.abort(&why.to_string()).await?;
            return Err(why);
        }
    }
    tcc.submit().await
}

/// A service with this much to give away; its address.
async fn serve(name: &str, amount: i64) -> Result<String, Failure> {
    let file = std::env::temp_dir().join(format!("{name}-{}.sqlite", std::process::id()));
    let file = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(file).await?;
    create_sqlite_table(&pool).await?;
    sqlx::query(
        "create table if not exists account (free integer check (free >= 0), frozen integer)",
    )
    .execute(&pool)
    .await?;
    sqlx::query("insert into account values (?, 0)").bind(amount).execute(&pool).await?;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let base = format!("http://{}", listener.local_addr()?);
    let router = Router::new().route("/{step}", post(step)).with_state(pool);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(base)
}

/// One step of a global transaction: barrier and change in one local transaction.
async fn step(
    State(pool): State<SqlitePool>,
    Path(step): Path<String>,
    call: BranchCall,
    amount: String,
) -> Result<Done, BranchError> {
    let amount: i64 = amount.parse().map_err(|_| BranchError::Failure("no amount".to_owned()))?;
    let change = match step.as_str() {
        "try" => "update account set free = free - ?1, frozen = frozen + ?1 where free >= ?1",
        "confirm" => "update account set frozen = frozen - ?1",
        "cancel" => "update account set free = free + ?1, frozen = frozen - ?1",
        _ => return Err(BranchError::Failure("no such step".to_owned())),
    };
    let mut transaction = pool.begin().await?;
    if Barrier::new(call).enter(&mut transaction).await?.is_run() {
        let done = sqlx::query(change).bind(amount).execute(&mut *transaction).await?;
        if done.rows_affected() == 0 {
            // Dropping the transaction rolls it back: the barrier forgets this call, too.
            return Err(BranchError::Failure(format!("there are no {amount}")));
        }
    }
    transaction.commit().await?;
    Ok(Done)
}
