//! One order: created, then paid by one global transaction over the four services.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Coordinator, Error, Options, Patience, Saga, SagaStep, Tcc, TccBranch};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::options::Kind;
use super::plan::Purchase;
use super::service::Role;
use super::service::message::Asked;
use super::tally::End;
use super::town::Town;
use crate::exit::Fatal;

/// How long the end of a saga is waited for.
const SAGA_LIMIT: Duration = Duration::from_secs(60);
/// Between two questions about it.
const SAGA_LOOK: Duration = Duration::from_millis(100);

/// When a transaction whose payer has gone away is cancelled.
const TCC_TIMEOUT: Duration = Duration::from_secs(5);

/// What all transactions here are told: participants come back soon.
fn options() -> Options {
    Options {
        retry_interval: Duration::from_millis(200),
        request_timeout: Duration::from_secs(2),
        ..Options::default()
    }
}

/// What a payer needs to know.
#[derive(Clone)]
pub(super) struct Payer {
    coordinator: Coordinator,
    bases: [String; 4],
    patience: Patience,
}

impl Payer {
    pub(super) fn new(town: &Town, patience: Patience) -> Self {
        Self {
            coordinator: town.coordinator().clone(),
            bases: Role::ALL.map(|role| town.base(role).to_owned()),
            patience,
        }
    }

    /// Creates the order and has it paid.
    ///
    /// # Errors
    /// Something that must not happen even while processes are killed.
    pub(super) async fn pay(&self, purchase: Purchase) -> Result<End, Fatal> {
        let fatal =
            |error: Error| Fatal::Runtime(format!("order {}: {error}", purchase.order.number));
        self.create(purchase).await.map_err(fatal)?;
        let gid = self.coordinator.new_gid().await.map_err(fatal)?;
        let end = match purchase.kind {
            Kind::Tcc => self.by_tcc(&gid, purchase).await,
            Kind::Saga => self.by_saga(&gid, purchase).await,
            Kind::Msg => self.by_message(&gid, purchase).await,
        };
        end.map_err(fatal)
    }

    async fn create(&self, purchase: Purchase) -> Result<(), Error> {
        let url = format!("{}/create", self.bases[0]);
        let body = Bytes::from(purchase.order.json());
        let answer = self.coordinator.branches().post(&url, body, self.patience).await?;
        answer.result(&url).map(drop)
    }

    /// Tries of all four, one after another, then the decision.
    async fn by_tcc(&self, gid: &str, purchase: Purchase) -> Result<End, Error> {
        let options = Options { timeout_to_fail: TCC_TIMEOUT, ..options() };
        let mut tcc = Tcc::begin(&self.coordinator, gid, options).await?;
        for (at, base) in self.bases.iter().enumerate() {
            if purchase.is_abandoned && at == 2 {
                return Ok(End::Abandoned);
            }
            let branch = TccBranch {
                try_url: format!("{base}/try"),
                confirm_url: format!("{base}/confirm"),
                cancel_url: format!("{base}/cancel"),
                body: purchase.order.json(),
            };
            if let Err(why) = tcc.call_branch(&branch).await {
                return self.give_up(&tcc, &why).await;
            }
        }
        match tcc.submit().await {
            Ok(()) => Ok(End::Committed),
            // It has timed out meanwhile; or this was asked a second time, and it has ended already.
            Err(Error::Refused(_)) => match self.coordinator.status(gid).await?.as_deref() {
                Some("submitted" | "succeed") => Ok(End::Committed),
                _ => Ok(End::Cancelled),
            },
            Err(error) => Err(error),
        }
    }

    async fn give_up(&self, tcc: &Tcc, why: &Error) -> Result<End, Error> {
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

    /// The service of orders does it all; whoever asks it goes on asking until it answers.
    async fn by_message(&self, gid: &str, purchase: Purchase) -> Result<End, Error> {
        let asked = Asked {
            gid: gid.to_owned(),
            order: purchase.order,
            dtm: self.coordinator.base().to_owned(),
            bases: self.bases.clone(),
            is_abandoned: purchase.is_abandoned,
        };
        let url = format!("{}/message", self.bases[0]);
        let body = Bytes::from(asked.json());
        let answer = self.coordinator.branches().post(&url, body, self.patience).await?;
        match answer.result(&url) {
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

    async fn by_saga(&self, gid: &str, purchase: Purchase) -> Result<End, Error> {
        let options = Options { wait_result: true, ..options() };
        let mut saga = Saga::new(gid, options);
        for base in &self.bases {
            saga = saga.step(SagaStep {
                action_url: format!("{base}/action"),
                compensate_url: format!("{base}/compensate"),
                body: purchase.order.json(),
            });
        }
        match saga.submit(&self.coordinator).await {
            Ok(()) => return Ok(End::Committed),
            // It has failed, or goes on; or this was asked a second time, and it has ended already.
            Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        let deadline = Instant::now() + SAGA_LIMIT;
        while Instant::now() < deadline {
            match self.coordinator.status(gid).await?.as_deref() {
                Some("succeed") => return Ok(End::Committed),
                Some("failed") => return Ok(End::Refused),
                _ => sleep(SAGA_LOOK).await,
            }
        }
        let last = self.coordinator.query(gid).await.unwrap_or(Value::Null);
        let message = format!("saga {gid} has not ended: {last}");
        Err(Error::Failed { url: self.coordinator.base().to_owned(), status: 200, message })
    }
}
