//! Linearizability, exactly and in nearly linear time.
//!
//! Every acknowledged write carries its revision, and revisions are the order of the store. So the
//! order of writes is known but for those whose outcome nobody was told: they, and leases that ran out,
//! fill the revisions that nobody claims ("holes"). The checker walks the revisions upwards with the
//! etcd model, guesses at holes, and takes a guess back when a later result contradicts it. Reads, and
//! writes that changed nothing, must fit the state of the revision that they name. Real time is a
//! bound on positions: nothing stands at or before what was acknowledged before it began.
//!
//! A history passes if and only if such an order exists (Herlihy and Wing 1990). To try the likeliest
//! guess first, the caller may hint what changed at a revision; a wrong hint costs time only.
//! `wgl.rs` is the general search against which this one is tested.

use std::collections::{BTreeMap, BTreeSet};

use quorate_kv::{Command, RangeRequest, RangeResult, Refusal, Reply};

use crate::history::{Action, Operation, Outcome};
use crate::model::{Change, Model, is_effective, set_revision};
use crate::queue::Time;

/// Guesses that are made before the search is given up.
const MAX_GUESSES: usize = 500_000;

/// What is known to have changed at a revision.
pub type Hints = BTreeMap<i64, Vec<Change>>;

/// How the check went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Operations that have a place in the order.
    pub placed: usize,
    /// Revisions that nobody claimed.
    pub holes: usize,
    /// Guesses made for them.
    pub guesses: usize,
    /// The store as the order found makes it.
    pub model: Model,
}

/// Finds an order, or says what has none.
///
/// `known` are compactions that are there whoever asked for them: when each was first, and to where.
///
/// # Errors
/// The first operation, in the order of revisions, that fits no order; with its neighbours.
pub fn check(
    history: &[Operation],
    hints: &Hints,
    known: &[(Time, i64)],
) -> Result<Witness, String> {
    let floors = floors(history)?;
    let mut search = Search::new(history, &floors, hints)?;
    search.run()?;
    check_compactions(history, known)?;
    Ok(Witness { model: search.model, ..search.witness })
}

/// The highest revision that was acknowledged before each operation began, checked against its own.
fn floors(history: &[Operation]) -> Result<BTreeMap<u64, i64>, String> {
    let mut ends: Vec<(&Operation, i64)> = history
        .iter()
        .filter(|op| op.end.is_some())
        .filter_map(|op| Some((op, op.outcome.revision()?)))
        .collect();
    ends.sort_by_key(|(op, _)| op.end);
    let mut starts: Vec<&Operation> = history.iter().collect();
    starts.sort_by_key(|op| op.start);
    let mut floors = BTreeMap::new();
    let (mut floor, mut witness, mut next) = (1, None, 0);
    for op in starts {
        while let Some((ended, revision)) = ends.get(next).filter(|(e, _)| e.end < Some(op.start)) {
            if *revision > floor {
                (floor, witness) = (*revision, Some(*ended));
            }
            next += 1;
        }
        let least = if claims(op).is_some() { floor + 1 } else { floor };
        if !is_local(op) && op.outcome.revision().is_some_and(|revision| revision < least) {
            let before = witness.map(ToString::to_string).unwrap_or_default();
            return Err(format!(
                "{op}\nmust stand after what was acknowledged before it:\n{before}"
            ));
        }
        floors.insert(op.id, floor);
    }
    Ok(floors)
}

/// Serializable reads may be old.
fn is_local(op: &Operation) -> bool {
    matches!(op.action, Action::Read { linearizable: false, .. })
}

/// The revision that an acknowledged write made.
fn claims(op: &Operation) -> Option<i64> {
    match &op.outcome {
        Outcome::Replied { revision, result: Ok(reply) } if is_effective(reply) => Some(*revision),
        _ => None,
    }
}

/// What may stand at a revision.
#[derive(Clone, Debug)]
enum Guess {
    Operation(usize),
    Expiry(i64),
}

#[derive(Debug)]
struct Choice {
    revision: i64,
    guesses: Vec<Guess>,
    /// The operation that the current guess uses.
    used: Option<usize>,
}

struct Search<'a> {
    history: &'a [Operation],
    floors: &'a BTreeMap<u64, i64>,
    hints: &'a Hints,
    writes: BTreeMap<i64, usize>,
    results: BTreeMap<i64, Vec<usize>>,
    open: Vec<usize>,
    model: Model,
    used: BTreeSet<usize>,
    choices: Vec<Choice>,
    last: i64,
    /// The furthest failure, and where.
    worst: (i64, String),
    witness: Witness,
}

impl<'a> Search<'a> {
    fn new(
        history: &'a [Operation],
        floors: &'a BTreeMap<u64, i64>,
        hints: &'a Hints,
    ) -> Result<Self, String> {
        let mut search = Self {
            history,
            floors,
            hints,
            writes: BTreeMap::new(),
            results: BTreeMap::new(),
            open: Vec::new(),
            model: Model::default(),
            used: BTreeSet::new(),
            choices: Vec::new(),
            last: 1,
            worst: (0, String::new()),
            witness: Witness::default(),
        };
        for (at, op) in history.iter().enumerate() {
            search.sort_in(at, op)?;
        }
        Ok(search)
    }

    fn sort_in(&mut self, at: usize, op: &Operation) -> Result<(), String> {
        if op.is_open() || is_revoke(op) {
            self.open.push(at);
        }
        let Some(revision) = op.outcome.revision() else { return Ok(()) };
        self.last = self.last.max(revision);
        self.witness.placed += 1;
        if let Some(revision) = claims(op) {
            if let Some(other) = self.writes.insert(revision, at) {
                let other = &self.history[other];
                return Err(format!("two writes claim one revision:\n{other}\n{op}"));
            }
        } else {
            self.results.entry(revision).or_default().push(at);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        self.check_results(1)?;
        while self.model.revision() < self.last {
            let next = self.model.revision() + 1;
            let fits = match self.writes.get(&next) {
                Some(&at) => self.place(next, at),
                None => {
                    self.open_hole(next);
                    Err(format!("no operation explains revision {next}"))
                }
            };
            let fits = fits.and_then(|()| self.check_results(next));
            if let Err(what) = fits {
                self.note(next, what);
                self.next_guess()?;
            }
        }
        Ok(())
    }

    fn note(&mut self, revision: i64, what: String) {
        if revision > self.worst.0 {
            self.worst = (revision, what);
        }
    }

    fn place(&mut self, revision: i64, at: usize) -> Result<(), String> {
        let op = &self.history[at];
        let Action::Write(command) = &op.action else { return Err(format!("not a write: {op}")) };
        let Outcome::Replied { result: Ok(reply), .. } = &op.outcome else {
            unreachable!("only acknowledged writes claim a revision");
        };
        let expected = self.model.apply(command);
        if self.model.revision() != revision {
            return Err(format!("{op}\nclaims a change where the model changes nothing"));
        }
        same_reply(op, expected.as_ref(), reply)
    }

    /// Prepares the guesses for a revision that nobody claims, the likeliest last (they are popped).
    fn open_hole(&mut self, revision: i64) {
        self.witness.holes += 1;
        let operations = self.open.iter().filter(|at| self.may_stand(**at, revision));
        let expiries = self.model.attached_leases().into_iter().map(Guess::Expiry);
        let mut guesses: Vec<Guess> =
            operations.map(|at| Guess::Operation(*at)).chain(expiries).collect();
        guesses.reverse();
        if let Some(hint) = self.hints.get(&revision) {
            let before = self.model.revision();
            guesses.sort_by_cached_key(|guess| {
                let matches = self.try_guess(guess) && self.model.changes() == *hint;
                self.model.undo_to(before);
                matches
            });
        }
        self.choices.push(Choice { revision, guesses, used: None });
    }

    fn may_stand(&self, at: usize, revision: i64) -> bool {
        let op = &self.history[at];
        let known = op.outcome.revision().is_none_or(|known| known == revision);
        known && !self.used.contains(&at) && self.floors[&op.id] < revision
    }

    fn try_guess(&mut self, guess: &Guess) -> bool {
        let before = self.model.revision();
        match guess {
            Guess::Expiry(lease) => self.model.expire(*lease),
            Guess::Operation(at) => {
                let Action::Write(command) = &self.history[*at].action else { return false };
                self.model.apply(command);
            }
        }
        self.model.revision() > before
    }

    /// Goes back to the last hole that has a guess left and makes it.
    fn next_guess(&mut self) -> Result<(), String> {
        while let Some(choice) = self.choices.last_mut() {
            if let Some(at) = choice.used.take() {
                self.used.remove(&at);
            }
            let revision = choice.revision;
            let Some(guess) = choice.guesses.pop() else {
                self.choices.pop();
                continue;
            };
            self.witness.guesses += 1;
            if self.witness.guesses > MAX_GUESSES {
                return Err(format!("no order found in {MAX_GUESSES} guesses; {}", self.worst.1));
            }
            self.model.undo_to(revision - 1);
            if !self.try_guess(&guess) {
                continue;
            }
            if let Guess::Operation(at) = guess {
                self.used.insert(at);
                self.choices.last_mut().expect("it is the one at hand").used = Some(at);
            }
            match self.check_results(revision) {
                Ok(()) => return Ok(()),
                Err(what) => self.note(revision, what),
            }
        }
        Err(self.worst.1.clone())
    }

    /// Everything that names this revision without having made it fits its state.
    fn check_results(&mut self, revision: i64) -> Result<(), String> {
        let at: Vec<usize> = self.results.get(&revision).cloned().unwrap_or_default();
        for at in at {
            let op = &self.history[at];
            match (&op.action, &op.outcome) {
                (Action::Write(command), Outcome::Replied { result: Ok(reply), .. }) => {
                    self.check_unchanged(op, command, reply)?;
                }
                (Action::Read { request, .. }, Outcome::Read { result, .. }) => {
                    check_read(op, &self.model, request, result)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A write that changed nothing: the model must say so too, and give the same result.
    fn check_unchanged(
        &mut self,
        op: &Operation,
        command: &Command,
        reply: &Reply,
    ) -> Result<(), String> {
        if !matches!(command, Command::Put(_) | Command::Delete(_) | Command::Txn(_)) {
            return Ok(());
        }
        let before = self.model.revision();
        let expected = self.model.apply(command);
        let changed = self.model.revision() > before;
        self.model.undo_to(before);
        if changed {
            return Err(format!("{op}\nclaims no change where the model changes something"));
        }
        same_reply(op, expected.as_ref(), reply)
    }
}

/// An acknowledged revocation does not say whether it had keys.
fn is_revoke(op: &Operation) -> bool {
    matches!(&op.action, Action::Write(Command::LeaseRevoke { .. }))
        && matches!(&op.outcome, Outcome::Replied { result: Ok(_), .. })
}

fn same_reply(op: &Operation, expected: Option<&Reply>, reply: &Reply) -> Result<(), String> {
    let mut got = reply.clone();
    let revision = op.outcome.revision().unwrap_or_default();
    if reply_revision(reply).is_some_and(|inside| inside != revision) {
        return Err(format!("{op}\nhas another revision in its result: {reply:?}"));
    }
    set_revision(&mut got, revision);
    if expected == Some(&got) {
        return Ok(());
    }
    Err(format!("{op}\ngot      {got:?}\nexpected {expected:?}"))
}

fn reply_revision(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Put(put) => Some(put.revision.0),
        Reply::Delete(delete) => Some(delete.revision.0),
        Reply::Txn(txn) => Some(txn.revision.0),
        _ => None,
    }
}

fn check_read(
    op: &Operation,
    model: &Model,
    request: &RangeRequest,
    result: &Result<RangeResult, Refusal>,
) -> Result<(), String> {
    match result {
        Ok(got) => {
            let expected = model.range(request);
            if *got == expected {
                return Ok(());
            }
            Err(format!("{op}\ngot      {got:?}\nexpected {expected:?}"))
        }
        Err(Refusal::FutureRevision) if request.revision > model.revision() => Ok(()),
        Err(Refusal::Compacted) if request.revision > 0 => Ok(()), // judged by the compactions
        Err(refusal) => Err(format!("{op}\nwas refused: {refusal}")),
    }
}

/// Old revisions are readable until a compaction was asked for, and not after one was acknowledged.
fn check_compactions(history: &[Operation], known: &[(Time, i64)]) -> Result<(), String> {
    let compactions: Vec<(&Operation, i64)> = history
        .iter()
        .filter_map(|op| match &op.action {
            Action::Write(Command::Compact { revision }) => Some((op, *revision)),
            _ => None,
        })
        .collect();
    for op in history {
        let Action::Read { request, linearizable } = &op.action else { continue };
        let Outcome::Read { result, .. } = &op.outcome else { continue };
        let asked = request.revision;
        let possible =
            compactions.iter().any(|(compact, revision)| {
                *revision > asked && Some(compact.start) <= op.end && may_have_happened(compact)
            }) || known.iter().any(|(at, revision)| *revision > asked && Some(*at) <= op.end);
        let certain = compactions.iter().find(|(compact, revision)| {
            *revision > asked && happened(compact) && compact.end < Some(op.start)
        });
        let kept = |(at, revision): &&(Time, i64)| *revision > asked && *at < op.start;
        let reads = result.is_ok() && asked > 0 && *linearizable;
        if let Some((at, revision)) = known.iter().find(kept).filter(|_| reads) {
            return Err(format!("{op}\nreads what was compacted to {revision} at {at}"));
        }
        match (result, certain) {
            (Err(Refusal::Compacted), _) if !possible => {
                return Err(format!("{op}\nnobody compacted so far"));
            }
            (Ok(_), Some((compact, _))) if reads => {
                return Err(format!("{op}\nreads what was compacted before:\n{compact}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn happened(op: &Operation) -> bool {
    matches!(op.outcome, Outcome::Replied { result: Ok(_), .. })
}

fn may_have_happened(op: &Operation) -> bool {
    happened(op) || op.outcome == Outcome::Unknown
}

#[cfg(test)]
mod tests;
