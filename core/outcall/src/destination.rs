//! Who is called: the part of a URL that calls have in common when they go to the same service.

use std::fmt;
use std::sync::Arc;

use crate::limits::{MAX_AUTHORITY, MAX_URL};
use crate::{CallFailure, Wire};

/// A service as its URL names it: scheme and authority, in lower case. Limits, queue and circuit breaker are
/// one per destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination(Arc<str>);

/// A URL's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// `host[:port]`, or several with commas between them; never empty.
    pub authority: &'a str,
    /// Path and query. Empty or begins with `/` or `?`; for gRPC it is `/package.Service/Method`.
    pub path: &'a str,
}

impl Destination {
    /// The destination of this URL.
    ///
    /// # Errors
    /// `BadUrl`, with the reason: a transaction that has such a URL should be refused when it is submitted.
    pub fn of(url: &str, wire: Wire) -> Result<Self, CallFailure> {
        let target = Target::parse(url, wire)?;
        let scheme = match (wire, target.tls) {
            (Wire::Http { .. }, false) => "http",
            (Wire::Http { .. }, true) => "https",
            (Wire::Grpc, false) => "grpc",
            (Wire::Grpc, true) => "grpcs",
        };
        let mut text = [scheme, "://", target.authority].concat();
        text.make_ascii_lowercase();
        Ok(Self(text.into()))
    }

    /// As text, `scheme://authority`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> Target<'a> {
    /// Splits a URL. What is accepted stands at [`crate::Call::url`].
    ///
    /// # Errors
    /// `BadUrl`, with the reason.
    pub fn parse(url: &'a str, wire: Wire) -> Result<Self, CallFailure> {
        check_text(url)?;
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let tls = is_tls(scheme, wire)?;
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        check_authority(authority)?;
        if wire == Wire::Grpc {
            check_method(path)?;
        }
        Ok(Self { tls, authority, path })
    }
}

fn check_text(url: &str) -> Result<(), CallFailure> {
    if url.len() > MAX_URL {
        return Err(CallFailure::BadUrl("too long"));
    }
    // Anything else than printable ASCII must be percent-encoded.
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CallFailure::BadUrl("it holds a character that must be percent-encoded"));
    }
    Ok(())
}

fn is_tls(scheme: &str, wire: Wire) -> Result<bool, CallFailure> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    match wire {
        _ if is("http") => Ok(false),
        _ if is("https") => Ok(true),
        Wire::Grpc if is("") || is("grpc") => Ok(false),
        Wire::Grpc if is("grpcs") => Ok(true),
        Wire::Http { .. } if is("") => {
            Err(CallFailure::BadUrl("it has no scheme, http:// for one"))
        }
        _ => Err(CallFailure::BadUrl("its scheme is not one that can be called")),
    }
}

fn check_authority(authority: &str) -> Result<(), CallFailure> {
    if authority.len() > MAX_AUTHORITY {
        return Err(CallFailure::BadUrl("its hosts are too long"));
    }
    if authority.contains('@') {
        return Err(CallFailure::BadUrl("a user in a URL is not supported: use a header field"));
    }
    authority.split(',').try_for_each(check_host)
}

fn check_host(address: &str) -> Result<(), CallFailure> {
    let (host, port) = split_port(address);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(known) {
        return Err(CallFailure::BadUrl("it has no host, or one that cannot be a name"));
    }
    if port.is_some_and(|port| !port.is_empty() && !matches!(port.parse::<u16>(), Ok(1..))) {
        return Err(CallFailure::BadUrl("its port is not one"));
    }
    Ok(())
}

/// `host` and the text behind its last colon, if that is not one inside of `[..]`.
fn split_port(address: &str) -> (&str, Option<&str>) {
    match address.rfind(':') {
        Some(at) if !address[at..].contains(']') => (&address[..at], Some(&address[at + 1..])),
        _ => (address, None),
    }
}

/// `/package.Service/Method`.
fn check_method(path: &str) -> Result<(), CallFailure> {
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    match parts {
        Some((service, method))
            if !service.is_empty() && !method.is_empty() && !path.contains('?') =>
        {
            Ok(())
        }
        _ => Err(CallFailure::BadUrl("behind the host it needs /package.Service/Method")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Method;

    const HTTP: Wire = Wire::Http { method: Method::Post };

    fn of(url: &str, wire: Wire) -> String {
        match Destination::of(url, wire) {
            Ok(destination) => destination.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_calls_have_in_common() {
        assert_eq!(of("http://Pay.Example:8081/api/x?gid=1", HTTP), "http://pay.example:8081");
        assert_eq!(of("HTTPS://pay.example", HTTP), "https://pay.example");
        assert_eq!(of("http://pay.example?x=/", HTTP), "http://pay.example");
        assert_eq!(of("http://a:1,b:2,[::1]:3/x", HTTP), "http://a:1,b:2,[::1]:3");
        assert_eq!(of("localhost:58081/busi.Busi/TransIn", Wire::Grpc), "grpc://localhost:58081");
        assert_eq!(of("http://h:1/busi.Busi/TransIn", Wire::Grpc), "grpc://h:1");
        assert_eq!(of("grpcs://h/busi.Busi/TransIn", Wire::Grpc), "grpcs://h");
    }

    #[test]
    fn parts_of_a_url() {
        let target = Target::parse("https://[::1]:7/a?b=c#d", HTTP).unwrap();
        assert_eq!(target, Target { tls: true, authority: "[::1]:7", path: "/a?b=c" });
        let target = Target::parse("http://h?b", HTTP).unwrap();
        assert_eq!((target.authority, target.path), ("h", "?b"));
    }

    #[test]
    fn what_cannot_be_called_is_told_why() {
        let long = format!("http://h/{}", "x".repeat(MAX_URL));
        let hosts = format!("http://{}/", "h,".repeat(MAX_AUTHORITY));
        let cases = [
            ("", "bad URL: it has no scheme, http:// for one"),
            ("localhost:80/x", "bad URL: it has no scheme, http:// for one"),
            ("ftp://h/", "bad URL: its scheme is not one that can be called"),
            ("http:///x", "bad URL: it has no host, or one that cannot be a name"),
            ("http://a,,b/x", "bad URL: it has no host, or one that cannot be a name"),
            ("http://:80/x", "bad URL: it has no host, or one that cannot be a name"),
            ("http://h:0/", "bad URL: its port is not one"),
            ("http://h:65536/", "bad URL: its port is not one"),
            ("http://h:x/", "bad URL: its port is not one"),
            (
                "http://me:secret@h/",
                "bad URL: a user in a URL is not supported: use a header field",
            ),
            ("http://h/a b", "bad URL: it holds a character that must be percent-encoded"),
            ("http://h/a\r\nb", "bad URL: it holds a character that must be percent-encoded"),
            (&long, "bad URL: too long"),
            (&hosts, "bad URL: its hosts are too long"),
        ];
        for (url, expected) in cases {
            assert_eq!(of(url, HTTP), expected, "{url}");
        }
        for url in ["h:1", "h:1/", "h:1/busi.Busi", "h:1/busi.Busi/", "h:1//x", "h:1/a/b?c"] {
            assert!(of(url, Wire::Grpc).contains("/package.Service/Method"), "{url}");
        }
        assert!(of("etcd://h/busi.Busi/TransIn", Wire::Grpc).contains("scheme"));
    }
}
