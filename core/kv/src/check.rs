//! What a node checks of a request before it proposes it, or before it reads.
//!
//! Here stand the checks that depend on the request and on configuration alone (contract 3: apply
//! reads no limit); what depends on the state (leases, revisions, missing keys) is checked by apply.
//! The order of the checks is etcd's, since clients see which one failed first.

use bytes::Bytes;

use crate::limits::{MAX_BOUND, MAX_KEY, MAX_LEASE_TTL_S, MAX_TXN_DEPTH, TxnLimits};
use crate::types::{
    Command, DeleteRequest, KeyRange, LeaseId, Op, PutRequest, RangeRequest, Refusal, TxnRequest,
};

mod duplicates;

/// Checks any command.
///
/// # Errors
/// Why it must not be proposed.
pub fn check_command(command: &Command, limits: &TxnLimits) -> Result<(), Refusal> {
    match command {
        Command::Put(put) => check_put(put),
        Command::Delete(delete) => check_delete(delete),
        Command::Txn(txn) => check_txn(txn, limits),
        Command::LeaseGrant { id, ttl_s } => check_grant(*id, *ttl_s),
        _ => Ok(()),
    }
}

/// Checks a range.
///
/// # Errors
/// `EmptyKey`, `TooLarge`.
pub fn check_range(range: &RangeRequest) -> Result<(), Refusal> {
    check_range_of_keys(&range.range)
}

/// Checks a put.
///
/// # Errors
/// `EmptyKey`, `ValueProvided`, `LeaseProvided`, `TooLarge`.
pub fn check_put(put: &PutRequest) -> Result<(), Refusal> {
    check_key(&put.key, MAX_KEY)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if put.ignore_lease && put.lease != LeaseId::NONE {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete.
///
/// # Errors
/// `EmptyKey`, `TooLarge`.
pub fn check_delete(delete: &DeleteRequest) -> Result<(), Refusal> {
    check_range_of_keys(&delete.range)
}

/// Checks a lease's time to live; its id must have been chosen.
///
/// # Errors
/// `LeaseTtlTooLarge`; `LeaseNotFound` for id 0, which names no lease.
pub fn check_grant(id: LeaseId, ttl_s: i64) -> Result<(), Refusal> {
    if ttl_s > MAX_LEASE_TTL_S {
        return Err(Refusal::LeaseTtlTooLarge);
    }
    id.some().map(|_| ()).ok_or(Refusal::LeaseNotFound)
}

/// Checks a transaction: its size at every level, its operations in both branches, and that no key
/// is changed twice on any path.
///
/// # Errors
/// `TooManyOps`, `DuplicateKey`, and whatever its operations are refused for.
pub fn check_txn(txn: &TxnRequest, limits: &TxnLimits) -> Result<(), Refusal> {
    check_level(txn, limits.max_ops, 1)?;
    duplicates::check(txn)
}

/// Whether nothing in it, in whichever branch, can change anything.
#[must_use]
pub fn is_read_only(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::Delete(_) => false,
        Op::Txn(txn) => is_read_only(txn),
    })
}

/// Whether there is a transaction in it: etcd sends those through the log even if they only read.
#[must_use]
pub fn contains_nested(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| matches!(op, Op::Txn(_)))
}

/// One level of a transaction; those within share what `budget` this one leaves.
fn check_level(txn: &TxnRequest, budget: usize, depth: usize) -> Result<(), Refusal> {
    let most = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if most > budget || depth > MAX_TXN_DEPTH {
        return Err(Refusal::TooManyOps);
    }
    for compare in &txn.compare {
        check_range_of_keys(&compare.range)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(range) => check_range(range)?,
            Op::Put(put) => check_put(put)?,
            Op::Delete(delete) => check_delete(delete)?,
            Op::Txn(txn) => check_level(txn, budget - most, depth + 1)?,
        }
    }
    Ok(())
}

fn check_range_of_keys(range: &KeyRange) -> Result<(), Refusal> {
    check_key(&range.key, MAX_BOUND)?;
    if range.range_end.len() > MAX_BOUND {
        return Err(Refusal::TooLarge);
    }
    Ok(())
}

fn check_key(key: &Bytes, longest: usize) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if key.len() > longest { Err(Refusal::TooLarge) } else { Ok(()) }
}
