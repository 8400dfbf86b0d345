//! Money from PostgreSQL to MariaDB by XA: both databases keep the change ready, then both commit it, or neither.
//!
//! ```text
//! cargo run -p quorate-client --features postgres,mysql --example transfer -- \
//!     postgres://USER@HOST/DATABASE mysql://USER@HOST/DATABASE [http://127.0.0.1:36789/api/dtmsvr]
//! ```
//!
//! PostgreSQL needs `max_prepared_transactions` above 0. The table `xa_account` is made in both.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use quorate_client::barrier::{TableName, mysql, postgres};
use quorate_client::{BranchError, Coordinator, Done, Error, Options, Xa, XaBranch, XaCall};
use sqlx::{AssertSqlSafe, MySql, MySqlPool, PgPool, Postgres};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error>;

const ACCOUNT: &str =
    "create table if not exists xa_account (id int primary key, amount bigint not null)";
const OPEN: &str = "insert into xa_account select 1, 100
    where not exists (select 1 from xa_account where id = 1)";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second, rest @ ..] = arguments.as_slice() else {
        return Err("addresses of a PostgreSQL and of a MariaDB or MySQL database".into());
    };
    let dtm = rest.first().map_or("http://127.0.0.1:36789/api/dtmsvr", String::as_str);
    let coordinator = Coordinator::new(dtm);

    let pool = PgPool::connect(first).await?;
    postgres::create_table(&pool, &TableName::default()).await?;
    for statement in [ACCOUNT, OPEN] {
        sqlx::query(statement).execute(&pool).await?;
    }
    let route = Router::new().route("/{amount}", post(over_postgres));
    let from = serve(route.with_state(XaBranch::new(pool.clone(), &coordinator))).await?;

    let other = MySqlPool::connect(second).await?;
    mysql::create_table(&other, &TableName::default()).await?;
    for statement in [ACCOUNT, OPEN] {
        sqlx::query(statement).execute(&other).await?;
    }
    let route = Router::new().route("/{amount}", post(over_mysql));
    let to = serve(route.with_state(XaBranch::new(other.clone(), &coordinator))).await?;

    for amount in [30, 1000] {
        let gid = coordinator.new_gid().await?;
        match transfer(&coordinator, &gid, [&from, &to], amount).await {
            Ok(()) => println!("{amount}: transferred"),
            Err(why) => println!("{amount}: {why}"),
        }
        let select = "select amount from xa_account where id = 1";
        let left: i64 = sqlx::query_scalar(select).fetch_one(&pool).await?;
        let right: i64 = sqlx::query_scalar(select).fetch_one(&other).await?;
        println!("  PostgreSQL has {left}, MariaDB has {right}");
    }
    Ok(())
}

/// Both changes or none.
async fn transfer(
    coordinator: &Coordinator,
    gid: &str,
    [from, to]: [&str; 2],
    amount: i64,
) -> Result<(), Error> {
    let options = Options { wait_result: true, ..Options::default() };
    let mut xa = Xa::begin(coordinator, gid, options).await?;
    for url in [format!("{from}/{}", -amount), format!("{to}/{amount}")] {
        if let Err(why) = xa.call_branch(&url, "").await {
            xa.abort(&why.to_string()).await?;
            return Err(why);
        }
    }
    xa.submit().await
}

fn change(amount: i64) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "update xa_account set amount = amount + {amount} where id = 1 and amount + {amount} >= 0"
    ))
}

/// One address for the action, the commit and the rollback.
async fn over_postgres(
    State(branch): State<XaBranch<Postgres>>,
    Path(amount): Path<i64>,
    call: XaCall,
) -> Result<Done, BranchError> {
    if call.is_second_phase() {
        return branch.finish(&call).await;
    }
    let Some(mut local) = branch.begin(&call).await? else { return Ok(Done) };
    let changed = sqlx::query(change(amount)).execute(local.connection()).await?;
    if changed.rows_affected() == 0 {
        return Err(BranchError::Failure("there is not as much".to_owned()));
    }
    local.prepare().await
}

async fn over_mysql(
    State(branch): State<XaBranch<MySql>>,
    Path(amount): Path<i64>,
    call: XaCall,
) -> Result<Done, BranchError> {
    if call.is_second_phase() {
        return branch.finish(&call).await;
    }
    let Some(mut local) = branch.begin(&call).await? else { return Ok(Done) };
    let changed = sqlx::query(change(amount)).execute(local.connection()).await?;
    if changed.rows_affected() == 0 {
        return Err(BranchError::Failure("there is not as much".to_owned()));
    }
    local.prepare().await
}

async fn serve(router: Router) -> Result<String, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let base = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(base)
}
