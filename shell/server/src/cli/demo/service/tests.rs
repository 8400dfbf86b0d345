//! The books of each service, step by step, over a real file.

use super::*;

const ORDER: Order = Order { number: 7, customer: 3, item: 2, pieces: 2, points: 20 };

struct Desk {
    service: Service,
    _folder: tempfile::TempDir,
}

async fn desk(role: Role, pieces: i64) -> Desk {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = open(role, &folder.path().join("db"), pieces).await.expect("a database");
    if role == Role::Order {
        order::create(&pool, &ORDER).await.expect("an order");
    }
    Desk { service: Service { role, pool }, _folder: folder }
}

impl Desk {
    async fn step(&self, gid: &str, op: &str) -> Result<Done, BranchError> {
        let call = BranchCall {
            gid: gid.to_owned(),
            trans_type: "tcc".to_owned(),
            branch_id: "01".to_owned(),
            op: op.to_owned(),
            dtm: String::new(),
        };
        let body = Bytes::from(ORDER.json());
        step(State(self.service.clone()), Segment(op.to_owned()), call, body).await
    }

    async fn sums(&self, names: &[&str]) -> Vec<i64> {
        let report = report(State(self.service.clone())).await.expect("a report");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        names.iter().map(|name| report[name].as_i64().unwrap_or(0)).collect()
    }
}

#[tokio::test]
async fn a_confirm_consumes_its_own_reservation() {
    let desk = desk(Role::Stock, 3).await;
    desk.step("a", "try").await.expect("reserved");
    let refused = desk.step("b", "try").await;
    assert!(matches!(refused, Err(BranchError::Failure(_))), "{refused:?}");
    let names = ["available", "frozen", "sold", "reservations"];
    let elsewhere = 3 * (ITEMS_ELSE);
    assert_eq!(desk.sums(&names).await, [elsewhere + 1, 2, 0, 1]);
    desk.step("b", "cancel").await.expect("empty");
    desk.step("a", "confirm").await.expect("sold");
    desk.step("a", "confirm").await.expect("repeated");
    assert_eq!(desk.sums(&names).await, [elsewhere + 1, 0, 2, 0]);
    assert_eq!(desk.sums(&["run", "repeated", "empty", "late"]).await, [2, 1, 1, 0]);
}

const ITEMS_ELSE: i64 = super::super::plan::ITEMS as i64 - 1;

#[tokio::test]
async fn an_order_is_paid_once() {
    let desk = desk(Role::Order, 0).await;
    desk.step("a", "try").await.expect("being paid");
    assert!(matches!(desk.step("b", "try").await, Err(BranchError::Failure(_))));
    desk.step("a", "confirm").await.expect("paid");
    assert!(matches!(desk.step("c", "try").await, Err(BranchError::Failure(_))));
    assert!(matches!(desk.step("c", "action").await, Err(BranchError::Failure(_))));
    desk.step("b", "cancel").await.expect("empty: its try has changed nothing");
    assert_eq!(desk.sums(&["PAYED", "UPDATING", "pieces", "points"]).await, [1, 0, 2, 20]);
}

#[tokio::test]
async fn what_is_undone_leaves_nothing() {
    for (role, names) in [
        (Role::Stock, &["frozen", "sold", "reservations"][..]),
        (Role::Points, &["points", "pre_added"]),
        (Role::Delivery, &["notes", "prepared"]),
        (Role::Order, &["PAYED", "UPDATING"]),
    ] {
        for (forward, back) in [("try", "cancel"), ("action", "compensate")] {
            let desk = desk(role, 9).await;
            desk.step("a", forward).await.expect("done");
            desk.step("a", back).await.expect("undone");
            desk.step("a", forward).await.expect("too late, and no error");
            assert_eq!(desk.sums(names).await, vec![0; names.len()], "{role:?} {forward}");
        }
    }
}

#[tokio::test]
async fn an_empty_cancel_keeps_a_late_try_out() {
    let desk = desk(Role::Points, 0).await;
    desk.step("a", "cancel").await.expect("empty");
    desk.step("a", "try").await.expect("late, and no error");
    assert_eq!(desk.sums(&["pre_added", "empty", "late"]).await, [0, 1, 1]);
}
