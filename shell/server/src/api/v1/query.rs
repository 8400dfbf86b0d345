//! Parameters of the query, checked against the route's table. Strict: what a route does not know, what stands there
//! twice, and what does not fit is refused, since a mistyped filter must not bring everything.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::problem::Problem;
use super::routes::{Is, Param};

/// Longest place of a page, in hexadecimal digits: a time, a slash and a gid.
pub(super) const MAX_PLACE: usize = 2 * (8 + 1 + quorate_global_txn::limits::MAX_GID);

/// The parameters of a request; each is one of its route's and fits.
pub(super) struct Query(BTreeMap<&'static str, String>);

impl Query {
    /// Reads what stands behind the `?`.
    pub(super) fn read(text: &str, params: &'static [Param]) -> Result<Self, Problem> {
        let mut values = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let Some(param) = params.iter().find(|param| param.name == name) else {
                return Err(unknown(&name, params));
            };
            param.is.check(param.name, &value)?;
            if values.insert(param.name, value).is_some() {
                return Err(Problem::bad(format!("'{name}' is given twice")));
            }
        }
        Ok(Self(values))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn is(&self, name: &str, wanted: &str) -> bool {
        self.text(name) == Some(wanted)
    }

    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.text(name)?.parse().ok()
    }

    pub(super) fn limit(&self, params: &[Param]) -> usize {
        let default = params.iter().find_map(|param| match param.is {
            Is::Count { default, .. } => Some(default),
            _ => None,
        });
        let asked = self.text("limit").and_then(|text| text.parse().ok());
        usize::try_from(asked.or(default).unwrap_or(1)).unwrap_or(1)
    }

    /// Where the page before ended; empty: there was none.
    pub(super) fn place(&self) -> Vec<u8> {
        let digits = self.text("after").unwrap_or_default().as_bytes();
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
        digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, next| byte << 4 | digit(*next)))
            .collect()
    }
}

/// The same, as text.
pub(super) fn place(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A part of an address, which must be UTF-8 once it is decoded.
pub(super) fn decoded(text: &str) -> Result<String, Problem> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| Problem::bad("the address is not UTF-8"))
}

fn unknown(name: &str, params: &[Param]) -> Problem {
    let known: Vec<&str> = params.iter().map(|param| param.name).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Problem::bad(format!("there is no parameter '{name}' here; known: {known}"))
}

impl Is {
    fn check(self, name: &str, value: &str) -> Result<(), Problem> {
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number: Option<u64> = value.parse().ok().filter(|_| is_number);
        let (fits, wanted) = match self {
            Self::OneOf(words) => (words.contains(&value), format!("one of {}", words.join(", "))),
            Self::Truth => (matches!(value, "true" | "false"), "true or false".to_owned()),
            Self::Count { most, .. } => (
                number.is_some_and(|number| (1..=most).contains(&number)),
                format!("a whole number from 1 to {most}"),
            ),
            Self::Number => (
                number.is_some_and(|number| u32::try_from(number).is_ok()),
                "a whole number below 4294967296".to_owned(),
            ),
            Self::Place => (is_place(value), "`next` of the page before".to_owned()),
        };
        if fits { Ok(()) } else { Err(Problem::bad(format!("'{name}' must be {wanted}"))) }
    }
}

fn is_place(value: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (2..=MAX_PLACE).contains(&value.len())
        && value.len().is_multiple_of(2)
        && value.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::routes::{Found, find};

    fn list(text: &str) -> Result<Query, Problem> {
        let Found::Route(route, _) = find("GET", "/v1/txns") else { panic!("a route") };
        Query::read(text, route.params)
    }

    #[test]
    fn what_fits_is_read() {
        let query = list("stuck=true&limit=7&status=aborting&after=00ff").ok().unwrap();
        assert!(query.is("stuck", "true") && query.is("status", "aborting"));
        assert_eq!((query.number("limit"), query.place()), (Some(7), vec![0, 255]));
        assert_eq!(place(&query.place()), "00ff");
        assert!(list("").ok().unwrap().place().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for text in [
            "stuk=true",
            "stuck=1",
            "stuck",
            "limit=0",
            "limit=1001",
            "limit=+5",
            "limit=99999999999999999999",
            "limit=1&limit=1",
            "status=",
            "status=ended",
            "after=0",
            "after=FF",
            "after=",
            "kind=%ff",
        ] {
            assert!(list(text).is_err(), "{text}");
        }
    }
}
