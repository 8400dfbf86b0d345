//! Bad bytes from one client do not disturb another, however many and however clever.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use quorate_e2e::attack::{
    END_HEADERS, END_STREAM, PREFACE, call, field, frame, hello, kind, lying_frame, noise, send,
};
use quorate_e2e::server::Server;

const PATIENCE: Duration = Duration::from_millis(150);
const PUT: &str = "/etcdserverpb.KV/Put";
/// What one honest request may take while the attacks run.
const SLOWEST: Duration = Duration::from_secs(3);
/// Resident memory that no attack may push the server to, bytes.
const MEMORY: u64 = 768 << 20;

fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS, stream, block)
}

/// A call whose gRPC message is these bytes, prefix included.
fn message(bytes: &[u8]) -> Vec<u8> {
    [hello(), headers(1, &call(PUT)), frame(kind::DATA, END_STREAM, 1, bytes)].concat()
}

/// Headers that never end, one CONTINUATION after the other.
fn endless_headers() -> Vec<u8> {
    let mut bytes = [hello(), frame(kind::HEADERS, 0, 1, &call(PUT))].concat();
    let block = field("x-padding", &"p".repeat(120)).repeat(100);
    for _ in 0..300 {
        bytes.extend(frame(kind::CONTINUATION, 0, 1, &block));
    }
    bytes
}

/// Opens streams and takes each back at once, so that none counts as open.
fn rapid_reset() -> Vec<u8> {
    let mut bytes = hello();
    for stream in (1..6000).step_by(2) {
        bytes.extend(headers(stream, &call(PUT)));
        bytes.extend(frame(kind::RESET, 0, stream, &8_u32.to_be_bytes()));
    }
    bytes
}

fn flood(one: &[u8], count: usize) -> Vec<u8> {
    [hello(), one.repeat(count)].concat()
}

fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let long_line = [b"GET / HTTP/1.1\r\nX-Long: ", &b"l".repeat(2 << 20)[..]].concat();
    let many_lines = [b"GET / HTTP/1.1\r\n", &b"X-Many: m\r\n".repeat(100_000)[..]].concat();
    let mut not_utf8 = call(PUT);
    not_utf8.extend([0x00, 1, b'x', 2, 0xff, 0xfe]);
    vec![
        ("nothing", Vec::new()),
        ("half a preface", PREFACE[..10].to_vec()),
        ("a wrong preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()),
        ("noise after the preface", [PREFACE, &noise(7, 50_000)].concat()),
        ("a frame of 16 MiB", [hello(), lying_frame(0xff_ffff, kind::DATA, 0, 1)].concat()),
        ("data on stream 0", [hello(), frame(kind::DATA, 0, 0, b"x")].concat()),
        ("a stream from the wrong side", [hello(), headers(2, &call(PUT))].concat()),
        ("broken compression", [hello(), headers(1, &noise(9, 300))].concat()),
        ("an integer without end", [hello(), headers(1, &[0xff; 200])].concat()),
        ("headers without end", endless_headers()),
        ("bytes that are not text", [hello(), headers(1, &not_utf8)].concat()),
        ("streams opened and reset", rapid_reset()),
        ("settings", flood(&frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]), 20_000)),
        ("pings", flood(&frame(kind::PING, 0, 0, b"12345678"), 20_000)),
        ("window updates", flood(&frame(kind::WINDOW, 0, 0, &i32::MAX.to_be_bytes()), 10)),
        ("empty data", flood(&frame(kind::DATA, 0, 1, b""), 20_000)),
        ("a message of 4 GiB", message(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3])),
        ("a compressed message", message(&[1, 0, 0, 0, 3, 1, 2, 3])),
        ("half a message", message(&[0, 0, 0, 0, 100, 1, 2, 3])),
        ("half a prefix", message(&[0, 0])),
        ("two messages", message(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("HTTP/1 without end", long_line),
        ("a hundred thousand header lines", many_lines),
        ("HTTP/9", b"GET / HTTP/9.9\r\n\r\n".to_vec()),
        (
            "a chunk that lies",
            b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nx".to_vec(),
        ),
        (
            "two lengths",
            b"POST /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec(),
        ),
        ("TLS", [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..], &noise(3, 512)].concat()),
        ("a path out of the tree", b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
    ]
}

/// An honest client: put and get for as long as it is told; gives the slowest of both together.
async fn honest(server: &Server, stop: Arc<AtomicBool>) -> Result<(usize, Duration)> {
    let mut client = server.client().await?;
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let (start, value) = (Instant::now(), format!("{rounds}"));
        client.put("honest", value.as_str(), None).await.context("an honest put")?;
        let found = client.get("honest", None).await.context("an honest get")?;
        assert_eq!(found.kvs()[0].value(), value.as_bytes());
        slowest = slowest.max(start.elapsed());
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((rounds, slowest))
}

#[tokio::test]
async fn others_are_served_all_the_while() -> Result<()> {
    let mut server = Server::start(&[])?;
    let endpoint = server.endpoint();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&stop);
    let attacker = std::thread::spawn(move || {
        // Connections that say nothing, or half a word, stay open meanwhile.
        let idle: Vec<_> = (0..150).map(|_| TcpStream::connect(&endpoint)).collect();
        for (name, bytes) in attacks() {
            let answer = send(&endpoint, &bytes, PATIENCE);
            assert!(answer.len() < 1 << 20, "{name}: {} bytes of answer", answer.len());
        }
        for seed in 0..30 {
            let _ = send(&endpoint, &noise(seed, 4096), PATIENCE / 10);
        }
        done.store(true, Ordering::Relaxed);
        idle.into_iter().filter(Result::is_ok).count()
    });
    let served = honest(&server, Arc::clone(&stop)).await;
    let idle = attacker.join().expect("the attacker's assertions");
    assert!(server.process().ended()?.is_none(), "the server died:\n{}", server.process().tail());
    let (rounds, slowest) = served?;
    assert_eq!(idle, 150, "all idle connections were accepted");
    assert!(rounds > 50 && slowest < SLOWEST, "{rounds} rounds, the slowest took {slowest:?}");
    let memory = server.resident_bytes()?;
    assert!(memory < MEMORY, "{memory} bytes resident after the attacks");
    assert!(!server.process().stderr().contains("panicked"), "{}", server.process().tail());
    Ok(())
}

/// What is merely wrong gets an answer, so that its author can find out.
#[tokio::test]
async fn wrong_requests_are_answered() -> Result<()> {
    let server = Server::start(&[])?;
    let answered = |bytes: &[u8]| send(&server.endpoint(), bytes, Duration::from_millis(500));
    let http1 = answered(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(http1.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&http1));
    // A whole message that is no protobuf: the stream is answered with trailers, not cut.
    let reply = answered(&message(&[0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]));
    let mut at = 0;
    let mut kinds = Vec::new();
    while let Some(&[high, mid, low, kind, ..]) = reply.get(at..at + 9) {
        kinds.push(kind);
        at += 9 + (usize::from(high) << 16 | usize::from(mid) << 8 | usize::from(low));
    }
    assert!(kinds.contains(&kind::HEADERS), "frames {kinds:?}");
    Ok(())
}
