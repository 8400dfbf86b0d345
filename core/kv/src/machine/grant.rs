//! Leases, as entries change them: grant, renew, revoke, expire (contract 11).
//!
//! Deadlines count group time, so the entry's own time is the only clock. A renewal that comes before
//! the lease's expiry in the log keeps it alive, even past its deadline: the log decides.

use bytes::Bytes;
use quorate_engine::{Direction, Engine, EngineError};

use crate::error::{ReadError, corrupt};
use crate::layout;
use crate::limits::MAX_LEASE_TTL_S;
use crate::record;
use crate::types::{LeaseId, LeaseStatus, Refusal, Reply};

use super::write::Write;

impl<E: Engine> Write<'_, E> {
    pub(super) fn grant(
        &mut self,
        id: LeaseId,
        ttl_s: i64,
        time_ms: u64,
    ) -> Result<Reply, ReadError> {
        if self.space.leases.accepts(id) {
            return Err(Refusal::LeaseExists.into());
        }
        if ttl_s > MAX_LEASE_TTL_S {
            return Err(Refusal::LeaseTtlTooLarge.into());
        }
        let ttl_s = ttl_s.max(1);
        self.set_lease(LeaseStatus { id, ttl_s, deadline_ms: deadline(time_ms, ttl_s) })?;
        Ok(Reply::LeaseGrant { revision: self.revision(), id, ttl_s })
    }

    pub(super) fn renew(&mut self, ids: &[LeaseId], time_ms: u64) -> Result<Reply, ReadError> {
        let mut ttls_s = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(lease) = self.space.leases.get(*id) else {
                ttls_s.push(0);
                continue;
            };
            let ttl_s = lease.ttl_s;
            self.set_lease(LeaseStatus { id: *id, ttl_s, deadline_ms: deadline(time_ms, ttl_s) })?;
            ttls_s.push(ttl_s);
        }
        Ok(Reply::LeaseRenew { revision: self.revision(), ttls_s })
    }

    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<Reply, ReadError> {
        if self.space.leases.get(id).is_none() {
            return Err(Refusal::LeaseNotFound.into());
        }
        for key in self.attached(id)? {
            let head = self.engine.get(&layout::head(self.id, &key))?;
            let head = head.ok_or_else(|| corrupt("a missing key is attached to a lease"))?;
            self.delete_key(key, &head)?;
        }
        self.engine.remove(&layout::lease(self.id, id))?;
        self.space.leases.remove(id);
        Ok(Reply::LeaseRevoke { revision: self.revision() })
    }

    /// Revokes the lease if its deadline is still the one that was seen to pass.
    pub(super) fn expire(&mut self, id: LeaseId, deadline_ms: u64) -> Result<Reply, ReadError> {
        match self.space.leases.get(id) {
            Some(lease) if lease.deadline_ms != deadline_ms => {
                Ok(Reply::LeaseRevoke { revision: self.revision() })
            }
            _ => self.revoke(id),
        }
    }

    /// Keys attached to a lease, in order.
    fn attached(&self, id: LeaseId) -> Result<Vec<Bytes>, EngineError> {
        let bounds = layout::attachments(self.id, id);
        let scan = self.engine.scan(layout::borrow(&bounds), Direction::Forward);
        scan.map(|pair| layout::attached_key(&pair?.0)).collect()
    }

    fn set_lease(&mut self, lease: LeaseStatus) -> Result<(), EngineError> {
        let mut bytes = Vec::with_capacity(17);
        record::put_lease(&lease, &mut bytes);
        self.engine.insert(&layout::lease(self.id, lease.id), &bytes)?;
        self.space.leases.set(lease);
        Ok(())
    }
}

/// `ttl_s` is at least 1 and at most [`MAX_LEASE_TTL_S`], so that only a group billions of years old
/// could saturate.
fn deadline(time_ms: u64, ttl_s: i64) -> u64 {
    time_ms.saturating_add(ttl_s.unsigned_abs().saturating_mul(1000))
}
