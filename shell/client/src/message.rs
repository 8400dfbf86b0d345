//! Two-phase message: a local transaction and calls to others that happen if and only if it commits.
//!
//! 1. [`Message::prepare`]: the coordinator stores the message and calls nobody.
//! 2. The local transaction, with [`Message::barrier`] passed inside it.
//! 3. [`Message::submit`] after its commit, [`Message::abort`] after its rollback.
//!
//! If this program dies between 1 and 3, the coordinator asks the address that was given to `prepare`; there
//! [`crate::barrier::check_back`] answers from the local database.

use serde_json::{Map, Value, json};

use crate::barrier::Barrier;
use crate::branch::BranchCall;
use crate::coordinator::{Coordinator, body_of};
use crate::error::Error;
use crate::options::Options;

/// A message that is being put together.
#[derive(Clone, Debug)]
pub struct Message {
    gid: String,
    actions: Vec<(String, String)>,
    delay_s: u64,
    options: Options,
}

impl Message {
    /// A message to nobody.
    #[must_use]
    pub fn new(gid: &str, options: Options) -> Self {
        Self { gid: gid.to_owned(), actions: Vec::new(), delay_s: 0, options }
    }

    /// Adds a receiver: `url` is called with `body` (JSON) until it succeeds.
    #[must_use]
    pub fn call(mut self, url: &str, body: &str) -> Self {
        self.actions.push((url.to_owned(), body.to_owned()));
        self
    }

    /// Calls nobody earlier than this many seconds after the message was made.
    #[must_use]
    pub fn delay(mut self, seconds: u64) -> Self {
        self.delay_s = seconds;
        self
    }

    /// The barrier of the local transaction.
    #[must_use]
    pub fn barrier(&self) -> Barrier {
        Barrier::new(BranchCall {
            gid: self.gid.clone(),
            trans_type: "msg".to_owned(),
            branch_id: "00".to_owned(),
            op: "msg".to_owned(),
            dtm: String::new(),
        })
    }

    /// Stores the message; `query_url` is asked what became of the local transaction if nobody says so.
    ///
    /// # Errors
    /// `Refused` if there is one of this name that is decided already.
    pub async fn prepare(&self, coordinator: &Coordinator, query_url: &str) -> Result<(), Error> {
        let mut body = self.body();
        body.insert("query_prepared".to_owned(), query_url.into());
        coordinator.prepare(&body).await
    }

    /// Has it delivered.
    ///
    /// # Errors
    /// `Refused` if it has been given up.
    pub async fn submit(&self, coordinator: &Coordinator) -> Result<(), Error> {
        coordinator.submit(&self.body()).await
    }

    /// Gives it up.
    ///
    /// # Errors
    /// `Refused` if it has been submitted.
    pub async fn abort(&self, coordinator: &Coordinator) -> Result<(), Error> {
        coordinator.abort(&self.body()).await
    }

    fn body(&self) -> Map<String, Value> {
        let mut body = body_of(&self.gid, "msg", &self.options);
        let steps = self.actions.iter().map(|(url, _)| json!({ "action": url }));
        body.insert("steps".to_owned(), steps.collect());
        let payloads = self.actions.iter().map(|(_, body)| body.as_str());
        body.insert("payloads".to_owned(), payloads.collect());
        if self.delay_s > 0 {
            let custom = json!({ "delay": self.delay_s });
            body.insert("custom_data".to_owned(), custom.to_string().into());
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_as_dtm_reads_it() {
        let message = Message::new("g", Options::default()).call("http://a", "{}").delay(10);
        assert_eq!(
            Value::Object(message.body()),
            json!({
                "gid": "g",
                "trans_type": "msg",
                "steps": [{ "action": "http://a" }],
                "payloads": ["{}"],
                "custom_data": "{\"delay\":10}",
            })
        );
    }
}
