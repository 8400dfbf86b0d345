//! Workflows against a coordinator that keeps their progress in memory, and dies never; the application does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use quorate_client::{
    BranchCall, BranchError, Coordinator, Ended, Error, Flow, Options, StepError, Workflows,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A workflow as the coordinator has it: its transaction, and rows by branch and operation.
#[derive(Clone)]
struct Stored {
    transaction: Value,
    rows: BTreeMap<String, Value>,
    order: Vec<String>,
}

/// The coordinator; and a branch at `/branch/..`, which refuses below `/branch/no`.
#[derive(Clone, Default)]
struct World {
    workflows: Arc<Mutex<BTreeMap<String, Stored>>>,
    called: Arc<Mutex<Vec<String>>>,
    prepared: Arc<AtomicU32>,
}

impl World {
    async fn start() -> (Self, Coordinator, String) {
        let world = Self::default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let router = Router::new().fallback(answer).with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let coordinator = Coordinator::new(&format!("{base}/api"));
        (world, coordinator, format!("{base}/branch"))
    }

    /// Calls of the branch, as `path op of branch`.
    fn called(&self) -> Vec<String> {
        self.called.lock().expect("nobody panicked").clone()
    }

    /// `op of branch:status` in the order of records.
    fn recorded(&self, gid: &str) -> Vec<String> {
        let workflows = self.workflows.lock().expect("nobody panicked");
        let Stored { rows, order, .. } = &workflows[gid];
        let status = |key: &String| rows[key]["status"].as_str().expect("a text").to_owned();
        order.iter().map(|key| format!("{key}:{}", status(key))).collect()
    }

    fn status(&self, gid: &str) -> String {
        let workflows = self.workflows.lock().expect("nobody panicked");
        workflows[gid].transaction["status"].as_str().expect("a text").to_owned()
    }

    fn end_elsewhere(&self, gid: &str) {
        let mut workflows = self.workflows.lock().expect("nobody panicked");
        let ended = json!({ "status": "failed", "rollback_reason": "stopped by an operator" });
        workflows.get_mut(gid).expect("prepared").transaction = ended;
    }

    fn prepare(&self, gid: &str) -> Value {
        self.prepared.fetch_add(1, Ordering::Relaxed);
        let mut workflows = self.workflows.lock().expect("nobody panicked");
        let stored = workflows.entry(gid.to_owned()).or_insert_with(|| Stored {
            transaction: json!({ "gid": gid, "status": "prepared" }),
            rows: BTreeMap::new(),
            order: Vec::new(),
        });
        let rows: Vec<&Value> = stored.order.iter().map(|key| &stored.rows[key]).collect();
        json!({ "transaction": stored.transaction, "progresses": rows })
    }

    fn register(&self, gid: &str, body: &Value) -> (StatusCode, Value) {
        let mut workflows = self.workflows.lock().expect("nobody panicked");
        let stored = workflows.get_mut(gid).expect("prepared");
        if stored.transaction["status"] != "prepared" {
            return (StatusCode::CONFLICT, json!({ "dtm_result": "FAILURE" }));
        }
        let key = format!(
            "{} of {}",
            body["op"].as_str().expect("a text"),
            body["branch_id"].as_str().expect("a text")
        );
        let row = json!({
            "branch_id": body["branch_id"],
            "op": body["op"],
            "status": body["status"],
            "bin_data": STANDARD.encode(body["data"].as_str().expect("a text")),
        });
        let before = stored.rows.entry(key.clone()).or_insert_with(|| {
            stored.order.push(key);
            row.clone()
        });
        if *before != row {
            let message = json!({ "message": "storage: UniqueKeyConflict" });
            return (StatusCode::INTERNAL_SERVER_ERROR, message);
        }
        (StatusCode::OK, json!({ "dtm_result": "SUCCESS" }))
    }

    fn submit(&self, gid: &str, body: &Value) -> (StatusCode, Value) {
        let mut workflows = self.workflows.lock().expect("nobody panicked");
        let stored = workflows.get_mut(gid).expect("prepared");
        assert_eq!(stored.transaction["status"], "prepared");
        stored.transaction = body["req_extra"].clone();
        (StatusCode::OK, json!({ "dtm_result": "SUCCESS" }))
    }
}

async fn answer(State(world): State<World>, request: Request) -> (StatusCode, String) {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if let Some(path) = path.strip_prefix("/branch") {
        let call = BranchCall::from_query(&query).expect("a call of a branch");
        let text = format!("{path} {} of {}", call.op, call.branch_id);
        world.called.lock().expect("nobody panicked").push(text);
        let no = path.starts_with("/no");
        return if no {
            (StatusCode::CONFLICT, "no".into())
        } else {
            (StatusCode::OK, path.into())
        };
    }
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.expect("a body");
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let gid = body["gid"].as_str().unwrap_or_default().to_owned();
    let (status, answer) = match path.as_str() {
        "/api/prepareWorkflow" => (StatusCode::OK, world.prepare(&gid)),
        "/api/registerBranch" => world.register(&gid, &body),
        "/api/submit" => world.submit(&gid, &body),
        "/api/query" => {
            let gid = query.strip_prefix("gid=").unwrap_or_default();
            let workflows = world.workflows.lock().expect("nobody panicked");
            let transaction = workflows.get(gid).map(|stored| stored.transaction.clone());
            (StatusCode::OK, json!({ "transaction": transaction, "branches": [] }))
        }
        other => panic!("nobody asks for {other}"),
    };
    (status, answer.to_string())
}

fn succeeded(text: &str) -> Ended {
    Ended::Succeeded(Bytes::copy_from_slice(text.as_bytes()))
}

fn call_of(gid: &str, name: &str) -> BranchCall {
    let text = |text: &str| text.to_owned();
    BranchCall {
        gid: text(gid),
        trans_type: text("workflow"),
        branch_id: text("00"),
        op: text(name),
        dtm: String::new(),
    }
}

/// Fails as often as it is told to, with whatever is neither a success nor a failure.
#[derive(Clone, Default)]
struct Crashes(Arc<AtomicU32>);

impl Crashes {
    fn set(&self, times: u32) {
        self.0.store(times, Ordering::Relaxed);
    }

    fn next(&self) -> Result<(), StepError> {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 { Err(StepError::Unfinished("it crashed".into())) } else { Ok(()) }
    }
}

/// Two branches that are called, with commits and rollbacks, and a local step between them that may crash.
fn order(coordinator: &Coordinator, base: &str, second: &str, crashes: &Crashes) -> Workflows {
    let (base, second, crashes) = (base.to_owned(), second.to_owned(), crashes.clone());
    Workflows::new(coordinator, "http://me/workflow").register("order", move |flow: Flow, data| {
        let (base, second, crashes) = (base.clone(), second.clone(), crashes.clone());
        async move {
            let url = |path: &str| format!("{base}/{path}");
            let first = flow.branch().rollback_url(&url("undo1"), "1").commit_url(&url("do1"), "1");
            let one = first.post(&url("take1"), "1").await?;
            let local = flow.branch().run(|_| async { crashes.next().map(|()| "local".into()) });
            let two = local.await?;
            let last = flow.branch().rollback_url(&url("undo3"), "3").commit_url(&url("do3"), "3");
            let three = last.post(&url(&second), "3").await?;
            Ok(Bytes::from(format!("{}{one}{two}{three}", String::from_utf8_lossy(&data))))
        }
    })
}

#[tokio::test]
async fn steps_run_once_and_commits_last_first() {
    let (world, coordinator, base) = World::start().await;
    let workflows = order(&coordinator, &base, "take3", &Crashes::default());
    let ended = workflows.run("g", "order", "in").await.expect("ended");
    assert_eq!(ended, succeeded("in/take1local/take3"));
    let called =
        ["/take1 action of 01", "/take3 action of 03", "/do3 commit of 03", "/do1 commit of 01"];
    assert_eq!(world.called(), called);
    assert_eq!(
        world.recorded("g"),
        [
            "action of 01:succeed",
            "action of 02:succeed",
            "action of 03:succeed",
            "commit of 03:succeed",
            "commit of 01:succeed"
        ]
    );
    // Once more: the outcome is read, and nobody is called.
    assert_eq!(workflows.run("g", "order", "in").await.expect("ended"), ended);
    assert_eq!(world.called(), called);
}

#[tokio::test]
async fn a_run_goes_on_where_the_last_one_stopped() {
    let (world, coordinator, base) = World::start().await;
    let crashes = Crashes::default();
    crashes.set(2);
    let workflows = Arc::new(order(&coordinator, &base, "take3", &crashes));
    let first = workflows.run("g", "order", "in").await;
    assert!(matches!(first, Err(Error::Unfinished(_))), "{first:?}");
    assert_eq!((world.status("g").as_str(), world.called().len()), ("prepared", 1));
    // The coordinator calls back: the second crash, and then the end.
    let call = call_of("g", "order");
    let second = workflows.callback(call.clone(), Bytes::from_static(b"in")).await;
    assert!(matches!(second, Err(BranchError::Error(Error::Unfinished(_)))), "{second:?}");
    workflows.callback(call, Bytes::from_static(b"in")).await.expect("ended");
    assert_eq!(world.status("g"), "succeed");
    assert_eq!(world.called().iter().filter(|call| call.starts_with("/take1")).count(), 1);
}

#[tokio::test]
async fn a_refusal_undoes_all_branches_the_last_first() {
    let (world, coordinator, base) = World::start().await;
    let workflows = order(&coordinator, &base, "no3", &Crashes::default());
    let ended = workflows.run("g", "order", "in").await.expect("ended");
    assert_eq!(ended, Ended::Failed("no".into()));
    let called = [
        "/take1 action of 01",
        "/no3 action of 03",
        "/undo3 rollback of 03",
        "/undo1 rollback of 01",
    ];
    assert_eq!(world.called(), called);
    assert_eq!(world.recorded("g")[2], "action of 03:failed");
    assert_eq!(workflows.run("g", "order", "in").await.expect("ended"), ended);
}

#[tokio::test]
async fn a_rollback_that_says_no_is_asked_again_alone() {
    let (world, coordinator, _) = World::start().await;
    let (undone, refusals) = (Arc::new(Mutex::new(Vec::new())), Crashes::default());
    refusals.set(1);
    let (log, no) = (Arc::clone(&undone), refusals.clone());
    let workflows = Workflows::new(&coordinator, "").register("w", move |flow: Flow, _| {
        let (log, no) = (Arc::clone(&log), no.clone());
        async move {
            let second = Arc::clone(&log);
            let first = flow.branch().on_rollback(|call| async move {
                log.lock().expect("nobody panicked").push(call.branch_id);
                no.next().map_err(|_| StepError::Failure("not now".into()))
            });
            first.run(|_| async { Ok(String::new()) }).await?;
            let last = flow.branch().on_rollback(|call| async move {
                second.lock().expect("nobody panicked").push(call.branch_id);
                Ok(())
            });
            last.run(|_| async { Ok(String::new()) }).await?;
            Err(StepError::Failure("enough".into()))
        }
    });
    let stuck = workflows.run("g", "w", "").await;
    assert!(matches!(stuck, Err(Error::Unfinished(_))), "{stuck:?}");
    assert_eq!(world.status("g"), "prepared");
    let ended = workflows.run("g", "w", "").await.expect("ended");
    assert_eq!(ended, Ended::Failed("enough".into()));
    assert_eq!(*undone.lock().expect("nobody panicked"), ["02", "01", "01"]);
}

#[tokio::test]
async fn an_unfinished_step_cannot_be_talked_away() {
    let (world, coordinator, base) = World::start().await;
    let workflows = Workflows::new(&coordinator, "").register("w", move |flow: Flow, _| {
        let base = base.clone();
        async move {
            let unknown = flow.branch().run(|_| async { Err(StepError::Unfinished("?".into())) });
            assert!(unknown.await.is_err());
            // Not called either: the run is over.
            let next = flow.branch().post(&format!("{base}/take"), "").await;
            assert!(matches!(next, Err(StepError::Unfinished(_))), "{next:?}");
            Ok(Bytes::new())
        }
    });
    let result = workflows.run("g", "w", "").await;
    assert!(matches!(result, Err(Error::Unfinished(_))), "{result:?}");
    assert!(world.recorded("g").is_empty() && world.called().is_empty());
}

#[tokio::test]
async fn another_function_under_the_name_is_found_out() {
    let (world, coordinator, base) = World::start().await;
    let crashes = Crashes::default();
    crashes.set(1);
    let old = order(&coordinator, &base, "take3", &crashes);
    assert!(old.run("g", "order", "in").await.is_err());
    let new = Workflows::new(&coordinator, "")
        .register("order", |_: Flow, _| async { Ok(Bytes::from_static(b"nothing to do")) });
    let result = new.run("g", "order", "in").await;
    assert!(matches!(result, Err(Error::Diverged(_))), "{result:?}");
    assert_eq!(world.status("g"), "prepared");
}

#[tokio::test]
async fn names_and_callbacks_that_nobody_knows_begin_nothing() {
    let (world, coordinator, base) = World::start().await;
    let workflows = Arc::new(order(&coordinator, &base, "take3", &Crashes::default()));
    let unknown = workflows.run("g", "nosuch", "").await;
    assert!(matches!(unknown, Err(Error::Malformed(_))), "{unknown:?}");
    let late = workflows.callback(call_of("forgotten", "order"), Bytes::new()).await;
    assert!(matches!(late, Err(BranchError::Error(Error::Malformed(_)))), "{late:?}");
    assert!(world.workflows.lock().expect("nobody panicked").is_empty());
}

/// A step that lasts until it is told to end.
fn slow(coordinator: &Coordinator, go: &Arc<tokio::sync::Notify>) -> Arc<Workflows> {
    let go = Arc::clone(go);
    let options = Options { retry_interval: Duration::from_millis(60), ..Options::default() };
    let workflows = Workflows::new(coordinator, "").with_options(options);
    Arc::new(workflows.register("slow", move |flow: Flow, _| {
        let go = Arc::clone(&go);
        async move {
            let waited = flow.branch().run(|_| async move {
                go.notified().await;
                Ok("waited".to_owned())
            });
            Ok(Bytes::from(waited.await?))
        }
    }))
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not happen within 5 s");
}

#[tokio::test]
async fn a_long_step_gives_signs_of_life_and_is_not_run_twice() {
    let (world, coordinator, _) = World::start().await;
    let go = Arc::new(tokio::sync::Notify::new());
    let workflows = slow(&coordinator, &go);
    let running = tokio::spawn({
        let workflows = Arc::clone(&workflows);
        async move { workflows.run("g", "slow", "").await }
    });
    until("signs of life", || world.prepared.load(Ordering::Relaxed) > 3).await;
    let again = workflows.run("g", "slow", "").await;
    assert!(matches!(again, Err(Error::Ongoing(_))), "{again:?}");
    let called_back = workflows.callback(call_of("g", "slow"), Bytes::new()).await;
    assert!(matches!(called_back, Err(BranchError::Ongoing(_))), "{called_back:?}");
    go.notify_one();
    assert_eq!(running.await.expect("no panic").expect("ended"), succeeded("waited"));
    workflows.drain().await;
}

#[tokio::test]
async fn a_callback_that_takes_long_goes_on_without_the_coordinator() {
    let (world, coordinator, _) = World::start().await;
    world.prepare("g");
    let go = Arc::new(tokio::sync::Notify::new());
    let workflows = slow(&coordinator, &go);
    let answer = workflows.callback(call_of("g", "slow"), Bytes::new()).await;
    assert!(matches!(answer, Err(BranchError::Ongoing(_))), "{answer:?}");
    go.notify_one();
    workflows.drain().await;
    assert_eq!(world.status("g"), "succeed");
}

#[tokio::test]
async fn what_an_operator_has_stopped_is_not_run_on() {
    let (world, coordinator, _) = World::start().await;
    let workflows = slow(&coordinator, &Arc::default());
    let running = tokio::spawn(async move { workflows.run("g", "slow", "").await });
    until("the beginning", || world.prepared.load(Ordering::Relaxed) > 0).await;
    world.end_elsewhere("g");
    let ended = running.await.expect("no panic").expect("ended");
    assert_eq!(ended, Ended::Failed("stopped by an operator".into()));
}

/// Another run has recorded something else for the step: what it recorded counts.
#[tokio::test]
async fn of_two_runs_the_first_record_counts() {
    let (world, coordinator, _) = World::start().await;
    let other = world.clone();
    let counter = Arc::new(AtomicU32::new(0));
    let workflows = Workflows::new(&coordinator, "").register("w", move |flow: Flow, _| {
        let (other, counter) = (other.clone(), Arc::clone(&counter));
        async move {
            let step = flow.branch().run(|call| async move {
                if counter.fetch_add(1, Ordering::Relaxed) == 0 {
                    let theirs = json!({
                        "branch_id": call.branch_id, "op": "action", "status": "succeed", "data": "theirs",
                    });
                    assert_eq!(other.register(&call.gid, &theirs).0, StatusCode::OK);
                }
                Ok("ours".to_owned())
            });
            Ok(Bytes::from(step.await?))
        }
    });
    let lost = workflows.run("g", "w", "").await;
    assert!(matches!(lost, Err(Error::Unfinished(_))), "{lost:?}");
    assert_eq!(workflows.run("g", "w", "").await.expect("ended"), succeeded("theirs"));
}
