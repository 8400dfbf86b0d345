//! The barrier against every order of calls, over the real table and over a map.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::*;

/// The table as a map: what the database's must be equal to.
#[derive(Default)]
struct Map(BTreeMap<[String; 4], String>);

fn key(row: Row<'_>) -> [String; 4] {
    [row.gid, row.branch_id, row.op, row.barrier_id].map(str::to_owned)
}

impl BarrierTable for Map {
    async fn claim(&mut self, row: Row<'_>) -> Result<bool, Error> {
        let free = !self.0.contains_key(&key(row));
        self.0.entry(key(row)).or_insert_with(|| row.reason.to_owned());
        Ok(free)
    }

    async fn reason(&mut self, row: Row<'_>) -> Result<Option<String>, Error> {
        Ok(self.0.get(&key(row)).cloned())
    }
}

fn barrier(op: &str) -> Barrier {
    Barrier::new(BranchCall {
        gid: "g".to_owned(),
        trans_type: "tcc".to_owned(),
        branch_id: "01".to_owned(),
        op: op.to_owned(),
        dtm: String::new(),
    })
}

async fn entries(table: &mut impl BarrierTable, ops: &[&str]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for op in ops {
        entries.push(barrier(op).enter(table).await.expect("no database error"));
    }
    entries
}

async fn pool(folder: &tempfile::TempDir) -> sqlx::SqlitePool {
    let file = SqliteConnectOptions::new().filename(folder.path().join("db"));
    let options = SqlitePoolOptions::new().max_connections(1);
    let pool = options.connect_with(file.create_if_missing(true)).await.expect("a database");
    create_sqlite_table(&pool).await.expect("the table");
    pool
}

#[tokio::test]
async fn calls_in_order_run_once() {
    let mut table = Map::default();
    let seen = entries(&mut table, &["try", "try", "confirm", "confirm"]).await;
    assert_eq!(seen, [Entry::Run, Entry::Repeated, Entry::Run, Entry::Repeated]);
}

#[tokio::test]
async fn a_cancel_before_its_try_is_empty_and_the_try_is_late() {
    let mut table = Map::default();
    let seen = entries(&mut table, &["cancel", "try", "cancel"]).await;
    assert_eq!(seen, [Entry::Empty, Entry::Late, Entry::Repeated]);
    let mut table = Map::default();
    let seen = entries(&mut table, &["try", "cancel", "try"]).await;
    assert_eq!(seen, [Entry::Run, Entry::Run, Entry::Repeated]);
}

#[tokio::test]
async fn two_changes_in_one_request_have_two_rows() {
    let mut table = Map::default();
    let mut request = barrier("try");
    assert_eq!(request.enter(&mut table).await.unwrap(), Entry::Run);
    assert_eq!(request.enter(&mut table).await.unwrap(), Entry::Run);
    let mut again = barrier("try");
    assert_eq!(again.enter(&mut table).await.unwrap(), Entry::Repeated);
    assert_eq!(again.enter(&mut table).await.unwrap(), Entry::Repeated);
}

#[tokio::test]
async fn a_message_is_settled_once_either_way() {
    let mut table = Map::default();
    assert!(!check_back(&mut table, "g").await.unwrap());
    let late = Barrier::new(BranchCall { branch_id: "00".into(), ..barrier("msg").call().clone() });
    assert!(matches!(late.clone().enter(&mut table).await, Err(Error::Settled)));
    let mut table = Map::default();
    assert_eq!(late.clone().enter(&mut table).await.unwrap(), Entry::Run);
    assert!(check_back(&mut table, "g").await.unwrap());
}

/// All sequences of four calls give the same entries over SQLite as over the map.
#[tokio::test]
async fn sqlite_is_a_map() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = pool(&folder).await;
    let ops = ["try", "confirm", "cancel"];
    for number in 0..81_usize {
        let sequence: Vec<&str> = (0..4).map(|at| ops[number / 3_usize.pow(at) % 3]).collect();
        let wanted = entries(&mut Map::default(), &sequence).await;
        let mut transaction = pool.begin().await.expect("a transaction");
        assert_eq!(entries(&mut transaction, &sequence).await, wanted, "{sequence:?}");
        transaction.rollback().await.expect("rolled back");
    }
}

#[tokio::test]
async fn a_call_that_was_rolled_back_has_not_happened() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = pool(&folder).await;
    let mut transaction = pool.begin().await.expect("a transaction");
    assert_eq!(barrier("try").enter(&mut transaction).await.unwrap(), Entry::Run);
    drop(transaction);
    let mut transaction = pool.begin().await.expect("a transaction");
    assert_eq!(barrier("try").enter(&mut transaction).await.unwrap(), Entry::Run);
    transaction.commit().await.expect("committed");
    let mut transaction = pool.begin().await.expect("a transaction");
    assert_eq!(barrier("try").enter(&mut transaction).await.unwrap(), Entry::Repeated);
}
