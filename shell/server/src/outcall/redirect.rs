//! Where an answer sends its reader, as Go's HTTP client follows: 301, 302 and 303 are fetched with GET and without a body,
//! 307 and 308 repeat the request; credentials do not go to another host.

use std::borrow::Cow;

use http::{HeaderMap, StatusCode, header};
use quorate_outcall::Method;

/// One request on the way to the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop<'a> {
    pub(super) url: Cow<'a, str>,
    pub(super) method: Method,
    /// Whether a redirect has turned the request into one without a body.
    pub(super) bare: bool,
    /// Whether it goes to another host than the first.
    pub(super) abroad: bool,
}

impl<'a> Hop<'a> {
    pub(super) fn first(url: impl Into<Cow<'a, str>>, method: Method) -> Self {
        Self { url: url.into(), method, bare: false, abroad: false }
    }

    /// The next request, if this answer asks for one.
    pub(super) fn follow(&self, status: StatusCode, headers: &HeaderMap) -> Option<Hop<'static>> {
        let repeat = match status {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => false,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            _ => return None,
        };
        let url = resolve(&self.url, headers.get(header::LOCATION)?.to_str().ok()?);
        let abroad = self.abroad || authority(&url) != authority(&self.url);
        let method = if repeat { self.method } else { Method::Get };
        Some(Hop { url: url.into(), method, bare: self.bare || !repeat, abroad })
    }
}

fn split(url: &str) -> (&str, &str) {
    let start = url.find("://").map_or(0, |at| at + 3);
    url.split_at(url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at))
}

fn authority(url: &str) -> String {
    split(url).0.to_ascii_lowercase()
}

/// The URL that `reference` means when it stands at `base` (RFC 3986, 5.2).
fn resolve(base: &str, reference: &str) -> String {
    let reference = reference.split('#').next().unwrap_or_default();
    let (root, path) = split(base);
    let scheme = &root[..root.find("://").map_or(0, |at| at + 1)];
    let path_alone = path.split(['?', '#']).next().unwrap_or_default();
    if is_absolute(reference) {
        reference.to_owned()
    } else if reference.starts_with("//") {
        format!("{scheme}{reference}")
    } else if reference.is_empty() {
        base.split('#').next().unwrap_or_default().to_owned()
    } else if reference.starts_with('?') {
        format!("{root}{path_alone}{reference}")
    } else if reference.starts_with('/') {
        format!("{root}{}", without_dots(reference))
    } else {
        let folder = path_alone.rfind('/').map_or("/", |at| &path_alone[..=at]);
        format!("{root}{}", without_dots(&format!("{folder}{reference}")))
    }
}

/// Whether it has a scheme of its own.
fn is_absolute(reference: &str) -> bool {
    let scheme = reference.split([':', '/', '?']).next().unwrap_or_default();
    reference[scheme.len()..].starts_with(':')
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// A path without `.` and `..`; the query stays.
fn without_dots(path: &str) -> String {
    let (path, query) = path.find('?').map_or((path, ""), |at| path.split_at(at));
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(part),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let base = "http://h:1/a/b/c?x=1#f";
        let cases = [
            ("https://i/y", "https://i/y"),
            ("//i:2/y", "http://i:2/y"),
            ("/y?z=/../", "http://h:1/y?z=/../"),
            ("y", "http://h:1/a/b/y"),
            ("./y/.", "http://h:1/a/b/y/"),
            ("../y", "http://h:1/a/y"),
            ("../..", "http://h:1/"),
            ("../../../../y", "http://h:1/y"),
            ("?y", "http://h:1/a/b/c?y"),
            ("", "http://h:1/a/b/c?x=1"),
            ("#g", "http://h:1/a/b/c?x=1"),
            ("y:80", "y:80"),
            ("/y:80", "http://h:1/y:80"),
        ];
        for (reference, expected) in cases {
            assert_eq!(resolve(base, reference), expected, "{reference}");
        }
        assert_eq!(resolve("http://h", "y"), "http://h/y");
        assert_eq!(resolve("http://h?q", "/y"), "http://h/y");
    }

    #[test]
    fn what_becomes_of_the_request() {
        let first = Hop::first("http://h/a", Method::Post);
        let follow = |hop: &Hop<'_>, status: u16, location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, location.parse().unwrap());
            hop.follow(StatusCode::from_u16(status).unwrap(), &headers)
        };
        let found = follow(&first, 302, "b").unwrap();
        assert_eq!((found.method, found.bare, found.abroad), (Method::Get, true, false));
        let again = follow(&found, 307, "http://H/c").unwrap();
        assert_eq!((again.method, again.bare, again.abroad), (Method::Get, true, false));
        let moved = follow(&first, 308, "http://i/c").unwrap();
        assert_eq!((moved.method, moved.bare, moved.abroad), (Method::Post, false, true));
        assert!(follow(&moved, 308, "http://h/c").unwrap().abroad);
        assert_eq!(follow(&first, 200, "b"), None);
        assert_eq!(follow(&first, 304, "b"), None);
        assert_eq!(first.follow(StatusCode::FOUND, &HeaderMap::new()), None);
    }
}
