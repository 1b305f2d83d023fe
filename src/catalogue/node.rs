//! What a node of a device's management tree is: where, in which format, and what one may do with it.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize};

/// Which of a device's trees a node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The machine's (`./Device`).
    Device,
    /// The user's (`./User`).
    User,
}

impl Scope {
    /// All scopes.
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

    /// The tree's root.
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

/// OMA-DM value formats (`Meta/Format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text.
    Chr,
    /// A whole number in decimal.
    Int,
    /// `true` or `false`.
    Bool,
    /// Base64.
    B64,
    /// Bytes, which travel as base64 in XML.
    Bin,
    /// XML.
    Xml,
    /// No value: a command.
    Null,
    /// A date and time (ISO 8601).
    Time,
    /// An inner node.
    Node,
}

impl Format {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chr => "chr",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::B64 => "b64",
            Self::Bin => "bin",
            Self::Xml => "xml",
            Self::Null => "null",
            Self::Time => "time",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a server may ask of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Make it.
    Add,
    /// Remove it.
    Delete,
    /// Read it.
    Get,
    /// Write it.
    Replace,
    /// Run it.
    Exec,
}

/// The verbs that a node allows; in files the letters A, D, G, R and X.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Access(u8);

impl Access {
    /// Reading only.
    pub const GET: Self = Self(Self::bit(Verb::Get));

    const fn bit(verb: Verb) -> u8 {
        match verb {
            Verb::Add => 1,
            Verb::Delete => 2,
            Verb::Get => 4,
            Verb::Replace => 8,
            Verb::Exec => 16,
        }
    }

    /// Whether the verb is allowed.
    #[must_use]
    pub fn allows(self, verb: Verb) -> bool {
        self.0 & Self::bit(verb) != 0
    }

    /// Reads the letters.
    #[must_use]
    pub fn parse(letters: &str) -> Option<Self> {
        letters.chars().try_fold(Self(0), |Self(bits), letter| {
            let verb = match letter {
                'A' => Verb::Add,
                'D' => Verb::Delete,
                'G' => Verb::Get,
                'R' => Verb::Replace,
                'X' => Verb::Exec,
                _ => return None,
            };
            Some(Self(bits | Self::bit(verb)))
        })
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let letters = String::deserialize(deserializer)?;
        Self::parse(&letters).ok_or_else(|| serde::de::Error::custom("access is made of the letters A, D, G, R, X"))
    }
}

/// What the variables of an address stand for.
#[derive(Clone, Copy, Debug)]
pub struct Vars<'a> {
    /// `{tenant}`: the identity tenant's GUID, without braces.
    pub tenant: &'a str,
    /// `{provider}`: the name under which this server is provisioned (`PROVIDER-ID`).
    pub provider: &'a str,
}

/// Everything but the characters that may stand in a segment as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Fills an address in. One that begins with `./` stands for itself; others hang below the scope's root.
pub(super) fn fill(template: &str, scope: Scope, vars: &Vars<'_>) -> String {
    let path = template
        .replace("{tenant}", &utf8_percent_encode(vars.tenant, ESCAPED).to_string())
        .replace("{provider}", &utf8_percent_encode(vars.provider, ESCAPED).to_string());
    if path.starts_with("./") { path } else { format!("{}/{path}", scope.root()) }
}

/// Checks that a template has only variables that exist and no empty segment.
pub(super) fn check_template(template: &str) -> Result<(), String> {
    let plain = template.replace("{tenant}", "t").replace("{provider}", "p");
    let path = plain.strip_prefix("./").unwrap_or(&plain);
    if path.is_empty() || path.split('/').any(|segment| segment.is_empty() || segment.contains(['{', '}', ' ', '*'])) {
        return Err(format!("{template}: not an address"));
    }
    Ok(())
}
