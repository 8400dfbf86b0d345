//! Log matching (Raft, figure 3): if two logs have an entry of one index and term, the entries are the
//! same, and so are all before. Checked as an induction: the same entry, after the same term.

use std::collections::BTreeMap;

use quorate_consensus::{Entry, NodeId, Term};

use super::Log;

#[derive(Debug)]
struct Known {
    entry: Entry,
    before: Option<Term>,
    from: NodeId,
}

/// Every entry that was ever appended anywhere.
#[derive(Debug, Default)]
pub struct LogMatching {
    known: BTreeMap<(u64, Term), Known>,
}

impl LogMatching {
    /// A server appended these, and its log is now this.
    ///
    /// # Errors
    /// Another server has something else there.
    pub fn appended(&mut self, node: NodeId, log: &Log, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let index = entry.index.0;
            let before = log.term_at(index - 1);
            let here = (index, entry.term);
            let Some(known) = self.known.get(&here) else {
                self.known.insert(here, Known { entry: entry.clone(), before, from: node });
                continue;
            };
            if known.entry != *entry || known.before != before {
                return Err(format!(
                    "node {node} has {entry:?} after term {before:?}, node {} has {:?} after {:?}",
                    known.from, known.entry, known.before
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_consensus::{GroupTime, LogIndex, LogStart, Payload};

    use super::*;

    fn entry(term: u64, index: u64, time: u64) -> Entry {
        let (term, index, time) = (Term(term), LogIndex(index), GroupTime(time));
        Entry { term, index, time, payload: Payload::Empty }
    }

    #[test]
    fn different_entries_and_different_pasts_are_caught() {
        let mut check = LogMatching::default();
        let mut append = |node, entries: &[Entry]| {
            let log = Log::new(LogStart::default(), entries.to_vec());
            check.appended(NodeId(node), &log, entries)
        };
        assert!(append(1, &[entry(1, 1, 0), entry(2, 2, 0)]).is_ok());
        assert!(append(2, &[entry(1, 1, 0), entry(2, 2, 0)]).is_ok());
        assert!(append(3, &[entry(1, 1, 9)]).is_err(), "same place, other content");
        assert!(append(3, &[entry(2, 1, 0), entry(2, 2, 0)]).is_err(), "same entry, other past");
    }
}
