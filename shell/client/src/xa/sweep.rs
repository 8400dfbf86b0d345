//! Finishes what was left prepared though its global transaction has ended: an operator stopped it by hand, or
//! skipped a branch, or the database came back from a backup.
//!
//! Only what the coordinator knows is touched, and only as the coordinator decided. The rest is reported:
//! a prepared transaction holds locks until somebody ends it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{XaBranch, XaDatabase, Xid};
use crate::error::Error;

/// Most prepared transactions that one pass looks at.
const AT_ONCE: usize = 1000;

/// What became of a prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has been committed.
    Committed,
    /// It has been rolled back.
    RolledBack,
    /// It is as it was, for this reason.
    Left(String),
}

/// A prepared transaction that one pass looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Which.
    pub xid: Xid,
    /// What became of it.
    pub outcome: Outcome,
}

/// Looks after the prepared transactions of one database. Keep it between passes: not every database knows how
/// old they are.
#[derive(Debug)]
pub struct Sweeper<D: XaDatabase> {
    branch: XaBranch<D>,
    seen: BTreeMap<Xid, Instant>,
}

impl<D: XaDatabase> Sweeper<D> {
    /// For the database and the coordinator of this branch.
    #[must_use]
    pub fn new(branch: &XaBranch<D>) -> Self {
        Self { branch: branch.clone(), seen: BTreeMap::new() }
    }

    /// One pass over the transactions that have been prepared for longer than `older_than`, as far as the
    /// database says so, and since this sweeper saw them first otherwise.
    ///
    /// # Errors
    /// `Database` if they cannot be listed. What goes wrong with one of them is its outcome.
    pub async fn sweep(&mut self, older_than: Duration) -> Result<Vec<Swept>, Error> {
        let mut swept = Vec::new();
        for xid in self.aged(older_than).await?.into_iter().take(AT_ONCE) {
            let outcome = match self.finish(&xid).await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::Left(error.to_string()),
            };
            swept.push(Swept { xid, outcome });
        }
        Ok(swept)
    }

    async fn aged(&mut self, older_than: Duration) -> Result<Vec<Xid>, Error> {
        let mut connection = self.branch.pool().acquire().await?;
        let prepared = D::prepared(&mut connection).await?;
        let now = Instant::now();
        let mut seen = BTreeMap::new();
        let mut aged = Vec::new();
        for one in prepared {
            let Some(xid) = Xid::parse(&one.name) else { continue };
            let since = self.seen.get(&xid).copied().unwrap_or(now);
            if one.age.unwrap_or_else(|| now - since) >= older_than {
                aged.push(xid.clone());
            }
            seen.insert(xid, since);
        }
        self.seen = seen;
        Ok(aged)
    }

    async fn finish(&self, xid: &Xid) -> Result<Outcome, crate::branch::BranchError> {
        let found = self.branch.coordinator().query(xid.gid()).await?;
        match verdict(&found, xid.branch_id()) {
            Ok(true) => self.branch.commit(xid).await.map(|_| Outcome::Committed),
            Ok(false) => self.branch.roll_back(xid).await.map(|_| Outcome::RolledBack),
            Err(why) => Ok(Outcome::Left(why)),
        }
    }
}

/// Whether the branch is to be committed, by what the coordinator says of its transaction; or why nobody can say.
fn verdict(found: &Value, branch_id: &str) -> Result<bool, String> {
    let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
    let transaction = &found["transaction"];
    if text(transaction, "trans_type") != "xa" {
        return Err("the coordinator knows no XA transaction of this name".to_owned());
    }
    let rows = found["branches"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !rows.iter().any(|row| text(row, "branch_id") == branch_id) {
        return Err("the coordinator knows no such branch of this transaction".to_owned());
    }
    let told =
        |op: &str| rows.iter().any(|row| text(row, "op") == op && text(row, "status") == "succeed");
    match text(transaction, "status").as_str() {
        // One that was stopped by hand may have been carried out in part: that is for whoever stopped it.
        "succeed" if !told("rollback") => Ok(true),
        "failed" if !told("commit") => Ok(false),
        "succeed" | "failed" => Err("ended by hand after a part of it was carried out".to_owned()),
        status => Err(format!("not ended: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(status: &str, commit: &str) -> Value {
        let row = |id: &str, op: &str, status: &str| json!({ "branch_id": id, "op": op, "status": status });
        json!({
            "transaction": { "gid": "g", "trans_type": "xa", "status": status },
            "branches": [
                row("01", "rollback", "prepared"), row("01", "commit", commit),
                row("02", "rollback", "prepared"), row("02", "commit", "prepared"),
            ],
        })
    }

    #[test]
    fn what_the_coordinator_decided_is_done_and_nothing_else() {
        assert_eq!(verdict(&found("succeed", "succeed"), "02"), Ok(true));
        assert_eq!(verdict(&found("failed", "prepared"), "02"), Ok(false));
        for status in ["prepared", "submitted", "aborting"] {
            assert!(verdict(&found(status, "prepared"), "02").is_err());
        }
        assert!(verdict(&found("failed", "succeed"), "02").is_err(), "stopped in the middle");
        assert!(verdict(&found("succeed", "succeed"), "03").is_err(), "nobody's branch");
        let nothing = json!({ "transaction": null, "branches": [] });
        assert!(verdict(&nothing, "01").is_err());
    }
}
