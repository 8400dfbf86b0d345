//! `/v1/`: what operators see of global transactions and do about them, over HTTP and JSON (`docs/v1-http.md`).
//!
//! | file | what |
//! |---|---|
//! | `routes`, `openapi` | the table of routes, and the document made of it |
//! | `query`, `guard` | what requests may bring, and whose they may be |
//! | `types` | what is said, in Rust; `quorate txn` reads the same |
//! | `read`, `show` | from the keyspace to what is said |
//! | `operate` | interventions |
//! | `problem` | everything that is not an answer |
//!
//! Any member answers, and every read is linearizable.

mod guard;
mod limits;
mod openapi;
mod operate;
mod problem;
mod query;
mod read;
mod routes;
mod show;
pub(crate) mod types;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use quorate_global_txn::{self as global_txn, GlobalTxnId};
use quorate_kv::{ReadError, View};
use serde::Serialize;

use crate::Snapshot;
use crate::api::stored;
use crate::config::Config;
use crate::grpc::Body;
use crate::handle::Handle;
use guard::Hosts;
use problem::{Problem, json};
use query::Query;
use read::Entries;
use routes::{Does, Found, Route};
use types::{Code, Figures, OfKind};

/// Everything that a request needs; cheap to clone.
#[derive(Clone)]
pub struct Api {
    handle: Handle,
    member: u64,
    settings: Arc<Settings>,
}

struct Settings {
    hosts: Hosts,
    global_txn: global_txn::Config,
}

impl Api {
    /// For the member of this id.
    #[must_use]
    pub fn new(handle: Handle, member: u64, config: &Config) -> Self {
        let hosts = Hosts::new(&config.listen_client, &config.advertise_client);
        let global_txn = config.transactions.global_txn.clone();
        Self { handle, member, settings: Arc::new(Settings { hosts, global_txn }) }
    }

    fn config(&self) -> global_txn::Config {
        self.settings.global_txn.clone()
    }
}

/// Whether a path belongs here.
#[must_use]
pub fn is_ours(path: &str) -> bool {
    path.starts_with("/v1/")
}

/// Answers a request.
pub async fn call(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    answer(api, &head, body).await.unwrap_or_else(Problem::response)
}

async fn answer(api: &Api, head: &Parts, body: Incoming) -> Result<Response<Body>, Problem> {
    guard::check(head, &api.settings.hosts)?;
    let (route, gid) = match routes::find(head.method.as_str(), head.uri.path()) {
        Found::Route(route, gid) => (route, query::decoded(&gid)?),
        Found::Only(method) => return Err(Problem::only(method)),
        Found::Nothing => return Err(Problem::new(Code::NotFound, "there is no such route")),
    };
    let query = Query::read(head.uri.query().unwrap_or_default(), route.params)?;
    match route.does {
        Does::OpenApi => Ok(json(StatusCode::OK, &openapi::document())),
        Does::Figures => done(figures(api).await),
        Does::List => done(list(api, route, &query).await),
        Does::Topics => {
            let (behind, limit) = (query.place(), query.limit(route.params));
            done(view(api, move |view| read::topics(view, behind, limit)).await)
        }
        Does::Show | Does::Timeline | Does::Audit => one(api, route, &query, name(&gid)?).await,
        Does::Operate(verb) => {
            guard::check_type(head)?;
            let body = whole(body).await?;
            done(operate::operate(api, name(&gid)?, verb, &body).await)
        }
    }
}

fn done<T: Serialize>(outcome: Result<T, Problem>) -> Result<Response<Body>, Problem> {
    outcome.map(|value| json(StatusCode::OK, &value))
}

/// A gid as it is stored; what could not be one names nothing.
fn name(text: &str) -> Result<GlobalTxnId, Problem> {
    let gid = GlobalTxnId::parse(text).ok().filter(|gid| gid.as_str() == text);
    gid.ok_or_else(|| Problem::no_txn(text))
}

async fn whole(body: Incoming) -> Result<Bytes, Problem> {
    let collected = Limited::new(body, limits::BODY_BYTES).collect();
    let Ok(collected) = tokio::time::timeout(limits::BODY_TIME, collected).await else {
        return Err(Problem::new(Code::TooSlow, "the body did not come in time"));
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is longer than {} bytes", limits::BODY_BYTES);
            Err(Problem::new(Code::TooLarge, message))
        }
        Err(error) => Err(Problem::bad(format!("the body broke off: {error}"))),
    }
}

async fn view<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&View<Snapshot>) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Problem> {
    // A read that timed out has changed nothing.
    let unavailable =
        |failure: quorate_node::Failure| Problem::new(Code::Unavailable, failure.to_string());
    stored::read(&api.handle, work).await.map_err(unavailable)
}

async fn list(api: &Api, route: &Route, query: &Query) -> Result<types::Page, Problem> {
    let config = api.config();
    let (walk, filter) = read::walk(query, route, &config);
    view(api, move |view| read::list(view, walk, &filter, &config)).await
}

async fn one(
    api: &Api,
    route: &Route,
    query: &Query,
    gid: GlobalTxnId,
) -> Result<Response<Body>, Problem> {
    let (config, entries, missing) = (api.config(), Entries::of(query, route), gid.clone());
    let missing = || Problem::no_txn(missing.as_str());
    match route.does {
        Does::Timeline => {
            let found = view(api, move |view| read::timeline(view, &gid, entries, &config)).await?;
            done(found.ok_or_else(missing))
        }
        Does::Audit => {
            let found = view(api, move |view| read::audit(view, &gid, entries)).await?;
            done(found.ok_or_else(missing))
        }
        _ => {
            let found = view(api, move |view| read::txn(view, &gid, &config)).await?;
            done(found.ok_or_else(missing))
        }
    }
}

async fn figures(api: &Api) -> Result<Figures, Problem> {
    let found = api.handle.layer_figures().await?.global_txn;
    let leader = api.handle.shared().leader();
    let kinds = global_txn::Kind::ALL.into_iter().enumerate();
    Ok(Figures {
        member: format!("{:x}", api.member),
        leader: (leader != 0).then(|| format!("{leader:x}")),
        is_driving: found.is_driving,
        active: found.active as u64,
        waiting: found.waiting as u64,
        stuck: found.stuck as u64,
        calls: found.calls as u64,
        requests: found.requests as u64,
        calls_succeeded: found.calls_succeeded,
        calls_failed: found.calls_failed,
        must_succeed_failures: found.must_succeed_failures,
        kinds: kinds.map(|(at, kind)| of_kind(&found, at, kind)).collect(),
    })
}

fn of_kind(found: &global_txn::Figures, at: usize, kind: global_txn::Kind) -> OfKind {
    let [prepared, submitted, aborting, succeed, failed] = found.entered[at];
    let begun = found.begun[at];
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    OfKind {
        kind: kind.into(),
        begun,
        prepared,
        submitted,
        aborting,
        succeed,
        failed,
        p_prepare: share(submitted, begun),
        p_commit_given_prepare: share(succeed, submitted),
    }
}
