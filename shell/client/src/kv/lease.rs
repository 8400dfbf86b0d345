//! A lease that lives as long as its holder, and a holder that hears when it is lost.
//!
//! It is renewed whenever a third of its time has passed, so that two renewals may fail. The holder's own clock decides when it
//! is lost if nobody answers: the time counts from when the last successful renewal was *sent*, so the holder knows no
//! later than the server. Still, between asking whether it is held and doing something with that, time passes: what
//! must not happen twice is done in a transaction that compares the create revision of the lease's key.

use std::fmt;
use std::time::Duration;

use quorate_wire::etcdserverpb as pb;
use quorate_wire::etcdserverpb::lease_client::LeaseClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::call::{PAUSES, Repeat};
use super::error::Error;
use super::{Client, LeaseId};

/// Renewals in the time that a lease lives.
const RENEWALS: u32 = 3;

/// Why a lease is not held any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The servers say that there is no such lease (any more): its keys are deleted.
    Ended,
    /// It could not be renewed in time: its keys may be deleted.
    Silence,
}

impl fmt::Display for Lost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ended => "the lease has ended",
            Self::Silence => "the lease could not be renewed in time",
        })
    }
}

/// Until when it is held, or why it is not.
type Held = Result<Instant, Lost>;

/// A lease that is being renewed. Dropping it ends the renewals: it ends when its time is over;
/// [`Lease::revoke`] ends it at once.
#[derive(Debug)]
pub struct Lease {
    client: Client,
    id: LeaseId,
    ttl: Duration,
    held: watch::Receiver<Held>,
    renewals: JoinHandle<()>,
}

impl Lease {
    pub(super) async fn grant(client: &Client, ttl: Duration) -> Result<Self, Error> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let wanted = i64::try_from(seconds).unwrap_or(i64::MAX).max(1);
        let request = pb::LeaseGrantRequest { ttl: wanted, id: 0 };
        let begun = Instant::now();
        // Twice does no harm: a lease that nobody knows of ends by itself.
        let granted = client.call(Repeat::Freely, |to| {
            let request = to.request(request);
            async move { LeaseClient::new(to.channel).lease_grant(request).await }
        });
        let granted = granted.await?;
        let (id, ttl) = (LeaseId(granted.id), seconds_of(granted.ttl));
        let (tell, held) = watch::channel(Ok(begun + ttl));
        let renewals = tokio::spawn(renew(client.clone(), id, ttl, tell));
        Ok(Self { client: client.clone(), id, ttl, held, renewals })
    }

    /// Its name, for [`Put::lease`](super::Put::lease).
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// How long it lives after a renewal.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Until when it is certainly held, as of now.
    ///
    /// # Errors
    /// Why it is not held any more. A lease that is lost stays lost.
    pub fn held_until(&self) -> Result<Instant, Lost> {
        let until = (*self.held.borrow())?;
        if until > Instant::now() { Ok(until) } else { Err(Lost::Silence) }
    }

    /// Waits until it is lost.
    pub async fn lost(&self) -> Lost {
        let mut held = self.held.clone();
        let lost = held.wait_for(Result::is_err).await;
        // Without renewals it is lost, too.
        lost.map_or(Lost::Silence, |held| held.err().unwrap_or(Lost::Silence))
    }

    /// Ends it, and deletes its keys.
    ///
    /// # Errors
    /// `Unavailable`: then it ends when its time is over.
    pub async fn revoke(self) -> Result<(), Error> {
        self.renewals.abort();
        let request = pb::LeaseRevokeRequest { id: self.id.0 };
        let revoked = self.client.call(Repeat::Freely, |to| {
            let request = to.request(request);
            async move { LeaseClient::new(to.channel).lease_revoke(request).await }
        });
        match revoked.await {
            // An attempt before this one had done it, or its time was over.
            Ok(_) | Err(Error::Refused { code: Code::NotFound, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewals.abort();
    }
}

/// Renews until the lease is lost.
async fn renew(client: Client, id: LeaseId, ttl: Duration, tell: watch::Sender<Held>) {
    let lost = loop {
        let Ok(until) = *tell.borrow() else { return };
        sleep_until(until - ttl + ttl / RENEWALS).await;
        let begun = Instant::now();
        if begun >= until {
            break Lost::Silence;
        }
        let client = client.clone().with_timeout(client.timeout().min(until - begun));
        match client.call(Repeat::Freely, |to| keep_alive(to.channel, id)).await {
            Ok(response) if response.ttl <= 0 => break Lost::Ended,
            Ok(response) => {
                let _before = tell.send_replace(Ok(begun + seconds_of(response.ttl)));
            }
            // Until its time is over somebody may still answer.
            Err(_) => sleep(PAUSES.0).await,
        }
    };
    let _before = tell.send_replace(Err(lost));
}

/// One renewal, on a stream of its own.
async fn keep_alive(
    channel: Channel,
    id: LeaseId,
) -> Result<Response<pb::LeaseKeepAliveResponse>, Status> {
    let (requests, receiver) = mpsc::channel(1);
    let sent = requests.try_send(pb::LeaseKeepAliveRequest { id: id.0 });
    sent.map_err(|error| Status::internal(error.to_string()))?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let mut responses = LeaseClient::new(channel).lease_keep_alive(request).await?.into_inner();
    let response = responses.message().await?;
    drop(requests);
    response.map(Response::new).ok_or_else(|| Status::unavailable("the stream ended at once"))
}

fn seconds_of(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}
