//! What all kinds of global transaction can be told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// Options of a global transaction; zero and empty mean "as the server has it". DTM itself knows whole seconds
/// only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The submit is answered only after the branches have been called once.
    pub wait_result: bool,
    /// After which a transaction that was prepared and not submitted is rolled back (a message: is asked
    /// about); for a saga, after which it is given up.
    pub timeout_to_fail: Duration,
    /// How long one call of a branch may take.
    pub request_timeout: Duration,
    /// Until the first repetition of a call that failed.
    pub retry_interval: Duration,
    /// How often an action of a saga is repeated before the saga is given up.
    pub retry_limit: u32,
    /// A branch has succeeded only if it answers 200 with a body that is empty, or JSON that names no failure.
    /// Quorate alone knows this.
    pub strict: bool,
    /// Headers of every call of a branch.
    pub branch_headers: BTreeMap<String, String>,
}

impl Options {
    /// Adds what is set to a transaction's JSON.
    pub(crate) fn fill(&self, body: &mut Map<String, Value>) {
        for (name, truth) in [("wait_result", self.wait_result), ("strict", self.strict)] {
            if truth {
                body.insert(name.to_owned(), true.into());
            }
        }
        for (name, time) in [
            ("timeout_to_fail", self.timeout_to_fail),
            ("request_timeout", self.request_timeout),
            ("retry_interval", self.retry_interval),
        ] {
            if !time.is_zero() {
                body.insert(name.to_owned(), seconds(time));
            }
        }
        if self.retry_limit != 0 {
            body.insert("retry_limit".to_owned(), self.retry_limit.into());
        }
        if !self.branch_headers.is_empty() {
            let headers = self.branch_headers.iter();
            let headers = headers.map(|(name, value)| (name.clone(), value.as_str().into()));
            body.insert("branch_headers".to_owned(), Value::Object(headers.collect()));
        }
    }
}

/// A whole number where it is one.
fn seconds(time: Duration) -> Value {
    if time.subsec_nanos() == 0 { time.as_secs().into() } else { json!(time.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_written() {
        let mut body = Map::new();
        Options::default().fill(&mut body);
        assert!(body.is_empty());
        let options = Options {
            wait_result: true,
            timeout_to_fail: Duration::from_secs(5),
            retry_interval: Duration::from_millis(200),
            ..Options::default()
        };
        options.fill(&mut body);
        let wanted = json!({ "wait_result": true, "timeout_to_fail": 5, "retry_interval": 0.2 });
        assert_eq!(Value::Object(body), wanted);
    }
}
