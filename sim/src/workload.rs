//! What clients ask for: a mix by weights that the seed has drawn. Values name the operation that wrote
//! them, so that each is written once.

use bytes::Bytes;
use quorate_kv::{
    Alarm, AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRequest, KeyRange,
    LeaseId, Op, PutRequest, RangeRequest, SortOrder, TxnRequest,
};

use crate::clients::{Client, Remedy};
use crate::history::Action;
use crate::options::Options;
use crate::world::World;

/// Accounts between which money is moved.
const ACCOUNTS: u64 = 4;
const FIRST_BALANCE: i64 = 100;

impl World {
    pub(crate) fn choose_action(&mut self, number: usize, op: u64) -> Action {
        let options = &self.options;
        let client = &mut self.clients[number];
        let mix = options.mix;
        if let Some(action) = client.remedy() {
            return action;
        }
        let weights = [
            mix.put,
            mix.read,
            mix.delete,
            mix.swap,
            mix.transfer,
            mix.compact,
            mix.lease,
            mix.nested,
        ];
        match client.rng.weighted(&weights) {
            0 => Action::Write(Command::Put(client.put(options, op, LeaseId::NONE))),
            1 => client.read(options),
            2 => client.delete(options),
            3 => client.swap(options, op),
            4 => client.transfer(op),
            5 => client.compact(),
            6 => client.lease(options, op),
            _ => client.nested(options, op),
        }
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number:02}"))
}

fn account(number: u64) -> Bytes {
    Bytes::from(format!("a{number}"))
}

fn accounts() -> KeyRange {
    KeyRange { key: "a".into(), range_end: "b".into() }
}

fn single(key: &Bytes) -> RangeRequest {
    RangeRequest { range: KeyRange::single(key.clone()), ..RangeRequest::default() }
}

fn compare(key: &Bytes, target: CompareTarget) -> Compare {
    Compare { range: KeyRange::single(key.clone()), target, result: CompareResult::Equal }
}

impl Client {
    fn key(&mut self, options: &Options) -> Bytes {
        key(self.rng.below(options.keys))
    }

    fn value(&mut self, options: &Options, op: u64) -> Bytes {
        let len = self.rng.below(options.value_bytes) as usize;
        let mut value = format!("{op}.");
        value.extend(std::iter::repeat_n('.', len));
        Bytes::from(value)
    }

    fn put(&mut self, options: &Options, op: u64, lease: LeaseId) -> PutRequest {
        let (key, value) = (self.key(options), self.value(options, op));
        let prev_kv = self.rng.chance(300);
        PutRequest { key, value, lease, prev_kv, ..PutRequest::default() }
    }

    fn read(&mut self, options: &Options) -> Action {
        let linearizable = self.rng.chance(750);
        let mut request = single(&self.key(options));
        if self.rng.chance(250) {
            request.range = KeyRange { key: "a".into(), range_end: "z".into() };
            request.limit = if self.rng.chance(300) { self.rng.below(4) as i64 } else { 0 };
            request.count_only = self.rng.chance(150);
            request.keys_only = self.rng.chance(150);
            request.order = if self.rng.chance(200) { SortOrder::Descend } else { SortOrder::None };
        }
        if self.rng.chance(120) {
            request.revision = (self.revision - self.rng.below(30) as i64).max(1);
        }
        Action::Read { request, linearizable }
    }

    fn delete(&mut self, options: &Options) -> Action {
        let prev_kv = self.rng.chance(500);
        let mut range = KeyRange::single(self.key(options));
        if self.rng.chance(150) {
            range.range_end = "z".into();
        }
        Action::Write(Command::Delete(DeleteRequest { range, prev_kv }))
    }

    /// Compare-and-swap on what it has seen of the key, which may be old.
    fn swap(&mut self, options: &Options, op: u64) -> Action {
        let put = self.put(options, op, LeaseId::NONE);
        let target = match self.seen.get(&put.key) {
            Some(Some((_, value))) if self.rng.chance(300) => CompareTarget::Value(value.clone()),
            Some(Some((revision, _))) => CompareTarget::Mod(*revision),
            Some(None) | None => CompareTarget::Create(0),
        };
        let failure = vec![Op::Range(single(&put.key))];
        let compare = vec![compare(&put.key, target)];
        let mut success = vec![Op::Range(single(&put.key)), Op::Put(put)];
        if self.rng.chance(200) {
            let other = DeleteRequest { range: KeyRange::single("kx".into()), prev_kv: true };
            success.push(Op::Delete(other));
        }
        Action::Write(Command::Txn(TxnRequest { compare, success, failure }))
    }

    /// Moves money between two accounts if neither has changed since it looked; else looks again.
    fn transfer(&mut self, op: u64) -> Action {
        let from = self.rng.below(ACCOUNTS);
        let to = (from + 1 + self.rng.below(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = self.rng.between(1, 20) as i64;
        let (mut compares, mut success) = (Vec::new(), Vec::new());
        for (number, change) in [(from, -amount), (to, amount)] {
            let key = account(number);
            let (target, balance) = match self.seen.get(&key).cloned().flatten() {
                Some((revision, value)) => (CompareTarget::Mod(revision), balance(&value)),
                None => (CompareTarget::Create(0), FIRST_BALANCE),
            };
            let value = Bytes::from(format!("{}:{op}", balance + change));
            compares.push(compare(&key, target));
            success.push(Op::Put(PutRequest { key, value, ..PutRequest::default() }));
        }
        if self.rng.chance(400) {
            let request = RangeRequest { range: accounts(), ..RangeRequest::default() };
            return Action::Read { request, linearizable: true };
        }
        let look = RangeRequest { range: accounts(), ..RangeRequest::default() };
        let txn = TxnRequest { compare: compares, success, failure: vec![Op::Range(look)] };
        Action::Write(Command::Txn(txn))
    }

    /// Two keys in two levels, and sometimes a third level; each level has its own conditions, the outer one
    /// not always a change of its own. No key is
    /// changed twice on any path.
    fn nested(&mut self, options: &Options, op: u64) -> Action {
        let outer = self.put(options, op, LeaseId::NONE);
        let mut inner = self.put(options, op, LeaseId::NONE);
        if inner.key == outer.key {
            inner.key = "n".into();
        }
        let look = Op::Range(single(&inner.key));
        let deepest = TxnRequest {
            compare: vec![self.guess(&outer.key)],
            success: vec![Op::Delete(DeleteRequest {
                range: KeyRange::single(inner.key.clone()),
                prev_kv: true,
            })],
            failure: vec![look.clone()],
        };
        let mut failure = vec![look];
        if self.rng.chance(500) {
            failure.push(Op::Txn(deepest));
        }
        let compare = vec![self.guess(&inner.key)];
        let success = vec![Op::Put(inner.clone()), Op::Range(single(&outer.key))];
        let inside = Op::Txn(TxnRequest { compare, success, failure });
        let seen = Op::Range(single(&inner.key));
        let compare = vec![self.guess(&outer.key)];
        let mut success = vec![inside.clone(), seen.clone()];
        if self.rng.chance(600) {
            success.insert(0, Op::Put(outer));
        }
        let failure = if self.rng.chance(500) { vec![inside] } else { vec![seen] };
        Action::Write(Command::Txn(TxnRequest { compare, success, failure }))
    }

    /// A condition on a key that may hold, by what it has seen of it.
    fn guess(&mut self, key: &Bytes) -> Compare {
        let target = match self.seen.get(key) {
            Some(Some((_, value))) if self.rng.chance(300) => CompareTarget::Value(value.clone()),
            Some(Some((revision, _))) => CompareTarget::Mod(*revision),
            Some(None) | None => CompareTarget::Create(0),
        };
        let mut guess = compare(key, target);
        if self.rng.chance(400) {
            guess.result = *self.rng.pick(&[
                CompareResult::NotEqual,
                CompareResult::Less,
                CompareResult::Greater,
            ]);
        }
        guess
    }

    /// Who was refused for want of space makes room, after a while, and disarms the alarm; a few disarm
    /// it without having made room.
    fn remedy(&mut self) -> Option<Action> {
        let wants = self.remedy?;
        if !self.rng.chance(150) {
            return None;
        }
        let skips = self.rng.chance(150);
        Some(match wants {
            Remedy::Compact if !skips => {
                self.remedy = Some(Remedy::Disarm);
                Action::Write(Command::Compact { revision: self.revision })
            }
            _ => {
                self.remedy = None;
                let everybody = Alarm { member: 0, kind: AlarmKind::NoSpace };
                Action::Write(Command::AlarmClear(everybody))
            }
        })
    }

    fn compact(&mut self) -> Action {
        let revision = (self.revision - self.rng.below(20) as i64).max(1);
        Action::Write(Command::Compact { revision })
    }

    fn lease(&mut self, options: &Options, op: u64) -> Action {
        if self.leases.is_empty() || self.rng.chance(150) {
            let ttl_s = self.rng.between(1, 6) as i64;
            return Action::Write(Command::LeaseGrant { id: LeaseId::NONE, ttl_s });
        }
        let lease = *self.rng.pick(&self.leases);
        match self.rng.below(20) {
            0..8 => Action::Write(Command::Put(self.put(options, op, lease))),
            8..18 => Action::KeepAlive(lease),
            _ => Action::Write(Command::LeaseRevoke { id: lease }),
        }
    }
}

fn balance(value: &[u8]) -> i64 {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.split(':').next().and_then(|number| number.parse().ok()).unwrap_or(FIRST_BALANCE)
}
