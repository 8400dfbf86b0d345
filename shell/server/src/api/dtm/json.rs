//! JSON that stays where it was received: texts without escapes point into the body, objects are short sorted vectors.
//!
//! It takes what `serde_json::Value` takes and refuses the rest in the same words, at the same place: of a repeated key the last
//! value counts, and a number that does not fit is an error. What it saves is an allocation for each key and text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Object(Object<'a>),
}

/// A key and its value.
pub(super) type Entry<'a> = (Cow<'a, str>, Json<'a>);

/// Entries in the order of their keys; each key is there once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object<'a>(Vec<Entry<'a>>);

impl<'a> Object<'a> {
    /// An object with these entries; of a repeated key the last one.
    pub(super) fn new(mut entries: Vec<Entry<'a>>) -> Self {
        // Stable: of equal keys the last one stays the last.
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        entries.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                std::mem::swap(&mut later.1, &mut kept.1);
            }
            is_same
        });
        Self(entries)
    }

    /// The value of this key, which may be null.
    pub(super) fn get(&self, key: &str) -> Option<&Json<'a>> {
        let at = self.0.binary_search_by(|(own, _)| own.as_ref().cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// In the order of keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<T> for Json<'a> {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Key(key)) = items.next_key()? {
            entries.push((key, items.next_value()?));
        }
        Ok(Json::Object(Object::new(entries)))
    }
}

struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string key")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn value(json: &Json<'_>) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(truth) => Value::Bool(*truth),
            Json::Number(number) => Value::Number(number.clone()),
            Json::Text(text) => Value::String(text.clone().into_owned()),
            Json::List(list) => Value::Array(list.iter().map(value).collect()),
            Json::Object(object) => {
                let entries = object.entries();
                Value::Object(entries.map(|(key, item)| (key.to_owned(), value(item))).collect())
            }
        }
    }

    /// Both readings of the same bytes.
    fn both(bytes: &[u8]) -> [Result<Value, String>; 2] {
        let ours = serde_json::from_slice::<Json<'_>>(bytes).map(|json| value(&json));
        let theirs = serde_json::from_slice::<Value>(bytes);
        [ours.map_err(|error| error.to_string()), theirs.map_err(|error| error.to_string())]
    }

    #[test]
    fn it_reads_and_refuses_what_serde_json_does() {
        let deep = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        let texts = [
            r#"{"b":1,"a":{"z":[],"y":null},"b":"x","":0,"a\u0062":"\n\u00e9\ud83d\ude00","ab":7}"#,
            r#" [0,-0,1.5,-1e3,1e400,18446744073709551615,18446744073709551616,-9223372036854775809,true,false,null] "#,
            r#"["\ud800"]"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{a:1}"#,
            r#"{1:2}"#,
            r#"{"a":01}"#,
            "[1] x",
            "\"a\tb\"",
            "\"a\n",
            "nul",
            "{",
            "",
        ];
        let texts = texts.iter().map(|text| text.as_bytes().to_vec());
        let bad = [b"\"\xff\"".to_vec(), b"{\"\xff\":1}".to_vec(), deep(127), deep(128), deep(129)];
        let (mut read, mut refused) = (0, 0);
        for bytes in texts.chain(bad) {
            // Each beginning of it too, where the error is elsewhere.
            for end in 0..=bytes.len() {
                let [ours, theirs] = both(&bytes[..end]);
                assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&bytes[..end]));
                *if ours.is_ok() { &mut read } else { &mut refused } += 1;
            }
        }
        assert!(read > 3 && refused > 100, "{read} {refused}");
    }

    #[test]
    fn entries_have_an_order_and_the_last_of_a_key_counts() {
        let json = serde_json::from_str(r#"{"c":1,"a":1,"b":1,"a":2,"a":3}"#).unwrap();
        let Json::Object(object) = json else { panic!("an object") };
        let keys = object.entries().map(|(key, _)| key);
        assert_eq!(keys.collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(object.get("a"), Some(&Json::Number(3.into())));
        assert_eq!(object.get("d"), None);
    }

    #[test]
    fn plain_texts_are_not_copied() {
        let text = r#"{"plain":"x","esc":"\n"}"#;
        let Json::Object(object) = serde_json::from_str(text).unwrap() else { panic!("an object") };
        assert!(matches!(object.get("plain"), Some(Json::Text(Cow::Borrowed("x")))));
        assert!(matches!(object.get("esc"), Some(Json::Text(Cow::Owned(_)))));
    }
}
