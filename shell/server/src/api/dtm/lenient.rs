//! JSON as DTM's clients send it, which is not as a strict reader would have it: `null` means "not there",
//! unknown fields and repeated keys are no error. A field of the wrong type is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// What cannot be read; the client is told in these words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub(super) String);

/// A JSON object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a>(pub(super) &'a Map<String, Value>);

/// Reads a request's body.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    if bytes.is_empty() {
        return Err(Unreadable("the body is empty, and must be a JSON object".to_owned()));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => {
            Err(Unreadable(format!("the body must be a JSON object, not {}", kind(&other))))
        }
        Err(error) => Err(Unreadable(format!("the body is not JSON: {error}"))),
    }
}

impl<'a> Object<'a> {
    /// A field that is there and not null.
    pub(super) fn field(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text; empty if it is not there.
    pub(super) fn text(self, name: &str) -> Result<&'a str, Unreadable> {
        match self.field(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong(name, "a text", other)),
        }
    }

    /// A truth value; false if it is not there.
    pub(super) fn truth(self, name: &str) -> Result<bool, Unreadable> {
        match self.field(name) {
            None => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(other) => Err(wrong(name, "true or false", other)),
        }
    }

    /// A whole number; 0 if it is not there.
    pub(super) fn count(self, name: &str) -> Result<u32, Unreadable> {
        let Some(value) = self.field(name) else { return Ok(0) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| wrong(name, "a whole number from 0 to 4294967295", value))
    }

    /// Seconds, with a fraction perhaps (DTM takes whole ones only), in ms; 0 if it is not there.
    pub(super) fn seconds(self, name: &str) -> Result<u64, Unreadable> {
        const MOST_S: f64 = 100.0 * 366.0 * 86_400.0;
        let Some(value) = self.field(name) else { return Ok(0) };
        let seconds = value.as_f64().filter(|seconds| (0.0..=MOST_S).contains(seconds));
        let seconds = seconds.ok_or_else(|| wrong(name, "seconds from 0 to 100 years", value))?;
        Ok((seconds * 1000.0).round() as u64)
    }

    /// Texts; none if it is not there. A null among them is empty.
    pub(super) fn texts(self, name: &str) -> Result<Vec<&'a str>, Unreadable> {
        match self.field(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(|item| text_of(name, item)).collect(),
            Some(other) => Err(wrong(name, "a list of texts", other)),
        }
    }

    /// An object of texts, in the order of names; empty if it is not there.
    pub(super) fn pairs(self, name: &str) -> Result<Vec<(String, String)>, Unreadable> {
        match self.field(name) {
            None => Ok(Vec::new()),
            Some(Value::Object(map)) => pairs(name, map),
            Some(other) => Err(wrong(name, "an object of texts", other)),
        }
    }

    /// JSON inside a text field, as `custom_data` has it; `None` for an empty text.
    pub(super) fn nested(self, name: &str) -> Result<Option<Map<String, Value>>, Unreadable> {
        let text = self.text(name)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Some(map)),
            Ok(Value::Null) => Ok(None),
            _ => Err(Unreadable(format!("{name} must be the text of a JSON object"))),
        }
    }

    /// Bytes in base64; none if it is not there.
    pub(super) fn base64(self, name: &str) -> Result<Vec<u8>, Unreadable> {
        let text = self.text(name)?;
        STANDARD.decode(text).map_err(|_| Unreadable(format!("{name} is not base64")))
    }
}

/// The entries of an object of texts; null is an empty text.
pub(super) fn pairs(
    name: &str,
    map: &Map<String, Value>,
) -> Result<Vec<(String, String)>, Unreadable> {
    let entry = |(key, value)| Ok((String::clone(key), text_of(name, value)?.to_owned()));
    map.iter().map(entry).collect()
}

/// A text among others; null is empty.
pub(super) fn text_of<'a>(name: &str, value: &'a Value) -> Result<&'a str, Unreadable> {
    match value {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        other => Err(wrong(name, "texts alone", other)),
    }
}

pub(super) fn wrong(name: &str, wanted: &str, value: &Value) -> Unreadable {
    Unreadable(format!("{name} must be {wanted}, not {}", kind(value)))
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_not_there_and_repeated_keys_are_no_error() {
        let map = object(br#"{"a":null,"n":1,"n":2,"t":"x","f":1.5,"l":["p",null]}"#).unwrap();
        let object = Object(&map);
        assert_eq!(object.text("a").unwrap(), "");
        assert_eq!(object.count("n").unwrap(), 2);
        assert_eq!(object.seconds("f").unwrap(), 1500);
        assert_eq!(object.texts("l").unwrap(), ["p", ""]);
        assert!(!object.truth("a").unwrap());
        assert!(object.pairs("a").unwrap().is_empty());
    }

    #[test]
    fn a_wrong_type_is_said() {
        let map = object(br#"{"t":7,"n":-1,"s":-0.5,"b":"yes","l":"x","p":{"k":1}}"#).unwrap();
        let object = Object(&map);
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
