//! TCC: try reserves, then either every branch's confirm consumes its reservation or every branch's cancel
//! gives it back.
//!
//! The program that starts the transaction calls the tries itself, each after its branch is registered, so
//! that the coordinator knows whom to cancel even if that program dies in the middle. Confirm and cancel are
//! called by the coordinator until they succeed.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::coordinator::{Coordinator, body_of, with_query};
use crate::error::Error;
use crate::options::Options;

/// Most branches of one level.
pub const MAX_BRANCHES: u32 = 99;

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
    coordinator: Coordinator,
    body: Map<String, Value>,
    gid: String,
    branches: u32,
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
        Ok(Self { coordinator: coordinator.clone(), body, gid: gid.to_owned(), branches: 0 })
    }

    /// Its name.
    #[must_use]
    pub fn gid(&self) -> &str {
        &self.gid
    }

    /// Registers a branch and calls its try; the answer is the try's.
    ///
    /// # Errors
    /// After any error the transaction should be aborted: `Refused` is the branch's no (or the
    /// coordinator's, if the transaction has timed out); after the others the try may have happened or not,
    /// and the cancel finds out.
    pub async fn call_branch(&mut self, branch: &TccBranch) -> Result<Bytes, Error> {
        if self.branches == MAX_BRANCHES {
            return Err(Error::Malformed(format!("more than {MAX_BRANCHES} branches")));
        }
        self.branches += 1;
        let branch_id = format!("{:02}", self.branches);
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

    /// Decides for confirm. When this returns, the decision is durable; the confirms are being called.
    ///
    /// # Errors
    /// `Refused` if it has been cancelled meanwhile. After `Unavailable` it is open which way it went: ask
    /// again, or [`Coordinator::query`].
    pub async fn submit(&self) -> Result<(), Error> {
        self.coordinator.submit(&self.body).await
    }

    /// Decides for cancel, with a reason for whoever looks at the transaction later.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn abort(&self, reason: &str) -> Result<(), Error> {
        let mut body = self.body.clone();
        body.insert("rollback_reason".to_owned(), reason.into());
        self.coordinator.abort(&body).await
    }
}
