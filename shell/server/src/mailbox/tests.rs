//! What a runtime that stands still finds when it goes on.

use bytes::Bytes;
use quorate_kv::{Event, EventKind, KeyValue, PutResult, Reply as KvReply};
use quorate_node::Stamp;

use super::*;

const MIB: usize = 1 << 20;

fn pair(bytes: usize) -> KeyValue {
    // All values share one allocation.
    static VALUE: [u8; 4 * MIB] = [0; 4 * MIB];
    KeyValue { value: Bytes::from_static(&VALUE[..bytes]), ..KeyValue::default() }
}

fn event(revision: i64, bytes: usize) -> Delivery {
    let event = Event { kind: EventKind::Put, kv: pair(bytes), prev_kv: None };
    let (keyspace, revision) = (KeyspaceId::ETCD, Revision(revision));
    Delivery::Events(vec![EventBatch { keyspace, revision, events: [event].into() }])
}

fn reply(slot: u32, bytes: usize) -> Delivery {
    let prev_kv = (bytes > 0).then(|| pair(bytes));
    let result = Ok(KvReply::Put(PutResult { revision: Revision(1), prev_kv }));
    Delivery::Reply { slot, reply: Reply::Applied { stamp: Stamp::default(), result } }
}

/// What lies in the mailbox, in words.
fn taken(mailbox: &Mailbox) -> Vec<String> {
    let mut into = Vec::new();
    mailbox.take(&mut into);
    let word = |delivery: &Delivery| match delivery {
        Delivery::Events(batches) => format!("events {}", batches[0].revision.0),
        Delivery::Missed { revision, .. } => format!("missed {}", revision.0),
        Delivery::Compacted { revision, .. } => format!("compacted {}", revision.0),
        Delivery::Reply { slot, reply: Reply::Applied { .. } } => format!("reply {slot}"),
        Delivery::Reply { slot, reply: Reply::Failed(failure) } => format!("{slot}: {failure}"),
        _ => "other".to_owned(),
    };
    into.iter().map(word).collect()
}

#[test]
fn events_that_are_too_much_become_one_gap_and_no_reply_is_lost() {
    let mailbox = Mailbox::default();
    let revision = Revision(1);
    mailbox.send(&mut vec![Delivery::Compacted { keyspace: KeyspaceId::ETCD, revision }]);
    let most = MAX_MAILBOX_EVENT_BYTES / (4 * MIB);
    for at in 0..most as i64 - 1 {
        mailbox.send(&mut vec![event(2 + at, 4 * MIB), reply(at as u32, 0)]);
    }
    let newest = most as i64 + 1;
    mailbox.send(&mut vec![event(newest, 4 * MIB), reply(900, 0)]);
    mailbox.send(&mut vec![event(newest + 1, MIB)]);
    let taken = taken(&mailbox);
    assert_eq!(taken[..3], ["compacted 1", &format!("missed {newest}"), "reply 0"]);
    let replies = taken.iter().filter(|word| word.starts_with("reply"));
    assert_eq!(replies.count(), most);
    assert_eq!(taken.last(), Some(&format!("events {}", newest + 1)));
    assert!(!taken.contains(&"events 2".to_owned()));
}

#[test]
fn a_runtime_that_takes_its_deliveries_misses_nothing() {
    let mailbox = Mailbox::default();
    for at in 2..200 {
        mailbox.send(&mut vec![event(at, 4 * MIB)]);
        assert_eq!(taken(&mailbox), [format!("events {at}")]);
    }
}

#[test]
fn replies_that_are_too_much_are_called_timed_out_from_the_newest() {
    let mailbox = Mailbox::default();
    let most = (MAX_MAILBOX_REPLY_BYTES / (4 * MIB)) as u32;
    for slot in 0..most + 2 {
        mailbox.send(&mut vec![reply(slot, 4 * MIB), reply(1000 + slot, 0)]);
    }
    let taken = taken(&mailbox);
    assert_eq!(taken.len() as u32, 2 * (most + 2), "one for each request");
    assert_eq!((taken[0].as_str(), taken[1].as_str()), ("reply 0", "reply 1000"));
    let late = taken.iter().filter(|word| word.ends_with("request timed out"));
    assert_eq!(late.count(), 3, "each pair counts a little more than its value");
    assert_eq!(taken.last(), Some(&format!("reply {}", 1000 + most + 1)), "it costs nothing");
}
