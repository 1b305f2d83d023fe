//! JSON Web Tokens in compact form (RFC 7519, RFC 7515 section 7.1): taking them apart and putting them together. Signatures are made and
//! judged by those who have keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::Malformed;

/// Longest token that is read.
pub const LONGEST: usize = 32 * 1024;

/// A token whose signature nobody has judged yet.
#[derive(Clone, Debug)]
pub struct Compact<'a> {
    /// The protected header.
    pub header: Map<String, Value>,
    /// The claims. Not to be believed before the signature is.
    pub claims: Map<String, Value>,
    /// What is signed.
    pub input: &'a str,
    /// The signature.
    pub signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart. One with `crit` is refused, as nothing that may stand there is understood (RFC 7515, section 4.1.11).
    ///
    /// # Errors
    /// When it is not three parts of base64url, the first two of them JSON objects.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let wrong = || Malformed::new("no JSON Web Token in compact form", "token");
        if text.len() > LONGEST {
            return Err(wrong());
        }
        let (input, signature) = text.rsplit_once('.').ok_or_else(wrong)?;
        let (header, claims) = input.split_once('.').filter(|(_, claims)| !claims.contains('.')).ok_or_else(wrong)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| wrong());
        let object = |part: &str| serde_json::from_slice::<Map<String, Value>>(&decode(part)?).map_err(|_| wrong());
        let header = object(header)?;
        if header.contains_key("crit") {
            return Err(wrong());
        }
        Ok(Self { header, claims: object(claims)?, input, signature: decode(signature)? })
    }

    /// A text of the header.
    #[must_use]
    pub fn head(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    /// A text of the claims.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// A number of the claims, such as a time in seconds.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let value = self.claims.get(name)?;
        // NumericDate may have a fraction (RFC 7519, section 2).
        #[allow(clippy::cast_possible_truncation, reason = "seconds since 1970 fit")]
        value.as_i64().or_else(|| value.as_f64().filter(|n| n.abs() < 1e15).map(|n| n as i64))
    }

    /// Whether the token is for that audience (`aud` is a text or a list of them).
    #[must_use]
    pub fn is_for(&self, known: impl Fn(&str) -> bool) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(one)) => known(one),
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).any(known),
            _ => false,
        }
    }
}

/// What is to be signed of a header and claims.
#[must_use]
pub fn signing_input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// The token of what was signed.
#[must_use]
pub fn join(mut input: String, signature: &[u8]) -> String {
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut input);
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_token_comes_apart_as_it_was_put_together() {
        let text = join(signing_input(&json!({ "alg": "none" }), &json!({ "aud": ["a", "b"], "exp": 12.7, "n": "x" })), b"sig");
        let token = Compact::parse(&text).unwrap();
        assert_eq!((token.head("alg"), token.text("n"), token.number("exp")), (Some("none"), Some("x"), Some(12)));
        assert_eq!(token.signature, b"sig");
        assert!(token.is_for(|a| a == "b") && !token.is_for(|a| a == "c"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let (header, claims) = (part(json!({})), part(json!({})));
        assert!(Compact::parse(&format!("{header}.{claims}.")).is_ok());
        let crit = part(json!({ "crit": ["b64"] }));
        for text in [
            String::new(),
            "a.b.c".into(),
            format!("{header}.{claims}"),
            format!("{header}.{claims}.x.y"),
            format!("{header}.{claims}=.x"),
            format!("{}.{claims}.", part(json!([]))),
            format!("{crit}.{claims}."),
            format!("{header}.{claims}.{}", "A".repeat(LONGEST)),
        ] {
            assert!(Compact::parse(&text).is_err(), "{text:.80}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in any::<String>()) {
            let _ = Compact::parse(&text);
        }
    }
}
