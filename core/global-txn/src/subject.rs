//! What a request is about: the keys on which it is decided.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_kv::{KeyValue, Op, Revision, TxnRequest};

use crate::api::{Body, Halt, Refused, Request};
use crate::decide::{self, Decision};
use crate::gid::GlobalTxnId;
use crate::limits::{MAX_TOPIC, MAX_TOPICS_PER_TXN};
use crate::machine::Context;
use crate::record::{Record, Topic};
use crate::{keys, topics, write};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A transaction, and the topics that its steps name.
    Txn(GlobalTxnId, Vec<String>),
    /// A topic.
    Topic(String),
}

/// What its keys hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    /// Of each key; 0: it does not exist.
    pub(crate) revisions: Vec<Revision>,
    pub(crate) record: Option<Record>,
    pub(crate) topics: BTreeMap<String, Topic>,
}

impl Subject {
    /// # Errors
    /// `Refused` when the request names nothing that could exist.
    pub(crate) fn of(request: &Request) -> Result<Self, Refused> {
        let (gid, topics) = match request {
            Request::Prepare(body) | Request::Submit(body) => (&body.gid, topics_of(body)?),
            Request::PrepareWorkflow(body) => (&body.gid, Vec::new()),
            Request::RegisterBranch(branch) => (&branch.gid, Vec::new()),
            Request::Abort { gid, .. }
            | Request::ForceStop { gid }
            | Request::RetryNow { gid }
            | Request::Operate { gid, .. } => (gid, Vec::new()),
            Request::Subscribe { topic, .. }
            | Request::Unsubscribe { topic, .. }
            | Request::DeleteTopic { topic } => {
                check_name(topic)?;
                return Ok(Self::Topic(topic.clone()));
            }
        };
        Ok(Self::Txn(GlobalTxnId::parse(gid)?, topics))
    }

    pub(crate) fn gid(&self) -> Option<&GlobalTxnId> {
        match self {
            Self::Txn(gid, _) => Some(gid),
            Self::Topic(_) => None,
        }
    }

    /// How many keys it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Txn(_, topics) => 1 + topics.len(),
            Self::Topic(_) => 1,
        }
    }

    pub(crate) fn keys(&self) -> Vec<Bytes> {
        match self {
            Self::Txn(gid, topics) => {
                let topics = topics.iter().map(|name| keys::topic(name));
                std::iter::once(keys::record(gid)).chain(topics).collect()
            }
            Self::Topic(name) => vec![keys::topic(name)],
        }
    }

    /// Makes sense of what was read of each key.
    pub(crate) fn found(&self, reads: &[Vec<KeyValue>]) -> Result<Found, Halt> {
        let revision = |kvs: &Vec<KeyValue>| kvs.first().map_or(Revision(0), |kv| kv.mod_revision);
        let mut found = Found {
            revisions: reads.iter().map(revision).collect(),
            record: None,
            topics: BTreeMap::new(),
        };
        for kv in reads.iter().filter_map(|kvs| kvs.first()) {
            match keys::name_of_topic(&kv.key) {
                None => found.record = Some(write::decode(kv)?),
                Some(name) => {
                    let topic = Topic::decode(&kv.value);
                    let topic = topic.map_err(|cause| Halt(format!("topic {name}: {cause}")))?;
                    found.topics.insert(name.to_owned(), topic);
                }
            }
        }
        Ok(found)
    }

    /// A transaction that does nothing yet, if the keys still stand where they were found. If not, it brings them.
    pub(crate) fn unless_changed(&self, found: &Found) -> TxnRequest {
        let keys = self.keys();
        let compare = keys.iter().zip(&found.revisions);
        TxnRequest {
            compare: compare.map(|(key, at)| write::stands_at(key.clone(), *at)).collect(),
            success: Vec::new(),
            failure: keys.into_iter().map(|key| Op::Range(write::get(key))).collect(),
        }
    }

    pub(crate) fn decide(
        &self,
        cx: &mut Context<'_>,
        request: &Request,
        found: &Found,
    ) -> Decision {
        let at = cx.stamp();
        match self {
            Self::Txn(gid, _) => decide::decide(cx.config, request, gid, found, at),
            Self::Topic(name) => topics::decide(request, name, found.topics.get(name), at),
        }
    }
}

/// Names of the topics in the steps of a message.
fn topics_of(body: &Body) -> Result<Vec<String>, Refused> {
    let names = body.content.steps.iter().filter_map(|step| topics::named(&step.action));
    let names: BTreeSet<&str> = names.collect();
    names.iter().try_for_each(|name| check_name(name))?;
    if names.len() > MAX_TOPICS_PER_TXN {
        return Err(Refused::error(format!("more than {MAX_TOPICS_PER_TXN} topics")));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn check_name(name: &str) -> Result<(), Refused> {
    match name.len() {
        0 => Err(Refused::error("empty topic")),
        length if length > MAX_TOPIC => Err(Refused::error("the name of the topic is too long")),
        _ => Ok(()),
    }
}
