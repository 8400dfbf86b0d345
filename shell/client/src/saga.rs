//! Saga: steps that are carried out one after another (or as their order allows), and undone backwards if
//! one of them fails.
//!
//! ```no_run
//! # use quorate_client::*;
//! # async fn pay(coordinator: &Coordinator) -> Result<(), Error> {
//! let step = |service: &str| SagaStep {
//!     action_url: format!("http://{service}/do"),
//!     compensate_url: format!("http://{service}/undo"),
//!     body: r#"{"pieces":2}"#.into(),
//! };
//! // The stock and the points at the same time, the invoice after both, with their answers.
//! let options = Options { wait_result: true, retry_limit: 3, ..Options::default() };
//! let saga = Saga::new(&coordinator.new_gid().await?, options);
//! let saga = saga.step(step("stock")).step(step("points")).step(step("invoice"));
//! saga.concurrent().after(2, &[0, 1]).pass_results().submit(coordinator).await
//! # }
//! ```

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
    passes_results: bool,
    after: BTreeMap<usize, Vec<usize>>,
    options: Options,
}

impl Saga {
    /// A saga without steps.
    #[must_use]
    pub fn new(gid: &str, options: Options) -> Self {
        let gid = gid.to_owned();
        let (steps, after) = (Vec::new(), BTreeMap::new());
        Self { gid, steps, concurrent: false, passes_results: false, after, options }
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

    /// Actions and compensations get what the actions before them answered, too: their body is a
    /// [`StepInput`]. Quorate alone knows this.
    #[must_use]
    pub fn pass_results(mut self) -> Self {
        self.passes_results = true;
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
        if let Some(custom) = self.custom() {
            body.insert("custom_data".to_owned(), custom.to_string().into());
        }
        body
    }

    fn custom(&self) -> Option<Value> {
        let mut custom = Map::new();
        if self.concurrent || !self.after.is_empty() {
            let orders: Map<String, Value> = self
                .after
                .iter()
                .map(|(step, earlier)| (step.to_string(), earlier.as_slice().into()))
                .collect();
            custom.insert("concurrent".to_owned(), self.concurrent.into());
            custom.insert("orders".to_owned(), orders.into());
        }
        if self.passes_results {
            custom.insert("pass_results".to_owned(), true.into());
        }
        (!custom.is_empty()).then_some(Value::Object(custom))
    }
}

/// What a step of a saga with [`Saga::pass_results`] gets as its body, on the branch's side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepInput {
    /// The step's own body.
    pub data: Value,
    /// Answers of the actions that have succeeded, by branch id: `01` for the first step.
    pub results: BTreeMap<String, Value>,
}

impl StepInput {
    /// Reads a body.
    ///
    /// # Errors
    /// `Malformed` if it is no JSON object with `data` and `results`.
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let malformed = |why: &str| Error::Malformed(format!("body of a step: {why}"));
        let whole: Value =
            serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?;
        let data = whole.get("data").ok_or_else(|| malformed("there is no 'data'"))?.clone();
        let results = whole.get("results").and_then(Value::as_object);
        let results = results.ok_or_else(|| malformed("'results' is no object"))?;
        let results = results.iter().map(|(step, answer)| (step.clone(), answer.clone()));
        Ok(Self { data, results: results.collect() })
    }

    /// What the action of a step answered; steps are counted from 0, as in [`Saga::after`]. `None` if it has not
    /// succeeded yet.
    #[must_use]
    pub fn result_of(&self, step: usize) -> Option<&Value> {
        self.results.get(&format!("{:02}", step + 1))
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

    #[test]
    fn answers_are_passed_on_and_read() {
        let saga = Saga::new("g", Options { strict: true, ..Options::default() });
        let body = saga.step(SagaStep::default()).pass_results().body();
        assert_eq!(body["custom_data"], "{\"pass_results\":true}");
        assert_eq!(body["strict"], true);
        let input = StepInput::read(br#"{"data":{"n":1},"results":{"01":{"id":7},"02":"text"}}"#);
        let input = input.expect("readable");
        assert_eq!(input.data, json!({ "n": 1 }));
        assert_eq!(input.result_of(0), Some(&json!({ "id": 7 })));
        assert_eq!((input.result_of(1), input.result_of(2)), (Some(&json!("text")), None));
        for body in ["", "{}", "[1]", r#"{"data":1}"#, r#"{"data":1,"results":[]}"#] {
            assert!(StepInput::read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
