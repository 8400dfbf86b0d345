//! Requests that a web page made its visitor's browser send.
//!
//! A server on loopback has no password: whoever runs on the machine may ask it. A browser runs there too, and does what
//! pages of other sites tell it. Three checks keep such pages out; none of them replaces a closed network.
//!
//! - A POST must be `application/json`, which a page of another site may send only after a preflight, and preflights
//!   (OPTIONS) are refused.
//! - A request that names its origin must come from this very host.
//! - Where the server listens on loopback alone, `Host` must be a loopback address, `localhost`, or a host that the
//!   server was told to call itself (`--advertise-client-urls`): a page whose own name was made to point at 127.0.0.1
//!   (DNS rebinding) carries another.

use std::net::IpAddr;

use http::header;
use http::request::Parts;

use super::problem::Problem;
use super::types::Code;
use crate::config::values::Url;

/// Hosts that requests may name; `None`: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts(Option<Vec<String>>);

impl Hosts {
    /// For a server that listens on these and is advertised as those.
    pub(super) fn new(listen: &[Url], advertise: &[Url]) -> Self {
        let is_local = listen.iter().all(|url| is_loopback(&url.host));
        Self(is_local.then(|| advertise.iter().map(|url| url.host.to_ascii_lowercase()).collect()))
    }

    fn allow(&self, host: &str) -> bool {
        let Some(advertised) = &self.0 else { return true };
        is_loopback(host) || advertised.iter().any(|own| own.eq_ignore_ascii_case(host))
    }
}

fn is_loopback(host: &str) -> bool {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let address = plain.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Host and port that a request was sent to.
fn authority(head: &Parts) -> Option<&str> {
    let of_uri = head.uri.authority().map(http::uri::Authority::as_str);
    of_uri.or_else(|| head.headers.get(header::HOST)?.to_str().ok())
}

/// Without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Refuses what a page of another site sent.
pub(super) fn check(head: &Parts, hosts: &Hosts) -> Result<(), Problem> {
    let forbidden = |message: String| Err(Problem::new(Code::Forbidden, message));
    let Some(authority) = authority(head) else {
        return Err(Problem::bad("the request has no Host"));
    };
    if !hosts.allow(host_of(authority)) {
        return forbidden(format!("this server is not known as '{authority}'"));
    }
    if let Some(origin) = head.headers.get(header::ORIGIN) {
        let from = origin.to_str().unwrap_or_default();
        if from.split_once("://").is_none_or(|(_, site)| !site.eq_ignore_ascii_case(authority)) {
            return forbidden("requests of other sites are refused".to_owned());
        }
    }
    Ok(())
}

/// Refuses a body that says it is something else, or nothing.
pub(super) fn check_type(head: &Parts) -> Result<(), Problem> {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let plain = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if plain.is_some_and(|plain| plain.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let message = "the body must be of type application/json";
    Err(Problem::new(Code::UnsupportedMediaType, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn head(headers: &[(&str, &str)]) -> Parts {
        let request = http::Request::builder().uri("/v1/txns");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn code(headers: &[(&str, &str)], hosts: &Hosts) -> Option<Code> {
        check(&head(headers), hosts).err().map(|problem| problem.code())
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let local = Hosts::new(&[url("http://127.0.0.1:2379")], &[url("http://db.test:2379")]);
        let get = |headers: &[(&str, &str)]| code(headers, &local);
        for host in ["127.0.0.1:2379", "localhost", "LOCALHOST:1", "[::1]:2379", "db.test:2379"] {
            assert_eq!(get(&[("host", host)]), None, "{host}");
        }
        for host in ["evil.test:2379", "127.0.0.1.evil.test", "10.0.0.1:2379", ""] {
            assert_eq!(get(&[("host", host)]), Some(Code::Forbidden), "{host}");
        }
        assert_eq!(get(&[]), Some(Code::BadRequest));
        let own = [("host", "localhost:2379"), ("origin", "http://localhost:2379")];
        assert_eq!(get(&own), None);
        for origin in ["http://evil.test", "null", "http://localhost:80"] {
            let headers = [("host", "localhost:2379"), ("origin", origin)];
            assert_eq!(get(&headers), Some(Code::Forbidden), "{origin}");
        }
        let open = Hosts::new(&[url("http://0.0.0.0:2379")], &[]);
        assert_eq!(code(&[("host", "any.test")], &open), None);
    }

    #[test]
    fn simple_requests_of_forms_are_refused() {
        let post = |kind: &str| check_type(&head(&[("content-type", kind)])).is_ok();
        assert!(post("application/json") && post("Application/JSON; charset=utf-8"));
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
            assert!(!post(kind), "{kind}");
        }
        assert!(check_type(&head(&[])).is_err());
    }
}
