//! kill -9 under load: nothing that was acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::process::{Server, get, put};

const WRITERS: u64 = 8;
const KILLS: u64 = 3;

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().expect("temp");
    let acknowledged: Arc<Vec<AtomicU64>> =
        Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    for round in 1..=KILLS {
        let mut server = Server::start(dir.path());
        check(&server, &acknowledged).await;
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let mut kv = server.kv().await;
            let acknowledged = Arc::clone(&acknowledged);
            writers.push(tokio::spawn(async move {
                loop {
                    let next = acknowledged[writer as usize].load(Ordering::Relaxed) + 1;
                    let request = put(format!("w{writer}"), next.to_string());
                    if kv.put(request).await.is_err() {
                        return;
                    }
                    acknowledged[writer as usize].store(next, Ordering::Relaxed);
                }
            }));
        }
        let enough =
            || acknowledged.iter().all(|count| count.load(Ordering::Relaxed) >= round * 50);
        while !enough() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        for writer in writers {
            writer.await.expect("it ends with its connection");
        }
    }
    let server = Server::start(dir.path());
    check(&server, &acknowledged).await;
}

/// Each writer counts upwards: what is stored is what was acknowledged last, or the one in flight.
async fn check(server: &Server, acknowledged: &[AtomicU64]) {
    let mut kv = server.kv().await;
    for (writer, count) in acknowledged.iter().enumerate() {
        let read = kv.range(get(format!("w{writer}"))).await.expect("read").into_inner();
        let text = read.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
        let stored: u64 = text.map_or(0, |text| text.parse().expect("a number"));
        let wanted = count.load(Ordering::Relaxed);
        let one_more = stored == wanted + 1;
        assert!(stored == wanted || one_more, "writer {writer}: {wanted} was lost, found {stored}");
        count.store(stored, Ordering::Relaxed);
    }
}
