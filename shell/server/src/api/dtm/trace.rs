//! Trace context (W3C): what the caller's `traceparent` and `tracestate` say goes with every call of its transaction's branches, so
//! that a trace does not end here. `branch_headers` of the same name win.

use http::HeaderMap;
use quorate_global_txn::Request;
use quorate_global_txn::limits::MAX_HEADERS;

const NAMES: [&str; 2] = ["traceparent", "tracestate"];

/// Longest value that is passed on, in bytes; the recommendation asks for 512 at least.
const MAX_VALUE: usize = 1024;

/// The trace that a request belongs to; empty if it says nothing.
#[derive(Clone, Debug, Default)]
pub struct Trace(Vec<(&'static str, String)>);

impl Trace {
    /// That of a request with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let value = |name: &'static str| {
            let value = headers.get(name)?.to_str().ok()?;
            let fits = (1..=MAX_VALUE).contains(&value.len());
            fits.then(|| (name, value.to_owned()))
        };
        Self(NAMES.into_iter().filter_map(value).collect())
    }

    /// Makes the calls of the transaction that a request begins belong to it.
    pub(super) fn add(&self, request: &mut Request) {
        let (Request::Prepare(body) | Request::Submit(body) | Request::PrepareWorkflow(body)) =
            request
        else {
            return;
        };
        let headers = &mut body.content.headers;
        for (name, value) in &self.0 {
            let is_named = headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
            if !is_named && headers.len() < MAX_HEADERS {
                headers.push(((*name).to_owned(), value.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_global_txn::{Body, Content};

    fn added(headers: &[(&'static str, &str)], own: &[(&str, &str)]) -> Vec<(String, String)> {
        let texts = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let sent: HeaderMap = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let content = Content { headers: own.iter().map(texts).collect(), ..Content::default() };
        let mut request = Request::Prepare(Box::new(Body { content, ..Body::default() }));
        Trace::of(&sent).add(&mut request);
        let Request::Prepare(body) = request else { unreachable!() };
        body.content.headers
    }

    #[test]
    fn a_trace_goes_on_unless_the_client_names_another() {
        let sent = [("traceparent", "00-a-b-01"), ("tracestate", "x=1"), ("other", "y")];
        let names = |headers: Vec<(String, String)>| {
            headers.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(names(added(&sent, &[])), ["traceparent=00-a-b-01", "tracestate=x=1"]);
        assert_eq!(
            names(added(&sent, &[("Traceparent", "mine")])),
            ["Traceparent=mine", "tracestate=x=1"]
        );
        let long = "x".repeat(MAX_VALUE + 1);
        assert!(added(&[("traceparent", ""), ("tracestate", &long)], &[]).is_empty());
    }
}
