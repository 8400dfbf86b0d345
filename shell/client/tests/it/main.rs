//! The builders against a coordinator and a branch that write down what they are asked, and workflows against one that
//! keeps their progress.

#[cfg(feature = "tls")]
mod tls;
mod workflow;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use quorate_client::{Coordinator, Error, Options, Patience, Tcc, TccBranch};
use tokio::net::TcpListener;

/// What was asked, in order, and how often the answer is still 503.
#[derive(Clone, Default)]
struct Recorder {
    asked: Arc<Mutex<Vec<String>>>,
    absences: Arc<Mutex<u32>>,
}

impl Recorder {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

/// Answers everything; the branch's path `/no` with a refusal.
async fn answer(State(recorder): State<Recorder>, request: Request) -> (StatusCode, String) {
    let target = request.uri().to_string();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.expect("a body");
    let text = format!("{target} {}", String::from_utf8_lossy(&body));
    recorder.asked.lock().expect("nobody panicked").push(text);
    let mut absences = recorder.absences.lock().expect("nobody panicked");
    if *absences > 0 {
        *absences -= 1;
        return (StatusCode::SERVICE_UNAVAILABLE, "{\"message\":\"later\"}".to_owned());
    }
    if target.starts_with("/no") {
        return (StatusCode::CONFLICT, "{\"dtm_result\":\"FAILURE\"}".to_owned());
    }
    if target.starts_with("/api/query") {
        let reason = "\"rollback_reason\":\"no FAILURE\"";
        return (StatusCode::OK, format!("{{\"transaction\":{{\"status\":\"failed\",{reason}}}}}"));
    }
    (StatusCode::OK, "{\"dtm_result\":\"SUCCESS\"}".to_owned())
}

async fn serve() -> (Recorder, String) {
    let recorder = Recorder::default();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let router = Router::new().fallback(answer).with_state(recorder.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (recorder, base)
}

fn branch(base: &str, path: &str) -> TccBranch {
    TccBranch {
        try_url: format!("{base}/{path}?own=1"),
        confirm_url: format!("{base}/confirm"),
        cancel_url: format!("{base}/cancel"),
        body: "{\"n\":1}".to_owned(),
    }
}

#[tokio::test]
async fn a_branch_is_registered_before_it_is_tried() {
    let (recorder, base) = serve().await;
    let coordinator = Coordinator::new(&format!("{base}/api"));
    let mut tcc = Tcc::begin(&coordinator, "g", Options::default()).await.expect("prepared");
    tcc.call_branch(&branch(&base, "try")).await.expect("tried");
    let refused = tcc.call_branch(&branch(&base, "no")).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    tcc.abort("no").await.expect("aborted");

    let asked = recorder.asked();
    let targets: Vec<_> = asked.iter().map(|line| line.split(' ').next().expect("one")).collect();
    let dtm = format!("{base}/api").replace("://", "%3A%2F%2F").replace(':', "%3A");
    let dtm = dtm.replace('/', "%2F").replace('.', "%2E");
    let query = |id| format!("own=1&dtm={dtm}&gid=g&trans_type=tcc&branch_id={id}&op=try");
    let (first, second) = (format!("/try?{}", query("01")), format!("/no?{}", query("02")));
    assert_eq!(
        targets,
        [
            "/api/prepare",
            "/api/registerBranch",
            &first,
            "/api/registerBranch",
            &second,
            "/api/abort"
        ]
    );
    assert!(asked[1].contains("\"confirm\":\"http") && asked[1].contains("\"branch_id\":\"01\""));
    assert!(asked[2].ends_with(" {\"n\":1}"), "{}", asked[2]);
    assert!(asked[5].contains("\"rollback_reason\":\"no\""), "{}", asked[5]);
}

#[tokio::test]
async fn an_absent_coordinator_is_asked_again() {
    let (recorder, base) = serve().await;
    *recorder.absences.lock().expect("nobody panicked") = 2;
    let impatient = Coordinator::new(&format!("{base}/api"));
    let result = impatient.status("g").await;
    assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    let patience = Patience { total: Duration::from_secs(5), pause: Duration::from_millis(1) };
    let patient = impatient.with_patience(patience);
    // That the reason holds the word FAILURE makes no failure of the question.
    assert_eq!(patient.status("g").await.expect("an answer").as_deref(), Some("failed"));
    assert_eq!(recorder.asked().len(), 3);
}
