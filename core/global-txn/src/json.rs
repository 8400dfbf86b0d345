//! As much JSON as answers of participants need: the value of a field of an object, unparsed.
//!
//! Finding a field is no parsing: it walks over values by their brackets and strings, so that it finds the fields of any
//! valid object, and says of many invalid ones that they are none. [`is_value`] is exact.

/// Deepest nesting of what is taken for a value.
const MAX_DEPTH: u32 = 128;

/// Whether it is one JSON value (RFC 8259), not nested too deeply, without white space around it.
pub(crate) fn is_value(text: &[u8]) -> bool {
    after_value(text, MAX_DEPTH).is_some_and(<[u8]>::is_empty)
}

/// What follows the value at the head of `text`.
fn after_value(text: &[u8], depth: u32) -> Option<&[u8]> {
    match text.first()? {
        b'{' => after_items(&text[1..], b'}', depth.checked_sub(1)?, after_member),
        b'[' => after_items(&text[1..], b']', depth.checked_sub(1)?, after_value),
        b'"' => after_string(text),
        b'-' | b'0'..=b'9' => after_number(text),
        _ => [&b"true"[..], b"false", b"null"].iter().find_map(|word| text.strip_prefix(*word)),
    }
}

/// Behind a name and its value.
fn after_member(text: &[u8], depth: u32) -> Option<&[u8]> {
    let rest = after_string(text)?.trim_ascii_start().strip_prefix(b":")?;
    after_value(rest.trim_ascii_start(), depth)
}

/// Behind items with commas between them and `close` at the end.
fn after_items(
    text: &[u8],
    close: u8,
    depth: u32,
    after_item: fn(&[u8], u32) -> Option<&[u8]>,
) -> Option<&[u8]> {
    let mut rest = text.trim_ascii_start();
    if let Some(after) = rest.strip_prefix(&[close]) {
        return Some(after);
    }
    loop {
        rest = after_item(rest, depth)?.trim_ascii_start();
        match rest.split_first()? {
            (b',', more) => rest = more.trim_ascii_start(),
            (byte, after) => return (*byte == close).then_some(after),
        }
    }
}

fn after_string(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'u', hex @ ..] => {
                let (four, after) = hex.split_first_chunk::<4>()?;
                four.iter().all(u8::is_ascii_hexdigit).then_some(after)?
            }
            [b'\\', escaped, after @ ..] => b"\"\\/bfnrt".contains(escaped).then_some(after)?,
            [byte, after @ ..] if *byte >= b' ' => after,
            _ => return None,
        }
    }
}

fn after_number(text: &[u8]) -> Option<&[u8]> {
    let whole = text.strip_prefix(b"-").unwrap_or(text);
    let mut rest = match whole.strip_prefix(b"0") {
        Some(rest) => rest,
        None => after_digits(whole)?,
    };
    if let Some(fraction) = rest.strip_prefix(b".") {
        rest = after_digits(fraction)?;
    }
    match rest {
        [b'e' | b'E', b'+' | b'-', power @ ..] | [b'e' | b'E', power @ ..] => after_digits(power),
        _ => Some(rest),
    }
}

/// Behind one digit or more.
fn after_digits(text: &[u8]) -> Option<&[u8]> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| &text[digits..])
}

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
    fn values_are_told_from_what_is_none() {
        let values =
            r#"null|true|0|-0.5e+10|12E3|""|"\u00e9\n\""|[]|{}|[1, {"a" : [ ] , "b":null}]"#;
        for text in values.split('|') {
            assert!(is_value(text.as_bytes()), "{text}");
        }
        let none = r#"| 1|1 |nul|nullx|01|1.|.5|1e|+1|"|"\x"|"\u12g4"|[1,]|[1 2]|{a:1}|{"a"}|{"a":1,}|{]|[|1,2"#;
        for text in none.split('|').chain(["\"\n\""]) {
            assert!(!is_value(text.as_bytes()), "{text}");
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_value(deep(128).as_bytes()) && !is_value(deep(129).as_bytes()));
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
