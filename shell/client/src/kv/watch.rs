//! A watch that goes on: through cut connections, restarts and changes of leaders, without a gap and
//! without a repetition.
//!
//! Invariant: everything before [`Cursor::next`] has been delivered, nothing from it on has. When the stream is cut a
//! new one begins there, at another member if need be. A revision that comes in several pieces is
//! delivered when its last piece is here; pieces of one that was cut in the middle are thrown away.

use std::time::Duration;

use bytes::Bytes;
use quorate_wire::etcdserverpb as pb;
use quorate_wire::etcdserverpb::watch_client::WatchClient;
use quorate_wire::etcdserverpb::watch_request::RequestUnion;
use quorate_wire::mvccpb;
use quorate_wire::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use super::call::{PAUSES, Repeat, longer};
use super::error::{Attempt, Error};
use super::{Client, KeyValue, MAX_MESSAGE, Range, Revision};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was written.
    Put {
        /// What it became.
        pair: KeyValue,
        /// What it was, if that was asked for and is not forgotten.
        previous: Option<KeyValue>,
    },
    /// The key was deleted, or its lease ended.
    Delete {
        /// The key.
        key: Bytes,
        /// When.
        revision: Revision,
        /// What it was, if that was asked for and is not forgotten.
        previous: Option<KeyValue>,
    },
}

impl Event {
    /// When it happened.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { pair, .. } => pair.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// To which key.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { pair, .. } => &pair.key,
            Self::Delete { key, .. } => key,
        }
    }

    fn read(event: mvccpb::Event) -> Option<Self> {
        let is_put = event.r#type() == EventType::Put;
        let (kv, previous) = (event.kv?, event.prev_kv.map(KeyValue::from));
        Some(match is_put {
            true => Self::Put { pair: kv.into(), previous },
            false => Self::Delete { key: kv.key, revision: Revision(kv.mod_revision), previous },
        })
    }
}

/// The next events: whole revisions, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Everything up to this revision, it included, has been delivered.
    pub revision: Revision,
    /// May be empty: then the store has come so far without touching the range.
    pub events: Vec<Event>,
}

impl Batch {
    /// Where a watch that comes after this batch begins.
    #[must_use]
    pub fn next(&self) -> Revision {
        self.revision.next()
    }
}

/// A watch of a range. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    range: Range,
    cursor: Cursor,
    open: Option<Open>,
    /// Before the next stream is opened.
    pause: Duration,
    resumed: u64,
}

/// A stream from one member.
#[derive(Debug)]
struct Open {
    member: usize,
    responses: Streaming<pb::WatchResponse>,
    /// Held open: its end would end the watch.
    requests: mpsc::Sender<pb::WatchRequest>,
}

impl Watch {
    pub(super) async fn start(
        client: &Client,
        range: Range,
        from: Option<Revision>,
    ) -> Result<Self, Error> {
        let mut watch = Self {
            client: client.clone(),
            range,
            cursor: Cursor { next: from.map(|revision| revision.0), pieces: Vec::new() },
            open: None,
            pause: Duration::ZERO,
            resumed: 0,
        };
        let first = watch.open().await?;
        // A cancellation is told by the first `next`.
        if !first.canceled {
            watch.cursor.take(first)?;
        } else {
            watch.open = None;
        }
        Ok(watch)
    }

    /// The next events; waits for them as long as it takes, also while no member answers. It may be dropped and called again at any
    /// time: nothing is lost.
    ///
    /// # Errors
    /// `Compacted`: what should come next has been forgotten while the watch was cut off. Read the range anew and watch from there;
    /// the error says which revision is the oldest that there is. `Refused`: the server does not want it.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            let Some(open) = &mut self.open else {
                self.resume().await?;
                continue;
            };
            let response = match open.responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => {
                    self.cut();
                    continue;
                }
                Err(status) => {
                    self.cut();
                    match Attempt::of(&status) {
                        Attempt::Decided(error) => return Err(error),
                        Attempt::DidNothing(_) | Attempt::Open(_) => continue,
                    }
                }
            };
            if let Some(batch) = self.take(response)? {
                return Ok(batch);
            }
        }
    }

    /// The first revision that has not been delivered yet: where another watch would go on.
    #[must_use]
    pub fn position(&self) -> Revision {
        Revision(self.cursor.next.unwrap_or_default())
    }

    /// How often it went on after it had been cut.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// Asks how far the store is: the answer is a batch, perhaps an empty one.
    pub fn request_progress(&self) {
        let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        if let Some(open) = &self.open {
            // Full or cut: whoever wants to know asks again.
            let _ = open.requests.try_send(pb::WatchRequest { request_union: Some(request) });
        }
    }

    fn take(&mut self, response: pb::WatchResponse) -> Result<Option<Batch>, Error> {
        let result = self.cursor.take(response);
        match &result {
            Ok(Some(_)) => self.pause = Duration::ZERO,
            // Creation alone proves little: a member may accept watches and drop them at once.
            Ok(None) => {}
            Err(_) => self.open = None,
        }
        result
    }

    /// The stream is of no use any more.
    fn cut(&mut self) {
        if let Some(open) = self.open.take() {
            self.client.members().leave(open.member);
        }
        self.cursor.pieces.clear();
        self.pause = longer(self.pause).max(PAUSES.0);
    }

    async fn resume(&mut self) -> Result<(), Error> {
        loop {
            sleep(self.pause).await;
            match self.open().await {
                Ok(first) => {
                    self.resumed += 1;
                    self.take(first)?;
                    return Ok(());
                }
                Err(Error::Unavailable(_) | Error::Unknown(_)) => {
                    self.pause = longer(self.pause).max(PAUSES.0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens a stream where the last one ended; its first response.
    async fn open(&mut self) -> Result<pb::WatchResponse, Error> {
        let create = self.range.to_watch(self.cursor.next.unwrap_or_default());
        let opened = self.client.call(Repeat::Freely, |to| {
            let create = create.clone();
            async move { open(to.channel, to.member, create).await.map(Response::new) }
        });
        let (open, first) = opened.await?;
        self.open = Some(open);
        Ok(first)
    }
}

async fn open(
    channel: Channel,
    member: usize,
    create: pb::WatchCreateRequest,
) -> Result<(Open, pb::WatchResponse), Status> {
    let (requests, receiver) = mpsc::channel(4);
    let request_union = Some(RequestUnion::CreateRequest(create));
    let sent = requests.try_send(pb::WatchRequest { request_union });
    sent.map_err(|error| Status::internal(error.to_string()))?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    // A member that has lost its leader must say so instead of keeping silent.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let mut client = WatchClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let mut responses = client.watch(request).await?.into_inner();
    let first = responses.message().await?;
    let first = first.ok_or_else(|| Status::unavailable("the stream ended at once"))?;
    Ok((Open { member, responses, requests }, first))
}

/// What has been delivered, and pieces of what has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cursor {
    /// The first revision that has not been delivered; `None`: the watch begins with whatever comes next.
    next: Option<i64>,
    /// Events of the revision that is not complete yet.
    pieces: Vec<Event>,
}

impl Cursor {
    fn take(&mut self, response: pb::WatchResponse) -> Result<Option<Batch>, Error> {
        let now = response.header.as_ref().map_or(0, |header| header.revision);
        if response.canceled {
            return Err(why_canceled(&response));
        }
        if response.created {
            self.next.get_or_insert(now + 1);
            return Ok(None);
        }
        let next = self.next.unwrap_or_default();
        if response.events.is_empty() && !response.fragment {
            // Progress: nothing up to here is still to come. A member that is behind says less than is known.
            let is_news = self.pieces.is_empty() && now >= next;
            return Ok(is_news.then(|| self.deliver(now, Vec::new())));
        }
        let mut events = std::mem::take(&mut self.pieces);
        let read = response.events.into_iter().filter_map(Event::read);
        events.extend(read.filter(|event| event.revision().0 >= next));
        let Some(last) = events.last().map(Event::revision) else { return Ok(None) };
        if response.fragment {
            let complete = events.partition_point(|event| event.revision() < last);
            self.pieces = events.split_off(complete);
        }
        let Some(last) = events.last().map(Event::revision) else { return Ok(None) };
        Ok(Some(self.deliver(last.0, events)))
    }

    fn deliver(&mut self, revision: i64, events: Vec<Event>) -> Batch {
        let next = self.next.unwrap_or_default();
        let is_after = |event: &Event| event.revision().0 >= next;
        assert!(events.iter().all(is_after), "revisions before {next} were delivered already");
        self.next = Some(revision + 1);
        Batch { revision: Revision(revision), events }
    }
}

fn why_canceled(response: &pb::WatchResponse) -> Error {
    if response.compact_revision > 0 {
        return Error::Compacted { oldest: Some(Revision(response.compact_revision)) };
    }
    let message = match response.cancel_reason.as_str() {
        "" => "the server ended the watch".to_owned(),
        reason => reason.to_owned(),
    };
    Error::Refused { code: Code::Cancelled, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(now: i64, revisions: &[i64], fragment: bool) -> pb::WatchResponse {
        let event = |revision: &i64| mvccpb::Event {
            kv: Some(mvccpb::KeyValue { mod_revision: *revision, ..Default::default() }),
            ..mvccpb::Event::default()
        };
        pb::WatchResponse {
            header: Some(pb::ResponseHeader { revision: now, ..Default::default() }),
            events: revisions.iter().map(event).collect(),
            fragment,
            ..pb::WatchResponse::default()
        }
    }

    fn created(now: i64) -> pb::WatchResponse {
        pb::WatchResponse { created: true, ..response(now, &[], false) }
    }

    /// Revision and events of what is delivered.
    fn taken(cursor: &mut Cursor, response: pb::WatchResponse) -> Option<(i64, Vec<i64>)> {
        let batch = cursor.take(response).expect("not cancelled")?;
        let events = batch.events.iter().map(|event| event.revision().0).collect();
        Some((batch.revision.0, events))
    }

    #[test]
    fn a_watch_from_now_goes_on_where_it_began() {
        let mut cursor = Cursor::default();
        assert_eq!(taken(&mut cursor, created(7)), None);
        assert_eq!(cursor.next, Some(8));
        // Cut before anything came, and opened anew much later: it still begins at 8.
        assert_eq!(taken(&mut cursor, created(20)), None);
        assert_eq!(cursor.next, Some(8));
        assert_eq!(
            taken(&mut cursor, response(20, &[9, 9, 12], false)),
            Some((12, vec![9, 9, 12]))
        );
        assert_eq!(cursor.next, Some(13));
    }

    #[test]
    fn pieces_of_a_revision_are_delivered_together() {
        let mut cursor = Cursor { next: Some(1), ..Cursor::default() };
        assert_eq!(taken(&mut cursor, response(9, &[3, 4, 4], true)), Some((3, vec![3])));
        assert_eq!(taken(&mut cursor, response(9, &[4], true)), None);
        assert_eq!(taken(&mut cursor, response(9, &[4, 5], false)), Some((5, vec![4, 4, 4, 4, 5])));
    }

    #[test]
    fn pieces_that_were_cut_off_come_again_and_nothing_else_does() {
        let mut cursor = Cursor { next: Some(1), ..Cursor::default() };
        assert_eq!(taken(&mut cursor, response(9, &[3, 4], true)), Some((3, vec![3])));
        cursor.pieces.clear();
        // A server that would send too much is not believed.
        assert_eq!(taken(&mut cursor, response(9, &[3, 4, 4], false)), Some((4, vec![4, 4])));
        assert_eq!(taken(&mut cursor, response(9, &[4], false)), None);
    }

    #[test]
    fn progress_goes_forward_alone() {
        let mut cursor = Cursor { next: Some(5), ..Cursor::default() };
        assert_eq!(taken(&mut cursor, response(8, &[], false)), Some((8, vec![])));
        assert_eq!(taken(&mut cursor, response(8, &[], false)), None);
        assert_eq!(taken(&mut cursor, response(3, &[], false)), None);
        assert_eq!(cursor.next, Some(9));
    }

    #[test]
    fn compaction_says_where_to_begin_again() {
        let mut cursor = Cursor { next: Some(5), ..Cursor::default() };
        let canceled =
            pb::WatchResponse { canceled: true, compact_revision: 40, ..response(50, &[], false) };
        let oldest = Some(Revision(40));
        assert_eq!(cursor.take(canceled), Err(Error::Compacted { oldest }));
    }
}
