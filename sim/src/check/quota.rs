//! The alarm of a store that is full: while it stands, nothing that grows is carried out; when it does
//! not, nothing is refused for want of space; and it stands until somebody asks for its end.
//!
//! When it stands is known from the committed log, by the time at which an entry was first applied
//! anywhere: who begins after that is behind the entry. Refusals that a server gives before the log are
//! judged where they are given, by what that server knows (`World::reply`).

use quorate_kv::{AlarmKind, Command, Op, Refusal, TxnRequest};

use crate::history::{Action, Operation, Outcome};
use crate::queue::Time;

/// A time in which the alarm stood.
#[derive(Clone, Copy, Debug)]
struct Stood {
    from: Time,
    until: Option<Time>,
}

/// When the alarm stood.
#[derive(Debug, Default)]
pub struct Quota {
    stood: Vec<Stood>,
}

impl Quota {
    /// The committed log says that the alarm stands, or does not.
    pub fn alarm(&mut self, at: Time, stands: bool) {
        let open = self.stood.last_mut().filter(|stood| stood.until.is_none());
        match (open, stands) {
            (None, true) => self.stood.push(Stood { from: at, until: None }),
            (Some(stood), false) => stood.until = Some(at),
            _ => {}
        }
    }

    /// How often it was raised.
    #[must_use]
    pub fn count(&self) -> usize {
        self.stood.len()
    }

    /// Whether it stood at some time since `from`.
    #[must_use]
    pub fn stood_since(&self, from: Time) -> bool {
        self.stood.last().is_some_and(|stood| stood.until.is_none_or(|until| until >= from))
    }

    /// Judges a whole history.
    ///
    /// # Errors
    /// The first operation that was carried out though it must not, or the other way round.
    pub fn check(&self, history: &[Operation]) -> Result<(), String> {
        let disarms: Vec<&Operation> = history.iter().filter(|op| is_disarm(op)).collect();
        for op in history {
            match &op.outcome {
                Outcome::Replied { result: Ok(_), .. } => self.check_growth(op, &disarms)?,
                Outcome::Replied { result: Err(Refusal::NoSpace), .. } => self.check_refusal(op)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// It began when the alarm stood, and nobody had asked for its end before it ended.
    fn check_growth(&self, op: &Operation, disarms: &[&Operation]) -> Result<(), String> {
        let Action::Write(command) = &op.action else { return Ok(()) };
        let Some(stood) = self.stood.iter().rev().find(|stood| stood.from < op.start) else {
            return Ok(());
        };
        let asked = |disarm: &&Operation| {
            Some(disarm.start) <= op.end && disarm.end.is_none_or(|end| end >= stood.from)
        };
        if !grows(command) || disarms.iter().any(asked) {
            return Ok(());
        }
        let from = stood.from;
        Err(format!("{op}\nwas carried out; NOSPACE stood since {from} and nobody disarmed it"))
    }

    /// Some time between its beginning and its end the alarm stood.
    fn check_refusal(&self, op: &Operation) -> Result<(), String> {
        let stands = |stood: &Stood| {
            Some(stood.from) <= op.end && stood.until.is_none_or(|until| until >= op.start)
        };
        if self.stood.iter().any(stands) {
            return Ok(());
        }
        Err(format!("{op}\nwas refused for want of space, and no alarm stood"))
    }
}

fn is_disarm(op: &Operation) -> bool {
    let clears = matches!(&op.action,
        Action::Write(Command::AlarmClear(alarm)) if alarm.kind == AlarmKind::NoSpace);
    clears && !matches!(op.outcome, Outcome::NotDone(_))
}

/// Whether a command may make the store grow, whichever branches it takes.
fn grows(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant { .. } => true,
        Command::Txn(txn) => txn_grows(txn),
        _ => false,
    }
}

fn txn_grows(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Put(_) => true,
        Op::Txn(txn) => txn_grows(txn),
        Op::Range(_) | Op::Delete(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use quorate_consensus::NodeId;
    use quorate_kv::{Alarm, PutRequest, PutResult, Reply};

    use super::*;

    fn op(command: Command, start: u64, end: u64, result: Result<Reply, Refusal>) -> Operation {
        Operation {
            id: start,
            client: 0,
            server: NodeId(1),
            action: Action::Write(command),
            start: Time(start),
            end: Some(Time(end)),
            outcome: Outcome::Replied { revision: 2, result },
        }
    }

    fn put(start: u64, end: u64, result: Result<Reply, Refusal>) -> Operation {
        op(Command::Put(PutRequest::default()), start, end, result)
    }

    fn done() -> Result<Reply, Refusal> {
        Ok(Reply::Put(PutResult::default()))
    }

    fn disarm(start: u64, end: u64) -> Operation {
        let alarm = Alarm { member: 0, kind: AlarmKind::NoSpace };
        let reply = Reply::Alarm { revision: quorate_kv::Revision(2), alarms: vec![alarm] };
        op(Command::AlarmClear(alarm), start, end, Ok(reply))
    }

    fn stood() -> Quota {
        let mut quota = Quota::default();
        quota.alarm(Time(10), true);
        quota.alarm(Time(20), true);
        quota.alarm(Time(30), false);
        quota
    }

    #[test]
    fn growing_under_the_alarm_is_caught() {
        let quota = stood();
        assert_eq!(quota.count(), 1);
        assert!(quota.check(&[put(9, 25, done())]).is_ok(), "it began before");
        assert!(quota.check(&[put(11, 25, done())]).is_err());
        assert!(quota.check(&[put(11, 25, done()), disarm(24, 31)]).is_ok());
        assert!(quota.check(&[put(11, 25, done()), disarm(26, 31)]).is_err(), "asked later");
        assert!(quota.check(&[disarm(1, 9), put(11, 25, done())]).is_err(), "an earlier one");
        let compact = op(Command::Compact { revision: 1 }, 11, 25, done());
        assert!(quota.check(&[compact]).is_ok(), "it makes room");
    }

    #[test]
    fn refusing_without_the_alarm_is_caught() {
        let refused = |start, end| [put(start, end, Err(Refusal::NoSpace))];
        assert!(stood().check(&refused(5, 9)).is_err());
        assert!(stood().check(&refused(5, 10)).is_ok());
        assert!(stood().check(&refused(30, 35)).is_ok());
        assert!(stood().check(&refused(31, 35)).is_err());
        assert!(Quota::default().check(&refused(1, 2)).is_err());
    }
}
