//! Hand-made histories, and random small ones that the general search judges too.

use quorate_consensus::NodeId;
use quorate_kv::{DeleteRequest, KeyRange, PutRequest};

use super::*;
use crate::check::wgl;
use crate::rng::Rng;

fn operation(id: u64, action: Action, start: u64, end: u64, outcome: Outcome) -> Operation {
    let end = (outcome != Outcome::Unknown).then_some(Time(end));
    Operation { id, client: 0, server: NodeId(1), action, start: Time(start), end, outcome }
}

fn put(value: &str) -> Command {
    let value = value.to_owned().into();
    Command::Put(PutRequest { key: "k".into(), value, ..PutRequest::default() })
}

fn read() -> RangeRequest {
    RangeRequest { range: KeyRange::single("k".into()), ..RangeRequest::default() }
}

/// What the model answers to these, one after the other.
fn answers(commands: &[Command]) -> Vec<Outcome> {
    let mut model = Model::default();
    let reply = |command| {
        let result = Ok(model.apply(command).expect("commands of keys have replies"));
        Outcome::Replied { revision: model.revision(), result }
    };
    commands.iter().map(reply).collect()
}

fn view(commands: &[Command]) -> Outcome {
    let mut model = Model::default();
    commands.iter().for_each(|command| drop(model.apply(command)));
    Outcome::Read { revision: model.revision(), result: Ok(model.range(&read())) }
}

fn write(id: u64, value: &str, start: u64, end: u64, outcome: Outcome) -> Operation {
    operation(id, Action::Write(put(value)), start, end, outcome)
}

fn get(id: u64, linearizable: bool, start: u64, end: u64, outcome: Outcome) -> Operation {
    operation(id, Action::Read { request: read(), linearizable }, start, end, outcome)
}

#[test]
fn a_plain_history_passes() {
    let done = answers(&[put("1"), put("2")]);
    let history = [
        write(1, "1", 0, 5, done[0].clone()),
        write(2, "2", 3, 9, done[1].clone()),
        get(3, true, 6, 8, view(&[put("1")])),
        get(4, true, 10, 11, view(&[put("1"), put("2")])),
    ];
    let witness = check(&history, &Hints::new(), &[]).expect("linearizable");
    assert_eq!((witness.placed, witness.holes), (4, 0));
}

#[test]
fn a_stale_read_is_caught_unless_it_is_serializable() {
    let done = answers(&[put("1"), put("2")]);
    let history = |linearizable| {
        [
            write(1, "1", 0, 1, done[0].clone()),
            write(2, "2", 2, 3, done[1].clone()),
            get(3, linearizable, 4, 5, view(&[put("1")])),
        ]
    };
    assert!(check(&history(true), &Hints::new(), &[]).is_err());
    assert!(check(&history(false), &Hints::new(), &[]).is_ok());
}

#[test]
fn a_lost_write_is_caught() {
    let done = answers(&[put("1"), put("2")]);
    let history = [
        write(1, "1", 0, 1, done[0].clone()),
        get(2, true, 4, 5, Outcome::Read { revision: 2, result: Ok(RangeResult::default()) }),
    ];
    assert!(check(&history, &Hints::new(), &[]).is_err());
    let twice = [write(1, "1", 0, 1, done[0].clone()), write(2, "2", 2, 3, done[0].clone())];
    assert!(check(&twice, &Hints::new(), &[]).is_err(), "one revision, two writes");
}

#[test]
fn an_unknown_write_explains_a_hole_only_if_it_had_begun() {
    let seen = view(&[put("1")]);
    let history =
        |start| [write(1, "1", start, 0, Outcome::Unknown), get(2, true, 4, 5, seen.clone())];
    assert_eq!(check(&history(0), &Hints::new(), &[]).map(|w| w.holes), Ok(1));
    // The read ended before the write began: reading it is reading the future.
    let mut late = history(6).to_vec();
    late.push(get(3, true, 5, 5, seen.clone()));
    late.push(write(4, "2", 7, 8, answers(&[put("1"), put("2")])[1].clone()));
    assert!(check(&late, &Hints::new(), &[]).is_err());
}

#[test]
fn a_revision_that_nobody_made_is_caught() {
    let done = answers(&[put("1"), put("1")]);
    let history = [write(1, "1", 0, 9, done[1].clone())];
    assert!(check(&history, &Hints::new(), &[]).is_err(), "applied twice: revision 2 is nobody's");
}

#[test]
fn reading_below_an_acknowledged_compaction_is_caught() {
    let done = answers(&[put("1"), put("2")]);
    let compacted = Outcome::Replied {
        revision: 3,
        result: Ok(Reply::Compact { revision: quorate_kv::Revision(3) }),
    };
    let past = RangeRequest { revision: 2, ..read() };
    let mut model = Model::default();
    model.apply(&put("1"));
    model.apply(&put("2"));
    let result = Ok(model.range(&past));
    let action = Action::Read { request: past, linearizable: true };
    let history = [
        write(1, "1", 0, 1, done[0].clone()),
        write(2, "2", 2, 3, done[1].clone()),
        operation(3, Action::Write(Command::Compact { revision: 3 }), 4, 5, compacted),
        operation(4, action, 6, 7, Outcome::Read { revision: 3, result }),
    ];
    assert!(check(&history[..2], &Hints::new(), &[]).is_ok());
    assert!(check(&history, &Hints::new(), &[]).is_err());
}

/// A concurrent history of one key: each operation takes effect somewhere between start and end, a
/// few get no answer; then, perhaps, one result is spoilt.
fn random_history(rng: &mut Rng) -> Vec<Operation> {
    let mut model = Model::default();
    let mut history: Vec<Operation> = Vec::new();
    let mut points: Vec<u64> = (0..7).map(|_| rng.below(40)).collect();
    points.sort_unstable();
    for (id, point) in points.into_iter().enumerate() {
        let (start, end) = (point.saturating_sub(rng.below(12)), point + rng.below(12));
        let id = id as u64;
        let command = match rng.below(4) {
            0 => Command::Delete(DeleteRequest {
                range: KeyRange::single("k".into()),
                prev_kv: true,
            }),
            1 => {
                let result = Ok(model.range(&read()));
                let outcome = Outcome::Read { revision: model.revision(), result };
                history.push(get(id, true, start, end, outcome));
                continue;
            }
            _ => put(&rng.below(3).to_string()),
        };
        let silent = rng.chance(300);
        let happened = !silent || rng.chance(500);
        let mut outcome = Outcome::Unknown;
        if happened {
            let result = Ok(model.apply(&command).expect("commands of keys have replies"));
            if !silent {
                outcome = Outcome::Replied { revision: model.revision(), result };
            }
        }
        history.push(operation(id, Action::Write(command), start, end, outcome));
    }
    if rng.chance(600) {
        spoil(&mut history, rng);
    }
    history
}

fn spoil(history: &mut [Operation], rng: &mut Rng) {
    let at = rng.below(history.len() as u64) as usize;
    let other = history[rng.below(history.len() as u64) as usize].clone();
    let op = &mut history[at];
    match rng.below(3) {
        0 => op.start = op.start.max(Time(rng.below(40))).min(op.end.unwrap_or(Time(60))),
        1 if op.action == other.action && op.end.is_some() && other.end.is_some() => {
            op.outcome = other.outcome;
        }
        _ => {
            if let Outcome::Read { result: Ok(result), .. } = &mut op.outcome {
                result.kvs.pop();
            }
        }
    }
}

#[test]
fn both_checkers_agree_on_random_small_histories() {
    let mut rng = Rng::new(20);
    let mut verdicts = [0; 2];
    for _ in 0..4_000 {
        let history = random_history(&mut rng);
        let exact = check(&history, &Hints::new(), &[]);
        let general = wgl::is_linearizable(&history);
        let lines: Vec<String> = history.iter().map(ToString::to_string).collect();
        assert_eq!(exact.is_ok(), general, "{exact:?}\n{}", lines.join("\n"));
        verdicts[usize::from(general)] += 1;
    }
    assert!(verdicts[0] > 300 && verdicts[1] > 300, "{verdicts:?}");
}
