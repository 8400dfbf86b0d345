//! What the coordinator has written down of a workflow.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::Ended;
use super::flow::{Key, Recorded};
use crate::coordinator::Coordinator;
use crate::error::Error;

/// A request's JSON.
pub(super) type Body = Map<String, Value>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    status: String,
    rollback_reason: String,
    /// Base64.
    result: String,
    pub(super) steps: BTreeMap<Key, Recorded>,
}

impl Progress {
    /// Begins the workflow, or takes it up: also a sign of life.
    pub(super) async fn prepare(coordinator: &Coordinator, body: &Body) -> Result<Self, Error> {
        let answer = coordinator.post_for("prepareWorkflow", body).await?;
        Self::read(&answer).ok_or_else(|| coordinator.unreadable("prepareWorkflow", &answer))
    }

    fn read(answer: &Value) -> Option<Self> {
        let transaction = answer.get("transaction")?;
        let text = |from: &Value, name: &str| {
            from.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut steps = BTreeMap::new();
        let none = Vec::new();
        for row in answer.get("progresses").and_then(Value::as_array).unwrap_or(&none) {
            let data = STANDARD.decode(text(row, "bin_data")).ok()?;
            let data = String::from_utf8_lossy(&data).into_owned();
            let recorded = match text(row, "status").as_str() {
                "succeed" => Ok(data),
                "failed" => Err(data),
                _ => return None,
            };
            steps.insert((text(row, "branch_id"), text(row, "op")), recorded);
        }
        Some(Self {
            status: text(transaction, "status"),
            rollback_reason: text(transaction, "rollback_reason"),
            result: text(transaction, "result"),
            steps,
        })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Result<Option<Ended>, Error> {
        match self.status.as_str() {
            "prepared" => Ok(None),
            "failed" => Ok(Some(Ended::Failed(self.rollback_reason.clone()))),
            "succeed" => match STANDARD.decode(&self.result) {
                Ok(result) => Ok(Some(Ended::Succeeded(Bytes::from(result)))),
                Err(_) => Err(Error::Malformed("the workflow's result is not base64".to_owned())),
            },
            other => Err(Error::Unfinished(format!("the workflow is '{other}'"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_open_workflow_is_read_with_its_steps() {
        let progress = Progress::read(&json!({
            "transaction": { "gid": "g", "status": "prepared" },
            "progresses": [
                { "branch_id": "01", "op": "action", "status": "succeed", "bin_data": "cjE=" },
                { "branch_id": "02", "op": "action", "status": "failed", "bin_data": "bm8=" },
            ],
        }))
        .expect("readable");
        assert_eq!(progress.ended().expect("a status"), None);
        let step = |id: &str| progress.steps.get(&(id.to_owned(), "action".to_owned())).cloned();
        assert_eq!(step("01"), Some(Ok("r1".to_owned())));
        assert_eq!(step("02"), Some(Err("no".to_owned())));
    }

    #[test]
    fn an_ended_workflow_has_its_outcome() {
        let read = |transaction: Value| {
            Progress::read(&json!({ "transaction": transaction, "progresses": [] }))
        };
        let succeeded = read(json!({ "status": "succeed", "result": "b2s=" })).expect("readable");
        let ok = Ended::Succeeded(Bytes::from_static(b"ok"));
        assert_eq!(succeeded.ended().expect("ended"), Some(ok));
        let failed = json!({ "status": "failed", "rollback_reason": "no FAILURE" });
        let failed = read(failed).expect("readable").ended().expect("ended");
        assert_eq!(failed, Some(Ended::Failed("no FAILURE".to_owned())));
        assert_eq!(Progress::read(&json!({ "message": "no" })), None);
    }
}
