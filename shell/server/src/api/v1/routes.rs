//! The table of routes. Requests are matched against it, their parameters are checked by it, and the OpenAPI document
//! is made of it, so that none of the three can differ from the others.

use super::openapi::{self, Schema};
use super::types;

/// A route: one method of one path.
pub(super) struct Route {
    /// `GET` or `POST`.
    pub(super) method: &'static str,
    /// Its path; `{gid}` stands for one segment.
    pub(super) path: &'static str,
    /// Who answers.
    pub(super) does: Does,
    /// A name for generated clients.
    pub(super) id: &'static str,
    /// One line.
    pub(super) summary: &'static str,
    /// The rest; may be empty.
    pub(super) about: &'static str,
    /// What may stand behind the `?`.
    pub(super) params: &'static [Param],
    /// Of a POST: what its body is.
    pub(super) body: Option<Schema>,
    /// What its answer is.
    pub(super) answer: Schema,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    List,
    Show,
    Timeline,
    Audit,
    Operate(Verb),
    Topics,
    Figures,
    OpenApi,
}

/// What operators do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Retry,
    Skip,
    Stop,
    Submit,
    Abort,
}

/// A parameter of the query.
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) is: Is,
}

/// What a parameter's value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Is {
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Truth,
    /// A whole number up to `most`, from 1 on; without it `default`.
    Count { most: u64, default: u64 },
    /// A whole number from 0 on that fits into 32 bits.
    Number,
    /// Where a page ended: an even number of hexadecimal digits.
    Place,
}

/// Statuses, as `quorate_global_txn::Status` has them.
pub(super) const STATUSES: &[&str] = &["prepared", "submitted", "aborting", "succeed", "failed"];
/// Kinds, as `quorate_global_txn::Kind` has them.
pub(super) const KINDS: &[&str] = &["saga", "tcc", "xa", "msg", "workflow", "3pc"];

const LIMIT: Param = Param {
    name: "limit",
    about: "How many to bring.",
    is: Is::Count { most: super::limits::MOST, default: 100 },
};
const AFTER: Param = Param { name: "after", about: "`next` of the page before.", is: Is::Place };
const AFTER_NUMBER: Param =
    Param { name: "after", about: "`next` of the page before.", is: Is::Number };

const LIST: &[Param] = &[
    Param { name: "status", about: "Only those in this status.", is: Is::OneOf(STATUSES) },
    Param { name: "kind", about: "Only those of this kind.", is: Is::OneOf(KINDS) },
    Param {
        name: "stuck",
        about: "Only those that wait for a call that has failed so often that it was reported (`true`).",
        is: Is::Truth,
    },
    Param {
        name: "order",
        about: "`gid`: all of them, by name. `due`: those that have not ended, by when there is something to do \
                for them, the longest overdue first; one whose time changes between two pages may appear twice or \
                not at all. `ended`: those that have ended, the earliest first. Without it `due` if `stuck=true` or a status that is no end is asked for, else `gid`.",
        is: Is::OneOf(&["gid", "due", "ended"]),
    },
    LIMIT,
    AFTER,
];

const fn get(
    path: &'static str,
    does: Does,
    id: &'static str,
    summary: &'static str,
    answer: Schema,
) -> Route {
    Route { method: "GET", path, does, id, summary, about: "", params: &[], body: None, answer }
}

const fn post(
    path: &'static str,
    verb: Verb,
    id: &'static str,
    summary: &'static str,
    about: &'static str,
) -> Route {
    Route {
        method: "POST",
        path,
        does: Does::Operate(verb),
        id,
        summary,
        about,
        params: &[],
        body: Some(openapi::of::<types::Intervention>),
        answer: openapi::of::<types::Done>,
    }
}

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        params: LIST,
        about: "Pages by cursor. A page may hold fewer than `limit`, even none, and still have a `next`: one request \
                looks at a bounded number of transactions.",
        ..get("/v1/txns", Does::List, "listTxns", "Global transactions", openapi::of::<types::Page>)
    },
    get(
        "/v1/txns/{gid}",
        Does::Show,
        "showTxn",
        "One of them, with its branches",
        openapi::of::<types::Txn>,
    ),
    Route {
        params: &[LIMIT, AFTER_NUMBER],
        ..get(
            "/v1/txns/{gid}/timeline",
            Does::Timeline,
            "txnTimeline",
            "The calls that were made for it and answered",
            openapi::of::<types::Timeline>,
        )
    },
    Route {
        params: &[LIMIT, AFTER_NUMBER],
        ..get(
            "/v1/txns/{gid}/audit",
            Does::Audit,
            "txnAudit",
            "What operators did to it",
            openapi::of::<types::Audit>,
        )
    },
    post(
        "/v1/txns/{gid}/retry",
        Verb::Retry,
        "retryTxn",
        "Try what it waits for now",
        "Its counts of errors begin anew. Refused when it has ended.",
    ),
    Route {
        body: Some(openapi::of::<types::Skip>),
        ..post(
            "/v1/txns/{gid}/skip",
            Verb::Skip,
            "skipOperation",
            "Take an operation that it waits for as done",
            "For somebody who has seen to it by hand: nobody is called. Marks the transaction as overridden.",
        )
    },
    post(
        "/v1/txns/{gid}/stop",
        Verb::Stop,
        "stopTxn",
        "End it as failed",
        "No participant is told anything any more, whatever has been done stays done. Marks the transaction as \
         overridden.",
    ),
    post(
        "/v1/txns/{gid}/submit",
        Verb::Submit,
        "submitTxn",
        "Decide that it shall happen",
        "Only of one that is still `prepared`; not of a workflow. Marks the transaction as overridden.",
    ),
    post(
        "/v1/txns/{gid}/abort",
        Verb::Abort,
        "abortTxn",
        "Decide that it shall not happen",
        "Only as long as nothing is decided; of a saga until it has ended. Marks the transaction as overridden.",
    ),
    Route {
        params: &[LIMIT, AFTER],
        ..get(
            "/v1/topics",
            Does::Topics,
            "listTopics",
            "Topics of messages and their subscribers",
            openapi::of::<types::Topics>,
        )
    },
    get(
        "/v1/figures",
        Does::Figures,
        "figures",
        "What this member has counted",
        openapi::of::<types::Figures>,
    ),
    get("/v1/openapi.json", Does::OpenApi, "openapi", "This document", openapi::anything),
];

/// A request's place in the table.
pub(super) enum Found {
    /// This route, and the segment that `{gid}` stood for, not decoded; empty if there is none.
    Route(&'static Route, String),
    /// The path takes this method only.
    Only(&'static str),
    /// There is no such path.
    Nothing,
}

/// Looks a request up.
pub(super) fn find(method: &str, path: &str) -> Found {
    let mut only = None;
    for route in ROUTES {
        let Some(gid) = matches(route.path, path) else { continue };
        if route.method == method {
            return Found::Route(route, gid.to_owned());
        }
        only = Some(route.method);
    }
    only.map_or(Found::Nothing, Found::Only)
}

/// What `{gid}` stands for; empty if the template has none. `None`: another path.
fn matches<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let mut gid = "";
    let mut segments = path.split('/');
    for wanted in template.split('/') {
        match segments.next()? {
            "" if wanted == "{gid}" => return None,
            segment if wanted == "{gid}" => gid = segment,
            segment if segment == wanted => {}
            _ => return None,
        }
    }
    segments.next().is_none().then_some(gid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_global_txn::{Kind, Status};

    #[test]
    fn paths_are_found() {
        let found = |method, path| match find(method, path) {
            Found::Route(route, gid) => format!("{} {gid}", route.id),
            Found::Only(method) => method.to_owned(),
            Found::Nothing => "nothing".to_owned(),
        };
        assert_eq!(found("GET", "/v1/txns"), "listTxns ");
        assert_eq!(found("GET", "/v1/txns/a%2Fb"), "showTxn a%2Fb");
        assert_eq!(found("POST", "/v1/txns/a/skip"), "skipOperation a");
        assert_eq!(found("DELETE", "/v1/txns/a/skip"), "POST");
        assert_eq!(found("POST", "/v1/txns/a"), "GET");
        for path in ["/v1/", "/v1/txns/", "/v1/txns//skip", "/v1/txns/a/b", "/v1/txns/a/skip/"] {
            assert_eq!(found("GET", path), "nothing", "{path}");
        }
    }

    #[test]
    fn words_are_the_machines() {
        assert_eq!(STATUSES, Status::ALL.map(Status::name));
        assert_eq!(KINDS, Kind::ALL.map(Kind::name));
    }

    #[test]
    fn each_route_has_its_own_name() {
        let ids: std::collections::BTreeSet<_> = ROUTES.iter().map(|route| route.id).collect();
        assert_eq!(ids.len(), ROUTES.len());
    }
}
