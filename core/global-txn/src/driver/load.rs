//! From targets to calls: reads what they need, and makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use quorate_kv::RangeResult;
use quorate_outcall::Call;

use crate::api::Halt;
use crate::call;
use crate::gid::GlobalTxnId;
use crate::keys;
use crate::kind::{self, Target};
use crate::limits::MAX_KEPT_CONTENT;
use crate::machine::Context;
use crate::record::{Content, Kind, Part, Record, Source, StepResult};
use crate::write;

use super::{Calling, Driver, Reading};

/// What is being read for calls.
#[derive(Debug, Default)]
pub(super) struct Load {
    targets: Vec<Target>,
    content: Option<Arc<Content>>,
    parts: BTreeMap<u32, Part>,
    /// What actions answered, by step.
    results: BTreeMap<u32, Bytes>,
    /// Reads that are still to come.
    missing: usize,
}

impl Driver {
    /// Reads what these calls need.
    pub(super) fn load(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        targets: Vec<Target>,
    ) -> Result<(), Halt> {
        let active = self.active.get_mut(gid).expect("it is active");
        let mut wanted = wanted(gid, active.latest(), &targets);
        assert!(!wanted.is_empty(), "a URL stands somewhere");
        let content = active.content.clone();
        if content.is_some() {
            wanted.retain(|key| *key != keys::content(gid));
        }
        let load = Load { targets, content, missing: wanted.len(), ..Load::default() };
        if wanted.is_empty() {
            return self.make_calls(cx, gid, &load);
        }
        active.load = Some(load);
        for key in wanted {
            let read = cx.read(write::get(key));
            self.reads.insert(read, Reading::Load(gid.clone()));
        }
        Ok(())
    }

    pub(super) fn loaded(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        result: &RangeResult,
    ) -> Result<(), Halt> {
        let Some(active) = self.active.get_mut(gid) else { return Ok(()) };
        let Some(load) = &mut active.load else { return Ok(()) };
        load.missing -= 1;
        if let Some(kv) = result.kvs.first() {
            let broken = |cause| Halt(format!("content of {gid}: {cause}"));
            if let Some(step) = keys::step_of_result(&kv.key) {
                let StepResult(result) = StepResult::decode(&kv.value).map_err(broken)?;
                load.results.insert(step, result);
            } else if let Some(number) = keys::part_number(&kv.key) {
                load.parts.insert(number, Part::decode(&kv.value).map_err(broken)?);
            } else {
                let content = Arc::new(Content::decode(&kv.value).map_err(broken)?);
                if kv.value.len() <= MAX_KEPT_CONTENT {
                    active.content = Some(Arc::clone(&content));
                }
                load.content = Some(content);
            }
        }
        if load.missing == 0 {
            let load = active.load.take().expect("it is there");
            self.make_calls(cx, gid, &load)?;
        }
        Ok(())
    }

    fn make_calls(
        &mut self,
        cx: &mut Context<'_>,
        gid: &GlobalTxnId,
        load: &Load,
    ) -> Result<(), Halt> {
        for target in &load.targets {
            let active = self.active.get_mut(gid).expect("it is active");
            let call = built(cx, gid, active.latest(), *target, load)
                .ok_or_else(|| Halt(format!("{gid}: no URL of {target:?} is stored")))?;
            let calling = Calling {
                gid: gid.clone(),
                target: *target,
                wire: call.wire,
                url: call.url.split_once('?').map_or(call.url.as_str(), |(url, _)| url).to_owned(),
            };
            let id = cx.call(call);
            let before = active.busy.insert(*target, id);
            assert!(before.is_none(), "{gid}: {target:?} is called twice at a time");
            self.calls.insert(id, calling);
        }
        // Sets the time to wake at, if something else waits meanwhile.
        self.advance(cx, gid)
    }
}

/// Keys that hold URL, payload and headers of these targets.
fn wanted(gid: &GlobalTxnId, record: &Record, targets: &[Target]) -> Vec<Bytes> {
    let mut in_content = record.has_headers;
    let mut wanted = Vec::new();
    for target in targets {
        match target {
            Target::Row(row) => match record.rows[*row].source {
                Source::Step(_) => in_content = true,
                Source::Part(number) => wanted.push(keys::part(gid, number)),
            },
            Target::Callback => in_content = true,
        }
    }
    wanted.dedup();
    let steps: BTreeSet<usize> =
        targets.iter().flat_map(|target| inputs(record, *target)).collect();
    wanted.extend(steps.into_iter().map(|step| keys::result(gid, step as u32)));
    wanted.extend(in_content.then(|| keys::content(gid)));
    wanted
}

/// The steps whose results a call is given.
fn inputs(record: &Record, target: Target) -> BTreeSet<usize> {
    match target {
        Target::Row(row) if record.options.pass_results && record.kind == Kind::Saga => {
            kind::inputs(record, row)
        }
        _ => BTreeSet::new(),
    }
}

fn built(
    cx: &Context<'_>,
    gid: &GlobalTxnId,
    record: &Record,
    target: Target,
    load: &Load,
) -> Option<Call> {
    let content = load.content.as_deref();
    let part = match target {
        Target::Row(row) => match record.rows[row].source {
            Source::Part(number) => load.parts.get(&number),
            Source::Step(_) => None,
        },
        Target::Callback => None,
    };
    let (url, mut payload) = call::address(record, target, content, part)?;
    if record.options.pass_results && record.kind == Kind::Saga {
        let results = inputs(record, target).into_iter().filter_map(|step| {
            let id = record.rows[2 * step].branch_id.as_str();
            Some((id, load.results.get(&(step as u32))?))
        });
        payload = call::with_results(&payload, results);
    }
    let named = call::named(gid, record, target, content);
    let headers = content.map_or(&[][..], |content| &content.headers);
    Some(call::build(cx.config, record, &named, &url, payload, headers))
}
