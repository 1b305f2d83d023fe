//! What a node of a device's management tree is: where, in which format, and what one may do with it.

use serde::{Deserialize, Deserializer};

pub use crate::wire::locuri::Scope;
use crate::wire::locuri::encode_name;
pub use crate::wire::syncml::{Format, Verb};

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

/// Fills an address in. One that begins with `./` stands for itself; others hang below the scope's root.
pub(super) fn fill(template: &str, scope: Scope, vars: &Vars<'_>) -> String {
    let path = template.replace("{tenant}", &encode_name(vars.tenant)).replace("{provider}", &encode_name(vars.provider));
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
