//! DTM's HTTP interface to global transactions: which route is whose.
//!
//! | file | what |
//! |---|---|
//! | `received` | a request's body, bounded |
//! | `json`, `lenient`, `body`, `branch`, `query` | what clients send, to the machine's requests |
//! | `answer`, `show`, `time` | outcomes, transactions and branches, to what clients read |
//! | `rpc`, `grpc` | the same over JSON-RPC; over gRPC, on the same port |
//! | `topics` | who hears of a message |
//! | `figures` | what Prometheus reads |
//! | `trace` | trace context, from requests to calls |
//! | `gid` | names for new transactions |
//! | `accept` | the connections |
//!
//! Whatever changes something is one request to the machine on this node, which answers when its change is
//! applied. `query` and `all` read a linearizable view and ask the machine nothing.
//!
//! Left out so far: the console.

mod accept;
mod answer;
mod body;
mod branch;
pub(crate) mod figures;
mod gid;
mod grpc;
mod json;
mod lenient;
mod query;
mod received;
mod rpc;
mod show;
mod topics;
mod trace;

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use quorate_global_txn::{GlobalTxnId, Kind, Reply, Status};
use quorate_kv::{ReadError, View};
use serde_json::{Value, json};
use tokio::sync::watch;

pub use accept::start;
pub use trace::Trace;

use crate::Snapshot;
use crate::api::stored::{self, Filter, Found, Order, Walk};
use crate::api::time;
use crate::grpc as wire;
use crate::grpc::Body;
use crate::handle::Handle;
use crate::metrics::Metrics;
use answer::{Answer, Problem};
use json::Object;
use lenient::{Unreadable, object};
use query::Query;
use received::BODY_TIME;

const BASE: &str = "/api/dtmsvr/";

/// What DTM's clients are told: the version whose behaviour this follows.
const VERSION: &str = "v1.19.0";

/// Transactions that one page of `/all` brings if nothing is asked for, and at most.
const PAGE: (u64, u64) = (100, 10_000);

/// How far ahead a transaction must wait for `resetCronTime` to wake it, in seconds: three of DTM's timeouts.
const RESET_AHEAD_S: u64 = 105;

/// Everything that a request needs; cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// The node.
    pub handle: Handle,
    /// Largest body, in bytes.
    pub max_request_bytes: usize,
    /// Becomes true when the server stops.
    pub stopping: watch::Receiver<bool>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The trace that the request belongs to.
    pub trace: Trace,
}

type Outcome = Result<Answer, Problem>;

/// Answers a request, and counts it.
pub(crate) async fn call(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let is_grpc = wire::is_grpc(request.headers());
    let begun = api.metrics.dtm.begin(is_grpc, request.uri().path());
    // What is large and seldom is on its own, so that each request does not have to be as large.
    let response = match is_grpc {
        true => Box::pin(grpc::call(api, request)).await,
        false => plain(api, request).await,
    };
    let code = response.headers().get("grpc-status");
    let is_ok = response.status().as_u16() < 400 && code.is_none_or(|code| code == "0");
    api.metrics.dtm.end(begun, is_ok);
    response
}

async fn plain(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (path, query) = (parts.uri.path(), Query(parts.uri.query().unwrap_or_default()));
    if path == "/api/ping" {
        return answer::response(Ok(json!({ "msg": "pong" }).into()));
    }
    let is_rpc = path == "/api/json-rpc";
    let name = path.strip_prefix(BASE).unwrap_or_default();
    if parts.method == Method::GET && path == "/api/metrics" {
        let found = figures::response(&api.handle, &api.metrics).await;
        return found.unwrap_or_else(|failure| answer::response(Err(failure.into())));
    }
    if parts.method == Method::GET {
        return answer::response(Box::pin(get(api, name, query)).await);
    }
    if parts.method == Method::DELETE
        && let Some(request) = topics::deletion(name)
    {
        return answer::response(ask(api, request, name.len()).await);
    }
    if parts.method != Method::POST || !(is_rpc || is_post(name)) {
        return answer::response(Err(Problem::NotFound));
    }
    let body = match received::whole(body, api.max_request_bytes, BODY_TIME).await {
        Ok(body) => body,
        Err(problem) => return answer::response(Err(problem)),
    };
    if is_rpc {
        return Box::pin(over_rpc(api, &body)).await;
    }
    answer::response(post(api, name, &body).await)
}

async fn get(api: &Api, name: &str, query: Query<'_>) -> Outcome {
    match name {
        "version" => Ok(version().into()),
        "newGid" => Ok(new_gid().into()),
        "query" => one(api, query).await.map(Answer::Value),
        "all" => all(api, query).await,
        "resetCronTime" => reset_cron_time(api, query).await,
        "queryKV" => topics::query(api, query).await,
        "scanKV" => topics::scan(api, query).await,
        _ => match topics::change(name, query) {
            Some(request) => ask(api, request, query.0.len()).await,
            None => Err(Problem::NotFound),
        },
    }
}

fn version() -> Value {
    json!({ "version": VERSION, "server": concat!("quorate ", env!("CARGO_PKG_VERSION")) })
}

fn new_gid() -> Value {
    json!({ "gid": gid::fresh(), "dtm_result": "SUCCESS" })
}

fn is_post(name: &str) -> bool {
    const POSTS: [&str; 9] = [
        "prepare",
        "submit",
        "abort",
        "forceStop",
        "registerBranch",
        "registerTccBranch",
        "registerXaBranch",
        "resetNextCronTime",
        "prepareWorkflow",
    ];
    POSTS.contains(&name)
}

async fn post(api: &Api, name: &str, body: &[u8]) -> Outcome {
    let request = request(name, &object(body)?)?;
    ask(api, request, body.len()).await
}

/// A body of a POST as a request to the machine.
fn request(name: &str, object: &Object<'_>) -> Result<quorate_global_txn::Request, Problem> {
    use quorate_global_txn::Request as Wanted;
    let text = |name| object.text(name).map(str::to_owned);
    let boxed = || body::body(object).map(Box::new);
    Ok(match name {
        "prepare" => Wanted::Prepare(boxed()?),
        "submit" => Wanted::Submit(boxed()?),
        "prepareWorkflow" => Wanted::PrepareWorkflow(boxed()?),
        "abort" => Wanted::Abort {
            gid: text("gid")?,
            trans_type: text("trans_type")?,
            reason: text("rollback_reason")?,
        },
        "forceStop" => Wanted::ForceStop { gid: text("gid")? },
        "resetNextCronTime" => Wanted::RetryNow { gid: text("gid")? },
        "registerBranch" => Wanted::RegisterBranch(Box::new(branch::branch(object, "")?)),
        "registerTccBranch" => Wanted::RegisterBranch(Box::new(branch::branch(object, "tcc")?)),
        "registerXaBranch" => Wanted::RegisterBranch(Box::new(branch::branch(object, "xa")?)),
        _ => return Err(Problem::NotFound),
    })
}

async fn ask(api: &Api, mut request: quorate_global_txn::Request, bytes: usize) -> Outcome {
    api.trace.add(&mut request);
    match api.handle.global_txn(request, bytes).await? {
        Reply::Done => Ok(Answer::Success),
        Reply::Progress(progress) => Ok(show::progress(&progress).into()),
        Reply::Refused(refused) => Err(Problem::Refused(refused)),
    }
}

async fn over_rpc(api: &Api, body: &[u8]) -> Response<Body> {
    let call = match rpc::call(body) {
        Ok(call) => call,
        Err((status, value)) => return answer::json_response(status, &value),
    };
    let name = match call.method {
        rpc::Method::NewGid => "newGid",
        rpc::Method::Prepare => "prepare",
        rpc::Method::Submit => "submit",
        rpc::Method::Abort => "abort",
        rpc::Method::RegisterBranch => "registerBranch",
    };
    let outcome = match request(name, &call.params) {
        _ if call.method == rpc::Method::NewGid => Ok(new_gid().into()),
        Ok(request) => ask(api, request, body.len()).await,
        Err(problem) => Err(problem),
    };
    let (status, value) = rpc::reply(&call, outcome);
    answer::json_response(status, &value)
}

async fn one(api: &Api, query: Query<'_>) -> Result<Value, Problem> {
    let text = query.text("gid");
    if text.is_empty() {
        return Err(Unreadable("no gid specified".to_owned()).into());
    }
    let Ok(gid) = GlobalTxnId::parse(&text) else {
        // There cannot be a transaction of this name.
        return Ok(json!({ "transaction": null, "branches": [] }));
    };
    let stored = read(api, move |view| stored::one(view, &gid, usize::MAX)).await?;
    Ok(match stored {
        None => json!({ "transaction": null, "branches": [] }),
        Some(stored) => json!({
            "transaction": show::transaction(&stored),
            "branches": show::branches(&stored),
        }),
    })
}

/// A page of transactions in the order of their names; the position of the next page is the last name.
async fn all(api: &Api, query: Query<'_>) -> Outcome {
    let gid = query.text("gid");
    let position = query.text("position");
    if !gid.is_empty() {
        let found = one(api, query).await?;
        let transaction = found.get("transaction").filter(|transaction| !transaction.is_null());
        let transactions = transaction.map(|transaction| json!([transaction]));
        return Ok(json!({ "transactions": transactions, "next_position": position }).into());
    }
    let limit = query.number("limit")?.unwrap_or(PAGE.0).clamp(1, PAGE.1) as usize;
    let filter = filter(query)?;
    let walk = Walk { order: Order::Gid, behind: position.into(), limit, looks: usize::MAX };
    let found = match filter {
        Some(filter) => read(api, move |view| stored::list(view, walk, &filter)).await?,
        None => Found::default(),
    };
    let next = found.next.map(|place| String::from_utf8_lossy(&place).into_owned());
    let transactions: Vec<_> = found.txns.iter().map(show::transaction).collect();
    let next = next.unwrap_or_default();
    Ok(json!({ "transactions": transactions, "next_position": next }).into())
}

/// `None` if nothing can match.
fn filter(query: Query<'_>) -> Result<Option<Filter>, Unreadable> {
    let (status, kind) = (query.text("status"), query.text("transType"));
    let filter = Filter {
        status: Status::named(&status),
        kind: Kind::named(&kind),
        from_ms: query.number("createTimeStart")?,
        until_ms: query.number("createTimeEnd")?,
        ..Filter::default()
    };
    let unknown = |text: &str, known: bool| !text.is_empty() && !known;
    let nothing =
        unknown(&status, filter.status.is_some()) || unknown(&kind, filter.kind.is_some());
    Ok((!nothing).then_some(filter))
}

/// Wakes transactions that would wait for long.
async fn reset_cron_time(api: &Api, query: Query<'_>) -> Outcome {
    let ahead_s = query.number("timeout")?.unwrap_or(RESET_AHEAD_S);
    let limit = query.number("limit")?.unwrap_or(PAGE.0).clamp(1, PAGE.1) as usize;
    let due_after_ms = time::wall_ms().saturating_add(ahead_s.saturating_mul(1000));
    let filter = Filter { due_after_ms: Some(due_after_ms), ..Filter::default() };
    let walk = Walk { order: Order::Due, behind: Vec::new(), limit, looks: usize::MAX };
    let waiting = read(api, move |view| stored::list(view, walk, &filter)).await?;
    let has_remaining = waiting.next.is_some();
    let mut woken = 0;
    for stored in waiting.txns {
        let gid = stored.gid.as_str().to_owned();
        // One that has ended meanwhile need not be woken.
        if ask(api, quorate_global_txn::Request::RetryNow { gid }, 0).await.is_ok() {
            woken += 1;
        }
    }
    Ok(json!({ "succeed_count": woken, "has_remaining": has_remaining }).into())
}

/// Reads everything acknowledged so far, on the pool.
async fn read<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&View<Snapshot>) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Problem> {
    Ok(stored::read(&api.handle, work).await?)
}
