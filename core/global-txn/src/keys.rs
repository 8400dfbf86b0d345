//! Keys of the keyspace (`docs/internals/global-txn-format.md`).
//!
//! ```text
//! g/<gid>                 record            due/<ms>/<gid>    not final: when there is something to do
//! b/<gid>                 content           done/<ms>/<gid>   final: when it ended
//! b/<gid> 0 <number>      part              own/0             the driver's ownership; its revision is the epoch
//! log/<gid> 0 <number>    answered call     audit/<gid> 0 <number>   what an operator did
//! topic/<name>            topic             out/<gid> 0 <step>    what a saga's action answered
//! ```
//!
//! `<ms>` is eight bytes, high byte first, and `<number>` four, so that order of keys is order of numbers. A
//! gid holds no zero byte, so that one gid's keys never run into another's.

use bytes::Bytes;
use quorate_kv::KeyRange;

use crate::agenda::Horizon;
use crate::gid::GlobalTxnId;

const RECORD: &[u8] = b"g/";
const CONTENT: &[u8] = b"b/";
const DUE: &[u8] = b"due/";
const DONE: &[u8] = b"done/";
const CALLS: &[u8] = b"log/";
const AUDIT: &[u8] = b"audit/";
const RESULT: &[u8] = b"out/";
const TOPIC: &[u8] = b"topic/";

/// The ownership key of the only shard. The revision of its last change is the epoch of whoever drives.
#[must_use]
pub fn own() -> Bytes {
    Bytes::from_static(b"own/0")
}

/// Key of a transaction's record.
#[must_use]
pub fn record(gid: &GlobalTxnId) -> Bytes {
    [RECORD, gid.as_str().as_bytes()].concat().into()
}

/// The gid of a record's key; `None`: it is another kind of key.
#[must_use]
pub fn gid_of_record(key: &[u8]) -> Option<GlobalTxnId> {
    GlobalTxnId::stored(key.strip_prefix(RECORD)?)
}

/// All records from `after` (exclusive) on, in order of gid.
#[must_use]
pub fn records_after(after: Option<&GlobalTxnId>) -> KeyRange {
    let key = after.map_or_else(|| Bytes::from_static(RECORD), |gid| next(&record(gid)));
    KeyRange { key, range_end: Bytes::from_static(b"g0") }
}

/// Key of a transaction's content.
#[must_use]
pub fn content(gid: &GlobalTxnId) -> Bytes {
    [CONTENT, gid.as_str().as_bytes()].concat().into()
}

/// Key of one of its parts.
#[must_use]
pub fn part(gid: &GlobalTxnId, number: u32) -> Bytes {
    numbered(CONTENT, gid, number)
}

/// Its content and all its parts, in this order.
#[must_use]
pub fn content_and_parts(gid: &GlobalTxnId) -> KeyRange {
    all_of(CONTENT, gid)
}

/// Key of what the action of a step of a saga answered.
#[must_use]
pub fn result(gid: &GlobalTxnId, step: u32) -> Bytes {
    numbered(RESULT, gid, step)
}

/// All that its actions answered, in the order of steps.
#[must_use]
pub fn results(gid: &GlobalTxnId) -> KeyRange {
    all_of(RESULT, gid)
}

/// The step of a result's key; `None`: it is another kind of key.
pub(crate) fn step_of_result(key: &[u8]) -> Option<u32> {
    part_number(key.strip_prefix(RESULT)?)
}

/// Key of an entry of its timeline.
#[must_use]
pub fn call(gid: &GlobalTxnId, number: u32) -> Bytes {
    numbered(CALLS, gid, number)
}

/// Its timeline, in order.
#[must_use]
pub fn calls(gid: &GlobalTxnId) -> KeyRange {
    all_of(CALLS, gid)
}

/// Key of an entry of its audit.
#[must_use]
pub fn audit(gid: &GlobalTxnId, number: u32) -> Bytes {
    numbered(AUDIT, gid, number)
}

/// What operators did to it, in order.
#[must_use]
pub fn audits(gid: &GlobalTxnId) -> KeyRange {
    all_of(AUDIT, gid)
}

/// Key of a topic.
#[must_use]
pub fn topic(name: &str) -> Bytes {
    [TOPIC, name.as_bytes()].concat().into()
}

/// All topics behind `after` (exclusive; `None`: from the first on), by name.
#[must_use]
pub fn topics_after(after: Option<&str>) -> KeyRange {
    let key = after.map_or_else(|| Bytes::from_static(TOPIC), |name| next(&topic(name)));
    KeyRange { key, range_end: Bytes::from_static(b"topic0") }
}

/// The name of a topic's key; `None`: it is another kind of key.
#[must_use]
pub fn name_of_topic(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(TOPIC)?).ok()
}

fn numbered(prefix: &[u8], gid: &GlobalTxnId, number: u32) -> Bytes {
    [prefix, gid.as_str().as_bytes(), &[0], &number.to_be_bytes()].concat().into()
}

fn all_of(prefix: &[u8], gid: &GlobalTxnId) -> KeyRange {
    let key = [prefix, gid.as_str().as_bytes()].concat().into();
    let range_end = [prefix, gid.as_str().as_bytes(), &[1]].concat().into();
    KeyRange { key, range_end }
}

/// The number of a part's key; `None`: it is the content's.
pub(crate) fn part_number(key: &[u8]) -> Option<u32> {
    let (rest, number) = key.split_last_chunk::<4>()?;
    (rest.last() == Some(&0)).then(|| u32::from_be_bytes(*number))
}

/// Key of an entry of the due index.
pub(crate) fn due(ms: u64, gid: &GlobalTxnId) -> Bytes {
    index(DUE, ms, gid)
}

/// Key of an entry of the index of finished transactions.
pub(crate) fn done(ms: u64, gid: &GlobalTxnId) -> Bytes {
    index(DONE, ms, gid)
}

fn index(prefix: &[u8], ms: u64, gid: &GlobalTxnId) -> Bytes {
    [prefix, &ms.to_be_bytes(), b"/", gid.as_str().as_bytes()].concat().into()
}

/// Due entries behind `after` (`None`: from the first on) up to `until_ms`, inclusive.
pub(crate) fn due_range(after: Option<&Horizon>, until_ms: u64) -> KeyRange {
    let key = match after {
        None => Bytes::from_static(DUE),
        Some((ms, Some(gid))) => next(&due(*ms, gid)),
        Some((ms, None)) => behind(DUE, *ms),
    };
    KeyRange { key, range_end: behind(DUE, until_ms) }
}

/// The place of a key in its order: what follows the prefix of the record's, the topic's key or that of an entry of
/// either index. `None`: it is another kind of key.
#[must_use]
pub fn place(key: &[u8]) -> Option<&[u8]> {
    [RECORD, DUE, DONE, TOPIC].iter().find_map(|prefix| key.strip_prefix(*prefix))
}

/// All records behind a [`place`], in order of gid; an empty one: from the first on. Any bytes are a place.
#[must_use]
pub fn records_behind(place: &[u8]) -> KeyRange {
    all_behind(RECORD, place)
}

/// All due entries behind a place, one for each transaction that has not ended, in the order in which there is
/// something to do for them.
#[must_use]
pub fn due_behind(place: &[u8]) -> KeyRange {
    all_behind(DUE, place)
}

/// All entries behind a place of transactions that have ended, in the order in which they did.
#[must_use]
pub fn done_behind(place: &[u8]) -> KeyRange {
    all_behind(DONE, place)
}

/// All topics behind a place, by name.
#[must_use]
pub fn topics_behind(place: &[u8]) -> KeyRange {
    all_behind(TOPIC, place)
}

/// The gid of a due entry's key; `None`: it is another kind of key.
#[must_use]
pub fn gid_of_due(key: &[u8]) -> Option<GlobalTxnId> {
    key.starts_with(DUE).then(|| of_index(key)).flatten().map(|(_, gid)| gid)
}

/// The gid of the key of a finished transaction's entry; `None`: it is another kind of key.
#[must_use]
pub fn gid_of_done(key: &[u8]) -> Option<GlobalTxnId> {
    key.starts_with(DONE).then(|| of_index(key)).flatten().map(|(_, gid)| gid)
}

fn all_behind(prefix: &[u8], place: &[u8]) -> KeyRange {
    let after: &[u8] = if place.is_empty() { &[] } else { &[0] };
    let (slash, rest) = prefix.split_last().expect("prefixes end with a slash");
    let range_end = [rest, &[slash + 1]].concat();
    KeyRange { key: [prefix, place, after].concat().into(), range_end: range_end.into() }
}

/// An entry for each transaction that has not ended.
#[must_use]
pub fn unfinished() -> KeyRange {
    KeyRange { key: Bytes::from_static(DUE), range_end: Bytes::from_static(b"due0") }
}

/// Entries of finished transactions up to `until_ms`, inclusive.
pub(crate) fn done_range(until_ms: u64) -> KeyRange {
    KeyRange { key: Bytes::from_static(DONE), range_end: behind(DONE, until_ms) }
}

fn behind(prefix: &[u8], ms: u64) -> Bytes {
    [prefix, &ms.to_be_bytes(), b"0"].concat().into()
}

/// Time and gid of an entry of either index.
pub(crate) fn of_index(key: &[u8]) -> Option<(u64, GlobalTxnId)> {
    let rest = key.strip_prefix(DUE).or_else(|| key.strip_prefix(DONE))?;
    let (ms, rest) = rest.split_first_chunk::<8>()?;
    let gid = GlobalTxnId::stored(rest.strip_prefix(b"/")?)?;
    Some((u64::from_be_bytes(*ms), gid))
}

/// The first key behind `key`.
fn next(key: &Bytes) -> Bytes {
    [key.as_ref(), &[0]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        let gid = GlobalTxnId::parse("order-1").unwrap();
        assert_eq!(gid_of_record(&record(&gid)), Some(gid.clone()));
        assert_eq!(of_index(&due(258, &gid)), Some((258, gid.clone())));
        assert_eq!(of_index(&done(0, &gid)), Some((0, gid.clone())));
        assert_eq!(part_number(&part(&gid, 7)), Some(7));
        assert_eq!(part_number(&content(&gid)), None);
        assert_eq!(step_of_result(&result(&gid, 3)), Some(3));
        assert_eq!(step_of_result(&part(&gid, 3)), None);
        assert_eq!(gid_of_record(b"own/0"), None);
    }

    #[test]
    fn pages_go_on_behind_any_place() {
        let gid = |text| GlobalTxnId::parse(text).unwrap();
        let place = place(&due(5, &gid("b"))).unwrap().to_vec();
        let rest = due_behind(&place);
        let keys =
            [due(5, &gid("a")), due(5, &gid("b")), due(5, &gid("b1")), due(u64::MAX, &gid("a"))];
        assert_eq!(keys.map(|key| rest.contains(&key)), [false, false, true, true]);
        assert_eq!(gid_of_due(&due(5, &gid("b"))), Some(gid("b")));
        assert_eq!(gid_of_due(&done(5, &gid("b"))), None);
        let ended = done_behind(&place);
        let keys = [done(5, &gid("a")), done(5, &gid("b")), done(6, &gid("a")), due(6, &gid("a"))];
        assert_eq!(keys.map(|key| ended.contains(&key)), [false, false, true, false]);
        assert_eq!(gid_of_done(&done(5, &gid("b"))), Some(gid("b")));
        assert_eq!(gid_of_done(&due(5, &gid("b"))), None);
        assert!(records_behind(b"").contains(&record(&gid("a"))));
        assert!(!records_behind(&[255; 9]).contains(&due(0, &gid("a"))));
        assert!(
            topics_behind(b"a").contains(&topic("b")) && !topics_behind(b"a").contains(&topic("a"))
        );
    }

    #[test]
    fn ranges_hold_what_they_name() {
        let gid = |text| GlobalTxnId::parse(text).unwrap();
        let own = content_and_parts(&gid("a"));
        assert!(own.contains(&content(&gid("a"))) && own.contains(&part(&gid("a"), u32::MAX)));
        assert!(!own.contains(&content(&gid("ab"))) && !own.contains(&part(&gid("ab"), 0)));
        let range = due_range(Some(&(5, Some(gid("b")))), 7);
        let inside = [(5, "a"), (5, "b"), (5, "b1"), (5, "c"), (7, "zz"), (8, "a")]
            .map(|(ms, text)| range.contains(&due(ms, &gid(text))));
        assert_eq!(inside, [false, false, true, true, true, false]);
        assert!(unfinished().contains(&due(0, &gid("a"))));
        assert!(unfinished().contains(&due(u64::MAX, &gid("a"))));
        assert!(!unfinished().contains(&done(0, &gid("a"))));
    }
}
