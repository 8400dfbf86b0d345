//! As much JSON as answers of participants need: the value of a field of an object, unparsed.
//!
//! Not a parser: it walks over values by their brackets and strings, so that it finds the fields of any
//! valid object, and says of many invalid ones that they are none.

/// The value of a field at the top of an object, as it stands there; `None` if it is not an object or has no such
/// field. Of a field that comes twice the last one counts.
pub(crate) fn field<'b>(object: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let mut found = None;
    for (key, value) in fields(object)? {
        if key == name.as_bytes() {
            found = Some(value);
        }
    }
    found
}

/// Whether it is an object.
pub(crate) fn is_object(text: &[u8]) -> bool {
    fields(text).is_some()
}

/// The inside of a string without escapes.
pub(crate) fn string(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Names and values of an object.
fn fields(object: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut rest = object.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?.trim_ascii();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = rest.get(..value_length(rest)?)?;
        rest = rest[key.len()..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let value = rest.get(..value_length(rest)?)?;
        rest = rest[value.len()..].trim_ascii_start();
        fields.push((string(key)?, value));
        rest = match rest.strip_prefix(b",") {
            Some(more) => Some(more.trim_ascii_start()).filter(|more| !more.is_empty())?,
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(fields)
}

/// Bytes of the value at the head of `text`.
fn value_length(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        match text.get(at) {
            Some(b'"') => at += string_length(&text[at..])?,
            Some(b'{' | b'[') => {
                depth += 1;
                at += 1;
            }
            Some(b'}' | b']') => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            Some(_) => at += 1,
            None => return None,
        }
        let ends = matches!(text.get(at), None | Some(b',' | b':' | b' ' | b'\n' | b'\r' | b'\t'));
        if depth == 0 && ends {
            return Some(at);
        }
    }
}

/// Bytes of the string at the head of `text`, with its quotes.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'t>(text: &'t str, name: &str) -> Option<&'t str> {
        field(text.as_bytes(), name).map(|value| std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn fields_are_found() {
        let text = r#" { "a" : [1, {"b": "x,}"}] , "b":"\"}", "c":{"d":null},"e":-3 } "#;
        assert_eq!(get(text, "a"), Some(r#"[1, {"b": "x,}"}]"#));
        assert_eq!(get(text, "b"), Some(r#""\"}""#));
        assert_eq!(get(text, "e"), Some("-3"));
        assert_eq!(field(field(text.as_bytes(), "c").unwrap(), "d"), Some(&b"null"[..]));
        assert_eq!(get(text, "d"), None);
        assert_eq!(get(r#"{"a":1,"a":2}"#, "a"), Some("2"));
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for text in
            ["", "{", "}", "[]", "x", "\"{}\"", "{a:1}", "{\"a\"}", "{\"a\":1,}", "{\"a\":}", "{]}"]
        {
            assert!(!is_object(text.as_bytes()), "{text}");
        }
        assert!(is_object(b"{}") && is_object(b"{\"a\":{}}"));
    }
}
