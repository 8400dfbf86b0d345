//! Participants that do not speak HTTP, or stop in the middle of it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// What a connection does with its n-th request, from 1: writes this, and then.
#[derive(Clone, Copy)]
enum Then {
    /// Waits for the next request.
    Goes,
    /// Closes orderly.
    Closes,
    /// Breaks off: the client's kernel is told to forget it.
    Resets,
    /// Says nothing more.
    Stays,
}

type Script = fn(usize, usize) -> (&'static str, Then);

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server of scripted connections: `script(connection, request)`, both from 1.
async fn scripted(script: Script) -> (Server, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, total) = (Arc::clone(&connections), Arc::clone(&requests));
    let task = tokio::spawn(async move {
        let mut all = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            all.spawn(play(stream, number, script, Arc::clone(&total)));
        }
    });
    (Server { at, connections, task }, requests)
}

async fn play(mut stream: TcpStream, connection: usize, script: Script, total: Arc<AtomicUsize>) {
    let mut buffer = [0; 4096];
    for request in 1.. {
        // Requests here are small: one read has all of one.
        if matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {
            return;
        }
        total.fetch_add(1, Ordering::Relaxed);
        let (text, then) = script(connection, request);
        stream.write_all(text.as_bytes()).await.unwrap();
        match then {
            Then::Goes => {}
            Then::Closes => return,
            Then::Resets => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Then::Stays => std::future::pending().await,
        }
    }
}

async fn ask(script: Script) -> AttemptResult {
    let (server, requests) = scripted(script).await;
    let result = Client::new().call(post(server.url("/"), "x")).await;
    // A new connection that breaks is not tried again: that is the machine's business.
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    result
}

#[tokio::test]
async fn broken_before_the_answer() {
    let result = ask(|_, _| ("", Then::Closes)).await;
    assert!(matches!(failure(result), CallFailure::Broken(_)));
    let result = ask(|_, _| ("", Then::Resets)).await;
    assert!(matches!(failure(result), CallFailure::Broken(_)));
    let result = ask(|_, _| ("HTTP/1.1 200 O", Then::Closes)).await;
    assert!(matches!(failure(result), CallFailure::Broken(_)));
}

#[tokio::test]
async fn broken_within_the_answer() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nSUCC";
    let result =
        ask(|_, _| ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nSUCC", Then::Closes)).await;
    assert!(matches!(failure(result), CallFailure::Broken(_)), "{cut}");
    let result = ask(|_, _| {
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nSUCC", Then::Resets)
    })
    .await;
    assert!(matches!(failure(result), CallFailure::Broken(_)));
    // Without a length the end of the connection is the end of the answer.
    assert_eq!(
        ask(|_, _| ("HTTP/1.0 200 OK\r\n\r\nSUCCESS", Then::Closes)).await,
        answered(200, "SUCCESS")
    );
}

#[tokio::test]
async fn no_http() {
    assert_bad_answer(ask(|_, _| ("SSH-2.0-OpenSSH_9.2\r\n\r\n", Then::Stays)).await, "");
    assert_bad_answer(
        ask(|_, _| ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", Then::Stays)).await,
        "",
    );
}

#[tokio::test]
async fn an_endless_head() {
    fn endless(_: usize, _: usize) -> (&'static str, Then) {
        let line: &str =
            "x: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
        let text = format!("HTTP/1.1 200 OK\r\n{}", line.repeat(2_000));
        (Box::leak(text.into_boxed_str()), Then::Stays)
    }
    assert_bad_answer(ask(endless).await, "");
}

#[tokio::test]
async fn half_an_answer_and_then_nothing_is_given_up() {
    let (server, _) =
        scripted(|_, _| ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nSUCC", Then::Stays)).await;
    let soon = Duration::from_millis(50);
    let result = Client::new().call_within(post(server.url("/"), "x"), soon).await;
    assert_eq!(failure(result), CallFailure::Timeout);
}

#[tokio::test]
async fn a_kept_connection_that_is_dead_is_replaced_once() {
    // The first connection answers once, and breaks when it is used again; the second is good.
    let (server, requests) = scripted(|connection, request| match (connection, request) {
        (1, 2) => ("", Then::Resets),
        _ => (OK, Then::Goes),
    })
    .await;
    let mut client = Client::new();
    for _ in 0..4 {
        assert_eq!(client.call(post(server.url("/"), "x")).await, answered(200, "ok"));
    }
    assert_eq!((server.connections(), requests.load(Ordering::Relaxed)), (2, 5));
}

#[tokio::test]
async fn a_request_that_breaks_each_connection_is_not_sent_for_ever() {
    let (server, requests) = scripted(|connection, request| match (connection, request) {
        (1, 1) => (OK, Then::Goes),
        _ => ("", Then::Closes),
    })
    .await;
    let mut client = Client::new();
    assert_eq!(client.call(post(server.url("/"), "x")).await, answered(200, "ok"));
    let result = client.call(post(server.url("/"), "x")).await;
    assert!(matches!(failure(result), CallFailure::Broken(_)));
    assert_eq!((server.connections(), requests.load(Ordering::Relaxed)), (2, 3));
}

#[tokio::test]
async fn a_connection_that_says_it_closes_is_not_kept() {
    let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    assert!(close.ends_with("ok"));
    let (server, _) = scripted(|_, _| {
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", Then::Stays)
    })
    .await;
    let mut client = Client::new();
    for _ in 0..3 {
        assert_eq!(client.call(post(server.url("/"), "x")).await, answered(200, "ok"));
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn an_answer_before_the_request_is_read() {
    // More than fits into the buffers between the two: the server reads 4 KiB of it and answers.
    let (server, _) = scripted(|_, _| (OK, Then::Stays)).await;
    let mut client = Client::new();
    let large = vec![b'x'; 16 << 20];
    for _ in 0..2 {
        assert_eq!(client.call(post(server.url("/"), large.clone())).await, answered(200, "ok"));
    }
    // A connection on which half a request stands is not used again.
    assert_eq!(server.connections(), 2);
}
