//! Linearizability by general search (Wing and Gong 1993, with Lowe's memory of states seen, 2017): any
//! small history, revisions used only as part of results. It exists to test the fast checker.

use std::collections::BTreeSet;

use crate::history::{Action, Operation, Outcome};
use crate::model::{Model, set_revision};

/// Most operations that it takes: sets of them are the bits of one number.
pub const MAX_OPERATIONS: usize = 64;

/// Whether an order exists in which every acknowledged operation gives its result. Leases are not known
/// here, and serializable reads are not taken.
#[must_use]
pub fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() <= MAX_OPERATIONS, "{} operations", history.len());
    let done = |op: &Operation| matches!(op.outcome, Outcome::NotDone(_));
    let history: Vec<&Operation> = history.iter().filter(|op| !done(op)).collect();
    let mut seen = BTreeSet::new();
    search(&history, 0, &Model::default(), &mut seen)
}

fn search(
    history: &[&Operation],
    placed: u64,
    model: &Model,
    seen: &mut BTreeSet<(u64, Model)>,
) -> bool {
    let is_placed = |at: usize| placed & (1 << at) != 0;
    let mut waiting = (0..history.len()).filter(|at| !is_placed(*at));
    if waiting.all(|at| history[at].outcome == Outcome::Unknown) {
        return true;
    }
    if !seen.insert((placed, model.clone())) {
        return false;
    }
    // Whatever stands next began before everything that waits has ended.
    let first_end = (0..history.len())
        .filter(|at| !is_placed(*at) && history[*at].outcome != Outcome::Unknown)
        .filter_map(|at| history[at].end)
        .min();
    (0..history.len())
        .filter(|at| !is_placed(*at))
        .filter(|at| first_end.is_none_or(|end| history[*at].start <= end))
        .any(|at| {
            let mut next = model.clone();
            fits(history[at], &mut next) && search(history, placed | (1 << at), &next, seen)
        })
}

fn fits(op: &Operation, model: &mut Model) -> bool {
    match (&op.action, &op.outcome) {
        (Action::Write(command), Outcome::Unknown) => {
            model.apply(command);
            true
        }
        (Action::Write(command), Outcome::Replied { revision, result: Ok(reply) }) => {
            let expected = model.apply(command);
            let mut got = reply.clone();
            set_revision(&mut got, *revision);
            model.revision() == *revision && expected == Some(got)
        }
        (Action::Read { request, .. }, Outcome::Read { revision, result: Ok(result) }) => {
            model.revision() == *revision && model.range(request) == *result
        }
        _ => true,
    }
}
