//! The barrier over Redis: marks of the calls beside the numbers that they change, both by one script.
//!
//! Redis has no transaction that a program could hold open while it thinks, so the change is handed over
//! with the call: [`Adjust`]s of whole numbers. The script looks at all of them first and writes afterwards,
//! so that a refused call leaves nothing, its marks included.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use quorate_client::{BranchCall, BranchError, Done};
//! # use quorate_client::redis_barrier::{Adjust, RedisBarrier};
//! # async fn pay(
//! #     mut connection: redis::aio::MultiplexedConnection, call: BranchCall,
//! # ) -> Result<Done, BranchError> {
//! let week = Duration::from_secs(7 * 86400);
//! let take = Adjust { key: "account:7", amount: -30, floor: Some(0) };
//! let _entry = RedisBarrier::new(call, week).adjust(&mut connection, &[take]).await?;
//! Ok(Done)
//! # }
//! ```
//!
//! What to know before money is kept so:
//!
//! - Marks live for a time and then go. It must be longer than a global transaction can stay open.
//! - Redis acknowledges before anything is on disk or on a replica, unless it is told otherwise
//!   (`appendfsync always`; `WAIT` bounds a failover's loss and does not rule it out). What a crash takes
//!   from it after the answer, the coordinator believes done.
//! - In a cluster all keys of a call must lie in one slot: gid and account keys need the same hash tag.
//!
//! Keys and values are those of DTM's clients (`GID-BRANCH-OP-01`), except that a `-` in a branch id becomes
//! `:`, so that no two calls share a key.

use std::time::Duration;

use redis::Script;
use redis::aio::ConnectionLike;

use crate::barrier::Entry;
use crate::branch::{BranchCall, BranchError};
use crate::error::Error;

/// Largest amount, and largest number that it may lead to, either way: what the script computes exactly.
pub const MAX_NUMBER: i64 = (1 << 53) - 1;

/// Change of a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjust<'a> {
    /// Where it is kept.
    pub key: &'a str,
    /// Added to it; at most [`MAX_NUMBER`] either way.
    pub amount: i64,
    /// If set, the number must exist and must not be less than this afterwards; else one that does not exist
    /// counts as 0. What must succeed in the end (confirm, cancel, compensate) should have none.
    pub floor: Option<i64>,
}

impl Adjust<'_> {
    fn check(&self) -> Result<(), Error> {
        for number in [self.amount, self.floor.unwrap_or_default()] {
            if number.unsigned_abs() > MAX_NUMBER.unsigned_abs() {
                return Err(Error::Malformed(format!("{number} is beyond {MAX_NUMBER}")));
            }
        }
        Ok(())
    }
}

/// The barrier of one request. Make a new one for each request.
#[derive(Clone, Debug)]
pub struct RedisBarrier {
    call: BranchCall,
    time_to_live: Duration,
    entered: u32,
}

impl RedisBarrier {
    /// For this request; its marks live for `time_to_live`, at least a second.
    #[must_use]
    pub fn new(call: BranchCall, time_to_live: Duration) -> Self {
        Self { call, time_to_live, entered: 0 }
    }

    /// Makes these changes if the call is to be carried out: all of them, or none. Whatever the entry is, the
    /// call is done.
    ///
    /// # Errors
    /// `Failure` if a floor is in the way, or a number with a floor does not exist; nothing is changed. `Error`
    /// with `Settled` for the local transaction of a message that is decided already, with `Malformed` for an amount
    /// out of bounds, with `Redis` if it may or may not have happened: calling again is safe.
    pub async fn adjust(
        &mut self,
        connection: &mut impl ConnectionLike,
        changes: &[Adjust<'_>],
    ) -> Result<Entry, BranchError> {
        self.entered += 1;
        let barrier_id = format!("{:02}", self.entered);
        let mark = |op: &str| mark(&self.call.gid, &self.call.branch_id, op, &barrier_id);
        let own = mark(&self.call.op);
        let script = Script::new(ADJUST);
        let mut run = script.key(&own);
        run.key(self.call.undoes().map_or_else(|| own.clone(), mark));
        run.arg(&self.call.op).arg(seconds(self.time_to_live));
        for change in changes {
            change.check()?;
            let floor = change.floor.map(|floor| floor.to_string()).unwrap_or_default();
            run.key(change.key).arg(change.amount).arg(floor);
        }
        let (entry, why): (String, String) =
            run.invoke_async(connection).await.map_err(Error::from)?;
        self.read(&entry, why)
    }

    fn read(&self, entry: &str, why: String) -> Result<Entry, BranchError> {
        match entry {
            "run" => Ok(Entry::Run),
            "empty" => Ok(Entry::Empty),
            "repeated" | "late" if self.call.op == "msg" => Err(Error::Settled.into()),
            "repeated" => Ok(Entry::Repeated),
            "late" => Ok(Entry::Late),
            _ => Err(BranchError::Failure(why)),
        }
    }
}

/// Whether the local transaction of a message has been carried out; if not, it cannot be any more, for
/// `time_to_live`.
///
/// # Errors
/// `Redis`: nothing is known.
pub async fn check_back(
    connection: &mut impl ConnectionLike,
    gid: &str,
    time_to_live: Duration,
) -> Result<bool, Error> {
    let script = Script::new(CHECK_BACK);
    let mut run = script.key(mark(gid, "00", "msg", "01"));
    let seen: String = run.arg(seconds(time_to_live)).invoke_async(connection).await?;
    Ok(seen == "msg")
}

fn mark(gid: &str, branch_id: &str, op: &str, barrier_id: &str) -> String {
    format!("{gid}-{}-{op}-{barrier_id}", branch_id.replace('-', ":"))
}

fn seconds(time: Duration) -> u64 {
    time.as_secs().max(1)
}

/// KEYS: own mark, mark of what is undone (or the own one again), numbers. ARGV: operation, seconds, then amount
/// and floor of each number. Everything that can fail comes before the first write: a script that fails in the
/// middle is not taken back.
const ADJUST: &str = "
local own, undone = KEYS[1], KEYS[2]
local seen = redis.call('GET', own)
if seen then
  return {seen == 'rollback' and 'late' or 'repeated', ''}
end
if undone ~= own and redis.call('EXISTS', undone) == 0 then
  redis.call('SET', undone, 'rollback', 'EX', ARGV[2])
  redis.call('SET', own, ARGV[1], 'EX', ARGV[2])
  return {'empty', ''}
end
local sums, most = {}, 9007199254740991
for at = 3, #KEYS do
  local key, amount, floor = KEYS[at], ARGV[2 * at - 3], ARGV[2 * at - 2]
  local sum = sums[key]
  if not sum then
    local value = redis.call('GET', key)
    if not value and floor ~= '' then
      return {'refused', key .. ' does not exist'}
    end
    value = value or '0'
    if not string.match(value, '^-?%d+$') then
      return redis.error_reply('ERR ' .. key .. ' holds no whole number')
    end
    sum = tonumber(value)
    if math.abs(sum) > most then
      return redis.error_reply('ERR ' .. key .. ' holds too large a number')
    end
  end
  sum = sum + tonumber(amount)
  if math.abs(sum) > most then
    return redis.error_reply('ERR ' .. key .. ' would become too large')
  end
  if floor ~= '' and sum < tonumber(floor) then
    return {'refused', key .. ' would fall below ' .. floor}
  end
  sums[key] = sum
end
redis.call('SET', own, ARGV[1], 'EX', ARGV[2])
for at = 3, #KEYS do
  redis.call('INCRBY', KEYS[at], ARGV[2 * at - 3])
end
return {'run', ''}
";

const CHECK_BACK: &str = "
local seen = redis.call('GET', KEYS[1])
if seen then
  return seen
end
redis.call('SET', KEYS[1], 'rollback', 'EX', ARGV[1])
return 'rollback'
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_calls_share_a_mark() {
        assert_eq!(mark("g", "01", "try", "01"), "g-01-try-01");
        assert_ne!(mark("g-01", "01", "action", "01"), mark("g", "01-01", "action", "01"));
    }
}
