//! Saga: steps that are carried out one after another (or as their order allows), and undone backwards if
//! one of them fails.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::coordinator::{Coordinator, body_of};
use crate::error::Error;
use crate::options::Options;

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SagaStep {
    /// What is to be done.
    pub action_url: String,
    /// What undoes it; empty if there is nothing to undo.
    pub compensate_url: String,
    /// JSON, sent with both of them as it is.
    pub body: String,
}

/// A saga that is being put together.
#[derive(Clone, Debug)]
pub struct Saga {
    gid: String,
    steps: Vec<SagaStep>,
    concurrent: bool,
    after: BTreeMap<usize, Vec<usize>>,
    options: Options,
}

impl Saga {
    /// A saga without steps.
    #[must_use]
    pub fn new(gid: &str, options: Options) -> Self {
        let gid = gid.to_owned();
        Self { gid, steps: Vec::new(), concurrent: false, after: BTreeMap::new(), options }
    }

    /// Appends a step. Steps are counted from 0.
    #[must_use]
    pub fn step(mut self, step: SagaStep) -> Self {
        self.steps.push(step);
        self
    }

    /// Steps need not wait for those before them, except as [`Self::after`] says.
    #[must_use]
    pub fn concurrent(mut self) -> Self {
        self.concurrent = true;
        self
    }

    /// Step number `step` begins only when these steps have succeeded.
    #[must_use]
    pub fn after(mut self, step: usize, earlier: &[usize]) -> Self {
        self.after.entry(step).or_default().extend(earlier);
        self
    }

    /// Hands it to the coordinator, which carries it out.
    ///
    /// # Errors
    /// `Refused` if there is a transaction of this name that has ended, or, with `wait_result`, if it has
    /// not succeeded.
    pub async fn submit(&self, coordinator: &Coordinator) -> Result<(), Error> {
        coordinator.submit(&self.body()).await
    }

    fn body(&self) -> Map<String, Value> {
        let mut body = body_of(&self.gid, "saga", &self.options);
        let steps = self
            .steps
            .iter()
            .map(|step| json!({ "action": step.action_url, "compensate": step.compensate_url }));
        body.insert("steps".to_owned(), steps.collect());
        let payloads = self.steps.iter().map(|step| step.body.as_str());
        body.insert("payloads".to_owned(), payloads.collect());
        if self.concurrent || !self.after.is_empty() {
            let orders: Map<String, Value> = self
                .after
                .iter()
                .map(|(step, earlier)| (step.to_string(), earlier.as_slice().into()))
                .collect();
            let custom = json!({ "concurrent": self.concurrent, "orders": orders });
            body.insert("custom_data".to_owned(), custom.to_string().into());
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saga_is_written_as_dtm_reads_it() {
        let step = |name: &str| SagaStep {
            action_url: format!("http://s/{name}"),
            compensate_url: format!("http://s/un{name}"),
            body: format!("\"{name}\""),
        };
        let saga = Saga::new("g", Options { retry_limit: 3, ..Options::default() });
        let body = saga.step(step("a")).step(step("b")).concurrent().after(1, &[0]).body();
        assert_eq!(
            Value::Object(body),
            json!({
                "gid": "g",
                "trans_type": "saga",
                "retry_limit": 3,
                "steps": [
                    { "action": "http://s/a", "compensate": "http://s/una" },
                    { "action": "http://s/b", "compensate": "http://s/unb" },
                ],
                "payloads": ["\"a\"", "\"b\""],
                "custom_data": "{\"concurrent\":true,\"orders\":{\"1\":[0]}}",
            })
        );
    }
}
