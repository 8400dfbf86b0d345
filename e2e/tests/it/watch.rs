//! Watches through the crate etcd-client: order, completeness, progress, cancel, slow readers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::{
    Client, EventType, Txn, TxnOp, WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};
use quorate_e2e::limits::{COMMAND, SILENCE};
use quorate_e2e::server::Server;

/// An event in short: what, key, value, revision, previous value.
type Short = (EventType, String, String, i64, Option<String>);

async fn next(stream: &mut WatchStream) -> Result<WatchResponse> {
    let message = tokio::time::timeout(COMMAND, stream.message()).await;
    message.context("the watch is silent")??.context("the watch ended")
}

/// Asserts that nothing more comes.
async fn silent(stream: &mut WatchStream) {
    let more = tokio::time::timeout(SILENCE, stream.message()).await;
    assert!(more.is_err(), "{more:?}");
}

/// Opens a watch and takes its `created` response.
async fn open(client: &mut Client, key: &str, options: WatchOptions) -> Result<WatchStream> {
    let mut watcher = client.watch_client().max_decoding_message_size(usize::MAX);
    let mut stream = watcher.watch(key, Some(options)).await?;
    let created = next(&mut stream).await?;
    assert!(created.created() && created.events().is_empty(), "{created:?}");
    Ok(stream)
}

fn short(response: &WatchResponse) -> Vec<Short> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let events = response.events().iter().map(|event| {
        let kv = event.kv().expect("an event has a key");
        let before = event.prev_kv().map(|kv| text(kv.value()));
        (event.event_type(), text(kv.key()), text(kv.value()), kv.mod_revision(), before)
    });
    events.collect()
}

/// Events until there are `count`.
async fn take(stream: &mut WatchStream, count: usize) -> Result<Vec<Short>> {
    let mut events = Vec::new();
    while events.len() < count {
        let response = next(stream).await?;
        assert!(!response.canceled(), "{response:?}");
        events.extend(short(&response));
    }
    assert_eq!(events.len(), count, "{events:?}");
    Ok(events)
}

async fn put(client: &mut Client, key: &str, value: &str) -> Result<i64> {
    Ok(client.put(key, value, None).await?.header().context("header")?.revision())
}

#[tokio::test]
async fn previous_values_are_those_just_before() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let mut stream = open(&mut client, "k", WatchOptions::new().with_prev_key()).await?;
    for value in ["1", "2"] {
        put(&mut client, "k", value).await?;
    }
    client.delete("k", None).await?;
    put(&mut client, "k", "3").await?;
    let events = take(&mut stream, 4).await?;
    let previous: Vec<Option<&str>> = events.iter().map(|event| event.4.as_deref()).collect();
    assert_eq!(previous, [None, Some("1"), Some("2"), None]);
    Ok(())
}

#[tokio::test]
async fn filters_hide_and_do_not_stop() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let no_puts = WatchOptions::new().with_filters([WatchFilterType::NoPut]);
    let no_deletes = WatchOptions::new().with_filters([WatchFilterType::NoDelete]);
    let mut deletes = open(&mut client, "k", no_puts).await?;
    let mut puts = open(&mut client, "k", no_deletes).await?;
    for round in 0..3 {
        put(&mut client, "k", &round.to_string()).await?;
        client.delete("k", None).await?;
    }
    let seen = take(&mut deletes, 3).await?;
    assert!(seen.iter().all(|event| event.0 == EventType::Delete));
    let seen = take(&mut puts, 3).await?;
    assert!(seen.iter().all(|event| event.0 == EventType::Put));
    silent(&mut deletes).await;
    silent(&mut puts).await;
    Ok(())
}

#[tokio::test]
async fn a_txn_arrives_whole_and_in_its_order() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let mut live = open(&mut client, "t/", WatchOptions::new().with_prefix()).await?;
    let names: Vec<String> = (0..100).rev().map(|index| format!("t/{index}")).collect();
    let puts: Vec<TxnOp> = names.iter().map(|name| TxnOp::put(name.as_str(), "v", None)).collect();
    let answer = client.txn(Txn::new().and_then(puts)).await?;
    let revision = answer.header().context("header")?.revision();
    let from_start = WatchOptions::new().with_prefix().with_start_revision(revision);
    let mut replayed = open(&mut client, "t/", from_start).await?;
    for stream in [&mut live, &mut replayed] {
        let events = short(&next(stream).await?);
        let keys: Vec<&String> = events.iter().map(|event| &event.1).collect();
        assert_eq!(keys, names.iter().collect::<Vec<_>>(), "one response, in the order of the txn");
        assert!(events.iter().all(|event| event.3 == revision));
    }
    Ok(())
}

#[tokio::test]
async fn progress_comes_after_everything_before_it() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let mut stream = open(&mut client, "p/", WatchOptions::new().with_prefix()).await?;
    stream.watch("q/", Some(WatchOptions::new().with_prefix())).await?;
    assert!(next(&mut stream).await?.created());
    let mut seen = 0;
    for round in 0..30 {
        let last = put(&mut client, &format!("p/{round}"), "v").await?;
        put(&mut client, "elsewhere", "v").await?;
        let mut promised = 0;
        while promised < last {
            stream.request_progress().await?;
            let response = next(&mut stream).await?;
            let revision = response.header().context("header")?.revision();
            if response.watch_id() == -1 {
                assert!(response.events().is_empty());
                promised = revision;
            }
            for event in short(&response) {
                assert!(event.3 > promised, "event {} after progress {promised}", event.3);
                seen = event.3;
            }
        }
        assert_eq!(seen, last, "progress {promised} before the event of {last}");
    }
    Ok(())
}

#[tokio::test]
async fn progress_is_told_to_quiet_watchers() -> Result<()> {
    let server = Server::start(&["--experimental-watch-progress-notify-interval=200ms"])?;
    let mut client = server.client().await?;
    let options = WatchOptions::new().with_progress_notify();
    let mut stream = open(&mut client, "k", options).await?;
    let revision = put(&mut client, "other", "v").await?;
    loop {
        let response = next(&mut stream).await?;
        assert!(response.events().is_empty() && response.watch_id() == 0, "{response:?}");
        if response.header().context("header")?.revision() == revision {
            break;
        }
    }
    let newer = put(&mut client, "k", "v").await?;
    let mut told = 0;
    let event = loop {
        let response = next(&mut stream).await?;
        match short(&response).first() {
            Some(event) => break event.clone(),
            None => told = response.header().context("header")?.revision(),
        }
    };
    assert!(event.3 == newer && told < newer, "progress {told} overtook {event:?}");
    Ok(())
}

#[tokio::test]
async fn a_start_in_the_future_waits_for_it() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let now = put(&mut client, "k", "now").await?;
    let options = WatchOptions::new().with_start_revision(now + 5);
    let mut stream = open(&mut client, "k", options).await?;
    for round in 1..=4 {
        put(&mut client, "k", &round.to_string()).await?;
    }
    silent(&mut stream).await;
    for round in 5..=7 {
        put(&mut client, "k", &round.to_string()).await?;
    }
    let events = take(&mut stream, 3).await?;
    let revisions: Vec<i64> = events.iter().map(|event| event.3).collect();
    assert_eq!(revisions, [now + 5, now + 6, now + 7]);
    Ok(())
}

#[tokio::test]
async fn compaction_ends_watches_that_need_what_is_gone_and_no_others() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    for round in 1..=5 {
        put(&mut client, "k", &round.to_string()).await?;
    }
    client.delete("k", None).await?; // revision 7
    let mut live = open(&mut client, "k", WatchOptions::new()).await?;
    client.compact(7, None).await?;
    let below = WatchOptions::new().with_start_revision(6);
    let mut below = open(&mut client, "k", below).await?;
    let ended = next(&mut below).await?;
    assert!(ended.canceled() && ended.compact_revision() == 7, "{ended:?}");
    let at = WatchOptions::new().with_start_revision(7);
    let mut at = open(&mut client, "k", at).await?;
    let events = take(&mut at, 1).await?;
    assert_eq!((events[0].0, events[0].3), (EventType::Delete, 7), "the delete at that revision");
    put(&mut client, "k", "after").await?;
    for stream in [&mut live, &mut at] {
        assert_eq!(take(stream, 1).await?[0].3, 8);
    }
    // The stream that lost its watcher still serves others.
    below.watch("k", Some(WatchOptions::new().with_start_revision(8))).await?;
    assert!(next(&mut below).await?.created());
    assert_eq!(take(&mut below, 1).await?[0].3, 8);
    Ok(())
}

#[tokio::test]
async fn a_cancelled_watcher_is_silent_and_its_neighbour_is_not() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let mut stream = open(&mut client, "k", WatchOptions::new()).await?;
    stream.watch("k", Some(WatchOptions::new().with_watch_id(9))).await?;
    assert_eq!(next(&mut stream).await?.watch_id(), 9);
    stream.cancel(0).await?;
    let canceled = next(&mut stream).await?;
    assert!(canceled.canceled() && canceled.watch_id() == 0, "{canceled:?}");
    assert_eq!(canceled.cancel_reason(), "");
    put(&mut client, "k", "v").await?;
    assert_eq!(next(&mut stream).await?.watch_id(), 9);
    silent(&mut stream).await;
    Ok(())
}

#[tokio::test]
async fn large_replays_come_in_fragments_or_whole() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    for round in 0..6 {
        client.put("f", vec![b'0' + round; 1 << 20], None).await?;
    }
    let from_start = WatchOptions::new().with_start_revision(1);
    let mut whole = open(&mut client, "f", from_start.clone()).await?;
    let mut fragments = open(&mut client, "f", from_start.with_fragment()).await?;
    for (stream, bound) in [(&mut whole, usize::MAX), (&mut fragments, 2_200_000)] {
        let mut seen = Vec::new();
        while seen.len() < 6 {
            let response = next(stream).await?;
            let sizes = response.events().iter().filter_map(|event| event.kv());
            let bytes: usize = sizes.map(|kv| kv.value().len()).sum();
            assert!(bytes <= bound, "{bytes} bytes in one response");
            seen.extend(short(&response).into_iter().map(|event| event.3));
        }
        assert_eq!(seen, [2, 3, 4, 5, 6, 7]);
    }
    Ok(())
}

#[tokio::test]
async fn hundreds_of_watchers_share_a_stream() -> Result<()> {
    let server = Server::start(&[])?;
    let mut client = server.client().await?;
    let mut stream = open(&mut client, "m/0", WatchOptions::new()).await?;
    for index in 1..400 {
        stream.watch(format!("m/{index}"), None).await?;
        let created = next(&mut stream).await?;
        assert!(created.created() && created.watch_id() == index, "{created:?}");
    }
    for index in 0..400 {
        put(&mut client, &format!("m/{index}"), "v").await?;
    }
    let mut seen = BTreeMap::new();
    while seen.len() < 400 {
        let response = next(&mut stream).await?;
        for event in short(&response) {
            assert_eq!(event.1, format!("m/{}", response.watch_id()));
            assert_eq!(seen.insert(event.1, event.3), None, "once");
        }
    }
    Ok(())
}

/// One client stops reading: others are served at once, and it misses nothing when it returns.
#[tokio::test]
async fn a_stalled_reader_delays_nobody_and_loses_nothing() -> Result<()> {
    let server = Server::start(&[])?;
    let mut slow_client = server.client().await?;
    let mut client = server.client().await?;
    let mut slow = open(&mut slow_client, "s/", WatchOptions::new().with_prefix()).await?;
    let mut fast = open(&mut client, "s/", WatchOptions::new().with_prefix()).await?;
    let mut last = 0;
    for round in 0..400 {
        last = put(&mut client, &format!("s/{}", round % 7), &"x".repeat(50_000)).await?;
        let events = tokio::time::timeout(Duration::from_secs(5), take(&mut fast, 1)).await;
        assert_eq!(events.context("the fast reader waits")??[0].3, last);
    }
    assert!(server.resident_bytes()? < 1 << 30, "{} bytes", server.resident_bytes()?);
    let mut expected = last - 399;
    while expected <= last {
        for event in short(&next(&mut slow).await?) {
            assert_eq!(event.3, expected, "in order and without a gap");
            expected += 1;
        }
    }
    Ok(())
}

/// A client that comes back after a crash with the revision after its last event sees each one once.
#[tokio::test]
async fn a_watch_resumes_after_a_crash() -> Result<()> {
    let mut server = Server::start(&[])?;
    let mut seen = Vec::new();
    let mut last = 0;
    for round in 0..3 {
        let mut client = server.client().await?;
        let from = WatchOptions::new().with_start_revision(last + 1);
        let mut stream = open(&mut client, "k", from).await?;
        for index in 0..20 {
            put(&mut client, "k", &format!("{round}/{index}")).await?;
        }
        // Read half of them; the rest has to come after the restart.
        while seen.len() < round * 20 + 10 {
            seen.extend(short(&next(&mut stream).await?));
        }
        last = seen.last().map_or(0, |event| event.3);
        server.kill9()?;
        server.restart()?;
    }
    let mut client = server.client().await?;
    let from = WatchOptions::new().with_start_revision(last + 1);
    let mut stream = open(&mut client, "k", from).await?;
    while seen.len() < 60 {
        seen.extend(short(&next(&mut stream).await?));
    }
    let values: Vec<String> = seen.into_iter().map(|event| event.2).collect();
    let expected: Vec<String> =
        (0..3).flat_map(|round| (0..20).map(move |index| format!("{round}/{index}"))).collect();
    assert_eq!(values, expected);
    Ok(())
}
