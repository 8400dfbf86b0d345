//! A participant against every order of calls and silences.

use std::collections::BTreeMap;

use super::*;
use crate::barrier::{BarrierTable, Row};
use crate::branch::BranchCall;

/// The table as a map.
#[derive(Clone, Default)]
struct Table(BTreeMap<String, String>);

impl BarrierTable for Table {
    async fn claim(&mut self, row: Row<'_>) -> Result<bool, Error> {
        let free = !self.0.contains_key(row.op);
        self.0.entry(row.op.to_owned()).or_insert_with(|| row.reason.to_owned());
        Ok(free)
    }

    async fn reason(&mut self, row: Row<'_>) -> Result<Option<String>, Error> {
        Ok(self.0.get(row.op).cloned())
    }
}

async fn told(table: &mut Table, op: &str) -> Result<Told, Error> {
    let text = |text: &str| text.to_owned();
    let (gid, trans_type, branch_id) = (text("g"), text("3pc"), text("01"));
    let call = BranchCall { gid, trans_type, branch_id, op: text(op), dtm: String::new() };
    let mut after = table.clone();
    let told = Participant::new(call).enter(&mut after).await?;
    *table = after;
    Ok(told)
}

async fn seen(ops: &[&str]) -> Vec<Told> {
    let mut table = Table::default();
    let mut seen = Vec::new();
    for op in ops {
        seen.push(told(&mut table, op).await.expect("a lawful call"));
    }
    seen
}

/// A table to which these have happened; `silence` among them.
async fn after(ops: &[&str]) -> Table {
    let mut table = Table::default();
    for op in ops {
        if *op == "silence" {
            let _ = silence(&mut table, "g", "01").await.expect("no database error");
        } else {
            let _ = told(&mut table, op).await.expect("a lawful call");
        }
    }
    table
}

#[tokio::test]
async fn three_phases_run_once_each() {
    use Told::{Repeated, Run};
    let ops = ["can_commit", "can_commit", "pre_commit", "pre_commit", "do_commit", "do_commit"];
    assert_eq!(seen(&ops).await, [Run, Repeated, Run, Repeated, Run, Repeated]);
}

#[tokio::test]
async fn an_abort_before_its_question_is_empty_and_the_question_is_refused() {
    use Told::{Empty, Refused, Repeated, Run};
    assert_eq!(
        seen(&["abort", "can_commit", "pre_commit", "abort"]).await,
        [Empty, Refused, Refused, Repeated]
    );
    assert_eq!(
        seen(&["can_commit", "abort", "abort", "pre_commit", "can_commit"]).await,
        [Run, Run, Repeated, Refused, Refused]
    );
}

#[tokio::test]
async fn an_abort_after_the_announcement_stands_too() {
    use Told::{Refused, Run};
    assert_eq!(
        seen(&["can_commit", "pre_commit", "abort", "pre_commit"]).await,
        [Run, Run, Run, Refused]
    );
}

#[tokio::test]
async fn a_phase_that_was_left_out_is_no_lawful_call() {
    for (before, op) in
        [(&[][..], "pre_commit"), (&["can_commit"], "do_commit"), (&[], "do_commit")]
    {
        let mut table = after(before).await;
        let result = told(&mut table, op).await;
        assert!(matches!(result, Err(Error::Malformed(_))), "{before:?} {op}: {result:?}");
    }
    assert!(told(&mut Table::default(), "try").await.is_err());
}

#[tokio::test]
async fn who_said_yes_and_hears_nothing_drops() {
    let mut table = after(&["can_commit"]).await;
    assert_eq!(silence(&mut table, "g", "01").await.unwrap(), Alone::Drop);
    assert_eq!(silence(&mut table, "g", "01").await.unwrap(), Alone::Nothing);
    for (op, wanted) in [
        ("can_commit", Told::Refused),
        ("pre_commit", Told::Refused),
        ("do_commit", Told::Split),
        ("abort", Told::Repeated),
    ] {
        assert_eq!(told(&mut table.clone(), op).await.unwrap(), wanted, "{op}");
    }
}

#[tokio::test]
async fn who_acknowledged_and_hears_nothing_commits() {
    let mut table = after(&["can_commit", "pre_commit"]).await;
    assert_eq!(silence(&mut table, "g", "01").await.unwrap(), Alone::Commit);
    assert_eq!(silence(&mut table, "g", "01").await.unwrap(), Alone::Nothing);
    for (op, wanted) in [
        ("pre_commit", Told::Repeated),
        ("do_commit", Told::Repeated),
        // The split that three-phase commit is known for.
        ("abort", Told::Split),
    ] {
        assert_eq!(told(&mut table.clone(), op).await.unwrap(), wanted, "{op}");
    }
}

#[tokio::test]
async fn silence_after_the_end_changes_nothing() {
    for ops in
        [&[][..], &["abort"], &["can_commit", "abort"], &["can_commit", "pre_commit", "abort"]]
    {
        let mut table = after(ops).await;
        assert_eq!(silence(&mut table, "g", "01").await.unwrap(), Alone::Nothing, "{ops:?}");
    }
    let mut table = after(&["can_commit", "pre_commit", "do_commit"]).await;
    assert_eq!(silence(&mut table, "g", "01").await.unwrap(), Alone::Nothing);
}

/// What the service does about what it is told, in all sequences of six calls and silences: it never
/// holds twice, never commits what it does not hold, never both commits and drops.
#[tokio::test]
async fn whatever_comes_it_ends_one_way() {
    let ops = ["can_commit", "pre_commit", "do_commit", "abort", "silence"];
    for number in 0..ops.len().pow(6) {
        let sequence: Vec<&str> =
            (0..6).map(|at| ops[number / ops.len().pow(at) % ops.len()]).collect();
        let (mut table, mut held, mut committed, mut dropped) = (Table::default(), 0, 0, 0);
        for op in &sequence {
            let change = match *op {
                "silence" => match silence(&mut table, "g", "01").await.unwrap() {
                    Alone::Commit => "do_commit",
                    Alone::Drop => "abort",
                    Alone::Nothing => "",
                },
                op => match told(&mut table, op).await {
                    Ok(Told::Run) => op,
                    _ => "",
                },
            };
            held += u32::from(change == "can_commit");
            committed += u32::from(change == "do_commit");
            dropped += u32::from(change == "abort");
            assert!(
                held <= 1 && committed + dropped <= held,
                "{sequence:?}: {table:?}",
                table = table.0
            );
        }
    }
}
