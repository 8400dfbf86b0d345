//! What all kinds of global transaction can be told.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Options of a global transaction; zero and empty mean "as the server has it".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The submit is answered only after the branches have been called once.
    pub wait_result: bool,
    /// Seconds after which a transaction that was prepared and not submitted is rolled back (a message: is
    /// asked about); for a saga, after which it is given up.
    pub timeout_to_fail_s: u32,
    /// Seconds that one call of a branch may take.
    pub request_timeout_s: u32,
    /// Seconds until the first repetition of a call that failed.
    pub retry_interval_s: u32,
    /// How often an action of a saga is repeated before the saga is given up.
    pub retry_limit: u32,
    /// Headers of every call of a branch.
    pub branch_headers: BTreeMap<String, String>,
}

impl Options {
    /// Adds what is set to a transaction's JSON.
    pub(crate) fn fill(&self, body: &mut Map<String, Value>) {
        if self.wait_result {
            body.insert("wait_result".to_owned(), Value::Bool(true));
        }
        for (name, value) in [
            ("timeout_to_fail", self.timeout_to_fail_s),
            ("request_timeout", self.request_timeout_s),
            ("retry_interval", self.retry_interval_s),
            ("retry_limit", self.retry_limit),
        ] {
            if value != 0 {
                body.insert(name.to_owned(), value.into());
            }
        }
        if !self.branch_headers.is_empty() {
            let headers = self.branch_headers.iter();
            let headers = headers.map(|(name, value)| (name.clone(), value.as_str().into()));
            body.insert("branch_headers".to_owned(), Value::Object(headers.collect()));
        }
    }
}
