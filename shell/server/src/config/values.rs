//! From text to values: URLs, durations, numbers. Errors name the source of the text.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::layers::Setting;
use crate::exit::Fatal;

/// An `http://host:port` address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// Host name or address, IPv6 ones in brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// Why a text is not an address we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// `https://`.
    #[error(
        "asks for TLS, which this version does not have yet; it will not serve openly where a \
         closed server was asked for"
    )]
    Tls,
    /// Anything else.
    #[error("is not of the form http://HOST:PORT")]
    Malformed,
}

impl Url {
    /// Reads one address.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.starts_with("https://") || text.starts_with("unixs://") {
            return Err(UrlError::Tls);
        }
        let rest = text.strip_prefix("http://").ok_or(UrlError::Malformed)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or(UrlError::Malformed)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err(UrlError::Malformed);
        }
        if host.contains(':') && !bracketed {
            return Err(UrlError::Malformed);
        }
        let port = port.parse().map_err(|_| UrlError::Malformed)?;
        Ok(Self { host: host.to_owned(), port })
    }

    /// The address to bind or to connect to.
    ///
    /// # Errors
    /// A sentence when the host does not resolve.
    pub fn resolve(&self) -> Result<SocketAddr, String> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (host, self.port)
            .to_socket_addrs()
            .map_err(|error| format!("cannot resolve {self}: {error}"))?
            .collect::<Vec<_>>();
        // `localhost` may mean ::1 first; etcd listens on IPv4 then.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.first().copied().ok_or_else(|| format!("cannot resolve {self}"))
    }
}

/// A list of addresses.
pub(crate) fn urls(setting: &Setting) -> Result<Vec<Url>, Fatal> {
    setting.value.split(',').map(|text| url_of(text.trim(), setting)).collect()
}

fn url_of(text: &str, setting: &Setting) -> Result<Url, Fatal> {
    Url::parse(text).map_err(|error| Fatal::Usage(format!("{}: '{text}' {error}", setting.source)))
}

/// etcd's `name=url,name=url`; a name that repeats has several addresses.
pub(crate) fn cluster(setting: &Setting) -> Result<Vec<(String, Vec<Url>)>, Fatal> {
    let mut members: Vec<(String, Vec<Url>)> = Vec::new();
    for part in setting.value.split(',').filter(|part| !part.trim().is_empty()) {
        let Some((name, url)) = part.trim().split_once('=') else {
            let source = &setting.source;
            return Err(Fatal::Usage(format!("{source}: '{part}' is not of the form NAME=URL")));
        };
        let url = url_of(url, setting)?;
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, urls)) => urls.push(url),
            None => members.push((name.to_owned(), vec![url])),
        }
    }
    Ok(members)
}

/// An integer between bounds.
pub(crate) fn integer(setting: &Setting, least: i64, most: i64, unit: &str) -> Result<i64, Fatal> {
    let number: Option<i64> = setting.value.trim().parse().ok();
    number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
        let Setting { value, source } = setting;
        Fatal::Usage(format!(
            "{source}: '{value}' is not a number of {unit} from {least} to {most}"
        ))
    })
}

/// Go's durations: `1h30m`, `500ms`, `2.5s`. `None` if it is none, or negative, or above 100 years.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let scale = match &rest[digits..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number * scale;
        rest = &rest[unit_end..];
    }
    let sane = !text.is_empty() && seconds <= 100.0 * 365.0 * 86_400.0;
    sane.then(|| Duration::from_secs_f64(seconds))
}
