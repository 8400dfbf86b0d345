//! Leader completeness (Raft, figure 3): an entry committed in a term is in the log of the leader of
//! every later term.

use quorate_consensus::{NodeId, Term};

use super::Log;
use super::state_machine_safety::Committed;

/// Checks a new leader's log against everything committed so far.
///
/// # Errors
/// The first entry that it lacks.
pub fn check_leader(
    node: NodeId,
    term: Term,
    log: &Log,
    committed: &[Committed],
) -> Result<(), String> {
    let after = log.start();
    for known in committed.iter().filter(|known| known.entry.index.0 > after) {
        let index = known.entry.index.0;
        let has = log.entry(index);
        if known.entry.term < term && has != Some(&known.entry) {
            return Err(format!(
                "node {node} leads in term {term} without committed entry {index}: \
                 it has {has:?}, committed was {:?}",
                known.entry
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_consensus::{Entry, GroupTime, LogIndex, LogStart, Payload};

    use super::*;

    #[test]
    fn a_leader_without_a_committed_entry_is_caught() {
        let entry = |index| Entry {
            term: Term(1),
            index: LogIndex(index),
            time: GroupTime(0),
            payload: Payload::Empty,
        };
        let committed: Vec<Committed> =
            [1, 2].map(|index| Committed { entry: entry(index), revision: 1 }).into();
        let log = |entries| Log::new(LogStart::default(), entries);
        let full = log(vec![entry(1), entry(2)]);
        assert!(check_leader(NodeId(1), Term(2), &full, &committed).is_ok());
        let short = log(vec![entry(1)]);
        assert!(check_leader(NodeId(1), Term(2), &short, &committed).is_err());
    }
}
