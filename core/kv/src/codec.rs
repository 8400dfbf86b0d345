//! Commands as bytes: what an entry of the log carries (`docs/internals/kv-format.md`).
//!
//! Written by hand, since these bytes outlive the process and every member must read them alike. A
//! version comes first, then the keyspace, a tag, and the fields. Decoding is total: any bytes give a
//! command or a [`DecodeError`], in time and memory bounded by their length, nesting bounded by
//! [`MAX_TXN_DEPTH`]; keys and values are slices of the input. A command has exactly one encoding.
//!
//! Left out: any check of what a command means. That is `check`'s, before the command is proposed.

use bytes::Bytes;

use crate::limits::{MAX_BOUND, MAX_KEY, MAX_TXN_DEPTH};
use crate::record::{put_alarm, take_alarm};
use crate::types::{
    Command, Compare, CompareResult, CompareTarget, DeleteRequest, KeyRange, KeyspaceId, LeaseId,
    Op, PutRequest, RangeRequest, RevisionFilter, SortOrder, SortTarget, TxnRequest,
};

pub mod wire;

pub use wire::DecodeError;
use wire::{Reader, Writer};

/// Version of the encoding.
const VERSION: u8 = 1;

/// Encodes a command.
///
/// # Panics
/// When a key is longer than `MAX_KEY`, a bound longer than `MAX_BOUND`, or a transaction nested
/// deeper than `MAX_TXN_DEPTH`: `check` refuses these, and an entry that nobody can decode would stop
/// every member.
#[must_use]
pub fn encode(keyspace: KeyspaceId, command: &Command) -> Bytes {
    let mut out = Writer::with_capacity(size_hint(command));
    out.byte(VERSION);
    out.number(u64::from(keyspace.0));
    put_command(command, &mut out);
    out.into_vec().into()
}

/// Decodes a command; keys and values share `bytes`.
///
/// # Errors
/// Whatever is not the output of [`encode`].
pub fn decode(bytes: &Bytes) -> Result<(KeyspaceId, Command), DecodeError> {
    let mut from = Reader::new(bytes);
    match from.byte()? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let keyspace = KeyspaceId(from.small()?);
    let command = take_command(&mut from)?;
    from.end()?;
    Ok((keyspace, command))
}

/// Room for a put in one allocation; the rest may grow.
fn size_hint(command: &Command) -> usize {
    match command {
        Command::Put(put) => 48 + put.key.len() + put.value.len(),
        _ => 128,
    }
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const TXN: u8 = 3;
const COMPACT: u8 = 4;
const LEASE_GRANT: u8 = 5;
const LEASE_REVOKE: u8 = 6;
const LEASE_RENEW: u8 = 7;
const LEASE_EXPIRE: u8 = 8;
const ALARM_RAISE: u8 = 9;
const ALARM_CLEAR: u8 = 10;
/// Only as an operation of a transaction.
const RANGE: u8 = 11;

fn put_command(command: &Command, out: &mut Writer) {
    match command {
        Command::Put(put) => put_put(put, out),
        Command::Delete(delete) => put_delete(delete, out),
        Command::Txn(txn) => put_txn(txn, 1, out),
        Command::Compact { revision } => {
            out.byte(COMPACT);
            out.signed(*revision);
        }
        Command::LeaseGrant { id, ttl_s } => {
            out.byte(LEASE_GRANT);
            out.signed(id.0);
            out.signed(*ttl_s);
        }
        Command::LeaseRevoke { id } => {
            out.byte(LEASE_REVOKE);
            out.signed(id.0);
        }
        Command::LeaseRenew { ids } => {
            out.byte(LEASE_RENEW);
            out.number(ids.len() as u64);
            ids.iter().for_each(|id| out.signed(id.0));
        }
        Command::LeaseExpire { id, deadline_ms } => {
            out.byte(LEASE_EXPIRE);
            out.signed(id.0);
            out.number(*deadline_ms);
        }
        Command::AlarmRaise(alarm) => {
            out.byte(ALARM_RAISE);
            put_alarm(alarm, out);
        }
        Command::AlarmClear(alarm) => {
            out.byte(ALARM_CLEAR);
            put_alarm(alarm, out);
        }
    }
}

fn take_command(from: &mut Reader<'_>) -> Result<Command, DecodeError> {
    Ok(match from.byte()? {
        PUT => Command::Put(take_put(from)?),
        DELETE => Command::Delete(take_delete(from)?),
        TXN => Command::Txn(take_txn(from, 1)?),
        COMPACT => Command::Compact { revision: from.signed()? },
        LEASE_GRANT => Command::LeaseGrant { id: LeaseId(from.signed()?), ttl_s: from.signed()? },
        LEASE_REVOKE => Command::LeaseRevoke { id: LeaseId(from.signed()?) },
        LEASE_RENEW => {
            let ids = (0..from.count()?).map(|_| from.signed().map(LeaseId));
            Command::LeaseRenew { ids: ids.collect::<Result<_, _>>()? }
        }
        LEASE_EXPIRE => {
            Command::LeaseExpire { id: LeaseId(from.signed()?), deadline_ms: from.number()? }
        }
        ALARM_RAISE => Command::AlarmRaise(take_alarm(from)?),
        ALARM_CLEAR => Command::AlarmClear(take_alarm(from)?),
        _ => return Err(DecodeError::Tag),
    })
}

fn put_key(key: &[u8], longest: usize, out: &mut Writer) {
    assert!(key.len() <= longest, "a key of {} bytes was not checked", key.len());
    out.bytes(key);
}

fn take_key(from: &mut Reader<'_>, longest: usize) -> Result<Bytes, DecodeError> {
    let key = from.bytes()?;
    if key.len() <= longest { Ok(key) } else { Err(DecodeError::Key) }
}

fn put_range_of_keys(range: &KeyRange, out: &mut Writer) {
    put_key(&range.key, MAX_BOUND, out);
    put_key(&range.range_end, MAX_BOUND, out);
}

fn take_range_of_keys(from: &mut Reader<'_>) -> Result<KeyRange, DecodeError> {
    Ok(KeyRange { key: take_key(from, MAX_BOUND)?, range_end: take_key(from, MAX_BOUND)? })
}

fn put_put(put: &PutRequest, out: &mut Writer) {
    out.byte(PUT);
    let has_lease = put.lease != LeaseId::NONE;
    out.flags([put.prev_kv, put.ignore_value, put.ignore_lease, has_lease]);
    put_key(&put.key, MAX_KEY, out);
    out.bytes(&put.value);
    if has_lease {
        out.signed(put.lease.0);
    }
}

fn take_put(from: &mut Reader<'_>) -> Result<PutRequest, DecodeError> {
    let [prev_kv, ignore_value, ignore_lease, has_lease] = from.flags()?;
    let key = take_key(from, MAX_KEY)?;
    let value = from.bytes()?;
    let lease = if has_lease { LeaseId(from.signed()?) } else { LeaseId::NONE };
    if has_lease && lease == LeaseId::NONE {
        return Err(DecodeError::Number);
    }
    Ok(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
}

fn put_delete(delete: &DeleteRequest, out: &mut Writer) {
    out.byte(DELETE);
    out.flags([delete.prev_kv]);
    put_range_of_keys(&delete.range, out);
}

fn take_delete(from: &mut Reader<'_>) -> Result<DeleteRequest, DecodeError> {
    let [prev_kv] = from.flags()?;
    Ok(DeleteRequest { range: take_range_of_keys(from)?, prev_kv })
}

const TARGETS: [SortTarget; 5] =
    [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
const ORDERS: [SortOrder; 3] = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];

fn put_range(range: &RangeRequest, out: &mut Writer) {
    out.byte(RANGE);
    let has_filter = range.filter != RevisionFilter::default();
    out.flags([range.keys_only, range.count_only, has_filter]);
    put_range_of_keys(&range.range, out);
    out.signed(range.limit);
    out.signed(range.revision);
    out.place(&range.order, &ORDERS);
    out.place(&range.target, &TARGETS);
    if has_filter {
        let RevisionFilter { min_mod, max_mod, min_create, max_create } = range.filter;
        [min_mod, max_mod, min_create, max_create].into_iter().for_each(|n| out.signed(n));
    }
}

fn take_range(from: &mut Reader<'_>) -> Result<RangeRequest, DecodeError> {
    let [keys_only, count_only, has_filter] = from.flags()?;
    let mut range = RangeRequest {
        range: take_range_of_keys(from)?,
        limit: from.signed()?,
        revision: from.signed()?,
        order: from.place(&ORDERS)?,
        target: from.place(&TARGETS)?,
        keys_only,
        count_only,
        filter: RevisionFilter::default(),
    };
    if has_filter {
        let (min_mod, max_mod) = (from.signed()?, from.signed()?);
        let (min_create, max_create) = (from.signed()?, from.signed()?);
        range.filter = RevisionFilter { min_mod, max_mod, min_create, max_create };
        if range.filter == RevisionFilter::default() {
            return Err(DecodeError::Number);
        }
    }
    Ok(range)
}

const RESULTS: [CompareResult; 4] =
    [CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual];

fn put_compare(compare: &Compare, out: &mut Writer) {
    put_range_of_keys(&compare.range, out);
    out.place(&compare.result, &RESULTS);
    let (tag, number) = match &compare.target {
        CompareTarget::Version(number) => (1, number),
        CompareTarget::Create(number) => (2, number),
        CompareTarget::Mod(number) => (3, number),
        CompareTarget::Lease(number) => (4, number),
        CompareTarget::Value(value) => {
            out.byte(5);
            return out.bytes(value);
        }
    };
    out.byte(tag);
    out.signed(*number);
}

fn take_compare(from: &mut Reader<'_>) -> Result<Compare, DecodeError> {
    let range = take_range_of_keys(from)?;
    let result = from.place(&RESULTS)?;
    let target = match from.byte()? {
        1 => CompareTarget::Version(from.signed()?),
        2 => CompareTarget::Create(from.signed()?),
        3 => CompareTarget::Mod(from.signed()?),
        4 => CompareTarget::Lease(from.signed()?),
        5 => CompareTarget::Value(from.bytes()?),
        _ => return Err(DecodeError::Tag),
    };
    Ok(Compare { range, target, result })
}

fn put_txn(txn: &TxnRequest, depth: usize, out: &mut Writer) {
    assert!(depth <= MAX_TXN_DEPTH, "a transaction nested {depth} deep was not checked");
    out.byte(TXN);
    out.number(txn.compare.len() as u64);
    txn.compare.iter().for_each(|compare| put_compare(compare, out));
    for branch in [&txn.success, &txn.failure] {
        out.number(branch.len() as u64);
        branch.iter().for_each(|op| put_op(op, depth, out));
    }
}

fn put_op(op: &Op, depth: usize, out: &mut Writer) {
    match op {
        Op::Range(range) => put_range(range, out),
        Op::Put(put) => put_put(put, out),
        Op::Delete(delete) => put_delete(delete, out),
        Op::Txn(txn) => put_txn(txn, depth + 1, out),
    }
}

fn take_txn(from: &mut Reader<'_>, depth: usize) -> Result<TxnRequest, DecodeError> {
    if depth > MAX_TXN_DEPTH {
        return Err(DecodeError::Depth);
    }
    let mut txn = TxnRequest::default();
    for _ in 0..from.count()? {
        txn.compare.push(take_compare(from)?);
    }
    for branch in [&mut txn.success, &mut txn.failure] {
        for _ in 0..from.count()? {
            branch.push(take_op(from, depth)?);
        }
    }
    Ok(txn)
}

fn take_op(from: &mut Reader<'_>, depth: usize) -> Result<Op, DecodeError> {
    Ok(match from.byte()? {
        RANGE => Op::Range(take_range(from)?),
        PUT => Op::Put(take_put(from)?),
        DELETE => Op::Delete(take_delete(from)?),
        TXN => Op::Txn(take_txn(from, depth + 1)?),
        _ => return Err(DecodeError::Tag),
    })
}
