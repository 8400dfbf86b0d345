//! JSON as DTM's clients send it, which is not as a strict reader would have it: `null` means "not there",
//! unknown fields and repeated keys are no error. A field of the wrong type is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Number;

use super::json::{Json, Object};

/// What cannot be read; the client is told in these words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub(super) String);

/// Reads a request's body.
pub(super) fn object(bytes: &[u8]) -> Result<Object<'_>, Unreadable> {
    if bytes.is_empty() {
        return Err(Unreadable("the body is empty, and must be a JSON object".to_owned()));
    }
    match serde_json::from_slice(bytes) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(other) => {
            Err(Unreadable(format!("the body must be a JSON object, not {}", kind(&other))))
        }
        Err(error) => Err(Unreadable(format!("the body is not JSON: {error}"))),
    }
}

impl<'a> Object<'a> {
    /// A field that is there and not null.
    pub(super) fn field(&self, name: &str) -> Option<&Json<'a>> {
        self.get(name).filter(|value| **value != Json::Null)
    }

    /// A text; empty if it is not there.
    pub(super) fn text(&self, name: &str) -> Result<&str, Unreadable> {
        match self.field(name) {
            None => Ok(""),
            Some(Json::Text(text)) => Ok(text),
            Some(other) => Err(wrong(name, "a text", other)),
        }
    }

    /// A truth value; false if it is not there.
    pub(super) fn truth(&self, name: &str) -> Result<bool, Unreadable> {
        match self.field(name) {
            None => Ok(false),
            Some(Json::Bool(truth)) => Ok(*truth),
            Some(other) => Err(wrong(name, "true or false", other)),
        }
    }

    /// A whole number; 0 if it is not there.
    pub(super) fn count(&self, name: &str) -> Result<u32, Unreadable> {
        let Some(value) = self.field(name) else { return Ok(0) };
        let number = number(value).and_then(Number::as_u64).and_then(|it| u32::try_from(it).ok());
        number.ok_or_else(|| wrong(name, "a whole number from 0 to 4294967295", value))
    }

    /// Seconds, with a fraction perhaps (DTM takes whole ones only), in ms; 0 if it is not there.
    pub(super) fn seconds(&self, name: &str) -> Result<u64, Unreadable> {
        const MOST_S: f64 = 100.0 * 366.0 * 86_400.0;
        let Some(value) = self.field(name) else { return Ok(0) };
        let seconds = number(value).and_then(Number::as_f64);
        let seconds = seconds.filter(|seconds| (0.0..=MOST_S).contains(seconds));
        let seconds = seconds.ok_or_else(|| wrong(name, "seconds from 0 to 100 years", value))?;
        Ok((seconds * 1000.0).round() as u64)
    }

    /// Texts; none if it is not there. A null among them is empty.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<&str>, Unreadable> {
        match self.field(name) {
            None => Ok(Vec::new()),
            Some(Json::List(items)) => items.iter().map(|item| text_of(name, item)).collect(),
            Some(other) => Err(wrong(name, "a list of texts", other)),
        }
    }

    /// An object of texts, in the order of names; empty if it is not there.
    pub(super) fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, Unreadable> {
        match self.field(name) {
            None => Ok(Vec::new()),
            Some(Json::Object(object)) => {
                let entry =
                    |(key, value)| Ok((str::to_owned(key), text_of(name, value)?.to_owned()));
                object.entries().map(entry).collect()
            }
            Some(other) => Err(wrong(name, "an object of texts", other)),
        }
    }

    /// JSON inside a text field, as `custom_data` has it; `None` for an empty text.
    pub(super) fn nested(&self, name: &str) -> Result<Option<Object<'_>>, Unreadable> {
        let text = self.text(name)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        match serde_json::from_str(text) {
            Ok(Json::Object(object)) => Ok(Some(object)),
            Ok(Json::Null) => Ok(None),
            _ => Err(Unreadable(format!("{name} must be the text of a JSON object"))),
        }
    }

    /// Bytes in base64; none if it is not there.
    pub(super) fn base64(&self, name: &str) -> Result<Vec<u8>, Unreadable> {
        let text = self.text(name)?;
        STANDARD.decode(text).map_err(|_| Unreadable(format!("{name} is not base64")))
    }
}

/// A text among others; null is empty.
pub(super) fn text_of<'a>(name: &str, value: &'a Json<'_>) -> Result<&'a str, Unreadable> {
    match value {
        Json::Null => Ok(""),
        Json::Text(text) => Ok(text),
        other => Err(wrong(name, "texts alone", other)),
    }
}

/// The number that a value is.
pub(super) fn number<'a>(value: &'a Json<'_>) -> Option<&'a Number> {
    match value {
        Json::Number(number) => Some(number),
        _ => None,
    }
}

pub(super) fn wrong(name: &str, wanted: &str, value: &Json<'_>) -> Unreadable {
    Unreadable(format!("{name} must be {wanted}, not {}", kind(value)))
}

fn kind(value: &Json<'_>) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(truth) => truth.to_string(),
        Json::Number(number) => number.to_string(),
        Json::Text(_) => "a text".to_owned(),
        Json::List(_) => "a list".to_owned(),
        Json::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_not_there_and_repeated_keys_are_no_error() {
        let object = object(br#"{"a":null,"n":1,"n":2,"t":"x","f":1.5,"l":["p",null]}"#).unwrap();
        assert_eq!(object.text("a").unwrap(), "");
        assert_eq!(object.count("n").unwrap(), 2);
        assert_eq!(object.seconds("f").unwrap(), 1500);
        assert_eq!(object.texts("l").unwrap(), ["p", ""]);
        assert!(!object.truth("a").unwrap());
        assert!(object.pairs("a").unwrap().is_empty());
    }

    #[test]
    fn a_wrong_type_is_said() {
        let object = object(br#"{"t":7,"n":-1,"s":-0.5,"b":"yes","l":"x","p":{"k":1}}"#).unwrap();
        assert_eq!(object.text("t").unwrap_err().0, "t must be a text, not 7");
        for error in [
            object.count("n").unwrap_err(),
            object.seconds("s").unwrap_err(),
            object.truth("b").unwrap_err(),
            object.texts("l").unwrap_err(),
            object.pairs("p").unwrap_err(),
        ] {
            assert!(error.0.contains("must be"), "{error}");
        }
    }

    #[test]
    fn bodies_that_are_no_objects_are_unreadable() {
        for bytes in [&b""[..], b"[]", b"null", b"{", b"\"x\"", b"\xff"] {
            assert!(object(bytes).is_err(), "{bytes:?}");
        }
    }
}
