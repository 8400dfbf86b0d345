//! The machine: inputs go to its halves.

use std::time::Duration;

use quorate_kv::{Event, EventKind, RangeRequest, TxnRequest};
use quorate_rng::Rng;

use crate::api::{
    Call, CallId, Config, Figures, Halt, Input, Now, Output, ReadId, Reply, RequestId, TxnId,
};
use crate::driver::Driver;
use crate::front::Front;
use crate::keys;
use crate::limits::MIN_RETENTION_MS;
use crate::tally::Tally;
use crate::transition::Stamp;

/// The machine. See the crate.
#[derive(Debug)]
pub struct GlobalTxn {
    config: Config,
    ids: Ids,
    front: Front,
    driver: Driver,
    now: Now,
}

/// Numbers and luck.
#[derive(Debug)]
struct Ids {
    next: u64,
    rng: Rng,
}

/// What both halves need in a step.
pub(crate) struct Context<'m> {
    pub(crate) config: &'m Config,
    pub(crate) now: Now,
    ids: &'m mut Ids,
    out: &'m mut Vec<Output>,
}

impl GlobalTxn {
    /// A machine that knows of nothing. `seed` spreads its pauses.
    ///
    /// # Panics
    /// When the configuration holds a pause of 0, which would be a busy loop, or a retention below
    /// `MIN_RETENTION_MS`.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        assert!(config.retry_interval_ms > 0 && config.request_timeout_ms > 0);
        assert!(config.retention_ms >= MIN_RETENTION_MS, "shorter than {MIN_RETENTION_MS} ms");
        let ids = Ids { next: 1, rng: Rng::new(seed) };
        let now = Now::default();
        let driver = Driver::new(&config);
        Self { config, ids, front: Front::default(), driver, now }
    }

    /// Takes one input. Time that has passed is dealt with after it.
    ///
    /// # Errors
    /// `Halt` when a stored record is not what this crate writes: nothing of this step may leave.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Result<(), Halt> {
        self.now = now;
        let Self { config, ids, front, driver, .. } = self;
        let cx = &mut Context { config, now, ids, out };
        let is_read = matches!(input, Input::Range { .. });
        take(cx, front, driver, input)?;
        if !is_read {
            front.tick(cx);
            driver.tick(cx)?;
        }
        Ok(())
    }

    /// When it wants a `Tick`, in its process's own time, if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let driver = self.driver.next_deadline(&self.config, self.now);
        self.front.next_deadline().into_iter().chain(driver).min()
    }

    /// Counters and gauges.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (requests, waiters) = self.front.figures();
        Figures { requests, waiters, ..self.driver.figures() }
    }

    /// Counts by more labels than one.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        self.driver.tally()
    }

    /// Checks what must always hold. Costs a walk over everything in memory.
    ///
    /// # Panics
    /// When it does not.
    pub fn invariants(&self) {
        self.front.invariants();
        self.driver.invariants();
    }
}

fn take(
    cx: &mut Context<'_>,
    front: &mut Front,
    driver: &mut Driver,
    input: Input,
) -> Result<(), Halt> {
    match input {
        Input::Request { id, request } => front.request(cx, id, request),
        Input::Txn { id, outcome } => {
            if !front.txn(cx, id, &outcome)? {
                driver.txn(cx, id, outcome)?;
            }
        }
        Input::Range { id, result } => {
            if !front.range(cx, id, &result)? {
                driver.range(cx, id, result)?;
            }
        }
        Input::Applied { events } => {
            events.iter().try_for_each(|event| applied(cx, front, driver, event))?;
        }
        Input::Called { id, result } => driver.called(cx, id, &result)?,
        Input::Leading => driver.lead(cx),
        Input::Following => driver.follow(cx),
        Input::Tick => {}
    }
    Ok(())
}

fn applied(
    cx: &mut Context<'_>,
    front: &mut Front,
    driver: &mut Driver,
    event: &Event,
) -> Result<(), Halt> {
    if event.kv.key == keys::own() {
        driver.owned(cx, event.kv.mod_revision);
        return Ok(());
    }
    let Some(gid) = keys::gid_of_record(&event.kv.key) else { return Ok(()) };
    match event.kind {
        EventKind::Put => {
            front.changed(cx, &gid, &event.kv)?;
            driver.count(event)?;
            driver.changed(cx, &gid, &event.kv)
        }
        EventKind::Delete => {
            driver.deleted(cx, &gid);
            Ok(())
        }
    }
}

impl Context<'_> {
    pub(crate) fn stamp(&mut self) -> Stamp {
        let Now { group_ms, wall_ms, .. } = self.now;
        Stamp { group_ms, wall_ms, random: self.ids.rng.next() }
    }

    /// Half of this to all of it.
    pub(crate) fn jittered(&mut self, pause_ms: u64) -> Duration {
        Duration::from_millis(pause_ms - self.ids.rng.next() % (pause_ms / 2 + 1))
    }

    fn next(&mut self) -> u64 {
        self.ids.next += 1;
        self.ids.next
    }

    pub(crate) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.out.push(Output::Reply { id, reply });
    }

    pub(crate) fn read(&mut self, range: RangeRequest) -> ReadId {
        let id = ReadId(self.next());
        self.out.push(Output::Range { id, range });
        id
    }

    /// A write about what was accepted before.
    pub(crate) fn txn(&mut self, txn: TxnRequest) -> TxnId {
        self.propose(txn, false)
    }

    pub(crate) fn propose(&mut self, txn: TxnRequest, takes_in: bool) -> TxnId {
        let id = TxnId(self.next());
        self.out.push(Output::Txn { id, txn, takes_in });
        id
    }

    pub(crate) fn call(&mut self, call: Call) -> CallId {
        let id = CallId(self.next());
        self.out.push(Output::Call { id, call });
        id
    }

    pub(crate) fn cancel(&mut self, id: CallId) {
        self.out.push(Output::CancelCall { id });
    }
}
