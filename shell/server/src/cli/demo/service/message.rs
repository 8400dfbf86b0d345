//! A deed by message: this service's part is a local transaction, and the others learn of it if and only if it
//! commits.
//!
//! The service itself starts the global transaction, and may be killed anywhere in between. Then the server
//! asks [`check`] what became of the local transaction; a repeated request finds out as well. Whoever has been
//! told of a message cannot refuse any more.

use std::time::Duration;

use axum::extract::State;
use bytes::Bytes;
use quorate_client::barrier::check_back;
use quorate_client::{BranchCall, BranchError, Coordinator, Done, Error, Message, Options};
use serde_json::{Value, json};

use super::{Service, Step, carry_out, malformed, on_its_own};
use crate::cli::demo::deed::options;

/// When the server asks what became of a message that was not submitted.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a clerk asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::demo) struct Asked {
    pub(in crate::cli::demo) gid: String,
    /// What is to be done here.
    pub(in crate::cli::demo) body: String,
    /// Who is told, and what.
    pub(in crate::cli::demo) calls: Vec<(String, String)>,
    /// The message is not submitted: the server has to find out.
    pub(in crate::cli::demo) is_abandoned: bool,
}

impl Asked {
    /// As it is sent.
    pub(in crate::cli::demo) fn json(&self) -> String {
        let calls = self.calls.iter().map(|(url, body)| json!([url, body]));
        json!({
            "gid": self.gid,
            "body": self.body,
            "calls": calls.collect::<Vec<_>>(),
            "abandoned": self.is_abandoned,
        })
        .to_string()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(bytes).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let call = |pair: &Value| Some((text(pair.get(0)?)?, text(pair.get(1)?)?));
        Some(Self {
            gid: text(json.get("gid")?)?,
            body: text(json.get("body")?)?,
            calls: json.get("calls")?.as_array()?.iter().map(call).collect::<Option<_>>()?,
            is_abandoned: json.get("abandoned")?.as_bool()?,
        })
    }

    fn message(&self) -> Message {
        let options = Options { timeout_to_fail: TIMEOUT, ..options() };
        let message = Message::new(&self.gid, options);
        self.calls.iter().fold(message, |message, (url, body)| message.call(url, body))
    }
}

/// Does the deed. May be asked again with the same gid until it answers.
pub(super) async fn begin(
    State(service): State<Service>,
    body: Bytes,
) -> Result<Done, BranchError> {
    let asked = Asked::read(&body).ok_or_else(|| malformed("who, what, where?".to_owned()))?;
    on_its_own(send(service, asked)).await
}

async fn send(service: Service, asked: Asked) -> Result<Done, BranchError> {
    let coordinator = &service.coordinator;
    let message = asked.message();
    match message.prepare(coordinator, &format!("{}/check", service.own)).await {
        Ok(()) => {}
        Err(Error::Refused(_)) => return decided(coordinator, &asked.gid).await,
        Err(error) => return Err(error.into()),
    }
    match change(&service, &message, &asked).await {
        Ok(()) => {}
        Err(BranchError::Error(Error::Settled)) => {
            has_committed(&service, &asked.gid).await?;
        }
        Err(BranchError::Failure(why)) => {
            // The server would find out by itself, a little later.
            let _found_out = message.abort(coordinator).await;
            return Err(BranchError::Failure(why));
        }
        Err(error) => return Err(error),
    }
    if asked.is_abandoned {
        return Ok(Done);
    }
    match message.submit(coordinator).await {
        Ok(()) => Ok(Done),
        Err(Error::Refused(_)) => decided(coordinator, &asked.gid).await,
        Err(error) => Err(error.into()),
    }
}

/// The local transaction.
async fn change(service: &Service, message: &Message, asked: &Asked) -> Result<(), BranchError> {
    let mut change = service.pool.begin().await?;
    // A message's barrier lets through once, and is an error then.
    let _runs = message.barrier().enter(&mut change).await?;
    let body = asked.body.as_bytes();
    carry_out(service.role, Step::Told, &mut change, &asked.gid, body).await?;
    change.commit().await?;
    Ok(())
}

/// Whether the local transaction has committed; if not, it never will.
async fn has_committed(service: &Service, gid: &str) -> Result<(), BranchError> {
    let mut change = service.pool.begin().await?;
    let has_committed = check_back(&mut change, gid).await?;
    change.commit().await?;
    let given_up = || BranchError::Failure("the local transaction has not committed".to_owned());
    has_committed.then_some(()).ok_or_else(given_up)
}

/// The server asks what became of the local transaction.
pub(super) async fn check(
    State(service): State<Service>,
    call: BranchCall,
) -> Result<Done, BranchError> {
    has_committed(&service, &call.gid).await.map(|()| Done)
}

/// The message has been decided without this request.
async fn decided(coordinator: &Coordinator, gid: &str) -> Result<Done, BranchError> {
    match coordinator.status(gid).await?.as_deref() {
        Some("failed") => Err(BranchError::Failure("the message was given up".to_owned())),
        _ => Ok(Done),
    }
}
