//! A deed as a workflow: a function of this service, which calls the services one after another.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use bytes::Bytes;
use quorate_client::{
    BranchCall, BranchError, Coordinator, Done, Ended, Error, Flow, Options, StepError, Workflows,
};
use serde_json::{Value, json};

use super::{Service, malformed, on_its_own};
use crate::cli::demo::deed::options;

/// The function's name.
const NAME: &str = "deed";
/// Without a sign of life for so long, this service is called back.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a clerk asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::demo) struct Work {
    pub(in crate::cli::demo) gid: String,
    /// Who takes part, this service first, and what it is told.
    pub(in crate::cli::demo) parts: Vec<(String, String)>,
}

impl Work {
    /// As it is sent.
    pub(in crate::cli::demo) fn json(&self) -> String {
        let parts = self.parts.iter().map(|(base, body)| json!([base, body]));
        json!({ "gid": self.gid, "parts": parts.collect::<Vec<_>>() }).to_string()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(bytes).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let part = |pair: &Value| Some((text(pair.get(0)?)?, text(pair.get(1)?)?));
        let parts = json.get("parts")?.as_array()?.iter().map(part).collect::<Option<_>>()?;
        Some(Self { gid: text(json.get("gid")?)?, parts })
    }
}

/// The workflows of a service that is reached at `own`.
pub(super) fn all(coordinator: &Coordinator, own: &str) -> Workflows {
    let options = Options { retry_interval: INTERVAL, ..options() };
    Workflows::new(coordinator, &format!("{own}/called-back"))
        .with_options(options)
        .register(NAME, deed)
}

async fn deed(flow: Flow, data: Bytes) -> Result<Bytes, StepError> {
    let Some(work) = Work::read(&data) else {
        return Err(StepError::Failure("this is no deed".to_owned()));
    };
    for (base, body) in &work.parts {
        let branch = flow.branch().rollback_url(&format!("{base}/compensate"), body);
        branch.post(&format!("{base}/action"), body).await?;
    }
    Ok(Bytes::new())
}

/// Does the deed. May be asked again with the same gid until it answers.
pub(super) async fn begin(
    State(service): State<Service>,
    body: Bytes,
) -> Result<Done, BranchError> {
    let work = Work::read(&body).ok_or_else(|| malformed("who, what, where?".to_owned()))?;
    let workflows = Arc::clone(&service.workflows);
    on_its_own(async move {
        match workflows.run(&work.gid, NAME, body).await {
            Ok(Ended::Succeeded(_)) => Ok(Done),
            Ok(Ended::Failed(why)) => Err(BranchError::Failure(why)),
            Err(Error::Ongoing(why)) => Err(BranchError::Ongoing(why)),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// The coordinator has heard nothing of it for a while.
pub(super) async fn called_back(
    State(service): State<Service>,
    call: BranchCall,
    data: Bytes,
) -> Result<Done, BranchError> {
    Arc::clone(&service.workflows).callback(call, data).await
}
