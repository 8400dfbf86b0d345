//! What operators may do. Each such record is marked (`is_forced`): what it promises is theirs from then on.

use crate::api::{Config, Operation, Refused};
use crate::kind::{self, Target};
use crate::record::{Kind, Op, Record, RowStatus, Status, Tries};

use super::{Stamp, end_row, enter, not_now};

pub(super) fn operate(
    config: &Config,
    record: &mut Record,
    operation: &Operation,
    at: Stamp,
) -> Result<(), Refused> {
    match operation {
        Operation::Stop => stop(config, record, at)?,
        // Otherwise audits of what has ended would grow without a use.
        Operation::RetryNow if record.status.is_final() => {
            return Err(not_now(record.status, "cannot be tried again."));
        }
        Operation::RetryNow => retry_now(record),
        Operation::Skip { branch_id, op } => skip(config, record, branch_id, op, at)?,
        Operation::Submit => submit(config, record, at)?,
        Operation::Abort => abort(config, record, at)?,
    }
    record.audits += 1;
    Ok(())
}

pub(super) fn stop(config: &Config, record: &mut Record, at: Stamp) -> Result<(), Refused> {
    if record.status.is_final() {
        return Err(not_now(record.status, "cannot force stop."));
    }
    record.is_forced = true;
    enter(config, record, Status::Failed, at);
    Ok(())
}

pub(super) fn retry_now(record: &mut Record) {
    let retried = |tries: &mut Tries| {
        tries.next_ms = 0;
        tries.errors = 0;
    };
    if !record.status.is_final() {
        retried(&mut record.callback);
        record.rows.iter_mut().for_each(|row| retried(&mut row.tries));
    }
}

/// Only what is waited for: skipping ahead would break the order.
fn skip(
    config: &Config,
    record: &mut Record,
    branch_id: &str,
    op: &str,
    at: Stamp,
) -> Result<(), Refused> {
    let row = kind::callable(config, record).into_iter().find_map(|call| match call.target {
        Target::Row(row) if record.rows[row].branch_id == branch_id => {
            (record.rows[row].op.name() == op).then_some(row)
        }
        _ => None,
    });
    let Some(row) = row else {
        let text = format!("branch '{branch_id}' is not waited for as '{op}'.");
        return Err(Refused::failure(text).at(record.status));
    };
    record.is_forced = true;
    end_row(record, row, RowStatus::Succeed, at);
    Ok(())
}

fn submit(config: &Config, record: &mut Record, at: Stamp) -> Result<(), Refused> {
    if record.status != Status::Prepared || record.kind == Kind::Workflow {
        return Err(not_now(record.status, "cannot be submitted by hand."));
    }
    record.is_forced = true;
    enter(config, record, Status::Submitted, at);
    Ok(())
}

fn abort(config: &Config, record: &mut Record, at: Stamp) -> Result<(), Refused> {
    let is_committing =
        record.rows.iter().any(|row| row.op == Op::DoCommit && row.status == RowStatus::Succeed);
    let next = match (record.kind, record.status) {
        (Kind::Msg | Kind::Workflow, Status::Prepared) => Status::Failed,
        (_, Status::Prepared) | (Kind::Saga, Status::Submitted) => Status::Aborting,
        (Kind::ThreePhase, Status::Submitted) if !is_committing && !is_decided(record) => {
            Status::Aborting
        }
        (_, status) => return Err(not_now(status, "cannot be aborted by hand.")),
    };
    record.is_forced = true;
    if record.rollback_reason.is_empty() {
        "aborted by hand".clone_into(&mut record.rollback_reason);
    }
    enter(config, record, next, at);
    Ok(())
}

/// Of 3pc: every branch has acknowledged that all can.
fn is_decided(record: &Record) -> bool {
    let mut announced = record.rows.iter().filter(|row| row.op == Op::PreCommit);
    announced.all(|row| row.status == RowStatus::Succeed)
}
