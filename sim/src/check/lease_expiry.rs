//! Leases: never expired early, in any clock; gone within a bound once the faults are over; not revived.
//!
//! *In group time*: an expiry stands in the log at or after the deadline that grants and renewals of the
//! log give. *In true time*: a renewal that a client was told of began at some moment; from then to the
//! expiry, the fastest clock, plus what jumps may add (one election timeout each, contract 4), must
//! have measured the whole time to live.

use std::collections::BTreeMap;

use quorate_kv::LeaseId;

use crate::queue::Time;

/// How far clocks may be off.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockBounds {
    /// The fastest clock gains this much, in millionths.
    pub fast_ppm: u64,
    /// What one jump may add to group time at most, in milliseconds.
    pub jump_ms: u64,
}

/// What a committed entry means for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseFact {
    /// It exists from here on.
    Granted {
        /// Which.
        id: LeaseId,
        /// Time to live, in seconds.
        ttl_s: i64,
        /// Group time, in milliseconds.
        time_ms: u64,
    },
    /// Its time starts anew.
    Renewed {
        /// Which.
        id: LeaseId,
        /// Group time, in milliseconds.
        time_ms: u64,
    },
    /// It was given up.
    Revoked {
        /// Which.
        id: LeaseId,
    },
    /// It ran out.
    Expired {
        /// Which.
        id: LeaseId,
        /// Group time, in milliseconds.
        time_ms: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl_s: i64,
    deadline_ms: u64,
    gone: Option<Time>,
    /// When the latest renewal or grant that was acknowledged had begun.
    alive_from: Option<Time>,
}

/// All leases that ever were.
#[derive(Debug, Default)]
pub struct LeaseExpiry {
    clocks: ClockBounds,
    jumps: Vec<Time>,
    leases: BTreeMap<LeaseId, Lease>,
}

impl LeaseExpiry {
    /// Without leases.
    #[must_use]
    pub fn new(clocks: ClockBounds) -> Self {
        Self { clocks, ..Self::default() }
    }

    /// Some server's clock jumped forward.
    pub fn clock_jumped(&mut self, at: Time) {
        self.jumps.push(at);
    }

    /// An entry was committed, `at` being when it was applied first.
    ///
    /// # Errors
    /// It expires a lease too early.
    pub fn fact(&mut self, at: Time, fact: &LeaseFact) -> Result<(), String> {
        match *fact {
            LeaseFact::Granted { id, ttl_s, time_ms } => {
                let deadline_ms = time_ms + ttl_s as u64 * 1_000;
                let lease = Lease { ttl_s, deadline_ms, gone: None, alive_from: None };
                self.leases.insert(id, lease);
            }
            LeaseFact::Renewed { id, time_ms } => {
                let lease = self.leases.get_mut(&id).ok_or("a lease unknown was renewed")?;
                lease.deadline_ms = lease.deadline_ms.max(time_ms + lease.ttl_s as u64 * 1_000);
            }
            LeaseFact::Revoked { id } => self.gone(id, at),
            LeaseFact::Expired { id, time_ms } => {
                let lease = *self.leases.get(&id).ok_or("a lease unknown expired")?;
                self.gone(id, at);
                self.check_expiry(at, id, &lease, time_ms)?;
            }
        }
        Ok(())
    }

    fn gone(&mut self, id: LeaseId, at: Time) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.gone = Some(at);
        }
    }

    fn check_expiry(
        &self,
        at: Time,
        id: LeaseId,
        lease: &Lease,
        time_ms: u64,
    ) -> Result<(), String> {
        let deadline = lease.deadline_ms;
        if time_ms < deadline {
            return Err(format!("lease {} expired at {time_ms} ms, due at {deadline} ms", id.0));
        }
        let Some(from) = lease.alive_from else { return Ok(()) };
        let true_ms = at.ms() - from.ms() + 1;
        let jumps = self.jumps.iter().filter(|jump| **jump >= from && **jump <= at).count() as u64;
        let fast = true_ms * self.clocks.fast_ppm / 1_000_000 + 1;
        let measured = true_ms + fast + jumps * self.clocks.jump_ms;
        if measured < lease.ttl_s as u64 * 1_000 {
            return Err(format!(
                "lease {} of {} s was renewed at {from} and expired at {at}, after {true_ms} ms; \
                 with {jumps} jumps no clock can have measured more than {measured} ms",
                id.0, lease.ttl_s
            ));
        }
        Ok(())
    }

    /// A grant or renewal that began at `start` was acknowledged with this time to live.
    ///
    /// # Errors
    /// The lease had been gone before it began: it was revived.
    pub fn acknowledged(&mut self, id: LeaseId, start: Time, ttl_s: i64) -> Result<(), String> {
        let Some(lease) = self.leases.get_mut(&id) else {
            return Err(format!("lease {} was acknowledged and never committed", id.0));
        };
        if ttl_s > 0 && lease.gone.is_some_and(|gone| gone < start) {
            return Err(format!("lease {} was gone and answered a renewal at {start}", id.0));
        }
        if ttl_s > 0 && lease.gone.is_none() {
            lease.alive_from = lease.alive_from.max(Some(start));
        }
        Ok(())
    }

    /// The faults are over since `healed` and nobody has renewed `id` since `last`: it must be gone.
    ///
    /// # Errors
    /// It lives.
    pub fn check_gone(
        &self,
        id: LeaseId,
        ttl_s: i64,
        last: Time,
        healed: Time,
        now: Time,
    ) -> Result<(), String> {
        /// An election, the expiry's own entry, and a slow clock take no longer than this.
        const GRACE_MS: u64 = 8_000;
        let ttl_ms = ttl_s as u64 * 1_000;
        let slow = ttl_ms * self.clocks.fast_ppm / 1_000_000;
        let due = last.max(healed).after_ms(ttl_ms + slow + GRACE_MS);
        if now <= due {
            return Ok(());
        }
        Err(format!("lease {} of {ttl_s} s, renewed at {last} at the latest, still lives", id.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LeaseId = LeaseId(1);

    fn granted() -> LeaseExpiry {
        let mut check = LeaseExpiry::new(ClockBounds { fast_ppm: 0, jump_ms: 1_000 });
        let grant = LeaseFact::Granted { id: ID, ttl_s: 5, time_ms: 100 };
        assert!(check.fact(Time::from_ms(50), &grant).is_ok());
        assert!(check.acknowledged(ID, Time::from_ms(40), 5).is_ok());
        check
    }

    fn expire(check: &mut LeaseExpiry, at_ms: u64, time_ms: u64) -> Result<(), String> {
        check.fact(Time::from_ms(at_ms), &LeaseFact::Expired { id: ID, time_ms })
    }

    #[test]
    fn an_early_expiry_is_caught_in_either_time() {
        assert!(expire(&mut granted(), 6_000, 5_100).is_ok());
        assert!(expire(&mut granted(), 6_000, 5_099).is_err(), "group time");
        assert!(expire(&mut granted(), 4_000, 5_100).is_err(), "true time");
        let mut jumped = granted();
        jumped.clock_jumped(Time::from_ms(3_000));
        assert!(expire(&mut jumped, 4_100, 5_100).is_ok(), "a jump explains one second");
    }

    #[test]
    fn a_revived_and_an_immortal_lease_are_caught() {
        let mut check = granted();
        let now = Time::from_ms(60_000);
        assert!(check.check_gone(ID, 5, Time::from_ms(40), Time::from_ms(100), now).is_err());
        assert!(check.check_gone(ID, 5, Time::from_ms(55_000), Time::from_ms(100), now).is_ok());
        assert!(expire(&mut check, 6_000, 5_100).is_ok());
        assert!(check.acknowledged(ID, Time::from_ms(5_000), 5).is_ok(), "it began before");
        assert!(check.acknowledged(ID, Time::from_ms(6_001), 5).is_err());
        assert!(check.acknowledged(ID, Time::from_ms(6_001), 0).is_ok(), "told that it is gone");
    }
}
