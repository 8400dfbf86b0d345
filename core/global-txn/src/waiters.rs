//! Requests with `wait_result`: answered when their transaction is through, or pauses.
//!
//! What each is told follows DTM (the spec's 1.6); beside it stands the status, since DTM's 409 does not
//! distinguish "rolled back" from "still at it".

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::{Config, Refused, Reply, RequestId};
use crate::gid::GlobalTxnId;
use crate::kind::{self, Pause};
use crate::limits::{MAX_WAIT_MS, MAX_WAITERS};
use crate::machine::Context;
use crate::record::{Class, Kind, Record, Status};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    of: BTreeMap<GlobalTxnId, Vec<Waiter>>,
    deadlines: BTreeSet<(Duration, RequestId, GlobalTxnId)>,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    id: RequestId,
    /// The end that it asked for.
    wanted: Status,
    until: Duration,
    /// Where its transaction stood last.
    status: Status,
}

impl Waiters {
    /// Answers at once if there is nothing to wait for.
    pub(crate) fn add(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        gid: GlobalTxnId,
        wanted: Status,
        record: &Record,
    ) {
        if let Some(reply) = outcome(cx.config, record, wanted) {
            return cx.reply(id, reply);
        }
        if self.deadlines.len() >= MAX_WAITERS {
            return cx.reply(id, not_through(Some(record.status)));
        }
        let until = cx.now.mono + Duration::from_millis(MAX_WAIT_MS);
        self.deadlines.insert((until, id, gid.clone()));
        self.of.entry(gid).or_default().push(Waiter { id, wanted, until, status: record.status });
    }

    pub(crate) fn waits_for(&self, gid: &GlobalTxnId) -> bool {
        self.of.contains_key(gid)
    }

    pub(crate) fn changed(&mut self, cx: &mut Context<'_>, gid: &GlobalTxnId, record: &Record) {
        let Some(waiters) = self.of.get_mut(gid) else { return };
        waiters.retain_mut(|waiter| match outcome(cx.config, record, waiter.wanted) {
            None => {
                waiter.status = record.status;
                true
            }
            Some(reply) => {
                cx.reply(waiter.id, reply);
                self.deadlines.remove(&(waiter.until, waiter.id, gid.clone()));
                false
            }
        });
        if waiters.is_empty() {
            self.of.remove(gid);
        }
    }

    /// Answers those that have waited long enough.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        while let Some((until, ..)) = self.deadlines.first()
            && *until <= cx.now.mono
            && let Some((_, id, gid)) = self.deadlines.pop_first()
        {
            let mut status = None;
            if let Some(waiters) = self.of.get_mut(&gid) {
                waiters.retain(|waiter| {
                    let is_late = waiter.id == id;
                    status = is_late.then_some(waiter.status).or(status);
                    !is_late
                });
                if waiters.is_empty() {
                    self.of.remove(&gid);
                }
            }
            cx.reply(id, not_through(status));
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(until, ..)| *until)
    }

    pub(crate) fn len(&self) -> usize {
        self.deadlines.len()
    }

    pub(crate) fn invariants(&self) {
        let waiting: usize = self.of.values().map(Vec::len).sum();
        assert_eq!(waiting, self.deadlines.len(), "one deadline a waiter");
        assert!(self.of.values().all(|waiters| !waiters.is_empty()), "an empty list of waiters");
    }
}

/// What a waiter is told; `None`: it goes on waiting.
fn outcome(config: &Config, record: &Record, wanted: Status) -> Option<Reply> {
    if record.status == wanted {
        return Some(Reply::Done);
    }
    let refused = match (record.kind, kind::pause(config, record)) {
        _ if record.status.is_final() => failure(&record.rollback_reason),
        (_, None) => return None,
        (Kind::Saga, _) => failure(&record.rollback_reason),
        (kind, Some(Pause::Delayed)) => Refused { is_delayed: kind == Kind::Msg, ..failure("") },
        (kind, Some(Pause::Answer { class, text })) => match class {
            Class::Failure => failure(&text),
            Class::Ongoing if kind == Kind::Msg => failure(""),
            Class::Ongoing => Refused::ongoing(text),
            Class::Error => Refused::error(text),
        },
    };
    Some(Reply::Refused(refused.at(record.status)))
}

fn failure(reason: &str) -> Refused {
    Refused::failure(if reason.is_empty() { "wait result not return success:" } else { reason })
}

/// The wait is over, the transaction is not.
pub(crate) fn not_through(status: Option<Status>) -> Reply {
    let refused = failure("");
    Reply::Refused(match status {
        None => refused,
        Some(status) => refused.at(status),
    })
}
