//! TCC: try reserves, then either every branch's confirm consumes its reservation or every branch's cancel
//! gives it back.
//!
//! The program that starts the transaction calls the tries itself, each after its branch is registered, so
//! that the coordinator knows whom to cancel even if that program dies in the middle. Confirm and cancel are
//! called by the coordinator until they succeed. A branch may have branches itself ([`NestedTcc`]); their ids are
//! longer by two digits, and the coordinator treats them like all others.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::branch::BranchCall;
use crate::coordinator::{Coordinator, body_of, with_query};
use crate::error::Error;
use crate::options::Options;

/// Most branches of one level.
pub const MAX_BRANCHES: u32 = 99;

/// Ids of branches that have branches themselves are shorter than this, in bytes.
pub const MAX_PARENT_ID: usize = 20;

/// One branch: where its three operations are, and what they all get as their body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TccBranch {
    /// Reserves.
    pub try_url: String,
    /// Consumes the reservation.
    pub confirm_url: String,
    /// Gives the reservation back.
    pub cancel_url: String,
    /// JSON, sent with each of them as it is.
    pub body: String,
}

/// A TCC transaction that has been prepared and not yet decided. Whoever drops it without a decision leaves
/// that to the coordinator, which cancels it after its timeout.
#[derive(Debug)]
pub struct Tcc {
    branches: Branches,
    body: Map<String, Value>,
}

impl Tcc {
    /// Prepares a transaction of this name.
    ///
    /// # Errors
    /// `Refused` if there is one of this name that is decided already.
    pub async fn begin(
        coordinator: &Coordinator,
        gid: &str,
        options: Options,
    ) -> Result<Self, Error> {
        let body = body_of(gid, "tcc", &options);
        coordinator.prepare(&body).await?;
        Ok(Self { branches: Branches::below(coordinator, gid, ""), body })
    }

    /// Its name.
    #[must_use]
    pub fn gid(&self) -> &str {
        &self.branches.gid
    }

    /// Registers a branch and calls its try; the answer is the try's.
    ///
    /// # Errors
    /// After any error the transaction should be aborted: `Refused` is the branch's no (or the
    /// coordinator's, if the transaction has timed out); after the others the try may have happened or not,
    /// and the cancel finds out.
    pub async fn call_branch(&mut self, branch: &TccBranch) -> Result<Bytes, Error> {
        self.branches.call(branch).await
    }

    /// Decides for confirm. When this returns, the decision is durable; the confirms are being called.
    ///
    /// # Errors
    /// `Refused` if it has been cancelled meanwhile. After `Unavailable` it is open which way it went: ask
    /// again, or [`Coordinator::query`].
    pub async fn submit(&self) -> Result<(), Error> {
        self.branches.coordinator.submit(&self.body).await
    }

    /// Decides for cancel, with a reason for whoever looks at the transaction later.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn abort(&self, reason: &str) -> Result<(), Error> {
        self.branches.coordinator.abort_for(reason, &self.body).await
    }
}

/// A branch that has branches itself: its try calls theirs. They belong to the same transaction, and the program that
/// started it decides for all of them.
///
/// ```no_run
/// # use quorate_client::*;
/// // The try of branch 02, which reserves a truck (branch 0201).
/// async fn try_delivery(call: BranchCall, body: String) -> Result<Done, BranchError> {
///     let coordinator = call.coordinator()?;
///     let mut nested = NestedTcc::of(&coordinator, &call)?;
///     let truck = TccBranch {
///         try_url: "http://trucks/try".into(),
///         confirm_url: "http://trucks/confirm".into(),
///         cancel_url: "http://trucks/cancel".into(),
///         body,
///     };
///     match nested.call_branch(&truck).await {
///         Ok(_) => Ok(Done),
///         Err(Error::Refused(why)) => Err(BranchError::Failure(why)),
///         Err(other) => Err(other.into()),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct NestedTcc {
    branches: Branches,
}

impl NestedTcc {
    /// Below the branch that this call is for.
    ///
    /// # Errors
    /// `Malformed` if the call is no try of a TCC, or its branch lies too deep: ids of branches that have
    /// branches are shorter than [`MAX_PARENT_ID`].
    pub fn of(coordinator: &Coordinator, call: &BranchCall) -> Result<Self, Error> {
        let BranchCall { gid, trans_type, branch_id, op, .. } = call;
        if trans_type != "tcc" || op != "try" {
            let why = format!("a {op} of a {trans_type} has no nested branches: only the try has");
            return Err(Error::Malformed(why));
        }
        if branch_id.len() >= MAX_PARENT_ID {
            return Err(Error::Malformed(format!("branch {branch_id} lies too deep")));
        }
        Ok(Self { branches: Branches::below(coordinator, gid, branch_id) })
    }

    /// Registers a branch and calls its try; the answer is the try's.
    ///
    /// # Errors
    /// After any error the try of this branch should fail, too: with a failure after `Refused`, and otherwise with
    /// the error.
    pub async fn call_branch(&mut self, branch: &TccBranch) -> Result<Bytes, Error> {
        self.branches.call(branch).await
    }
}

/// The branches of one level.
#[derive(Debug)]
struct Branches {
    coordinator: Coordinator,
    gid: String,
    parent: String,
    count: u32,
}

impl Branches {
    fn below(coordinator: &Coordinator, gid: &str, parent: &str) -> Self {
        let (gid, parent) = (gid.to_owned(), parent.to_owned());
        Self { coordinator: coordinator.clone(), gid, parent, count: 0 }
    }

    async fn call(&mut self, branch: &TccBranch) -> Result<Bytes, Error> {
        if self.count == MAX_BRANCHES {
            return Err(Error::Malformed(format!("more than {MAX_BRANCHES} branches")));
        }
        self.count += 1;
        let branch_id = format!("{}{:02}", self.parent, self.count);
        self.register(&branch_id, branch).await?;
        let url = with_query(
            &branch.try_url,
            &[
                ("dtm", self.coordinator.base()),
                ("gid", &self.gid),
                ("trans_type", "tcc"),
                ("branch_id", &branch_id),
                ("op", "try"),
            ],
        );
        self.coordinator.call_branch(&url, &branch.body).await
    }

    async fn register(&self, branch_id: &str, branch: &TccBranch) -> Result<(), Error> {
        let fields = [
            ("gid", self.gid.as_str()),
            ("trans_type", "tcc"),
            ("branch_id", branch_id),
            ("data", &branch.body),
            ("confirm", &branch.confirm_url),
            ("cancel", &branch.cancel_url),
        ];
        let body = fields.map(|(name, value)| (name.to_owned(), Value::from(value)));
        self.coordinator.register_branch(&body.into_iter().collect()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_try_that_is_not_too_deep_has_nested_branches() {
        let coordinator = Coordinator::new("http://nobody");
        let call = |branch_id: &str, op: &str| BranchCall {
            gid: "g".to_owned(),
            trans_type: "tcc".to_owned(),
            branch_id: branch_id.to_owned(),
            op: op.to_owned(),
            dtm: "http://d".to_owned(),
        };
        let nested = NestedTcc::of(&coordinator, &call("02", "try")).expect("a try");
        assert_eq!(nested.branches.parent, "02");
        assert!(NestedTcc::of(&coordinator, &call("02", "cancel")).is_err());
        let deep = "01".repeat(10);
        assert!(NestedTcc::of(&coordinator, &call(&deep, "try")).is_err());
        assert!(NestedTcc::of(&coordinator, &call(&deep[2..], "try")).is_ok());
    }
}
