//! The one function that changes records.
//!
//! ```text
//!              prepare                submit, check-back says yes              all rows done
//!   (nothing) ─────────► prepared ─────────────────────────────► submitted ───────────────────► succeed
//!       │                  │   │                                   │
//!       │ submit           │   │ abort, timeout                    │ saga: an action refused, timeout,
//!       └──────────────────┼───┼───────────────► submitted         │       retries used up
//!                          │   ▼                                   │ 3pc:  a vote refused, timeout
//!                          │  aborting ◄───────────────────────────┘
//!                          │   │
//!                          │   │ all rows undone
//!                          ▼   ▼
//!                          failed        msg: abort and a check-back that says no lead straight here
//! ```
//!
//! A workflow goes from prepared to succeed or failed by its own submit. An operator's stop leads from
//! wherever it stands to failed. Final statuses are never left: a decision, once applied, is not taken back.
//!
//! What comes twice changes nothing the second time: the result then equals the record given.

use crate::api::{Config, Operation, Refused, WorkflowOutcome};
use crate::gid::GlobalTxnId;
use crate::kind::{self, Target};
use crate::limits::{MAX_ANSWER, MAX_RESULT, MAX_TEXT};
use crate::planted::Bug;
use crate::record::{
    Answer, Class, Kind, Op, Options, Record, Row, RowStatus, Source, Status, Tries,
};

mod operate;
mod retry;

pub(crate) use retry::{base_ms, waits_out};
use retry::{not_called, retry_later, retry_soon};

/// When something happens, and a random number for whatever is to be spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Group time, in ms.
    pub group_ms: u64,
    /// Wall clock, in ms since 1970.
    pub wall_ms: u64,
    /// Evenly distributed.
    pub random: u64,
}

/// A row of a branch that joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRow {
    /// What it does.
    pub op: Op,
    /// A workflow's step has ended already when it is registered.
    pub status: RowStatus,
    /// Whether there is something to call.
    pub has_url: bool,
}

/// What a call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// From leaving to answer, in microseconds.
    pub latency_us: u64,
    /// Attempts that were made.
    pub attempts: u32,
}

/// What happens to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client begins it, again.
    Prepare {
        /// As what.
        kind: Kind,
    },
    /// A client says that it shall happen.
    Submit {
        /// As what.
        kind: Kind,
        /// With what options; few count, since the first ones win.
        options: Box<Options>,
    },
    /// A workflow's application says how it ended.
    End(WorkflowOutcome),
    /// A workflow's application is at work.
    Resume,
    /// A client says that it shall not have happened.
    Abort {
        /// The kind's name, as sent.
        trans_type: String,
        /// Why; may be empty.
        reason: String,
    },
    /// A branch joins.
    Register {
        /// To which transaction.
        gid: GlobalTxnId,
        /// As what.
        kind: Kind,
        /// Its id.
        branch_id: String,
        /// Its rows.
        rows: Vec<NewRow>,
    },
    /// An operator ends it.
    Stop,
    /// An operator does not want to wait for the next try.
    RetryNow,
    /// An operator intervenes.
    Operate(Operation),
    /// A call was answered, or was not needed.
    Answered {
        /// Which.
        target: Target,
        /// `None`: success.
        answer: Option<Answer>,
        /// How long it took, unless there was no call.
        took: Option<Took>,
    },
    /// A call was not made: nothing has reached the participant.
    NotCalled {
        /// Which.
        target: Target,
        /// When its destination will be tried again, if that is known, in ms from now.
        retry_in_ms: Option<u64>,
        /// Why.
        answer: Answer,
    },
    /// Its time is over.
    TimeOut,
    /// It was created under a time that was not the group's.
    Restamp,
}

/// What becomes of a record.
///
/// # Errors
/// `Refused` when the event is not allowed in this status; nothing changes then.
///
/// # Panics
/// When the result contradicts itself: writing it would lose or fork a decision.
pub fn transition(
    config: &Config,
    record: &Record,
    event: &Event,
    at: Stamp,
) -> Result<Record, Refused> {
    let mut next = record.clone();
    carry_out(config, &mut next, event, at)?;
    if next == *record {
        return Ok(next);
    }
    settle(config, &mut next, at);
    next.changed_ms = at.group_ms;
    next.updated_wall_ms = at.wall_ms;
    next.due_ms = kind::due(config, &next);
    assert_lawful(record, &next);
    Ok(next)
}

fn carry_out(
    config: &Config,
    record: &mut Record,
    event: &Event,
    at: Stamp,
) -> Result<(), Refused> {
    let status = record.status;
    match event {
        Event::Prepare { kind } => {
            check_kind(record, *kind)?;
            if status != Status::Prepared {
                return Err(not_now(status, "cannot prepare."));
            }
        }
        Event::Submit { kind, options } => {
            check_kind(record, *kind)?;
            submit(config, record, options, at)?;
        }
        Event::End(outcome) => end(config, record, outcome, at)?,
        Event::Resume => {
            check_kind(record, Kind::Workflow)?;
            resume(config, record, at);
        }
        Event::Abort { trans_type, reason } => abort(config, record, trans_type, reason, at)?,
        Event::Register { gid, kind, branch_id, rows } => {
            if status != Status::Prepared && !config.is_planted(Bug::JoinAfterDecision) {
                return Err(not_prepared(gid).at(status));
            }
            check_kind(record, *kind)?;
            register(record, branch_id, rows, at);
            resume(config, record, at);
        }
        Event::Stop => operate::stop(config, record, at)?,
        Event::RetryNow => operate::retry_now(record),
        Event::Operate(operation) => operate::operate(config, record, operation, at)?,
        Event::Answered { target, answer, took } => {
            if is_wanted(config, record, *target) {
                record.calls += u32::from(took.is_some() && record.calls < config.timeline_calls);
                answered(config, record, *target, answer, at);
            }
        }
        Event::NotCalled { target, retry_in_ms, answer } => {
            if is_wanted(config, record, *target) {
                not_called(config, record, *target, *retry_in_ms, answer, at);
            }
        }
        Event::TimeOut => time_out(config, record, at),
        Event::Restamp if !status.is_final() => {
            if record.since_ms == record.created_ms {
                record.since_ms = at.group_ms;
            }
            record.created_ms = at.group_ms;
        }
        Event::Restamp => {}
    }
    Ok(())
}

fn check_kind(record: &Record, kind: Kind) -> Result<(), Refused> {
    if record.kind == kind {
        return Ok(());
    }
    let (stored, asked) = (record.kind.name(), kind.name());
    Err(Refused::failure(format!("this gid belongs to a '{stored}', not to a '{asked}'."))
        .at(record.status))
}

fn not_now(status: Status, what: &str) -> Refused {
    Refused::failure(format!("current status '{}', {what}", status.name())).at(status)
}

/// A second submit of what is submitted changes nothing: whatever has been done since stays done.
fn submit(
    config: &Config,
    record: &mut Record,
    options: &Options,
    at: Stamp,
) -> Result<(), Refused> {
    match record.status {
        Status::Submitted if config.is_planted(Bug::ResubmitEnds) => {
            enter(config, record, Status::Succeed, at);
            return Ok(());
        }
        Status::Submitted if config.is_planted(Bug::ResubmitForgetsRows) => {
            record.rows.iter_mut().for_each(|row| row.status = RowStatus::Prepared);
            return Ok(());
        }
        Status::Submitted => return Ok(()),
        Status::Prepared => {}
        // The word is spelled as DTM spells it.
        status => return Err(not_now(status, "cannot sumbmit.")),
    }
    record.options.wait_result |= options.wait_result;
    if options.delay_ms > 0 {
        record.options.delay_ms = options.delay_ms;
    }
    enter(config, record, Status::Submitted, at);
    Ok(())
}

fn end(
    config: &Config,
    record: &mut Record,
    outcome: &WorkflowOutcome,
    at: Stamp,
) -> Result<(), Refused> {
    check_kind(record, Kind::Workflow)?;
    let end = Status::named(&outcome.status).filter(|status| status.is_final());
    let end = end.ok_or_else(|| {
        Refused::error(format!("a workflow ends as succeed or failed, not as '{}'", outcome.status))
    })?;
    if record.status == end {
        return Ok(());
    }
    if record.status != Status::Prepared {
        return Err(not_now(record.status, "cannot sumbmit."));
    }
    if outcome.result.len() > MAX_RESULT {
        return Err(Refused::error(format!("the result is larger than {MAX_RESULT} bytes")));
    }
    record.rollback_reason = cut(&outcome.rollback_reason);
    record.result.clone_from(&outcome.result);
    enter(config, record, end, at);
    Ok(())
}

/// A sign of life of a workflow's application: it is not called back for one interval.
fn resume(config: &Config, record: &mut Record, at: Stamp) {
    if record.kind == Kind::Workflow && record.status == Status::Prepared {
        let next_ms = at.group_ms.saturating_add(base_ms(config, record));
        record.callback = Tries { next_ms, ..Tries::default() };
    }
}

fn abort(
    config: &Config,
    record: &mut Record,
    trans_type: &str,
    reason: &str,
    at: Stamp,
) -> Result<(), Refused> {
    let status = record.status;
    if record.kind == Kind::Msg && status == Status::Prepared {
        record.rollback_reason = cut(reason);
        enter(config, record, Status::Failed, at);
        return Ok(());
    }
    let second_phase = [Kind::Tcc, Kind::Xa, Kind::ThreePhase].contains(&record.kind);
    let can = matches!(status, Status::Prepared | Status::Aborting);
    if !second_phase || !can || trans_type != record.kind.name() {
        let text =
            format!("trans type: '{trans_type}' current status '{}', cannot abort.", status.name());
        return Err(Refused::failure(text).at(status));
    }
    if status == Status::Prepared {
        record.rollback_reason = cut(reason);
        enter(config, record, Status::Aborting, at);
    }
    Ok(())
}

/// A branch cannot join this transaction, or there is none.
pub(crate) fn not_prepared(gid: &GlobalTxnId) -> Refused {
    Refused::failure(format!("no trans with gid: {gid} status: prepared found"))
}

fn register(record: &mut Record, branch_id: &str, rows: &[NewRow], at: Stamp) {
    let source = Source::Part(record.parts);
    record.parts += 1;
    for NewRow { op, status, has_url } in rows {
        let ended = *status != RowStatus::Prepared;
        record.rows.push(Row {
            status: *status,
            finished_wall_ms: if ended { at.wall_ms } else { 0 },
            ..new_row(branch_id, op.clone(), source, *has_url, at)
        });
    }
}

/// A row that nothing has happened to.
pub(crate) fn new_row(branch_id: &str, op: Op, source: Source, has_url: bool, at: Stamp) -> Row {
    Row {
        branch_id: branch_id.to_owned(),
        op,
        status: RowStatus::Prepared,
        source,
        has_url,
        is_needed: false,
        tries: Tries::default(),
        created_wall_ms: at.wall_ms,
        finished_wall_ms: 0,
    }
}

fn time_out(config: &Config, record: &mut Record, at: Stamp) {
    // A submit may have come first: then there is another deadline, or none.
    let is_over = kind::deadline(config, record).is_some_and(|ms| ms <= at.group_ms);
    if !is_over && !config.is_planted(Bug::StaleTimeout) {
        return;
    }
    if matches!(record.kind, Kind::Saga | Kind::Workflow) && record.status == Status::Prepared {
        "never submitted".clone_into(&mut record.rollback_reason);
        return enter(config, record, Status::Failed, at);
    }
    let seconds = kind::timeout_ms(config, record) as f64 / 1000.0;
    record.rollback_reason = format!("Timeout after {seconds} seconds");
    enter(config, record, Status::Aborting, at);
}

/// Whether an answer still counts: it was not answered before, and the transaction did not go on without it.
pub(crate) fn is_wanted(config: &Config, record: &Record, target: Target) -> bool {
    let is_asked = kind::callable(config, record).iter().any(|call| call.target == target);
    is_asked || kind::late_answer(record, target)
}

fn answered(
    config: &Config,
    record: &mut Record,
    target: Target,
    answer: &Option<Answer>,
    at: Stamp,
) {
    let is_asked = !kind::late_answer(record, target);
    let is_silent = config.is_planted(Bug::SilenceIsConsent) && record.kind == Kind::Msg;
    match (answer, target) {
        (Some(Answer { class: Class::Error, .. }), Target::Callback) if is_silent => {
            enter(config, record, Status::Submitted, at);
        }
        (None, Target::Row(row)) => end_row(record, row, RowStatus::Succeed, at),
        (None, Target::Callback) if record.kind == Kind::Msg => {
            enter(config, record, Status::Submitted, at);
        }
        (None, Target::Callback) => resume(config, record, at),
        (Some(answer), _) => not_done(config, record, target, answer, at, is_asked),
    }
}

fn not_done(
    config: &Config,
    record: &mut Record,
    target: Target,
    answer: &Answer,
    at: Stamp,
    is_asked: bool,
) {
    let text = &answer.text[..answer.text.floor_char_boundary(MAX_ANSWER)];
    let answer = Answer { class: answer.class, text: text.to_owned() };
    let is_refusal = answer.class == Class::Failure && kind::may_fail(record, target);
    match target {
        Target::Row(row) if is_refusal => {
            record.rows[row].tries.last = Some(answer);
            end_row(record, row, RowStatus::Failed, at);
        }
        Target::Callback if is_refusal => {
            record.rollback_reason = answer.text;
            enter(config, record, Status::Failed, at);
        }
        _ if !is_asked => {} // An action whose rollback has begun: not called again.
        _ if record.retries_soon(target) => retry_soon(config, record, target, answer, at),
        _ => retry_later(config, record, target, answer, at),
    }
}

fn end_row(record: &mut Record, row: usize, status: RowStatus, at: Stamp) {
    let row = &mut record.rows[row];
    row.status = status;
    row.finished_wall_ms = at.wall_ms;
    row.tries.next_ms = 0;
}

fn enter(config: &Config, record: &mut Record, status: Status, at: Stamp) {
    record.status = status;
    record.since_ms = at.group_ms;
    if status == Status::Aborting {
        kind::begin_rollback(config, record);
    }
    if status.is_final() {
        record.done_ms = Some(at.group_ms);
        record.finished_wall_ms = at.wall_ms;
    }
}

/// Follows statuses that are worked off, and rows that have nothing to call, as far as they lead.
pub(crate) fn settle(config: &Config, record: &mut Record, at: Stamp) {
    loop {
        if let Some((status, reason)) = kind::settle(config, record) {
            if status == Status::Aborting {
                record.rollback_reason = cut(&reason);
            }
            enter(config, record, status, at);
            continue;
        }
        let skipped =
            kind::callable(config, record).into_iter().find_map(|call| match call.target {
                Target::Row(row) if !record.rows[row].has_url && call.from_ms <= at.group_ms => {
                    Some(row)
                }
                _ => None,
            });
        let Some(row) = skipped else { return };
        end_row(record, row, RowStatus::Succeed, at);
    }
}

/// The first so many bytes, whole characters.
pub(crate) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// What no transition may do, whatever the event.
pub(crate) fn assert_lawful(before: &Record, after: &Record) {
    let (from, to) = (before.status, after.status);
    assert!(!from.is_final() || from == to, "{from:?} is final, but {to:?} followed");
    assert!(from != Status::Aborting || to != Status::Succeed, "a rollback ended as succeed");
    assert!(from != Status::Submitted || to != Status::Prepared, "a decision was taken back");
    let goes_back = from == Status::Submitted && matches!(to, Status::Aborting | Status::Failed);
    let may_go_back = matches!(after.kind, Kind::Saga | Kind::ThreePhase) || after.is_forced;
    assert!(!goes_back || may_go_back, "a {:?} that was submitted was rolled back", after.kind);
    assert!(after.rows.len() >= before.rows.len(), "rows were lost");
    for (old, new) in before.rows.iter().zip(&after.rows) {
        let kept = old.status == RowStatus::Prepared || old.status == new.status;
        assert!(kept, "row {} {} ended twice", old.branch_id, old.op.name());
    }
    assert_consistent(after);
}

/// What holds of every record.
pub(crate) fn assert_consistent(record: &Record) {
    let is_final = record.status.is_final();
    assert_eq!(record.due_ms.is_none(), is_final, "due in status {:?}", record.status);
    assert_eq!(record.done_ms.is_some(), is_final, "done in status {:?}", record.status);
    let done =
        |op: &Op| record.rows.iter().any(|row| row.op == *op && row.status == RowStatus::Succeed);
    for (yes, no) in [(Op::Confirm, Op::Cancel), (Op::Commit, Op::Rollback)] {
        let both = record.kind != Kind::Workflow && done(&yes) && done(&no);
        assert!(!both, "told both {} and {}", yes.name(), no.name());
    }
}
