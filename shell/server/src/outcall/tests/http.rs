//! Whole exchanges over HTTP.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use ::http::header::LOCATION;
use tokio::sync::Notify;

use super::*;
use crate::outcall::limits::{MAX_ANSWER_BYTES, MAX_REDIRECTS};

/// Tells the request in the answer's body.
async fn tell(request: Request<Bytes>) -> Response<Reply> {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    text += &format!("\n{}", String::from_utf8_lossy(request.body()));
    reply(200, text)
}

async fn told(client: &mut Client, call: Call) -> String {
    match client.call(call).await {
        AttemptResult::Answered { status: 200, body, .. } => {
            String::from_utf8(body.to_vec()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn the_request_is_what_was_asked_for() {
    let server = Server::start(handler(tell)).await;
    let mut client = Client::new();
    let url = server.url("/api/x?a=1&gid=2");
    let headers = vec![
        field("Content-Type", "application/json"),
        field("traceparent", "00-1-2-01"),
        field("X-Two", "old"),
        field("x-two", "new"),
        // What belongs to the connection stays ours.
        field("Host", "elsewhere"),
        field("Content-Length", "1"),
        field("Transfer-Encoding", "chunked"),
        field("Connection", "close"),
    ];
    let text = told(&mut client, Call { headers: headers.clone(), ..post(&url, "{}") }).await;
    let version = env!("CARGO_PKG_VERSION");
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.remove(0), "POST /api/x?a=1&gid=2");
    assert_eq!(lines.split_off(lines.len() - 2), ["", "{}"]);
    lines.sort_unstable();
    let host = format!("host: {}", server.at);
    let agent = format!("user-agent: quorate/{version}");
    let expected = [
        "content-length: 2",
        "content-type: application/json",
        &host,
        "traceparent: 00-1-2-01",
        &agent,
        "x-two: new",
    ];
    assert_eq!(lines, expected);
    let text = told(&mut client, Call { headers, ..get(server.url("")) }).await;
    assert!(text.starts_with("GET /\n") && text.ends_with("\n\n"), "{text}");
    let text = told(&mut client, post(server.url("?q"), "")).await;
    assert!(text.starts_with("POST /?q\n") && text.contains("content-length: 0"), "{text}");
}

#[tokio::test]
async fn every_status_is_an_answer() {
    let echo = handler(async |request: Request<Bytes>| {
        let status = request.uri().path()[1..].parse().unwrap();
        reply(status, if status == 204 { "" } else { "FAILURE" })
    });
    let server = Server::start(echo).await;
    let mut client = Client::new();
    for status in [200, 204, 304, 404, 409, 425, 500, 503] {
        let body = if matches!(status, 204 | 304) { "" } else { "FAILURE" };
        let result = client.call(post(server.url(&format!("/{status}")), "x")).await;
        assert_eq!(result, answered(status, body));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn what_cannot_be_a_request_is_not_sent() {
    let server = Server::start(handler(tell)).await;
    let mut client = Client::new();
    for bad in [field("a b", "c"), field("a", "b\r\nc: d"), field("", "x")] {
        let result = client.call(Call { headers: vec![bad], ..get(server.url("/")) }).await;
        assert!(matches!(failure(result), CallFailure::BadRequest(_)));
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_slow_answer_is_given_up_and_the_participant_can_notice() {
    let left = Arc::new((AtomicBool::new(false), Notify::new()));
    struct Leaving(Arc<(AtomicBool, Notify)>);
    impl Drop for Leaving {
        fn drop(&mut self) {
            self.0.0.store(true, Ordering::Relaxed);
            self.0.1.notify_one();
        }
    }
    let theirs = Arc::clone(&left);
    let never = handler(move |_| {
        let leaving = Leaving(Arc::clone(&theirs));
        async move {
            let _leaving = leaving;
            std::future::pending().await
        }
    });
    let server = Server::start(never).await;
    let mut client = Client::new();
    let soon = Duration::from_millis(50);
    assert_eq!(
        failure(client.call_within(post(server.url("/"), "x"), soon).await),
        CallFailure::Timeout
    );
    tokio::time::timeout(LONG, left.1.notified()).await.unwrap();
    // The same if the attempt is aborted; then nothing is reported.
    let attempt = client.start(post(server.url("/"), "x"), 0, LONG);
    while server.connections() < 2 {
        tokio::task::yield_now().await;
    }
    client.executor.abort(attempt);
    client.executor.abort(attempt);
    tokio::time::timeout(LONG, left.1.notified()).await.unwrap();
    assert!(client.reports.try_recv().is_err());
    assert!(left.0.load(Ordering::Relaxed));
}

#[tokio::test]
async fn nobody_there() {
    let mut client = Client::new();
    let at = nobody().await;
    let result = client.call(get(format!("http://{at}/"))).await;
    assert_unreachable(result, "refused");
    let result = client.call(get("http://nobody.invalid/")).await;
    assert!(matches!(failure(result), CallFailure::Unreachable(_)));
    let result = client.call(get("ftp://h/")).await;
    assert!(matches!(failure(result), CallFailure::BadUrl(_)));
}

#[tokio::test]
async fn addresses_take_turns() {
    let server = Server::start(handler(tell)).await;
    let mut client = Client::new();
    let url = format!("http://{},{}/", nobody().await, server.at);
    assert!(matches!(client.status_at(get(&url), 0).await, Err(CallFailure::Unreachable(_))));
    assert_eq!(client.status_at(get(&url), 1).await, Ok(200));
    assert!(matches!(client.status_at(get(&url), 2).await, Err(CallFailure::Unreachable(_))));
    // `localhost` may have addresses at which nobody listens: they are passed by.
    let url = format!("http://localhost:{}/", server.at.port());
    for address in 0..4 {
        assert_eq!(client.status_at(get(&url), address).await, Ok(200));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn connections_are_kept_and_a_restart_is_not_noticed() {
    let server = Server::start(handler(tell)).await;
    let mut client = Client::new();
    for _ in 0..20 {
        told(&mut client, post(server.url("/"), "x")).await;
    }
    assert_eq!(server.connections(), 1);
    // Many at a time need as many; these serve one after the other later.
    for _ in 0..8 {
        client.start(post(server.url("/"), "x"), 0, LONG);
    }
    for _ in 0..8 {
        assert!(matches!(client.report().await.1, AttemptResult::Answered { status: 200, .. }));
    }
    let connections = server.connections();
    assert!((2..=8).contains(&connections), "{connections}");
    let at = server.at.to_string();
    server.stop().await;
    let server = Server::start_at(&at, handler(tell), None).await;
    for _ in 0..20 {
        told(&mut client, post(server.url("/"), "x")).await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn there_are_as_many_connections_as_calls_at_a_time() {
    const CALLS: usize = 8;
    let together = Arc::new(tokio::sync::Barrier::new(CALLS));
    let wait = move |_| {
        let together = Arc::clone(&together);
        async move {
            together.wait().await;
            reply(200, "")
        }
    };
    let server = Server::start(handler(wait)).await;
    let mut client = Client::new();
    for _ in 0..5 {
        for _ in 0..CALLS {
            client.start(post(server.url("/"), "{}"), 0, LONG);
        }
        for _ in 0..CALLS {
            assert_eq!(client.report().await.1, answered(200, ""));
        }
        // A connection is kept a moment after its answer has been told.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(server.connections(), CALLS);
}

#[tokio::test]
async fn too_large_an_answer() {
    let large = handler(async |request: Request<Bytes>| {
        let size = request.uri().path()[1..].parse().unwrap();
        reply(200, vec![b'x'; size])
    });
    let server = Server::start(large).await;
    let mut client = Client::new();
    let result = client.call(get(server.url(&format!("/{MAX_ANSWER_BYTES}")))).await;
    assert_eq!(result, answered(200, vec![b'x'; MAX_ANSWER_BYTES]));
    let result = client.call(get(server.url(&format!("/{}", MAX_ANSWER_BYTES + 1)))).await;
    assert_bad_answer(result, "larger than");
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_they_lead_somewhere() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&asked);
    let lead = handler(move |request: Request<Bytes>| {
        let asked = Arc::clone(&theirs);
        async move {
            let path = request.uri().path().to_owned();
            let body = String::from_utf8_lossy(request.body()).into_owned();
            let credentials = request.headers().contains_key("authorization");
            let note = format!("{} {path} {body} {credentials}", request.method());
            asked.lock().unwrap().push(note);
            let (status, to) = match path.split_at(4.min(path.len())) {
                ("/see", _) => (302, "/end".to_owned()),
                ("/rep", _) => (307, "end".to_owned()),
                ("/ftp", _) => (308, "ftp://h/".to_owned()),
                ("/far", port) => (307, format!("http://localhost:{port}/end")),
                ("/cou", number) => {
                    let number: usize = number.parse().unwrap();
                    if number == 0 {
                        (307, "/end".to_owned())
                    } else {
                        (307, format!("/cou{}", number - 1))
                    }
                }
                _ => return reply(200, "end"),
            };
            let mut response = reply(status, "elsewhere");
            response.headers_mut().insert(LOCATION, to.parse().unwrap());
            response
        }
    });
    let server = Server::start(lead).await;
    let mut client = Client::new();
    let credentials = vec![field("authorization", "secret")];
    for path in ["/see", "/rep", &format!("/far{}", server.at.port())] {
        let call = Call { headers: credentials.clone(), ..post(server.url(path), "x") };
        assert_eq!(client.call(call).await, answered(200, "end"));
    }
    let expected = [
        "POST /see x true".to_owned(),
        "GET /end  true".to_owned(),
        "POST /rep x true".to_owned(),
        "POST /end x true".to_owned(),
        format!("POST /far{} x true", server.at.port()),
        "POST /end x false".to_owned(),
    ];
    assert_eq!(*asked.lock().unwrap(), expected);
    let most = MAX_REDIRECTS - 1;
    let result = client.call(post(server.url(&format!("/cou{most}")), "x")).await;
    assert_eq!(result, answered(200, "end"));
    let result = client.call(post(server.url(&format!("/cou{MAX_REDIRECTS}")), "x")).await;
    assert_bad_answer(result, "redirected more than 10 times");
    let result = client.call(post(server.url("/ftp"), "x")).await;
    assert_bad_answer(result, "redirected to a bad URL");
}

#[tokio::test]
async fn localhost_may_mean_the_machine_around() {
    let options = Options { localhost_is_docker_host: true, ..Options::default() };
    let caller = Client::with(&options).executor.caller.clone();
    let around = "http://host.docker.internal:1/localhost";
    assert_eq!(caller.at_home("http://localhost:1/localhost"), around);
    assert_eq!(caller.at_home("127.0.0.1:1/a.B/c"), "host.docker.internal:1/a.B/c");
    let caller = Client::new().executor.caller.clone();
    assert_eq!(caller.at_home("http://localhost:1/"), "http://localhost:1/");
}

#[tokio::test]
async fn an_executor_that_goes_aborts_what_is_under_way() {
    let server = Server::start(handler(|_| std::future::pending())).await;
    let mut client = Client::new();
    client.start(post(server.url("/"), "x"), 0, LONG);
    drop(client.executor);
    // The closure that reports goes with the attempt.
    assert!(tokio::time::timeout(LONG, client.reports.recv()).await.unwrap().is_none());
}
