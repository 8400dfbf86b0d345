//! Monotone revisions: what a client is told after an answer is never of an older revision than that
//! answer, whichever server it asks; and a write's revision is newer than everything told before.

use crate::history::Outcome;
use crate::history::{Action, Operation};
use crate::model::is_effective;

/// The highest revision told so far.
#[derive(Debug, Default)]
pub struct MonotoneRevisions {
    highest: i64,
}

impl MonotoneRevisions {
    /// What an operation that starts now must at least be told.
    #[must_use]
    pub fn floor(&self) -> i64 {
        self.highest
    }

    /// An operation ended that had this floor when it started.
    ///
    /// # Errors
    /// It was told an older revision.
    pub fn ended(&mut self, op: &Operation, floor: i64) -> Result<(), String> {
        let Some(revision) = op.outcome.revision() else { return Ok(()) };
        self.highest = self.highest.max(revision);
        let local = matches!(op.action, Action::Read { linearizable: false, .. });
        let writes = matches!(&op.outcome,
            Outcome::Replied { result: Ok(reply), .. } if is_effective(reply));
        let least = if writes { floor + 1 } else { floor };
        if local || revision >= least {
            return Ok(());
        }
        Err(format!("{op}\nstarted when revision {floor} had been told"))
    }
}

#[cfg(test)]
mod tests {
    use quorate_consensus::NodeId;
    use quorate_kv::{Command, RangeRequest, RangeResult, Reply};

    use super::*;
    use crate::queue::Time;

    fn op(action: Action, outcome: Outcome) -> Operation {
        let (server, start) = (NodeId(1), Time(0));
        Operation { id: 1, client: 0, server, action, start, end: None, outcome }
    }

    fn read(linearizable: bool, revision: i64) -> Operation {
        let action = Action::Read { request: RangeRequest::default(), linearizable };
        op(action, Outcome::Read { revision, result: Ok(RangeResult::default()) })
    }

    #[test]
    fn going_back_is_caught_unless_the_read_is_serializable() {
        let mut check = MonotoneRevisions::default();
        assert!(check.ended(&read(true, 5), 0).is_ok());
        assert_eq!(check.floor(), 5);
        assert!(check.ended(&read(true, 4), 5).is_err());
        assert!(check.ended(&read(false, 4), 5).is_ok());
        let reply = Ok(Reply::Put(quorate_kv::PutResult::default()));
        let put = op(
            Action::Write(Command::Put(quorate_kv::PutRequest::default())),
            Outcome::Replied { revision: 5, result: reply },
        );
        assert!(check.ended(&put, 5).is_err(), "a write makes a new revision");
        assert!(check.ended(&put, 4).is_ok());
    }
}
