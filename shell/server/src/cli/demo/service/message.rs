//! Paying by message: the order is paid in a local transaction of the service `order`, and the others learn of
//! it if and only if that commits.
//!
//! The service itself starts the global transaction, and may be killed anywhere in between. Then the server
//! asks [`check`] what became of the local transaction; a repeated request finds out as well. Pieces are not
//! taken from the stock but bought: whoever has been told of a message cannot refuse any more.

use std::time::Duration;

use axum::extract::State;
use bytes::Bytes;
use quorate_client::barrier::check_back;
use quorate_client::{
    BranchCall, BranchError, Coordinator, Done, Error, Message, Options, Patience,
};
use serde_json::{Value, json};

use super::{Service, malformed, order};
use crate::cli::demo::plan::Order;

/// When the server asks what became of a message that was not submitted.
const TIMEOUT: Duration = Duration::from_secs(2);
/// While the server is being restarted.
const PATIENCE: Patience =
    Patience { total: Duration::from_secs(20), pause: Duration::from_millis(20) };

/// What the payer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::demo) struct Asked {
    pub(in crate::cli::demo) gid: String,
    pub(in crate::cli::demo) order: Order,
    /// The server.
    pub(in crate::cli::demo) dtm: String,
    /// Addresses of order, stock, points and delivery.
    pub(in crate::cli::demo) bases: [String; 4],
    /// The message is not submitted: the server has to find out.
    pub(in crate::cli::demo) is_abandoned: bool,
}

impl Asked {
    /// As it is sent.
    pub(in crate::cli::demo) fn json(&self) -> String {
        let order: Value = self.order.value();
        json!({
            "gid": self.gid,
            "order": order,
            "dtm": self.dtm,
            "bases": self.bases,
            "abandoned": self.is_abandoned,
        })
        .to_string()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(bytes).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let bases: Option<Vec<_>> = json.get("bases")?.as_array()?.iter().map(text).collect();
        Some(Self {
            gid: text(json.get("gid")?)?,
            order: Order::of(json.get("order")?)?,
            dtm: text(json.get("dtm")?)?,
            bases: bases?.try_into().ok()?,
            is_abandoned: json.get("abandoned")?.as_bool()?,
        })
    }

    fn message(&self) -> Message {
        let options = Options {
            timeout_to_fail: TIMEOUT,
            retry_interval: Duration::from_millis(200),
            request_timeout: Duration::from_secs(2),
            ..Options::default()
        };
        let [_, stock, points, delivery] = &self.bases;
        let body = self.order.json();
        Message::new(&self.gid, options)
            .call(&format!("{stock}/buy"), &body)
            .call(&format!("{points}/action"), &body)
            .call(&format!("{delivery}/action"), &body)
    }
}

/// Pays an order. May be asked again with the same gid until it answers.
pub(super) async fn pay(State(service): State<Service>, body: Bytes) -> Result<Done, BranchError> {
    let asked = Asked::read(&body).ok_or_else(|| malformed("who, what, where?".to_owned()))?;
    let coordinator = Coordinator::new(&asked.dtm).with_patience(PATIENCE);
    let message = asked.message();
    match message.prepare(&coordinator, &format!("{}/check", asked.bases[0])).await {
        Ok(()) => {}
        Err(Error::Refused(_)) => return decided(&coordinator, &asked.gid).await,
        Err(error) => return Err(error.into()),
    }
    match change(&service, &message, &asked).await {
        Ok(()) => {}
        Err(BranchError::Error(Error::Settled)) => {
            has_committed(&service, &asked.gid).await?;
        }
        Err(BranchError::Failure(why)) => {
            // The server would find out by itself, a little later.
            let _found_out = message.abort(&coordinator).await;
            return Err(BranchError::Failure(why));
        }
        Err(error) => return Err(error),
    }
    if asked.is_abandoned {
        return Ok(Done);
    }
    match message.submit(&coordinator).await {
        Ok(()) => Ok(Done),
        Err(Error::Refused(_)) => decided(&coordinator, &asked.gid).await,
        Err(error) => Err(error.into()),
    }
}

/// The local transaction.
async fn change(service: &Service, message: &Message, asked: &Asked) -> Result<(), BranchError> {
    let mut change = service.pool.begin().await?;
    // A message's barrier lets through once, and is an error then.
    let _runs = message.barrier().enter(&mut change).await?;
    order::begin(&mut change, &asked.gid, &asked.order, "PAYED").await?;
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
