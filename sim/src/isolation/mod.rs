//! How isolated global transactions are, shown by schedules that run.
//!
//! A global transaction is not isolated by its coordinator, which knows nothing of data, but by what its participants
//! do in their own databases until it ends (`discipline`). Each cell of the table in `docs/guarantees.md` is one scenario:
//! an anomaly's schedule (below), played by transactions of one kind over the real machine of global
//! transactions (`host`) and two small databases (`database`). Whether the anomaly came about is seen, not said.
//!
//! The anomalies are those of Berenson et al. 1995, between global transactions, and one more: seeing one half of
//! what is carried out.

mod database;
mod discipline;
mod host;
mod stage;

use database::Work;
pub use discipline::Discipline;
use quorate_global_txn::Status;
use stage::{Play, Stage};

/// What may go wrong between two transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// Something is read that never came to be.
    DirtyRead,
    /// What somebody wrote is undone by another one's rollback.
    DirtyWrite,
    /// What somebody wrote is overwritten by another one that had read before.
    LostUpdate,
    /// The same row is read twice, and is another.
    NonRepeatableRead,
    /// The same rows are counted twice, and are more.
    Phantom,
    /// One half of a transfer is seen, and not the other.
    HalfSeen,
}

impl Anomaly {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::DirtyRead,
        Self::DirtyWrite,
        Self::LostUpdate,
        Self::NonRepeatableRead,
        Self::Phantom,
        Self::HalfSeen,
    ];

    /// Its part of a scenario's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DirtyRead => "dirty-read",
            Self::DirtyWrite => "dirty-write",
            Self::LostUpdate => "lost-update",
            Self::NonRepeatableRead => "non-repeatable-read",
            Self::Phantom => "phantom",
            Self::HalfSeen => "half-seen",
        }
    }
}

/// A scenario that was played.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// `KIND/ANOMALY`.
    pub name: String,
    /// Whether the anomaly came about.
    pub happens: bool,
    /// What was done, line by line.
    pub transcript: String,
}

/// Plays one.
#[must_use]
pub fn play(discipline: Discipline, anomaly: Anomaly) -> Scenario {
    let mut stage = Stage::new(discipline);
    let happens = match anomaly {
        Anomaly::DirtyRead => dirty_read(&mut stage),
        Anomaly::DirtyWrite => dirty_write(&mut stage, discipline),
        Anomaly::LostUpdate => lost_update(&mut stage, discipline),
        Anomaly::NonRepeatableRead => read_twice(&mut stage, Work::Read("x"), Work::Add("x", -30)),
        Anomaly::Phantom => read_twice(&mut stage, Work::Count, Work::Insert("y", 1)),
        Anomaly::HalfSeen => half_seen(&mut stage, discipline),
    };
    stage.say(if happens { "the anomaly happens" } else { "the anomaly does not happen" });
    let name = format!("{}/{}", discipline.name(), anomaly.name());
    Scenario { name, happens, transcript: stage.transcript }
}

/// One changes a row and is rolled back in the end; somebody reads it meanwhile.
fn dirty_read(stage: &mut Stage) -> bool {
    let mut writer = Play::new("writer", &[(0, Work::Add("x", -30)), (0, Work::Refuse)]);
    stage.begin(&mut writer);
    stage.step(&mut writer);
    let mut seen = look(stage, 0);
    stage.steps(&mut writer);
    let status = stage.end(&mut writer);
    assert_eq!((status, stage.value(0, "x")), (Status::Failed, 100));
    let seen = *seen.get_or_insert_with(|| look(stage, 0).expect("nobody is in its way any more"));
    seen != 100
}

/// Somebody outside of all global transactions reads `x`; `None`: it has to wait.
fn look(stage: &mut Stage, database: usize) -> Option<i64> {
    let did = stage.databases[database].read("somebody", Work::Read("x"));
    stage.databases[database].end("somebody", true);
    stage.say(&format!("somebody reads x in {}: {did:?}", ["A", "B"][database]));
    match did {
        Some(database::Did::Done(value)) => value,
        _ => None,
    }
}

/// Two write the same row; the first one is rolled back when the second one has ended.
fn dirty_write(stage: &mut Stage, discipline: Discipline) -> bool {
    // Amounts can be reserved; values cannot.
    let reserves = discipline == Discipline::Tcc;
    let (one, two, expected) = match reserves {
        true => (Work::Add("x", -30), Work::Add("x", -50), 50),
        false => (Work::Set("x", 1), Work::Set("x", 2), 2),
    };
    let mut first = Play::new("first", &[(0, one), (0, Work::Refuse)]);
    let mut second = Play::new("second", &[(0, two)]);
    let ended = stage.interleave(&mut first, &mut second);
    assert_eq!(ended, (Status::Failed, Status::Succeed));
    stage.value(0, "x") != expected
}

/// One reads a row and writes what follows from it; another one adds to it in between.
fn lost_update(stage: &mut Stage, discipline: Discipline) -> bool {
    let work = match discipline {
        // The amount alone is asked for; what it rests on is looked at where it is reserved.
        Discipline::Tcc => vec![(0, Work::Add("x", 10))],
        // What a branch reads it reads when it is asked whether it can, under the lock that it then holds.
        Discipline::ThreePhase => vec![(0, Work::Add("x", 10))],
        _ => vec![(0, Work::Read("x")), (0, Work::SetRemembered("x", 10))],
    };
    let mut first = Play::new("first", &work);
    let mut second = Play::new("second", &[(0, Work::Add("x", 5))]);
    let ended = stage.interleave(&mut first, &mut second);
    assert_eq!(ended, (Status::Succeed, Status::Succeed));
    stage.value(0, "x") != 115
}

/// One reads twice; another one changes something in between.
fn read_twice(stage: &mut Stage, read: Work, change: Work) -> bool {
    let mut reader = Play::new("reader", &[(0, read), (0, read)]);
    let mut writer = Play::new("writer", &[(0, change)]);
    let ended = stage.interleave(&mut reader, &mut writer);
    assert_eq!(ended, (Status::Succeed, Status::Succeed));
    reader.seen[0] != reader.seen[1]
}

/// Money goes from A to B; somebody looks at both when one of them has it and the other has not heard yet.
fn half_seen(stage: &mut Stage, discipline: Discipline) -> bool {
    let mut transfer = Play::new("transfer", &[(0, Work::Add("x", -30)), (1, Work::Add("x", 30))]);
    stage.begin(&mut transfer);
    stage.step(&mut transfer);
    let calls = match discipline {
        Discipline::Saga | Discipline::Workflow => 0,
        Discipline::Msg => {
            stage.decide(&mut transfer);
            0
        }
        Discipline::ThreePhase => 3, // pre_commit, pre_commit, do_commit
        _ => 1,
    };
    if calls > 0 {
        stage.steps(&mut transfer);
        stage.decide(&mut transfer);
        (0..calls).for_each(|_| assert!(stage.deliver(&transfer)));
    }
    let (a, b) = (look(stage, 0), look(stage, 1));
    stage.steps(&mut transfer);
    let status = match (calls, discipline) {
        (0, Discipline::Saga | Discipline::Workflow) => stage.end(&mut transfer),
        _ => stage.finish(&transfer),
    };
    assert_eq!(status, Status::Succeed);
    // Who had to wait reads what he waited for; what he has read stays read.
    let a = a.unwrap_or_else(|| look(stage, 0).expect("nobody is in its way any more"));
    let b = b.unwrap_or_else(|| look(stage, 1).expect("nobody is in its way any more"));
    a + b != 200
}

#[cfg(test)]
mod tests;
