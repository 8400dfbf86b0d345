//! Who starts an XA transaction, and what a branch is told.

use axum_core::extract::FromRequestParts;
use bytes::Bytes;
use http::request::Parts;
use serde_json::{Map, Value};

use super::Xid;
use crate::branch::{BranchCall, BranchError, parameter};
use crate::coordinator::{Coordinator, body_of, with_query};
use crate::error::Error;
use crate::options::Options;
use crate::tcc::MAX_BRANCHES;

/// An XA transaction that has been prepared and not yet decided. Whoever drops it without a decision leaves
/// that to the coordinator, which rolls it back after its timeout.
#[derive(Debug)]
pub struct Xa {
    coordinator: Coordinator,
    body: Map<String, Value>,
    gid: String,
    branches: u32,
}

impl Xa {
    /// Makes a transaction of this name known.
    ///
    /// # Errors
    /// `Malformed` for a gid that no database would take ([`Xid::new`]). `Refused` if there is one of this name
    /// that is decided already.
    pub async fn begin(
        coordinator: &Coordinator,
        gid: &str,
        options: Options,
    ) -> Result<Self, Error> {
        Xid::new(gid, "01")?;
        let body = body_of(gid, "xa", &options);
        coordinator.prepare(&body).await?;
        Ok(Self { coordinator: coordinator.clone(), body, gid: gid.to_owned(), branches: 0 })
    }

    /// Its name.
    #[must_use]
    pub fn gid(&self) -> &str {
        &self.gid
    }

    /// Calls a branch's action with this body (JSON); it registers itself, with `url` for its second phase. The
    /// answer is the action's.
    ///
    /// # Errors
    /// After any error the transaction must be aborted: `Refused` is the branch's no; after the others it may be
    /// prepared or not, and the rollback finds out.
    pub async fn call_branch(&mut self, url: &str, body: &str) -> Result<Bytes, Error> {
        if self.branches == MAX_BRANCHES {
            return Err(Error::Malformed(format!("more than {MAX_BRANCHES} branches")));
        }
        self.branches += 1;
        let branch_id = format!("{:02}", self.branches);
        let whole = with_query(
            url,
            &[
                ("dtm", self.coordinator.base()),
                ("gid", &self.gid),
                ("trans_type", "xa"),
                ("branch_id", &branch_id),
                ("op", "action"),
                ("phase2_url", url),
            ],
        );
        self.coordinator.post_branch(&whole, body).await
    }

    /// Decides for commit. When this returns, the decision is durable; the branches are being told.
    ///
    /// # Errors
    /// `Refused` if it has been rolled back meanwhile. After `Unavailable` it is open which way it went: ask
    /// again, or [`Coordinator::query`].
    pub async fn submit(&self) -> Result<(), Error> {
        self.coordinator.submit(&self.body).await
    }

    /// Decides for rollback, with a reason for whoever looks at the transaction later.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn abort(&self, reason: &str) -> Result<(), Error> {
        self.coordinator.abort_for(reason, &self.body).await
    }
}

/// Which step of which XA transaction a request carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XaCall {
    /// Transaction, branch, and operation: `action`, `commit` or `rollback`.
    pub step: BranchCall,
    /// Where the coordinator is to call for the second phase; part of the action's call.
    pub phase2_url: Option<String>,
}

impl XaCall {
    /// Reads the parameters that are appended to a branch's address.
    ///
    /// # Errors
    /// `Malformed` if one of the four that every call carries is missing or empty.
    pub fn from_query(query: &str) -> Result<Self, Error> {
        let step = BranchCall::from_query(query)?;
        let phase2_url = Some(parameter(query, "phase2_url")).filter(|url| !url.is_empty());
        Ok(Self { step, phase2_url })
    }

    /// Whether it is a commit or a rollback.
    #[must_use]
    pub fn is_second_phase(&self) -> bool {
        self.step.op != "action"
    }
}

impl<S: Sync> FromRequestParts<S> for XaCall {
    type Rejection = BranchError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, BranchError> {
        Self::from_query(parts.uri.query().unwrap_or_default()).map_err(BranchError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_action_says_where_the_second_phase_is() {
        let query = "gid=g&trans_type=xa&branch_id=01&op=action&phase2_url=http%3A%2F%2Fa%2Fb";
        let call = XaCall::from_query(query).expect("complete");
        assert_eq!(call.phase2_url.as_deref(), Some("http://a/b"));
        assert!(!call.is_second_phase());
        let call = XaCall::from_query("gid=g&trans_type=xa&branch_id=01&op=commit");
        assert!(call.expect("complete").is_second_phase());
    }
}
