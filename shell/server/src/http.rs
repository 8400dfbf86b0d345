//! Plain HTTP beside gRPC on the same port: version, health, metrics. (etcd's JSON gateway will have its
//! place here.)

use std::fmt::Write as _;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use quorate_kv::{AlarmKind, KeyspaceId};
use quorate_node::Status;

use crate::api::etcd::Api;
use crate::grpc::Body;
use crate::metrics::Figures;
use crate::serve::Faces;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The version of the exposition format stands in it.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a plain request.
pub async fn call(faces: &Faces, request: &Request<Incoming>) -> Response<Body> {
    let api = &faces.api;
    let path = request.uri().path();
    let known = matches!(path, "/version" | "/health" | "/livez" | "/readyz" | "/metrics")
        || check_of(path).is_some();
    if !known {
        return answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned());
    }
    if request.method() != Method::GET {
        let mut response =
            answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n".to_owned());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let query = Query(request.uri().query().unwrap_or_default());
    match path {
        "/version" => version(),
        "/health" => health(api, query).await,
        "/metrics" => metrics(faces).await,
        "/livez" => checks(api, query, &[Check::SerializableRead]).await,
        "/readyz" => checks(api, query, Check::ALL).await,
        _ => match check_of(path) {
            Some(check) => checks(api, query, &[check]).await,
            None => answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned()),
        },
    }
}

/// `/readyz/<check>` and `/livez/<check>`.
fn check_of(path: &str) -> Option<Check> {
    let name = path.strip_prefix("/readyz/");
    match name {
        Some(name) => Check::ALL.iter().find(|check| check.name() == name).copied(),
        None => (path == "/livez/serializable_read").then_some(Check::SerializableRead),
    }
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::plain(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What stands behind the `?`, undecoded: no value that we know needs decoding.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn values(self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.split('&').filter_map(move |part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (key == name).then_some(value)
        })
    }

    fn has(self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    fn is(self, name: &str, wanted: &str) -> bool {
        self.values(name).any(|value| value == wanted)
    }
}

fn version() -> Response<Body> {
    let server = crate::VERSION_TOLD;
    // The cluster's version has no patch level.
    let cluster = server.rsplit_once('.').map_or(server, |(minor, _)| minor);
    let text = format!("{{\"etcdserver\":\"{server}\",\"etcdcluster\":\"{cluster}.0\"}}");
    answer(StatusCode::OK, JSON, text)
}

/// etcd's health: no standing alarm, a leader, and a read that works.
async fn health(api: &Api, query: Query<'_>) -> Response<Body> {
    let reason = unhealthy(api, query).await;
    let (status, healthy) = match reason {
        None => (StatusCode::OK, true),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, false),
    };
    let reason = reason.unwrap_or_default();
    answer(status, TEXT, format!("{{\"health\":\"{healthy}\",\"reason\":\"{reason}\"}}"))
}

async fn unhealthy(api: &Api, query: Query<'_>) -> Option<String> {
    let Ok(status) = api.handle.status().await else {
        return Some("SERVER STOPPED".to_owned());
    };
    let alarm = status.alarms.iter().map(|alarm| alarm_name(alarm.kind));
    if let Some(name) = alarm.clone().find(|name| !query.is("exclude", name)) {
        return Some(format!("ALARM {name}"));
    }
    let serializable = query.is("serializable", "true");
    if status.leader.is_none() && !serializable {
        return Some("RAFT NO LEADER".to_owned());
    }
    let read = api.handle.view(KeyspaceId::ETCD, !serializable).await;
    read.err().map(|failure| format!("RANGE ERROR:etcdserver: {failure}"))
}

fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

async fn metrics(faces: &Faces) -> Response<Body> {
    let Faces { api, wal, checkpoints, .. } = faces;
    let Ok(status) = api.handle.status().await else {
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "server stopped\n".to_owned());
    };
    let watch = api.watch.counts();
    let figures = Figures {
        status,
        watch,
        syncs: wal.syncs(),
        checkpoints,
        snapshots_installed: api.handle.shared().snapshots_installed(),
        segments: wal.segments(),
    };
    let mut text = api.metrics.text(&figures);
    text += &crate::api::dtm::figures::text(&api.handle, &api.metrics).await.unwrap_or_default();
    answer(StatusCode::OK, METRICS, text)
}

/// One condition of being alive or ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    const ALL: &'static [Self] =
        &[Self::DataCorruption, Self::SerializableRead, Self::LinearizableRead, Self::NonLearner];

    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    /// Why it does not hold.
    async fn failure(self, api: &Api, status: &Status) -> Option<String> {
        let read = |linearizable| api.handle.view(KeyspaceId::ETCD, linearizable);
        match self {
            Self::DataCorruption => {
                let corrupt = status.alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt);
                corrupt.then(|| "alarm activated: CORRUPT".to_owned())
            }
            Self::SerializableRead => read(false).await.err().map(|failure| failure.to_string()),
            Self::LinearizableRead => read(true).await.err().map(|failure| failure.to_string()),
            Self::NonLearner => status.learner.then(|| "member is a learner".to_owned()),
        }
    }
}

async fn checks(api: &Api, query: Query<'_>, checks: &[Check]) -> Response<Body> {
    let Ok(status) = api.handle.status().await else {
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "server stopped\n".to_owned());
    };
    let mut text = String::new();
    let mut failed = false;
    for check in checks.iter().filter(|check| !query.is("exclude", check.name())) {
        let name = check.name();
        let _infallible = match check.failure(api, &status).await {
            None => writeln!(text, "[+]{name} ok"),
            Some(why) => {
                failed = true;
                writeln!(text, "[-]{name} failed: {why}")
            }
        };
    }
    if failed {
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
    }
    if !query.has("verbose") {
        text.clear();
    }
    answer(StatusCode::OK, TEXT, text + "ok\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = Query("verbose&exclude=NOSPACE&exclude=x&serializable=true");
        assert!(query.has("verbose") && !query.has("verb"));
        assert!(query.is("exclude", "NOSPACE") && query.is("exclude", "x"));
        assert!(query.is("serializable", "true"));
        assert!(!Query("").has("verbose"));
    }

    #[test]
    fn single_checks_have_paths() {
        assert_eq!(check_of("/readyz/linearizable_read"), Some(Check::LinearizableRead));
        assert_eq!(check_of("/livez/serializable_read"), Some(Check::SerializableRead));
        assert_eq!(check_of("/livez/linearizable_read"), None);
        assert_eq!(check_of("/readyz/no_such"), None);
    }
}
