//! The letter U+0000, which no text of a database has: what brings it is refused before anybody looks for it, or writes it.

/// Whether a text of the JSON has that letter. In JSON it is written as an escape only, and escapes are in texts only.
#[must_use]
pub fn in_json(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if rest.starts_with(b"u0000") {
            return true;
        }
        // What is escaped begins no escape itself.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// Whether a path or a query has that letter, encoded or not.
#[must_use]
pub fn in_address(address: &str) -> bool {
    address.contains("%00") || address.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letter_is_found_where_it_is_meant() {
        for json in [r#"{"a":"\u0000"}"#, r#"["b\\\u0000"]"#, r#"{"\u0000":1}"#, r#""\n\u0000""#] {
            assert!(in_json(json.as_bytes()), "{json}");
            assert!(serde_json::from_str::<serde_json::Value>(json).unwrap().to_string().contains("u0000"), "{json}");
        }
        for json in [r#"{"a":"u0000"}"#, r#"["\\u0000"]"#, r#""\u0001""#, r#""\\\\u0000""#, "", "\\"] {
            assert!(!in_json(json.as_bytes()), "{json}");
        }
        assert!(in_address("users/a%00b") && in_address("a\0b"));
        assert!(!in_address("users/a%2500b") && !in_address(""));
    }
}
