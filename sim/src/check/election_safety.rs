//! Election safety (Raft, figure 3): at most one leader a term.

use std::collections::BTreeMap;

use quorate_consensus::{NodeId, Term};

/// Who led in which term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
}

impl ElectionSafety {
    /// `node` says that it leads in `term`.
    ///
    /// # Errors
    /// Another one said so.
    pub fn elected(&mut self, node: NodeId, term: Term) -> Result<(), String> {
        match self.leaders.insert(term, node) {
            Some(other) if other != node => {
                Err(format!("nodes {other} and {node} both lead in term {term}"))
            }
            _ => Ok(()),
        }
    }

    /// Elections so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.leaders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_a_term_are_caught() {
        let mut check = ElectionSafety::default();
        assert!(check.elected(NodeId(1), Term(2)).is_ok());
        assert!(check.elected(NodeId(1), Term(2)).is_ok());
        assert!(check.elected(NodeId(2), Term(3)).is_ok());
        assert!(check.elected(NodeId(2), Term(2)).is_err());
    }
}
