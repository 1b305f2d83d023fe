//! Forms (`application/x-www-form-urlencoded`) as clients in the field send them: some leave blanks, colons and slashes as they are.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use super::Malformed;

/// What a query has as it is (RFC 3986, section 2.3).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How many fields a form has at most.
const MOST: usize = 100;

/// A form. A name that occurs twice is refused (RFC 6749, section 3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form.
    ///
    /// # Errors
    /// When it is not UTF-8, has too many fields, or one twice.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for pair in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let (name, value) = (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default());
            let (name, value) = (decode(name)?, decode(value)?);
            if fields.len() >= MOST {
                return Err(Malformed::new("too many fields", "form"));
            }
            if fields.iter().any(|(known, _)| *known == name) {
                let name: String = name.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
                return Err(Malformed::new("a field is there twice", name));
            }
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    /// The field of that name; one that is empty is none (RFC 6749, section 3.1).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

impl Form {
    /// The form as a query, without the fields of those names, and with these.
    #[must_use]
    pub fn query(&self, without: &[&str], with: &[(&str, &str)]) -> String {
        let own = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|(name, _)| !without.contains(name));
        let mut query = String::new();
        for (name, value) in own.chain(with.iter().copied()) {
            if !query.is_empty() {
                query.push('&');
            }
            query.extend(utf8_percent_encode(name, PLAIN));
            query.push('=');
            query.extend(utf8_percent_encode(value, PLAIN));
        }
        query
    }
}

/// A text as queries have it (RFC 3986, section 2.3).
pub fn encode(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, PLAIN)
}

fn decode(text: &[u8]) -> Result<String, Malformed> {
    let spaced: Cow<'_, [u8]> = if text.contains(&b'+') {
        text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect::<Vec<u8>>().into()
    } else {
        text.into()
    };
    let decoded = percent_decode(&spaced).decode_utf8().map_err(|_| Malformed::new("not UTF-8", "form"))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_read_as_clients_write_them() {
        let form = Form::parse(b"a=1+2&b=%41%26&redirect_uri=msauth://x.y&scope=openid profile&empty=&flag").unwrap();
        assert_eq!(form.get("a"), Some("1 2"));
        assert_eq!(form.get("b"), Some("A&"));
        assert_eq!(form.get("redirect_uri"), Some("msauth://x.y"));
        assert_eq!(form.get("scope"), Some("openid profile"));
        assert_eq!((form.get("empty"), form.get("flag"), form.get("none")), (None, None, None));
        assert_eq!(Form::parse(b"").unwrap(), Form::default());
    }

    #[test]
    fn a_form_is_written_again_with_some_fields_less_and_others_more() {
        let form = Form::parse(b"a=1+2&prompt=login&b=%C3%BC%26-_.~").unwrap();
        assert_eq!(form.query(&["prompt"], &[("since", "7")]), "a=1%202&b=%C3%BC%26-_.~&since=7");
        assert_eq!(Form::parse(form.query(&[], &[]).as_bytes()).unwrap(), form);
    }

    #[test]
    fn ambiguous_forms_are_refused() {
        assert!(Form::parse(b"a=1&%61=2").is_err());
        assert!(Form::parse(b"a=%ff").is_err());
        assert!(Form::parse("x&".repeat(2).as_bytes()).is_err());
        let many: String = (0..200).map(|n| format!("f{n}=1&")).collect();
        assert!(Form::parse(many.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Form::parse(&body);
        }
    }
}
