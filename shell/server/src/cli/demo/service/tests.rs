//! The books of each service, step by step, over a real file.

use super::*;
use crate::cli::demo::bank::{ACCOUNTS, Way};
use crate::cli::demo::order::{ITEMS, pieces_of};

const ORDER: Order = Order { number: 7, customer: 3, item: 2, pieces: 2, points: 20 };

struct Desk {
    service: Service,
    _folder: tempfile::TempDir,
}

async fn desk(role: Role, fill: u64) -> Desk {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = open(role, &folder.path().join("db"), fill).await.expect("a database");
    if role == Role::Order {
        order::create(&pool, &ORDER).await.expect("an order");
    }
    let service = Service::new(role, pool, &["http://nobody".to_owned()], String::new());
    Desk { service, _folder: folder }
}

impl Desk {
    async fn told(&self, gid: &str, op: &str, body: String) -> Result<Done, BranchError> {
        let call = BranchCall {
            gid: gid.to_owned(),
            trans_type: if op.contains('_') { "3pc" } else { "tcc" }.to_owned(),
            branch_id: "01".to_owned(),
            op: op.to_owned(),
            dtm: String::new(),
        };
        step(State(self.service.clone()), Segment(op.to_owned()), call, Bytes::from(body)).await
    }

    async fn step(&self, gid: &str, op: &str) -> Result<Done, BranchError> {
        self.told(gid, op, ORDER.json()).await
    }

    async fn transfer(&self, op: &str, leg: Leg) -> Result<Done, BranchError> {
        self.told(&format!("t{}", leg.transfer), op, leg.json()).await
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
    let others = (0..ITEMS).filter(|item| *item != ORDER.item);
    let elsewhere: u64 = others.map(|item| pieces_of(item, 3)).sum();
    let elsewhere = elsewhere as i64;
    assert_eq!(desk.sums(&names).await, [elsewhere + 1, 2, 0, 1]);
    desk.step("b", "cancel").await.expect("empty");
    desk.step("a", "confirm").await.expect("sold");
    desk.step("a", "confirm").await.expect("repeated");
    assert_eq!(desk.sums(&names).await, [elsewhere + 1, 0, 2, 0]);
    assert_eq!(desk.sums(&["run", "repeated", "empty", "late"]).await, [2, 1, 1, 0]);
}

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
async fn three_phases_do_what_two_do() {
    let desk = desk(Role::Points, 0).await;
    for op in ["can_commit", "can_commit", "pre_commit", "do_commit", "do_commit"] {
        desk.step("a", op).await.expect("done");
    }
    assert_eq!(desk.sums(&["points", "pre_added", "run", "repeated"]).await, [20, 0, 3, 2]);
    let early = desk.step("b", "do_commit").await;
    assert!(matches!(early, Err(BranchError::Error(_))), "{early:?}");
}

#[tokio::test]
async fn an_empty_cancel_keeps_a_late_try_out() {
    let desk = desk(Role::Points, 0).await;
    desk.step("a", "cancel").await.expect("empty");
    desk.step("a", "try").await.expect("late, and no error");
    assert_eq!(desk.sums(&["pre_added", "empty", "late"]).await, [0, 1, 1]);
}

const OUT: Leg = Leg { transfer: 1, way: Way::Out, account: 3, amount: 400 };
const IN: Leg = Leg { transfer: 2, way: Way::In, account: 4, amount: 70 };
const MONEY: [&str; 4] = ["balance", "frozen", "announced", "aside"];

#[tokio::test]
async fn a_bank_gives_back_what_it_froze() {
    let all = 1000 * (ACCOUNTS as i64 - 1);
    for (leg, forward, back, during) in [
        (OUT, "try", "cancel", [all - 400, 400, 0, 0]),
        (OUT, "action", "compensate", [all - 400, 0, 0, 0]),
        (IN, "try", "cancel", [all, 0, 70, 0]),
        (IN, "action", "compensate", [all + 70, 0, 0, 0]),
    ] {
        let desk = desk(Role::Bank, 1000).await;
        desk.transfer(forward, leg).await.expect("done");
        assert_eq!(desk.sums(&MONEY).await, during, "{leg:?} {forward}");
        desk.transfer(back, leg).await.expect("undone");
        desk.transfer(forward, leg).await.expect("too late, and no error");
        assert_eq!(desk.sums(&MONEY).await, [all, 0, 0, 0], "{leg:?} {back}");
        assert_eq!(desk.sums(&["in", "out"]).await, [0, 0]);
    }
}

#[tokio::test]
async fn a_bank_books_a_confirmed_transfer_once() {
    let all = 1000 * (ACCOUNTS as i64 - 1);
    let desk = desk(Role::Bank, 1000).await;
    for leg in [OUT, IN] {
        for op in ["try", "confirm", "confirm"] {
            desk.transfer(op, leg).await.expect("done");
        }
    }
    assert_eq!(desk.sums(&MONEY).await, [all - 400 + 70, 0, 0, 0]);
    let names = ["out", "in", "amounts_out", "amounts_in", "numbers_out", "numbers_in"];
    assert_eq!(desk.sums(&names).await, [1, 1, 400, 70, 1, 2]);
}

#[tokio::test]
async fn a_bank_refuses_overdrafts_and_closed_accounts() {
    let desk = desk(Role::Bank, 1000).await;
    let closed = ACCOUNTS - 1;
    for (op, leg) in [
        ("try", Leg { amount: 1001, ..OUT }),
        ("action", Leg { amount: 1001, ..OUT }),
        ("told", Leg { amount: 1001, ..OUT }),
        ("try", Leg { account: closed, ..IN }),
        ("action", Leg { account: closed, ..IN }),
        ("try", Leg { account: ACCOUNTS, ..IN }),
    ] {
        let refused = desk.transfer(op, leg).await;
        assert!(matches!(refused, Err(BranchError::Failure(_))), "{op} {leg:?}: {refused:?}");
    }
    desk.transfer("told", Leg { account: closed, ..IN }).await.expect("put aside");
    assert_eq!(desk.sums(&["aside", "in"]).await, [70, 1]);
}
