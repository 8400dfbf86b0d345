//! Histories that are wrong, made by hand: each has to be caught, and its right twin not.

use std::sync::Arc;

use quorate_global_txn::{Body, Config, GlobalTxn, Input, Now, Output, Refused, RequestId};
use quorate_kv::{Event, KeyValue, Op as KvOp, RangeResult, Revision};

use super::*;

/// A prepared TCC without branches, as the machine itself writes it.
fn prepared() -> Record {
    let mut machine = GlobalTxn::new(Config::default(), 1);
    let body = Body { gid: "g".to_owned(), trans_type: "tcc".to_owned(), ..Body::default() };
    let request = Request::Prepare(Box::new(body));
    let mut out = Vec::new();
    let asked = Input::Request { id: RequestId(1), request };
    machine.step(Now::default(), asked, &mut out).expect("a request");
    let Some(Output::Range { id, .. }) = out.pop() else { panic!("it reads first") };
    let empty = RangeResult { revision: Revision(1), kvs: Vec::new(), more: false, count: 0 };
    let found = Input::Range { id, result: empty };
    machine.step(Now::default(), found, &mut out).expect("nothing found");
    let Some(Output::Txn { txn, .. }) = out.pop() else { panic!("then it writes") };
    let Some(KvOp::Put(put)) = txn.success.first() else { panic!("the record first") };
    Record::decode(&put.value).expect("it wrote it")
}

/// This node writes a key at this index.
fn put(index: u64, node: u64, key: &'static str, value: Bytes) -> Internal {
    let kv = KeyValue {
        key: Bytes::from_static(key.as_bytes()),
        create_revision: Revision(1),
        mod_revision: Revision(index as i64),
        version: 1,
        value,
        lease: quorate_kv::LeaseId(0),
    };
    let events = Arc::from([Event { kind: EventKind::Put, kv, prev_kv: None }]);
    let (keyspace, revision) = (quorate_global_txn::KEYSPACE, Revision(index as i64));
    let origin = Origin { node: NodeId(node), boot: 1, seq: index };
    Internal { index, origin, batch: EventBatch { keyspace, revision, events } }
}

fn record(index: u64, status: Status) -> Internal {
    put(index, 1, "g/g", Record { status, ..prepared() }.encode())
}

/// What the checker says of a log, the first complaint.
fn learn(log: &[Internal]) -> (GlobalTxns, Result<(), String>) {
    let mut check = GlobalTxns::default();
    let result = check.learn(log).into_iter().try_for_each(|(_, result)| result);
    (check, result)
}

fn named(op: &str) -> Named {
    let own = |text: &str| text.to_owned();
    Named { gid: own("g"), kind: own("tcc"), branch_id: own("01"), op: own(op) }
}

#[test]
fn decisions_that_are_taken_back_are_caught() {
    use Status::{Aborting, Failed, Prepared, Submitted, Succeed};
    let went = |statuses: &[Status]| {
        let log: Vec<Internal> =
            statuses.iter().zip(1..).map(|(status, index)| record(index, *status)).collect();
        learn(&log).1.is_ok()
    };
    assert!(went(&[Prepared, Submitted, Succeed]) && went(&[Prepared, Aborting, Failed]));
    assert!(!went(&[Prepared, Submitted, Aborting]), "a TCC that was submitted");
    assert!(!went(&[Prepared, Aborting, Succeed]) && !went(&[Submitted, Succeed, Failed]));
    let forced = Record { is_forced: true, ..prepared() }.encode();
    assert!(learn(&[put(1, 1, "g/g", forced)]).1.is_err(), "by nobody");
}

#[test]
fn calls_without_a_reason_and_of_others_are_caught() {
    let log = [put(1, 1, "own/0", Bytes::new()), record(2, Status::Prepared)];
    let (check, _) = learn(&[log.to_vec(), vec![record(5, Status::Submitted)]].concat());
    let may = |node, applied, op| check.may_call(NodeId(node), applied, &named(op)).is_ok();
    assert!(may(1, (4, 5), "confirm") && may(1, (5, 9), "confirm"));
    assert!(!may(1, (3, 4), "confirm"), "it has not applied the decision");
    assert!(!may(1, (5, 9), "cancel") && !may(2, (5, 9), "confirm"));
    let deposed = [log.to_vec(), vec![put(3, 2, "own/0", Bytes::new())]].concat();
    let (check, _) = learn(&deposed);
    assert!(check.may_call(NodeId(1), (2, 3), &named("msg")).is_ok(), "it hears of it just now");
    assert!(check.may_call(NodeId(1), (3, 3), &named("msg")).is_err());
}

#[test]
fn answers_are_written_down_by_the_owner_alone() {
    let own = put(1, 1, "own/0", Bytes::new());
    assert!(learn(&[own.clone(), put(2, 1, "log/g\0\0\0\0\0", Bytes::new())]).1.is_ok());
    assert!(learn(&[own, put(2, 2, "log/g\0\0\0\0\0", Bytes::new())]).1.is_err());
}

#[test]
fn what_clients_are_told_must_be_so() {
    let submit = || {
        let body = Body { gid: "g".to_owned(), trans_type: "tcc".to_owned(), ..Body::default() };
        Request::Submit(Box::new(body))
    };
    assert!(GlobalTxns::default().told(&submit(), &Reply::Done).is_err(), "nothing is in the log");
    let (mut check, _) = learn(&[record(1, Status::Prepared)]);
    assert!(check.told(&submit(), &Reply::Done).is_err());
    let (mut check, _) = learn(&[record(1, Status::Submitted)]);
    assert!(check.told(&submit(), &Reply::Done).is_ok());
    let refused = Refused::failure("no").at(Status::Failed);
    assert!(check.told(&submit(), &Reply::Refused(refused)).is_err(), "it has not failed");
    assert!(check.unfinished().is_some());
}

#[test]
fn halves_and_lost_money_are_caught() {
    let submitted = record(1, Status::Submitted);
    let (check, _) = learn(&[submitted, record(2, Status::Succeed)]);
    let mut service = Service::new(100, false);
    let is_fine = |service: &Service| {
        let verdicts = check.at_the_end(std::slice::from_ref(service), 100);
        verdicts.into_iter().all(|(_, result)| result.is_ok())
    };
    assert!(is_fine(&service));
    service.reserved = 5;
    assert!(!is_fine(&service), "held back for nobody");
    (service.reserved, service.balance) = (0, 99);
    assert!(!is_fine(&service), "one is lost");
    service.balance = 100;
    let branch = Branch { effects: vec!["try".to_owned()], ..Branch::default() };
    service.branches.insert(("g".to_owned(), "01".to_owned()), branch);
    assert!(!is_fine(&service), "tried, and never confirmed");
}
