//! OMA-DM node addresses (LocURI): parsing, encoding, comparing.
//!
//! An address is kept decoded. Devices answer with other letter case and other escapes than they were asked with, so two addresses
//! are equal when their decoded, case-folded segments are, and `./Vendor` is `./Device/Vendor`.

use std::fmt;
use std::hash::{Hash, Hasher};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Malformed;

/// Longest address, in bytes as written.
const MAX_BYTES: usize = 4 * 1024;
/// Most segments.
const MAX_SEGMENTS: usize = 64;

/// What needs no escape in a segment.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'(')
    .remove(b')')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// Whose part of the tree an address lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The machine's (`./Device`).
    Device,
    /// The signed-in user's (`./User`).
    User,
}

impl Scope {
    /// Both.
    pub const ALL: &'static [Self] = &[Self::Device, Self::User];

    /// The word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::User => "user",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == word)
    }

    /// The top of its part of the tree.
    #[must_use]
    pub fn root(self) -> &'static str {
        match self {
            Self::Device => "./Device",
            Self::User => "./User",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The address of a node.
#[derive(Clone, Debug)]
pub struct LocUri {
    /// Decoded, without the leading `.`.
    segments: Vec<String>,
    /// What is compared.
    key: String,
}

impl LocUri {
    /// Reads an address as it stands in a message.
    ///
    /// # Errors
    /// When it does not begin with `./`, has an empty, `.`, `..` or `*` segment (escaped or not), is not UTF-8 once decoded, or is too long.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() > MAX_BYTES {
            return Err(Malformed::new("address is too long", "LocURI"));
        }
        let path = text.strip_prefix("./").ok_or_else(|| Malformed::new("address does not begin with ./", "LocURI"))?;
        let mut segments = Vec::with_capacity(8);
        for segment in path.split('/') {
            let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| Malformed::new("address is not UTF-8", "LocURI"))?;
            segments.push(decoded.into_owned());
        }
        Self::from_segments(segments)
    }

    /// Makes an address from decoded segments.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_segments(segments: Vec<String>) -> Result<Self, Malformed> {
        if segments.is_empty() || segments.len() > MAX_SEGMENTS {
            return Err(Malformed::new("address has too few or too many segments", "LocURI"));
        }
        if segments.iter().any(|segment| matches!(segment.as_str(), "" | "." | ".." | "*") || segment.chars().any(char::is_control)) {
            return Err(Malformed::new("address has a segment that names no node", "LocURI"));
        }
        let mut key = String::new();
        if segments.first().is_some_and(|first| first.eq_ignore_ascii_case("vendor")) {
            key.push_str("device/");
        }
        for (place, segment) in segments.iter().enumerate() {
            if place > 0 {
                key.push('/');
            }
            // A decoded segment may hold a slash; a control character never, so it can stand for that slash.
            key.extend(segment.chars().flat_map(char::to_lowercase).map(|c| if c == '/' { '\u{1}' } else { c }));
        }
        Ok(Self { segments, key })
    }

    /// The decoded segments.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The last segment, decoded: the node's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.segments.last().map_or("", String::as_str)
    }

    /// What is compared: for maps and database columns, not for messages.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whose part of the tree it lies in.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if self.segments.first().is_some_and(|first| first.eq_ignore_ascii_case("user")) { Scope::User } else { Scope::Device }
    }

    /// The node of that (decoded) name below this one.
    ///
    /// # Errors
    /// When the name names no node.
    pub fn join(&self, name: &str) -> Result<Self, Malformed> {
        let mut segments = self.segments.clone();
        segments.push(name.to_owned());
        Self::from_segments(segments)
    }

    /// The node above; `None` at the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.segments.split_last()?;
        Self::from_segments(above.to_vec()).ok()
    }

    /// Whether this is that node or lies below it.
    #[must_use]
    pub fn is_within(&self, node: &Self) -> bool {
        self.key.strip_prefix(node.key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for LocUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(".")?;
        for segment in &self.segments {
            write!(f, "/{}", utf8_percent_encode(segment, ESCAPED))?;
        }
        Ok(())
    }
}

impl PartialEq for LocUri {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for LocUri {}

impl Hash for LocUri {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// Whether two addresses name the same node; what cannot be parsed is compared as text.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    a == b || matches!((LocUri::parse(a), LocUri::parse(b)), (Ok(a), Ok(b)) if a == b)
}

/// The names, decoded, that a `Get` on an interior node returns (encoded, joined by `/`).
#[must_use]
pub fn child_names(value: &str) -> Vec<String> {
    value.split('/').filter(|name| !name.is_empty()).map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned()).collect()
}

/// A name as it stands in an address or in a list of child names.
#[must_use]
pub fn encode_name(name: &str) -> String {
    utf8_percent_encode(name, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uri(text: &str) -> LocUri {
        LocUri::parse(text).unwrap()
    }

    #[test]
    fn addresses_are_compared_decoded_and_folded() {
        assert_eq!(uri("./Vendor/MSFT/Policy"), uri("./device/vendor/msft/policy"));
        assert_eq!(uri("./Device/X/%7BA%7D"), uri("./Device/x/{a}"));
        assert_ne!(uri("./User/Vendor/MSFT"), uri("./Device/Vendor/MSFT"));
        assert_ne!(uri("./a/b%2Fc"), uri("./a/b/c"));
        assert!(same("./Vendor/MSFT/%C3%89", "./Device/Vendor/MSFT/%c3%a9"));
        assert!(same("x", "x") && !same("x", "y"));
    }

    #[test]
    fn scopes_follow_the_first_segment() {
        assert_eq!(uri("./User/Vendor/MSFT").scope(), Scope::User);
        for device in ["./Device/Vendor", "./Vendor/MSFT", "./DevInfo/DevId", "./Userx/a"] {
            assert_eq!(uri(device).scope(), Scope::Device);
        }
    }

    #[test]
    fn what_names_no_node_is_refused() {
        let long = format!("./{}", "a".repeat(5_000));
        let deep = format!(".{}", "/a".repeat(65));
        for bad in [
            "",
            ".",
            "./",
            "/x",
            "x",
            "../x",
            "./..",
            "./a/../b",
            "./a/%2e%2e/b",
            "./a//b",
            "./a/",
            "./a/*",
            "./a/./b",
            "./a/%FF",
            "./a%00",
            &long,
            &deep,
        ] {
            assert!(LocUri::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn braces_and_blanks_are_written_escaped() {
        assert_eq!(uri("./Vendor/MSFT/NodeCache/MS DM Server/{1}").to_string(), "./Vendor/MSFT/NodeCache/MS%20DM%20Server/%7B1%7D");
        assert_eq!(uri("./Device/a~Policy~b/c!d").to_string(), "./Device/a~Policy~b/c!d");
    }

    #[test]
    fn a_tree_can_be_walked() {
        let root = uri("./Device/Vendor/MSFT/WiFi/Profile");
        let child = root.join("a b/c").unwrap();
        assert_eq!(child.to_string(), "./Device/Vendor/MSFT/WiFi/Profile/a%20b%2Fc");
        assert_eq!(child.name(), "a b/c");
        assert_eq!(child.parent().unwrap(), root);
        assert!(child.is_within(&uri("./Vendor/MSFT/wifi")) && root.is_within(&root) && !root.is_within(&child));
        assert!(!uri("./Device/Vendor/MSFTx").is_within(&uri("./Device/Vendor/MSFT")));
        assert!(root.join("..").is_err() && uri("./a").parent().is_none());
        assert_eq!(child_names("a%20b/%7Bc%7D/d"), ["a b", "{c}", "d"]);
        assert!(child_names("").is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(segments in proptest::collection::vec("[ -~\u{e9}\u{130}\u{f000}]{1,8}", 1..6)) {
            if let Ok(one) = LocUri::from_segments(segments) {
                let again = uri(&one.to_string());
                prop_assert_eq!(again.segments(), one.segments());
                prop_assert_eq!(again, one);
            }
        }

        #[test]
        fn texts_never_panic(text in "(\\./)?[./%a-fA-F0-9*\u{e9}]{0,40}") {
            let _ = LocUri::parse(&text);
        }
    }
}
