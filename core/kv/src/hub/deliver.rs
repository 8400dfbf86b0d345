//! From events to responses: which of a batch a watcher gets, and how they are packed.

use std::sync::Arc;

use crate::types::{Event, EventBatch, Revision};

use super::space::{Name, Space};
use super::stream::Watcher;
use super::{HubOutput, Matched, StreamId, WatchId, WatchReply, WatchReplyKind, Which};

/// Bytes that a response counts as beside its events.
const OVERHEAD: usize = 64;

/// Live watchers that a batch concerns with the places of their events, before filters: sorted, so
/// that a watcher's places stand together.
pub(super) fn concerned(space: &Space, batch: &EventBatch) -> Vec<(Name, u32)> {
    let mut concerned = Vec::new();
    for (place, event) in batch.events.iter().enumerate() {
        space.watchers(&event.kv.key, &mut |name| concerned.push((name, place as u32)));
    }
    concerned.sort_unstable();
    concerned
}

/// Those of the given places that pass the watcher's filters.
pub(super) fn matched(
    watcher: &Watcher,
    batch: &EventBatch,
    places: impl Iterator<Item = u32> + Clone,
) -> Option<Matched> {
    let wanted = places.filter(|place| watcher.wants(&batch.events[*place as usize]));
    let which = match wanted.clone().count() {
        0 => return None,
        all if all == batch.events.len() => Which::All,
        _ => Which::At(wanted.collect()),
    };
    Some(Matched { batch: batch.clone(), which })
}

/// Those events of a batch that a watcher gets, found without the index.
pub(super) fn filtered(watcher: &Watcher, batch: &EventBatch) -> Option<Matched> {
    let inside = |place: &u32| watcher.range.contains(&batch.events[*place as usize].kv.key);
    matched(watcher, batch, (0..batch.events.len() as u32).filter(inside))
}

/// What a selection counts as.
pub(super) fn size(matched: &Matched, prev_kv: bool) -> usize {
    matched.events().map(|event| event_size(event, prev_kv)).sum()
}

fn event_size(event: &Event, prev_kv: bool) -> usize {
    let unsent = event.prev_kv.as_ref().filter(|_| !prev_kv);
    event.size() - unsent.map_or(0, |kv| kv.key.len() + kv.value.len() + 32)
}

/// A response that is not about events.
pub(super) fn control(
    stream: StreamId,
    watch_id: WatchId,
    revision: Revision,
    kind: WatchReplyKind,
) -> HubOutput {
    HubOutput::Response { stream, reply: WatchReply { watch_id, revision, kind }, bytes: OVERHEAD }
}

/// Packs events into one response, or into fragments if the watcher takes them and the response would
/// be longer than one may be.
pub(super) fn pack(
    name: Name,
    watcher: &Watcher,
    events: Vec<Matched>,
    revision: Revision,
    fragment_bytes: usize,
) -> Vec<HubOutput> {
    let prev_kv = watcher.prev_kv;
    let total: usize = events.iter().map(|matched| size(matched, prev_kv)).sum();
    let pieces = if watcher.fragment && total >= fragment_bytes {
        split(&events, prev_kv, fragment_bytes)
    } else {
        vec![events]
    };
    let last = pieces.len() - 1;
    let response = |(at, events): (usize, Vec<Matched>)| {
        let size: usize = events.iter().map(|matched| size(matched, prev_kv)).sum();
        let kind = WatchReplyKind::Events { events, prev_kv, fragment: at != last };
        let reply = WatchReply { watch_id: name.1, revision, kind };
        HubOutput::Response { stream: name.0, reply, bytes: OVERHEAD + size }
    };
    pieces.into_iter().enumerate().map(response).collect()
}

/// Cuts between events so that no piece of more than one event reaches the bound.
fn split(events: &[Matched], prev_kv: bool, bound: usize) -> Vec<Vec<Matched>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<(EventBatch, Vec<u32>)> = Vec::new();
    let mut bytes = 0;
    for matched in events {
        for place in matched.places() {
            let more = event_size(&matched.batch.events[place], prev_kv);
            if bytes > 0 && bytes + more >= bound {
                pieces.push(std::mem::take(&mut piece));
                bytes = 0;
            }
            bytes += more;
            match piece.last_mut() {
                Some((batch, places)) if Arc::ptr_eq(&batch.events, &matched.batch.events) => {
                    places.push(place as u32);
                }
                _ => piece.push((matched.batch.clone(), vec![place as u32])),
            }
        }
    }
    pieces.push(piece);
    let select = |(batch, places): (EventBatch, Vec<u32>)| Matched {
        batch,
        which: Which::At(places.into()),
    };
    pieces.into_iter().map(|piece| piece.into_iter().map(select).collect()).collect()
}
