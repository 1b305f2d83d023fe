//! Distinguished names as structured lists: encoded from the structure, parsed from text only where an administrator or the directory
//! wrote that text (RFC 4514).

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::wire::xml::is_char;

words! {
    /// A kind of name attribute, by its short name.
    AttributeType {
        /// commonName 2.5.4.3.
        CommonName = "CN",
        /// surname 2.5.4.4.
        Surname = "SN",
        /// serialNumber 2.5.4.5.
        SerialNumber = "SERIALNUMBER",
        /// countryName 2.5.4.6: two letters.
        Country = "C",
        /// localityName 2.5.4.7.
        Locality = "L",
        /// stateOrProvinceName 2.5.4.8.
        State = "ST",
        /// streetAddress 2.5.4.9.
        Street = "STREET",
        /// organizationName 2.5.4.10.
        Organization = "O",
        /// organizationalUnitName 2.5.4.11.
        OrganizationalUnit = "OU",
        /// title 2.5.4.12.
        Title = "T",
        /// givenName 2.5.4.42.
        GivenName = "G",
        /// userId 0.9.2342.19200300.100.1.1.
        UserId = "UID",
        /// domainComponent 0.9.2342.19200300.100.1.25.
        DomainComponent = "DC",
        /// emailAddress 1.2.840.113549.1.9.1.
        Email = "E",
    }
}

impl AttributeType {
    /// The object identifier, dotted.
    #[must_use]
    pub fn oid(self) -> &'static str {
        match self {
            Self::CommonName => "2.5.4.3",
            Self::Surname => "2.5.4.4",
            Self::SerialNumber => "2.5.4.5",
            Self::Country => "2.5.4.6",
            Self::Locality => "2.5.4.7",
            Self::State => "2.5.4.8",
            Self::Street => "2.5.4.9",
            Self::Organization => "2.5.4.10",
            Self::OrganizationalUnit => "2.5.4.11",
            Self::Title => "2.5.4.12",
            Self::GivenName => "2.5.4.42",
            Self::UserId => "0.9.2342.19200300.100.1.1",
            Self::DomainComponent => "0.9.2342.19200300.100.1.25",
            Self::Email => "1.2.840.113549.1.9.1",
        }
    }

    /// The kind that a short name (any case, with the aliases in use) or a dotted identifier means.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let upper = name.trim().to_ascii_uppercase();
        let alias = match upper.as_str() {
            "EMAIL" | "EMAILADDRESS" => "E",
            "S" => "ST",
            "GN" | "GIVENNAME" => "G",
            "SURNAME" => "SN",
            "TITLE" => "T",
            other => other.strip_prefix("OID.").unwrap_or(other),
        };
        Self::parse(alias).or_else(|| Self::ALL.iter().copied().find(|kind| kind.oid() == alias))
    }

    /// The longest value, in characters (RFC 5280 appendix A).
    #[must_use]
    pub fn upper_bound(self) -> usize {
        match self {
            Self::Country => 2,
            Self::Locality | Self::State | Self::Street => 128,
            Self::Email | Self::UserId => 255,
            Self::DomainComponent => 63,
            _ => 64,
        }
    }
}

/// One attribute: kind and value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Kind.
    #[serde(rename = "type")]
    pub kind: AttributeType,
    /// Value, without any escaping.
    pub value: String,
}

/// One relative distinguished name: nearly always one attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rdn(pub Vec<Attribute>);

impl Rdn {
    /// A name of one attribute.
    #[must_use]
    pub fn new(kind: AttributeType, value: impl Into<String>) -> Self {
        Self(vec![Attribute { kind, value: value.into() }])
    }

    /// Whether every value can be encoded, in certificates and in the XML that tells devices of them: not empty, no control characters,
    /// and within its alphabet.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        !self.0.is_empty()
            && self.0.iter().all(|attribute| {
                let value = &attribute.value;
                let plain = !value.is_empty() && value.len() <= 1024 && value.chars().all(|c| is_char(c) && !c.is_control());
                plain
                    && match attribute.kind {
                        AttributeType::Country => value.len() == 2 && value.bytes().all(|b| b.is_ascii_alphabetic()),
                        AttributeType::DomainComponent | AttributeType::Email => value.is_ascii(),
                        _ => true,
                    }
            })
    }

    /// Whether every value keeps to its upper bound.
    #[must_use]
    pub fn is_within_bounds(&self) -> bool {
        self.0.iter().all(|attribute| attribute.value.chars().count() <= attribute.kind.upper_bound())
    }
}

/// The name as RFC 4514 text, in the order of its encoding (as Windows shows it), escaped.
#[must_use]
pub fn show_name(name: &[Rdn]) -> String {
    let mut text = String::new();
    for (at, rdn) in name.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        for (at, attribute) in rdn.0.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "+" });
            let _ = write!(text, "{}=", attribute.kind);
            escape(&mut text, &attribute.value);
        }
    }
    text
}

fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let edge = (at == 0 && (c == ' ' || c == '#')) || (at == last && c == ' ');
        if edge || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
            text.push('\\');
            text.push(c);
        } else if c.is_control() {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                let _ = write!(text, "\\{byte:02X}");
            }
        } else {
            text.push(c);
        }
    }
}

/// One component of a parsed text: attributes, or a text without `=`.
pub(super) enum Component {
    Rdn(Rdn),
    Bare(String),
}

/// Reads RFC 4514 text: backslash and hex escapes, quoted values, `+` for several attributes. `None` when it does not parse.
#[must_use]
pub fn parse_name(text: &str) -> Option<Vec<Rdn>> {
    components(text)?
        .into_iter()
        .map(|component| match component {
            Component::Rdn(rdn) => Some(rdn),
            Component::Bare(_) => None,
        })
        .collect()
}

/// One attribute's raw text, and whether a `+` (rather than a comma) follows.
fn split(text: &str) -> Option<Vec<(String, bool)>> {
    let mut parts = Vec::new();
    let (mut part, mut quoted, mut escaped) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' | '+' if !quoted => {
                parts.push((std::mem::take(&mut part), c == '+'));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    if quoted || escaped || parts.len() > 64 {
        return None;
    }
    parts.push((part, false));
    Some(parts)
}

pub(super) fn components(text: &str) -> Option<Vec<Component>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let mut found: Vec<Component> = Vec::new();
    let mut joins = false;
    for (part, plus_follows) in split(text)? {
        let Some((kind, value)) = part.split_once('=') else {
            if joins || plus_follows {
                return None;
            }
            found.push(Component::Bare(part.trim_matches(' ').to_owned()));
            continue;
        };
        let attribute = Attribute { kind: AttributeType::from_name(kind)?, value: unescape(value)? };
        match found.last_mut() {
            Some(Component::Rdn(rdn)) if joins => rdn.0.push(attribute),
            _ => found.push(Component::Rdn(Rdn(vec![attribute]))),
        }
        joins = plus_follows;
    }
    (!joins).then_some(found)
}

/// The value that an escaped or quoted text stands for; spaces around it do not count.
fn unescape(text: &str) -> Option<String> {
    // Other white space than the plain space is part of the value (RFC 4514 section 2.4).
    let trimmed = text.trim_start_matches(' ');
    if let Some(rest) = trimmed.strip_prefix('"') {
        let inner = rest.trim_end_matches(' ').strip_suffix('"')?;
        return resolve_escapes(inner).map(|(value, _)| value);
    }
    let (mut value, kept) = resolve_escapes(trimmed)?;
    while value.len() > kept && value.ends_with(' ') {
        value.pop();
    }
    Some(value)
}

/// The text without its escapes, and how many of its bytes must stay (an escaped space at the end does).
fn resolve_escapes(text: &str) -> Option<(String, usize)> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut kept = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let next = chars.next()?;
        if let Some(high) = next.to_digit(16) {
            let low = chars.next()?.to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
        }
        kept = bytes.len();
    }
    Some((String::from_utf8(bytes).ok()?, kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_read_with_quotes_escapes_and_several_attributes() {
        let name = parse_name(r#"CN="Test User (Company, LLC)", OU=a\,b+OU=c,  DC=contoso ,emailAddress=x@y,CN=\C3\A9\ "#).unwrap();
        assert_eq!(name.len(), 5);
        assert_eq!(name[0], Rdn::new(AttributeType::CommonName, "Test User (Company, LLC)"));
        assert_eq!(name[1].0[0].value, "a,b");
        assert_eq!(name[1].0[1].value, "c");
        assert_eq!(name[2], Rdn::new(AttributeType::DomainComponent, "contoso"));
        assert_eq!(name[3], Rdn::new(AttributeType::Email, "x@y"));
        assert_eq!(name[4].0[0].value, "é ");
        for bad in ["CN=a,", "CN", "XX=1", "CN=a+", "CN=\"a", "CN=a\\"] {
            assert!(parse_name(bad).is_none(), "{bad}");
        }
        assert_eq!(parse_name(" ").unwrap(), []);
    }

    proptest! {
        #[test]
        fn a_shown_name_reads_back(values in proptest::collection::vec(".{1,20}", 1..4)) {
            let name: Vec<Rdn> = values.iter().map(|v| Rdn::new(AttributeType::CommonName, v.clone())).collect();
            prop_assert_eq!(parse_name(&show_name(&name)).unwrap(), name);
        }

        #[test]
        fn reading_never_panics(text in ".{0,60}") {
            let _ = parse_name(&text);
        }
    }
}
