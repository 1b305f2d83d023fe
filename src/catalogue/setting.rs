//! Settings: nodes that a profile may give a value.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::allowed::{self, Allowed};
use super::edition::{self, Family};
use super::node::{self, Access, Format, Scope, Vars, Verb};
use super::version::OsVersion;

/// Which of two values is the stricter one, when several sources disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stricter {
    /// Neither: they conflict.
    #[default]
    None,
    /// The higher number, or `true`.
    Higher,
    /// The lower number, or `false`.
    Lower,
    /// The higher number, but zero means "no limit" and is the weakest.
    HigherZeroFree,
    /// The lower number, but zero means "no limit" and is the weakest.
    LowerZeroFree,
}

/// What takes a setting back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Withdraw {
    /// Deleting the node.
    Delete,
    /// Writing the default.
    Default,
    /// Nothing: the last value stays.
    Keep,
}

/// A setting.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Identifier: area and name in kebab case.
    pub id: String,
    /// Name for people.
    pub title: String,
    /// What it does, in a sentence or two.
    #[serde(default)]
    pub help: String,
    /// The provider or policy area; the file's when the row has none.
    #[serde(default)]
    pub area: String,
    /// Where it is: below the scope's root, or from `./` on when the provider has no scopes.
    pub uri: String,
    /// In which trees it exists.
    #[serde(default = "device_only")]
    pub scopes: Vec<Scope>,
    /// Format on the wire.
    pub format: Format,
    /// The values that are allowed.
    #[serde(default)]
    pub allowed: Allowed,
    /// What holds when nobody sets it, as text on the wire.
    #[serde(default, deserialize_with = "allowed::scalar_text")]
    pub default: Option<String>,
    /// The first version of each Windows branch that has it; empty: all.
    #[serde(default)]
    pub since: Vec<OsVersion>,
    /// SKU numbers that have it; empty: all.
    #[serde(default)]
    pub editions: Vec<u32>,
    /// Families of editions that lack it.
    #[serde(default)]
    pub lacking: Vec<Family>,
    /// The group of settings to which it belongs, when its provider takes them only inside one `Atomic`.
    #[serde(default)]
    pub atomic: Option<String>,
    /// What may be done with the node.
    #[serde(default = "full_access")]
    pub access: Access,
    /// Place among the settings of a device: lower goes first.
    #[serde(default = "middle")]
    pub order: i32,
    /// How two sources are reconciled.
    #[serde(default)]
    pub stricter: Stricter,
    /// What takes it back; [`Setting::withdraw`] says what follows when the row says nothing.
    #[serde(default)]
    withdraw: Option<Withdraw>,
    /// The maker advises against it.
    #[serde(default)]
    pub deprecated: bool,
    /// The value is a secret: never logged or shown.
    #[serde(default)]
    pub secret: bool,
}

fn device_only() -> Vec<Scope> {
    vec![Scope::Device]
}

fn full_access() -> Access {
    Access::parse("ADGR").unwrap_or_default()
}

fn middle() -> i32 {
    50
}

impl Setting {
    /// Completes and checks the row.
    pub(super) fn settle(&mut self, area: &str) -> Result<(), String> {
        if self.area.is_empty() {
            self.area = area.to_owned();
        }
        let fail = |problem: String| format!("{}: {problem}", self.id);
        if self.id.is_empty() || !self.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-')) {
            return Err(fail("an id is made of lower-case letters, digits, dots and hyphens".into()));
        }
        if self.title.is_empty() || self.area.is_empty() || self.scopes.is_empty() {
            return Err(fail("title, area and scopes must be there".into()));
        }
        if self.uri.starts_with("./") && self.scopes != [Scope::Device] {
            return Err(fail("an address from the root on has no user scope".into()));
        }
        node::check_template(&self.uri).map_err(fail)?;
        self.allowed.check(self.format).map_err(fail)?;
        if let Some(default) = &self.default
            && self.allowed.encode(self.format, &Value::String(default.clone())).is_err()
            && !self.deprecated
        {
            return Err(fail(format!("the default {default} is not allowed")));
        }
        match self.withdraw() {
            Withdraw::Delete if !self.access.allows(Verb::Delete) => Err(fail("cannot be deleted".into())),
            Withdraw::Default if self.default.is_none() => Err(fail("has no default to go back to".into())),
            _ => Ok(()),
        }
    }

    /// The node's address, or `None` when the setting does not exist in that scope.
    #[must_use]
    pub fn locuri(&self, scope: Scope, vars: &Vars<'_>) -> Option<String> {
        self.scopes.contains(&scope).then(|| node::fill(&self.uri, scope, vars))
    }

    /// The value as text on the wire.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn encode(&self, value: &Value) -> Result<String, String> {
        self.allowed.encode(self.format, value)
    }

    /// Judges the value that a profile gives.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn check_value(&self, value: &Value) -> Result<(), String> {
        // Defaults and what devices report are texts; people write numbers and truth values as such.
        if value.is_string() && matches!(self.format, Format::Int | Format::Bool) {
            return Err(format!("{} is a text; expected {}, without quotes", allowed::shown(value), self.expects()));
        }
        self.encode(value).map(|_| ())
    }

    /// Whether what a device reported is what was wanted: tolerant of the spellings devices use.
    #[must_use]
    pub fn matches(&self, reported: &str, wanted: &Value) -> bool {
        self.encode(wanted).is_ok_and(|wanted| self.allowed.same(self.format, reported, &wanted))
    }

    /// What is allowed, for people: `a whole number from 4 to 127`.
    #[must_use]
    pub fn expects(&self) -> String {
        self.allowed.describe(self.format)
    }

    /// Whether Windows of this version has the setting; unknown versions are taken to have it.
    #[must_use]
    pub fn supports(&self, os_version: &str) -> bool {
        OsVersion::parse(os_version).is_none_or(|version| version.has(&self.since))
    }

    /// Whether that edition of Windows (a SKU number) has the setting; unknown editions are taken to have it.
    #[must_use]
    pub fn has_edition(&self, edition: &str) -> bool {
        edition::is_among(edition, &self.editions, &self.lacking)
    }

    /// What takes the setting back: deletion where the node can be deleted, else the default, else nothing.
    #[must_use]
    pub fn withdraw(&self) -> Withdraw {
        self.withdraw.unwrap_or(if self.access.allows(Verb::Delete) {
            Withdraw::Delete
        } else if self.default.is_some() && self.access.allows(Verb::Replace) {
            Withdraw::Default
        } else {
            Withdraw::Keep
        })
    }

    /// Compares two values by strictness: `Greater` when `a` is stricter; `None` when they cannot be ranked.
    #[must_use]
    pub fn rank(&self, a: &Value, b: &Value) -> Option<Ordering> {
        let number = |value: &Value| -> Option<i64> {
            match self.encode(value).ok()?.as_str() {
                "true" => Some(1),
                "false" => Some(0),
                text => text.parse().ok(),
            }
        };
        let (a, b) = (number(a)?, number(b)?);
        let free = |n: i64, end: i64| if n == 0 { end } else { n };
        match self.stricter {
            Stricter::None => None,
            Stricter::Higher | Stricter::HigherZeroFree => Some(a.cmp(&b)),
            Stricter::Lower => Some(b.cmp(&a)),
            Stricter::LowerZeroFree => Some(free(b, i64::MAX).cmp(&free(a, i64::MAX))),
        }
    }
}
