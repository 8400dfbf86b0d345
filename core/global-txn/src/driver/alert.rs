//! Calls that keep failing are reported to an operator's URL (the spec's 2.3): a POST of gid, status, branch (its
//! URL), error and retry count. How the report fares interests nobody.

use std::time::Duration;

use quorate_outcall::{Call, Method, RetryPolicy, Wire};

use crate::call::put_json;
use crate::gid::GlobalTxnId;
use crate::kind::{self, Target};
use crate::machine::Context;
use crate::record::{Answer, Class, Record};

/// Reports an answer if it is one error too many.
pub(super) fn report(
    cx: &mut Context<'_>,
    gid: &GlobalTxnId,
    record: &Record,
    target: Target,
    url: &str,
    answer: &Answer,
) {
    let is_error = match answer.class {
        Class::Error => true,
        Class::Failure => !kind::may_fail(record, target),
        Class::Ongoing => false,
    };
    let errors = record.tries(target).errors + 1;
    if !is_error || errors < cx.config.alert_after || cx.config.alert_url.is_empty() {
        return;
    }
    let fields = [
        ("gid", gid.as_str()),
        ("status", record.status.name()),
        ("branch", url),
        ("error", &answer.text),
    ];
    let mut body = String::from("{");
    for (name, value) in fields {
        put_json(name, &mut body);
        body.push(':');
        put_json(value, &mut body);
        body.push(',');
    }
    body.push_str(&format!("\"retry_count\":{errors}}}"));
    let timeout = Duration::from_millis(cx.config.request_timeout_ms);
    cx.call(Call {
        url: cx.config.alert_url.clone(),
        wire: Wire::Http { method: Method::Post },
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.into(),
        timeout,
        retry: RetryPolicy::once(timeout),
        verdicts: &[],
    });
}
