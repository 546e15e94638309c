//! JSON objects that have a key twice: readers differ in which one they take, so neither can be trusted.

use std::collections::HashSet;

/// The first key that an object of `json` has twice. `json` must be valid JSON.
pub(super) fn find(json: &str) -> Option<String> {
    // One set of keys for each open object; `None` for an open list.
    let mut open: Vec<Option<HashSet<String>>> = Vec::new();
    let mut rest = json;
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        let (mark, after) = (rest.as_bytes()[at], &rest[at + 1..]);
        match mark {
            b'{' => open.push(Some(HashSet::new())),
            b'[' => open.push(None),
            b'}' | b']' => drop(open.pop()),
            _ => {
                let end = at + 2 + end_of_string(after);
                let (text, following) = (rest.get(at..end)?, rest.get(end..)?);
                if following.trim_start().starts_with(':')
                    && let Some(Some(keys)) = open.last_mut()
                {
                    let key: String = serde_json::from_str(text).ok()?;
                    if keys.contains(&key) {
                        return Some(key);
                    }
                    keys.insert(key);
                }
                rest = following;
                continue;
            }
        }
        rest = after;
    }
    None
}

/// Offset of the quote that ends a string, from the start of what it quotes.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn keys_are_compared_within_their_object() {
        for (json, expected) in [
            (r#"{"a": 1, "b": {"a": 2}, "c": [{"a": 3}, {"a": 4}]}"#, None),
            (r#"{"a": 1, "b": {"c": 2, "c" : 3}}"#, Some("c")),
            (r#"{"a": "a", "b": "}\"{", "x": ["a", "a"], "a": 2}"#, Some("a")),
            (r#"{"bbox": 1, "\u0062box": 2}"#, Some("bbox")),
            ("[]", None),
            ("\"a\"", None),
        ] {
            assert_eq!(find(json).as_deref(), expected, "{json}");
        }
    }
}
