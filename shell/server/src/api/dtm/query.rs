//! What stands behind the `?` of an address.

use percent_encoding::percent_decode_str;

use super::lenient::Unreadable;

/// A query string, not yet decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a>(pub(super) &'a str);

impl Query<'_> {
    /// The first value of this name, decoded; empty if there is none.
    pub(super) fn text(self, name: &str) -> String {
        let parts = self.0.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
        let found = parts.into_iter().find(|(key, _)| decoded(key) == name);
        found.map(|(_, value)| decoded(value)).unwrap_or_default()
    }

    /// A whole number; `None` if it is not there.
    pub(super) fn number(self, name: &str) -> Result<Option<u64>, Unreadable> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse().ok();
        number.map(Some).ok_or_else(|| Unreadable(format!("{name}: '{text}' is no whole number")))
    }
}

fn decoded(text: &str) -> String {
    let spaces = text.replace('+', " ");
    percent_decode_str(&spaces).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let query = Query("gid=a%26b+c&limit=12&empty&x=1&x=2&bad=y");
        assert_eq!(query.text("gid"), "a&b c");
        assert_eq!(query.number("limit").unwrap(), Some(12));
        assert_eq!((query.text("empty"), query.text("x")), (String::new(), "1".to_owned()));
        assert_eq!(query.number("none").unwrap(), None);
        assert!(query.number("bad").is_err());
    }
}
