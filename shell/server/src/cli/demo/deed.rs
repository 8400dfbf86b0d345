//! One deed as one global transaction, whatever its kind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_client::{
    Coordinator, Error, Http, Options, Saga, SagaStep, Tcc, TccBranch, ThreePhase, ThreePhaseBranch,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::options::Kind;
use super::service::message::Asked;
use super::service::workflow::Work;
use super::tally::End;
use super::town::{PATIENCE, Town};
use crate::exit::Fatal;

/// How long the end of a transaction is waited for.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two questions about it.
const LOOK: Duration = Duration::from_millis(100);
/// When a transaction whose clerk has gone away is cancelled.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What all transactions here are told: participants come back soon.
pub(super) fn options() -> Options {
    Options {
        retry_interval: Duration::from_millis(200),
        request_timeout: Duration::from_secs(2),
        ..Options::default()
    }
}

/// What is to be done, all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) number: u64,
    pub(super) kind: Kind,
    /// Sent to the first service before everything else: address and body.
    pub(super) before: Option<(String, String)>,
    /// The services that take part.
    pub(super) branches: Vec<Branch>,
    /// Whoever does it goes away in the middle, without a word.
    pub(super) is_abandoned: bool,
}

/// One service's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// Its address; the steps are below it.
    pub(super) base: String,
    /// What it is told in each step.
    pub(super) body: String,
}

/// Whoever does deeds. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Clerk {
    coordinators: Arc<[Coordinator]>,
}

impl Clerk {
    pub(super) fn new(town: &Town) -> Self {
        Self { coordinators: town.coordinators().into() }
    }

    /// Does it.
    ///
    /// # Errors
    /// Something that must not happen even while processes are killed.
    pub(super) async fn carry_out(&self, deed: &Deed) -> Result<End, Fatal> {
        // Each node of a cluster gets its share.
        let coordinator = &self.coordinators[deed.number as usize % self.coordinators.len()];
        let fatal = |error: Error| Fatal::Runtime(format!("number {}: {error}", deed.number));
        if let Some((url, body)) = &deed.before {
            ask(coordinator.http(), url, body).await.map_err(fatal)?;
        }
        let gid = coordinator.new_gid().await.map_err(fatal)?;
        let end = match deed.kind {
            Kind::Tcc => by_tcc(coordinator, &gid, deed).await,
            Kind::Saga => by_saga(coordinator, &gid, deed).await,
            Kind::Msg => by_message(coordinator, &gid, deed).await,
            Kind::Workflow => by_workflow(coordinator, &gid, deed).await,
            Kind::ThreePhase => by_three_phase(coordinator, &gid, deed).await,
        };
        end.map_err(fatal)
    }
}

async fn ask(http: &Http, url: &str, body: &str) -> Result<Bytes, Error> {
    let body = Bytes::from(body.to_owned());
    http.post(url, body, PATIENCE).await?.result(url)
}

/// Tries of all branches, one after another, then the decision.
async fn by_tcc(coordinator: &Coordinator, gid: &str, deed: &Deed) -> Result<End, Error> {
    let options = Options { timeout_to_fail: TIMEOUT, ..options() };
    let mut tcc = match Tcc::begin(coordinator, gid, options).await {
        Ok(tcc) => tcc,
        // The first answer was lost, and the second one came after the timeout.
        Err(Error::Refused(_)) => return Ok(End::Cancelled),
        Err(error) => return Err(error),
    };
    for (at, Branch { base, body, .. }) in deed.branches.iter().enumerate() {
        if deed.is_abandoned && at == deed.branches.len() / 2 {
            return Ok(End::Abandoned);
        }
        let branch = TccBranch {
            try_url: format!("{base}/try"),
            confirm_url: format!("{base}/confirm"),
            cancel_url: format!("{base}/cancel"),
            body: body.clone(),
        };
        if let Err(why) = tcc.call_branch(&branch).await {
            return give_up(&tcc, &why).await;
        }
    }
    match tcc.submit().await {
        Ok(()) => Ok(End::Committed),
        // It has timed out meanwhile; or this was asked a second time, and it has ended already.
        Err(Error::Refused(_)) => match coordinator.status(gid).await?.as_deref() {
            Some("submitted" | "succeed") => Ok(End::Committed),
            _ => Ok(End::Cancelled),
        },
        Err(error) => Err(error),
    }
}

async fn give_up(tcc: &Tcc, why: &Error) -> Result<End, Error> {
    let end = match why {
        Error::Refused(text) if !text.contains("no trans with gid") => End::Refused,
        _ => End::Cancelled,
    };
    match tcc.abort(&why.to_string()).await {
        // Refused: it has timed out and is cancelled already.
        Ok(()) | Err(Error::Refused(_)) => Ok(end),
        Err(error) => Err(error),
    }
}

async fn by_saga(coordinator: &Coordinator, gid: &str, deed: &Deed) -> Result<End, Error> {
    let options = Options { wait_result: true, ..options() };
    let mut saga = Saga::new(gid, options);
    for Branch { base, body, .. } in &deed.branches {
        saga = saga.step(SagaStep {
            action_url: format!("{base}/action"),
            compensate_url: format!("{base}/compensate"),
            body: body.clone(),
        });
    }
    match saga.submit(coordinator).await {
        Ok(()) => Ok(End::Committed),
        Err(error) if is_open(&error) => ended(coordinator, gid).await,
        Err(error) => Err(error),
    }
}

/// After a submit that waits for the result: it has failed, or goes on after the failure of a call; or this was
/// asked a second time, and it has ended already.
fn is_open(error: &Error) -> bool {
    matches!(error, Error::Refused(_) | Error::Ongoing(_) | Error::Failed { status: 500, .. })
}

/// Waits for the end of a transaction.
async fn ended(coordinator: &Coordinator, gid: &str) -> Result<End, Error> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(end) = end(coordinator, gid).await? {
            return Ok(end);
        }
        sleep(LOOK).await;
    }
    Err(endless(coordinator, gid).await)
}

/// How it has ended, if it has. What fails fails since a service refused, or since time was over.
async fn end(coordinator: &Coordinator, gid: &str) -> Result<Option<End>, Error> {
    let found = coordinator.query(gid).await?;
    let text = |name: &str| found["transaction"][name].as_str().unwrap_or_default();
    Ok(match text("status") {
        "succeed" => Some(End::Committed),
        "failed" if text("rollback_reason").to_lowercase().contains("timeout") => {
            Some(End::Cancelled)
        }
        "failed" => Some(End::Refused),
        _ => None,
    })
}

async fn endless(coordinator: &Coordinator, gid: &str) -> Error {
    let last = coordinator.query(gid).await.unwrap_or(Value::Null);
    let message = format!("{gid} has not ended: {last}");
    Error::Failed { url: coordinator.base().to_owned(), status: 200, message }
}

/// The coordinator asks all branches. Those of the demo do not decide after a silence, but wait.
async fn by_three_phase(coordinator: &Coordinator, gid: &str, deed: &Deed) -> Result<End, Error> {
    let options = Options { timeout_to_fail: TIMEOUT, wait_result: true, ..options() };
    let mut three_phase = match ThreePhase::begin(coordinator, gid, options).await {
        Ok(three_phase) => three_phase,
        Err(Error::Refused(_)) => return Ok(End::Cancelled),
        Err(error) => return Err(error),
    };
    for (at, Branch { base, body }) in deed.branches.iter().enumerate() {
        if deed.is_abandoned && at == deed.branches.len() / 2 {
            return Ok(End::Abandoned);
        }
        match three_phase.register(&ThreePhaseBranch::at(base, body)).await {
            Ok(_) => {}
            // It has timed out meanwhile.
            Err(Error::Refused(_)) => return Ok(End::Cancelled),
            Err(error) => return Err(error),
        }
    }
    match three_phase.submit().await {
        Ok(()) => Ok(End::Committed),
        Err(error) if is_open(&error) => ended(coordinator, gid).await,
        Err(error) => Err(error),
    }
}

/// The first service runs it. If it dies the coordinator calls it back; whoever asks it again goes on, too.
async fn by_workflow(coordinator: &Coordinator, gid: &str, deed: &Deed) -> Result<End, Error> {
    let parts = deed.branches.iter().map(|branch| (branch.base.clone(), branch.body.clone()));
    let work = Work { gid: gid.to_owned(), parts: parts.collect() }.json();
    let url = deed.branches.first().map(|branch| format!("{}/workflow", branch.base));
    let url = url.expect("a deed has a branch");
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        match ask(coordinator.http(), &url, &work).await {
            Ok(_) => return Ok(End::Committed),
            Err(Error::Malformed(why)) => return Err(Error::Malformed(why)),
            Err(_) => {}
        }
        if let Some(end) = end(coordinator, gid).await? {
            return Ok(end);
        }
        sleep(LOOK).await;
    }
    Err(endless(coordinator, gid).await)
}

/// The first service does it all; whoever asks it goes on asking until it answers.
async fn by_message(coordinator: &Coordinator, gid: &str, deed: &Deed) -> Result<End, Error> {
    let (first, others) = deed.branches.split_first().expect("a deed has a branch");
    let call = |branch: &Branch| (format!("{}/told", branch.base), branch.body.clone());
    let asked = Asked {
        gid: gid.to_owned(),
        body: first.body.clone(),
        calls: others.iter().map(call).collect(),
        is_abandoned: deed.is_abandoned,
    };
    match ask(coordinator.http(), &format!("{}/message", first.base), &asked.json()).await {
        Ok(_) => Ok(End::Committed),
        Err(Error::Refused(text))
            if text.contains("given up") || text.contains("not committed") =>
        {
            Ok(End::Cancelled)
        }
        Err(Error::Refused(_)) => Ok(End::Refused),
        Err(error) => Err(error),
    }
}
