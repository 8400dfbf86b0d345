//! Clients that write and read until they are told to stop, and note what they were told.
//!
//! A writer never retries: an error leaves that write open, and the next has another value.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{Client, ConnectOptions, Error, EventType, GetOptions, WatchOptions};
use tokio::task::JoinHandle;

use crate::history::{Event, History, Outcome, Read, Write};
use crate::limits::{POLL, RECOVERY, REQUEST};
use crate::tools::{Kind, binary};

/// What a store without room answers, after "etcdserver: ".
const NO_SPACE: &str = "mvcc: database space exceeded";

/// Running clients.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<History>>,
}

/// One client: it writes its own key and reads it and its neighbour's.
struct Writer {
    client: Client,
    prefix: String,
    index: usize,
    clients: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl Load {
    /// Starts `clients` clients of all `urls`; keys and values begin with `prefix`.
    ///
    /// # Errors
    /// If the library refuses the addresses.
    pub async fn start(urls: &[String], clients: usize, prefix: &str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut running = Vec::new();
        for index in 0..clients {
            let options = ConnectOptions::new().with_timeout(REQUEST);
            let client = Client::connect(urls, Some(options)).await?;
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let prefix = prefix.to_owned();
            let writer = Writer { client, prefix, index, clients, stop, acknowledged };
            running.push(tokio::spawn(writer.run()));
        }
        Ok(Self { stop, acknowledged, clients: running })
    }

    /// Writes acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` further writes have been acknowledged.
    ///
    /// # Errors
    /// If that takes longer than [`RECOVERY`].
    pub async fn progress(&self, more: usize) -> Result<Duration> {
        let (start, goal) = (Instant::now(), self.acknowledged() + more);
        while self.acknowledged() < goal {
            let reached = self.acknowledged();
            anyhow::ensure!(
                start.elapsed() < RECOVERY,
                "no progress: {reached} of {goal} writes within {RECOVERY:?}"
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(start.elapsed())
    }

    /// Stops the clients and gives what they saw.
    ///
    /// # Errors
    /// If a client panicked.
    pub async fn finish(self) -> Result<History> {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for client in self.clients {
            history.extend(client.await.context("a load client")?);
        }
        Ok(history)
    }
}

impl Writer {
    async fn run(mut self) -> History {
        let mut history = History::default();
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let write = self.put(number).await;
            let known = matches!(write.outcome, Outcome::Acknowledged(_));
            history.writes.push(write);
            if known {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            } else {
                tokio::time::sleep(POLL).await;
            }
            if number % 4 == 0 {
                let whose = (self.index + number % 8 / 4) % self.clients;
                history.reads.extend(self.get(whose).await);
            }
        }
        history
    }

    async fn put(&mut self, number: usize) -> Write {
        let key = format!("{}/{}", self.prefix, self.index);
        let value = format!("{}-{}-{number}", self.prefix, self.index);
        let began = Instant::now();
        let answer = self.client.put(key.as_str(), value.as_str(), None).await;
        let outcome = match answer {
            Ok(response) => match response.header() {
                Some(header) => Outcome::Acknowledged(header.revision()),
                None => Outcome::Unknown,
            },
            Err(error) => outcome_of(&error),
        };
        Write { key, value, began, ended: Instant::now(), outcome }
    }

    async fn get(&mut self, whose: usize) -> Option<Read> {
        let key = format!("{}/{whose}", self.prefix);
        let began = Instant::now();
        let response = self.client.get(key.as_str(), None).await.ok()?;
        let revision = response.header()?.revision();
        let found = response.kvs().first().map(|kv| (text(kv.value()), kv.mod_revision()));
        Some(Read { key, revision, found, began, ended: Instant::now() })
    }
}

/// Our guarantee: an error of the server means that nothing was written, unless it says "request timed
/// out". etcd promises that only for what it refuses to begin with. A broken connection says nothing.
fn outcome_of(error: &Error) -> Outcome {
    let Error::GRpcStatus(status) = error else { return Outcome::Unknown };
    let said = status.message().strip_prefix("etcdserver: ").unwrap_or("request timed out");
    let ours = binary().is_ok_and(|binary| binary.kind == Kind::Quorate);
    let open = said.starts_with("request timed out") || !ours && said != NO_SPACE;
    if open { Outcome::Unknown } else { Outcome::Refused }
}

/// Puts one key per call until one is acknowledged.
///
/// # Errors
/// The last error, after [`RECOVERY`].
pub async fn put_until_acknowledged(client: &mut Client, key: &str) -> Result<Duration> {
    let start = Instant::now();
    loop {
        match client.put(key, "again", None).await {
            Ok(_) => return Ok(start.elapsed()),
            Err(error) if start.elapsed() > RECOVERY => {
                return Err(error).context("no write was acknowledged");
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// The whole history of the keys below `prefix`, from revision 1 to the present, read by a watch.
///
/// # Errors
/// If the store does not answer, has been compacted, or shows a delete.
pub async fn read_events(client: &mut Client, prefix: &str) -> Result<Vec<Event>> {
    let newest = newest_below(client, prefix).await?;
    let mut watcher = client.watch_client().max_decoding_message_size(usize::MAX);
    let options = WatchOptions::new().with_prefix().with_start_revision(1);
    let mut stream = watcher.watch(prefix, Some(options)).await?;
    let mut events = Vec::new();
    while events.last().map_or(0, |event: &Event| event.revision) < newest {
        let next = tokio::time::timeout(RECOVERY, stream.message()).await;
        let response = next.context("the watch fell silent")??.context("the watch ended")?;
        anyhow::ensure!(!response.canceled(), "canceled: {}", response.cancel_reason());
        for event in response.events() {
            anyhow::ensure!(event.event_type() == EventType::Put, "an unexpected delete");
            let kv = event.kv().context("an event has a key")?;
            let (key, value) = (text(kv.key()), text(kv.value()));
            events.push(Event { revision: kv.mod_revision(), key, value });
        }
    }
    Ok(events)
}

/// The greatest mod_revision below `prefix`, 0 if there is no key.
async fn newest_below(client: &mut Client, prefix: &str) -> Result<i64> {
    let options = GetOptions::new().with_prefix().with_keys_only();
    let found = client.get(prefix, Some(options)).await?;
    Ok(found.kvs().iter().map(etcd_client::KeyValue::mod_revision).max().unwrap_or(0))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
