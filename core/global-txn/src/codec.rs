//! Records as bytes (`docs/internals/global-txn-format.md`).
//!
//! Each value opens with a version. Decoding is total: any bytes give a value or a [`DecodeError`]. A value
//! has exactly one encoding, which the driver relies on when it asks whether its own write is what stands there.

use bytes::Bytes;
use quorate_kv::codec::DecodeError;
use quorate_kv::codec::wire::{Reader, Writer};

use crate::record::{
    Answer, AuditEntry, CallEntry, Class, Content, Kind, Op, Options, Part, Protocol, Record, Row,
    RowStatus, Source, Status, Step, StepResult, Subscriber, Topic, Tries,
};

const VERSION: u8 = 1;

/// Places of kind and status in their tables, from a record's bytes.
pub(crate) fn peek(record: &[u8]) -> Option<(usize, usize)> {
    match record {
        [VERSION, kind, status, ..] => Some((usize::from(*kind), usize::from(*status))),
        _ => None,
    }
}

impl Record {
    /// Kind and status alone, without reading the rest: for lists that leave most records out. `None` if these are
    /// not the bytes of a record.
    #[must_use]
    pub fn peek(bytes: &[u8]) -> Option<(Kind, Status)> {
        let (kind, status) = peek(bytes)?;
        Some((*Kind::ALL.get(kind)?, *Status::ALL.get(status)?))
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(96 + 24 * self.rows.len());
        out.byte(VERSION);
        out.place(&self.kind, &Kind::ALL);
        out.place(&self.status, &Status::ALL);
        let flags = [self.has_content, self.has_headers, self.has_query, self.is_forced];
        out.flags(flags);
        put_options(&self.options, &mut out);
        put_list(&self.rows, &mut out, put_row);
        put_tries(&self.callback, &mut out);
        out.number(u64::from(self.parts));
        out.number(u64::from(self.calls));
        out.number(u64::from(self.audits));
        out.number(u64::from(self.retry_count));
        out.number(self.created_ms);
        out.number(self.since_ms);
        out.number(self.changed_ms);
        put_option(self.due_ms.as_ref(), &mut out, |ms, out| out.number(*ms));
        put_option(self.done_ms.as_ref(), &mut out, |ms, out| out.number(*ms));
        let walls = [self.created_wall_ms, self.updated_wall_ms, self.finished_wall_ms];
        walls.into_iter().for_each(|ms| out.number(ms));
        put_text(&self.rollback_reason, &mut out);
        put_text(&self.result, &mut out);
        out.into_vec().into()
    }

    /// The record of these bytes.
    ///
    /// # Errors
    /// Whatever is not the output of [`Record::encode`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut from = opened(bytes)?;
        let from = &mut from;
        let (kind, status) = (from.place(&Kind::ALL)?, from.place(&Status::ALL)?);
        let [has_content, has_headers, has_query, is_forced] = from.flags()?;
        let record = Self {
            kind,
            status,
            options: take_options(from)?,
            rows: take_list(from, take_row)?,
            callback: take_tries(from)?,
            parts: from.small()?,
            calls: from.small()?,
            audits: from.small()?,
            has_content,
            has_headers,
            has_query,
            is_forced,
            retry_count: from.small()?,
            created_ms: from.number()?,
            since_ms: from.number()?,
            changed_ms: from.number()?,
            due_ms: take_option(from, |from| from.number())?,
            done_ms: take_option(from, |from| from.number())?,
            created_wall_ms: from.number()?,
            updated_wall_ms: from.number()?,
            finished_wall_ms: from.number()?,
            rollback_reason: take_text(from)?,
            result: take_text(from)?,
        };
        from.end()?;
        Ok(record)
    }
}

impl Content {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payloads: usize = self.payloads.iter().map(Bytes::len).sum();
        let mut out = Writer::with_capacity(256 + payloads);
        out.byte(VERSION);
        put_list(&self.steps, &mut out, |step, out| {
            put_text(&step.action, out);
            put_text(&step.compensate, out);
        });
        put_list(&self.payloads, &mut out, |payload, out| out.bytes(payload));
        put_list(&self.headers, &mut out, |(name, value), out| {
            put_text(name, out);
            put_text(value, out);
        });
        put_text(&self.query_prepared, &mut out);
        put_text(&self.custom_data, &mut out);
        put_text(&self.name, &mut out);
        out.into_vec().into()
    }

    /// The content of these bytes; payloads share them.
    ///
    /// # Errors
    /// Whatever is not the output of [`Content::encode`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut from = opened(bytes)?;
        let from = &mut from;
        let content = Self {
            steps: take_list(from, |from| {
                Ok(Step { action: take_text(from)?, compensate: take_text(from)? })
            })?,
            payloads: take_list(from, |from| from.bytes())?,
            headers: take_list(from, |from| Ok((take_text(from)?, take_text(from)?)))?,
            query_prepared: take_text(from)?,
            custom_data: take_text(from)?,
            name: take_text(from)?,
        };
        from.end()?;
        Ok(content)
    }
}

impl Part {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(128 + self.data.len());
        out.byte(VERSION);
        put_list(&self.urls, &mut out, |url, out| put_text(url, out));
        out.bytes(&self.data);
        out.into_vec().into()
    }

    /// The part of these bytes; the payload shares them.
    ///
    /// # Errors
    /// Whatever is not the output of [`Part::encode`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut from = opened(bytes)?;
        let part = Self { urls: take_list(&mut from, take_text)?, data: from.bytes()? };
        from.end()?;
        Ok(part)
    }
}

impl StepResult {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(8 + self.0.len());
        out.byte(VERSION);
        out.bytes(&self.0);
        out.into_vec().into()
    }

    /// The result of these bytes, which it shares.
    ///
    /// # Errors
    /// Whatever is not the output of [`StepResult::encode`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut from = opened(bytes)?;
        let result = Self(from.bytes()?);
        from.end()?;
        Ok(result)
    }
}

impl CallEntry {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(48 + self.text.len());
        out.byte(VERSION);
        out.number(self.wall_ms);
        put_text(&self.branch_id, &mut out);
        put_text(&self.op, &mut out);
        put_option(self.class.as_ref(), &mut out, |class, out| out.place(class, &CLASSES));
        out.number(self.latency_us);
        out.number(u64::from(self.attempts));
        put_text(&self.text, &mut out);
        out.into_vec().into()
    }

    /// The entry of these bytes.
    ///
    /// # Errors
    /// Whatever is not the output of [`CallEntry::encode`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut from = opened(bytes)?;
        let from = &mut from;
        let entry = Self {
            wall_ms: from.number()?,
            branch_id: take_text(from)?,
            op: take_text(from)?,
            class: take_option(from, |from| from.place(&CLASSES))?,
            latency_us: from.number()?,
            attempts: from.small()?,
            text: take_text(from)?,
        };
        from.end()?;
        Ok(entry)
    }
}

impl AuditEntry {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.byte(VERSION);
        out.number(self.wall_ms);
        [&self.by, &self.what, &self.why].into_iter().for_each(|text| put_text(text, &mut out));
        out.into_vec().into()
    }

    /// The entry of these bytes.
    ///
    /// # Errors
    /// Whatever is not the output of [`AuditEntry::encode`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut from = opened(bytes)?;
        let from = &mut from;
        let wall_ms = from.number()?;
        let (by, what, why) = (take_text(from)?, take_text(from)?, take_text(from)?);
        from.end()?;
        Ok(Self { wall_ms, by, what, why })
    }
}

impl Topic {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.byte(VERSION);
        let numbers = [self.version, self.created_wall_ms, self.updated_wall_ms];
        numbers.into_iter().for_each(|number| out.number(number));
        put_list(&self.subscribers, &mut out, |subscriber, out| {
            put_text(&subscriber.url, out);
            put_text(&subscriber.remark, out);
        });
        out.into_vec().into()
    }

    /// The topic of these bytes.
    ///
    /// # Errors
    /// Whatever is not the output of [`Topic::encode`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut from = opened(bytes)?;
        let from = &mut from;
        let topic = Self {
            version: from.number()?,
            created_wall_ms: from.number()?,
            updated_wall_ms: from.number()?,
            subscribers: take_list(from, |from| {
                Ok(Subscriber { url: take_text(from)?, remark: take_text(from)? })
            })?,
        };
        from.end()?;
        Ok(topic)
    }
}

fn opened(bytes: &Bytes) -> Result<Reader<'_>, DecodeError> {
    let mut from = Reader::new(bytes);
    match from.byte()? {
        VERSION => Ok(from),
        other => Err(DecodeError::Version(other)),
    }
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Http, Protocol::Grpc, Protocol::JsonRpc];

fn put_options(options: &Options, out: &mut Writer) {
    out.place(&options.protocol, &PROTOCOLS);
    let flags = [options.wait_result, options.concurrent, options.strict, options.pass_results];
    out.flags(flags);
    let times = [options.timeout_ms, options.request_timeout_ms, options.retry_interval_ms];
    times.into_iter().for_each(|ms| out.number(ms));
    out.number(u64::from(options.retry_limit));
    out.number(options.delay_ms);
    put_list(&options.orders, out, |steps, out| {
        put_list(steps, out, |step, out| out.number(u64::from(*step)));
    });
}

fn take_options(from: &mut Reader<'_>) -> Result<Options, DecodeError> {
    let protocol = from.place(&PROTOCOLS)?;
    let [wait_result, concurrent, strict, pass_results] = from.flags()?;
    Ok(Options {
        protocol,
        wait_result,
        concurrent,
        strict,
        pass_results,
        timeout_ms: from.number()?,
        request_timeout_ms: from.number()?,
        retry_interval_ms: from.number()?,
        retry_limit: from.small()?,
        delay_ms: from.number()?,
        orders: take_list(from, |from| take_list(from, |from| from.small()))?,
    })
}

/// Operations with a fixed name; the byte of a named one follows them.
const OPS: [Op; 12] = [
    Op::Action,
    Op::Compensate,
    Op::Try,
    Op::Confirm,
    Op::Cancel,
    Op::Commit,
    Op::Rollback,
    Op::CheckBack,
    Op::CanCommit,
    Op::PreCommit,
    Op::DoCommit,
    Op::Abort,
];
const NAMED: u8 = 255;
const ROW_STATUSES: [RowStatus; 3] = [RowStatus::Prepared, RowStatus::Succeed, RowStatus::Failed];

fn put_row(row: &Row, out: &mut Writer) {
    put_text(&row.branch_id, out);
    match &row.op {
        Op::Named(name) => {
            out.byte(NAMED);
            put_text(name, out);
        }
        op => out.place(op, &OPS),
    }
    out.place(&row.status, &ROW_STATUSES);
    let (in_part, number) = match row.source {
        Source::Step(number) => (false, number),
        Source::Part(number) => (true, number),
    };
    let has_tries = row.tries != Tries::default();
    out.flags([row.has_url, row.is_needed, in_part, has_tries]);
    out.number(u64::from(number));
    if has_tries {
        put_tries(&row.tries, out);
    }
    out.number(row.created_wall_ms);
    out.number(row.finished_wall_ms);
}

fn take_row(from: &mut Reader<'_>) -> Result<Row, DecodeError> {
    let branch_id = take_text(from)?;
    let op = match from.byte()? {
        NAMED => Op::Named(take_text(from)?),
        place => OPS.get(usize::from(place)).cloned().ok_or(DecodeError::Tag)?,
    };
    let status = from.place(&ROW_STATUSES)?;
    let [has_url, is_needed, in_part, has_tries] = from.flags()?;
    let number = from.small()?;
    let source = if in_part { Source::Part(number) } else { Source::Step(number) };
    let tries = if has_tries { take_tries(from)? } else { Tries::default() };
    if has_tries && tries == Tries::default() {
        return Err(DecodeError::Number);
    }
    let (created_wall_ms, finished_wall_ms) = (from.number()?, from.number()?);
    Ok(Row {
        branch_id,
        op,
        status,
        source,
        has_url,
        is_needed,
        tries,
        created_wall_ms,
        finished_wall_ms,
    })
}

fn put_tries(tries: &Tries, out: &mut Writer) {
    out.number(u64::from(tries.errors));
    out.number(tries.next_ms);
    put_option(tries.last.as_ref(), out, put_answer);
}

fn take_tries(from: &mut Reader<'_>) -> Result<Tries, DecodeError> {
    Ok(Tries {
        errors: from.small()?,
        next_ms: from.number()?,
        last: take_option(from, take_answer)?,
    })
}

const CLASSES: [Class; 3] = [Class::Failure, Class::Ongoing, Class::Error];

fn put_answer(answer: &Answer, out: &mut Writer) {
    out.place(&answer.class, &CLASSES);
    put_text(&answer.text, out);
}

fn take_answer(from: &mut Reader<'_>) -> Result<Answer, DecodeError> {
    Ok(Answer { class: from.place(&CLASSES)?, text: take_text(from)? })
}

fn put_text(text: &str, out: &mut Writer) {
    out.bytes(text.as_bytes());
}

fn take_text(from: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = from.bytes()?;
    let text = std::str::from_utf8(&bytes).map_err(|_| DecodeError::Tag)?;
    Ok(text.to_owned())
}

fn put_list<T>(list: &[T], out: &mut Writer, put: impl Fn(&T, &mut Writer)) {
    out.number(list.len() as u64);
    list.iter().for_each(|item| put(item, out));
}

fn take_list<T>(
    from: &mut Reader<'_>,
    take: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    (0..from.count()?).map(|_| take(from)).collect()
}

fn put_option<T>(value: Option<&T>, out: &mut Writer, put: impl Fn(&T, &mut Writer)) {
    out.byte(u8::from(value.is_some()));
    if let Some(value) = value {
        put(value, out);
    }
}

fn take_option<T>(
    from: &mut Reader<'_>,
    take: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    match from.byte()? {
        0 => Ok(None),
        1 => take(from).map(Some),
        _ => Err(DecodeError::Tag),
    }
}

#[cfg(test)]
mod tests;
