//! Three-phase commit: ask everybody, announce the decision, do it (Skeen 1981).
//!
//! The coordinator makes all the calls; the program that starts the transaction only says who takes part. On the other
//! side [`Participant`] keeps a branch to the rules, above all those of silence, which are what this kind
//! is for: a participant that hears nothing does not wait for ever.
//!
//! ```no_run
//! # use quorate_client::*;
//! # async fn pay() -> Result<(), Error> {
//! let coordinator = Coordinator::new("http://127.0.0.1:36789/api/dtmsvr");
//! let gid = coordinator.new_gid().await?;
//! let mut order = ThreePhase::begin(&coordinator, &gid, Options::default()).await?;
//! for service in ["http://stock", "http://points"] {
//!     order.register(&ThreePhaseBranch::at(service, r#"{"pieces":2}"#)).await?;
//! }
//! order.submit().await
//! # }
//! ```
//!
//! Use it where a blocked participant is worse than a split one: if a participant is cut off between the second and the
//! third phase, it commits while the coordinator may tell the others to abort. TCC and XA block instead.

mod participant;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub use participant::{Alone, Participant, Told, silence};

use crate::coordinator::{Coordinator, body_of};
use crate::error::Error;
use crate::options::Options;

/// Most branches of a transaction.
pub const MAX_BRANCHES: u32 = 99;

const KIND: &str = "3pc";

/// One branch: where its four operations are, and what they all get as their body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreePhaseBranch {
    /// Can it? A yes holds what is needed.
    pub can_commit_url: String,
    /// All can. From its answer on a branch that hears nothing more commits.
    pub pre_commit_url: String,
    /// Do it.
    pub do_commit_url: String,
    /// Drop what is held.
    pub abort_url: String,
    /// JSON, sent with each of them as it is.
    pub body: String,
}

impl ThreePhaseBranch {
    /// A branch whose operations are `base/can_commit`, `base/pre_commit`, `base/do_commit` and `base/abort`.
    #[must_use]
    pub fn at(base: &str, body: &str) -> Self {
        let url = |op: &str| format!("{base}/{op}");
        Self {
            can_commit_url: url("can_commit"),
            pre_commit_url: url("pre_commit"),
            do_commit_url: url("do_commit"),
            abort_url: url("abort"),
            body: body.to_owned(),
        }
    }
}

/// A three-phase transaction that has been prepared and not yet submitted. Whoever drops it leaves it to the
/// coordinator, which aborts it after its timeout.
#[derive(Debug)]
pub struct ThreePhase {
    coordinator: Coordinator,
    body: Map<String, Value>,
    gid: String,
    branches: u32,
}

impl ThreePhase {
    /// Prepares a transaction of this name.
    ///
    /// # Errors
    /// `Refused` if there is one of this name that is decided already.
    pub async fn begin(
        coordinator: &Coordinator,
        gid: &str,
        options: Options,
    ) -> Result<Self, Error> {
        let body = body_of(gid, KIND, &options);
        coordinator.prepare(&body).await?;
        Ok(Self { coordinator: coordinator.clone(), body, gid: gid.to_owned(), branches: 0 })
    }

    /// Its name.
    #[must_use]
    pub fn gid(&self) -> &str {
        &self.gid
    }

    /// Adds a branch and returns its id. Nobody is called before the submit.
    ///
    /// # Errors
    /// `Refused` if the transaction is not prepared any more.
    pub async fn register(&mut self, branch: &ThreePhaseBranch) -> Result<String, Error> {
        if self.branches == MAX_BRANCHES {
            return Err(Error::Malformed(format!("more than {MAX_BRANCHES} branches")));
        }
        self.branches += 1;
        let branch_id = format!("{:02}", self.branches);
        let fields = [
            ("gid", self.gid.as_str()),
            ("trans_type", KIND),
            ("branch_id", &branch_id),
            ("data", &branch.body),
            ("can_commit", &branch.can_commit_url),
            ("pre_commit", &branch.pre_commit_url),
            ("do_commit", &branch.do_commit_url),
            ("abort", &branch.abort_url),
        ];
        let body = fields.map(|(name, value)| (name.to_owned(), Value::from(value)));
        self.coordinator.register_branch(&body.into_iter().collect()).await?;
        Ok(branch_id)
    }

    /// Has the coordinator ask and decide. Unless `wait_result` is set, this returns before it is decided:
    /// see [`Coordinator::status`].
    ///
    /// # Errors
    /// `Refused` if it has been aborted; with `wait_result`, also if it was not committed.
    pub async fn submit(&self) -> Result<(), Error> {
        self.coordinator.submit(&self.body).await
    }

    /// Gives it up, with a reason for whoever looks at the transaction later.
    ///
    /// # Errors
    /// `Refused` if it has been submitted.
    pub async fn abort(&self, reason: &str) -> Result<(), Error> {
        self.coordinator.abort_for(reason, &self.body).await
    }
}
