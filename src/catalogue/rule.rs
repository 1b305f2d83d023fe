//! Compliance rules: which facts, compared how.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::allowed::{truth, whole};
use super::version::OsVersion;
use super::{Catalogue, Setting};

/// What is asked for in the place of a version that Windows does not have.
const WINDOWS_VERSION: &str = "a version that begins with 10.0, such as 10.0.22000 for the first Windows 11";

/// What a policy says for a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueType {
    /// `true` asks for it; `false` asks for nothing.
    Boolean,
    /// A whole number in the rule's range.
    Integer,
    /// A version of up to four numbers.
    Version,
    /// One of the rule's choices.
    Choice,
    /// A list of `{lowestVersion, highestVersion, description}`.
    BuildRanges,
}

/// How a check compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// The fact is one of the values that `accept` lists for the wanted value.
    Accept,
    /// The number is the wanted one or more.
    AtLeast,
    /// The number is the wanted one or less, and none of `refuse`.
    AtMost,
    /// The version is the wanted one or later.
    VersionAtLeast,
    /// The version is the wanted one or earlier.
    VersionAtMost,
    /// The version is inside one of the wanted ranges.
    VersionWithin,
    /// The fact says something, and none of `refuse`.
    Present,
}

/// One comparison of a rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The fact.
    pub fact: String,
    /// How it is compared.
    pub operator: Operator,
    /// For [`Operator::Accept`]: wanted value (as text) to the reported values that meet it.
    #[serde(default)]
    pub accept: BTreeMap<String, Vec<String>>,
    /// Reported values that never meet it.
    #[serde(default)]
    pub refuse: Vec<String>,
    /// Reported values that mean "ask again later".
    #[serde(default)]
    pub retry: Vec<String>,
    /// What a device that has no such node (404) counts as.
    #[serde(default)]
    pub absent: Absent,
}

/// What a node that is not there means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absent {
    /// The check fails.
    #[default]
    Fails,
    /// The rule does not apply to this device.
    NotApplicable,
}

/// The setting that makes a device follow the rule: the server writes it and reads it back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enforce {
    /// The setting.
    pub setting: String,
    /// Rule value (as text) to the setting's value; without an entry the value itself.
    #[serde(default)]
    pub values: BTreeMap<String, i64>,
}

/// A compliance rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleRow {
    /// The property of a compliance policy: `bitLockerEnabled`. Unique on its platform.
    pub id: String,
    /// For devices of which platform; the file's when the row has none.
    #[serde(default)]
    pub platform: String,
    /// Name for people.
    pub title: String,
    /// What it asks for.
    pub help: String,
    /// What the user of a failing device reads: what to do.
    pub reason_user: String,
    /// What administrators and signal receivers read.
    pub reason_admin: String,
    /// What a policy says.
    pub value: ValueType,
    /// For [`ValueType::Integer`]: least and most.
    #[serde(default)]
    pub range: Option<(i64, i64)>,
    /// For [`ValueType::Choice`]: value to meaning.
    #[serde(default)]
    pub choices: BTreeMap<String, String>,
    /// The device says it of itself, without attestation by hardware.
    #[serde(default)]
    pub self_reported: bool,
    /// The comparisons; all must hold.
    pub check: Vec<Check>,
    /// The setting behind it.
    #[serde(default)]
    pub enforce: Option<Enforce>,
}

/// What is known of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// Nobody asked yet, or no answer came yet.
    Unknown,
    /// The device's value.
    Value(&'a str),
    /// The device answered with this SyncML status instead of a value.
    Status(u16),
}

/// What a rule says of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// The policy does not ask for anything.
    NotEvaluated,
    /// This device cannot have it.
    NotApplicable,
    /// Met.
    Holds,
    /// No reading yet.
    Unknown,
    /// The reading is no answer: asked again, the last verdict holds meanwhile.
    Error,
    /// Not met: whatever another check would say.
    Fails,
}

impl RuleRow {
    /// Checks the value that a policy gives for this rule.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn validate(&self, wanted: &Value) -> Result<(), String> {
        let refuse = |expected: String| Err(format!("expected {expected}"));
        match self.value {
            ValueType::Boolean if wanted.is_boolean() => Ok(()),
            ValueType::Boolean => refuse("true or false".into()),
            ValueType::Integer => {
                let (least, most) = self.range.unwrap_or((0, i64::from(i32::MAX)));
                match wanted.as_i64() {
                    Some(number) if (least..=most).contains(&number) => Ok(()),
                    _ => refuse(format!("a whole number from {least} to {most}")),
                }
            }
            ValueType::Version => match wanted.as_str().and_then(OsVersion::parse) {
                Some(version) if self.is_of_platform(version) => Ok(()),
                Some(_) => refuse(WINDOWS_VERSION.into()),
                None if self.platform == "windows" => refuse("a version such as 10.0.22631.4317".into()),
                None => refuse("a version such as 26.1 or 18.7.2".into()),
            },
            ValueType::Choice if wanted.as_str().is_some_and(|text| self.choices.contains_key(text)) => Ok(()),
            ValueType::Choice => refuse(format!("one of {}", self.choices.keys().cloned().collect::<Vec<_>>().join(", "))),
            ValueType::BuildRanges => match ranges(wanted) {
                Some(ranges) if ranges.iter().any(|(low, high)| !self.is_of_platform(*low) || !self.is_of_platform(*high)) => {
                    refuse(WINDOWS_VERSION.into())
                }
                Some(ranges) if ranges.len() <= 10_000 && ranges.iter().all(|(low, high)| low <= high) => Ok(()),
                _ => refuse("a list of objects with lowestVersion and highestVersion".into()),
            },
        }
    }

    /// Whether devices of the rule's platform have versions of that kind: those of Windows 11 begin with 10, too.
    fn is_of_platform(&self, version: OsVersion) -> bool {
        self.platform != "windows" || version.major == 10
    }

    /// Judges a device by this rule. The second part is the check that decided, when one did.
    pub fn judge<'a>(&self, wanted: &Value, read: impl Fn(&str) -> Reading<'a>) -> (Judgement, Option<&Check>) {
        if !self.asks(wanted) {
            return (Judgement::NotEvaluated, None);
        }
        let mut worst = (Judgement::NotEvaluated, None);
        for check in &self.check {
            let judgement = check.judge(wanted, read(&check.fact));
            if judgement > worst.0 || worst.1.is_none() {
                worst = (judgement, Some(check));
            }
        }
        worst
    }

    /// Whether the value asks for anything.
    #[must_use]
    pub fn asks(&self, wanted: &Value) -> bool {
        match wanted {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty() && text != "deviceDefault" && text != "notConfigured",
            Value::Array(items) => !items.is_empty(),
            _ => true,
        }
    }

    /// What the rule's setting must be so that the device follows the wanted value.
    #[must_use]
    pub fn enforced<'c>(&self, catalogue: &'c Catalogue, wanted: &Value) -> Option<(&'c Setting, Value)> {
        let enforce = self.enforce.as_ref().filter(|_| self.asks(wanted))?;
        let value = enforce.values.get(&text(wanted)).map_or_else(|| wanted.clone(), |number| Value::from(*number));
        Some((catalogue.setting(&enforce.setting)?, value))
    }

    pub(super) fn check_against(&self, catalogue: &Catalogue) -> Result<(), String> {
        if let Some(check) = self.check.iter().find(|check| catalogue.fact(&check.fact).is_none_or(|row| !row.is_of(&self.platform))) {
            return Err(format!("{}: devices of the platform {:?} have no fact called {}", self.id, self.platform, check.fact));
        }
        if let Some(enforce) = self.enforce.as_ref().filter(|enforce| catalogue.setting(&enforce.setting).is_none()) {
            return Err(format!("{}: no setting is called {}", self.id, enforce.setting));
        }
        let says = [&self.title, &self.help, &self.reason_user, &self.reason_admin].iter().all(|text| !text.is_empty());
        if self.check.is_empty() || !says || (self.value == ValueType::Choice && self.choices.is_empty()) {
            return Err(format!("{}: texts, checks or choices are missing", self.id));
        }
        Ok(())
    }
}

impl Check {
    /// Judges one reading.
    #[must_use]
    pub fn judge(&self, wanted: &Value, reading: Reading<'_>) -> Judgement {
        let reported = match reading {
            Reading::Unknown => return Judgement::Unknown,
            Reading::Status(404) => {
                return match self.absent {
                    Absent::Fails => Judgement::Fails,
                    Absent::NotApplicable => Judgement::NotApplicable,
                };
            }
            Reading::Status(405 | 406) => return Judgement::NotApplicable,
            Reading::Status(_) => return Judgement::Error,
            Reading::Value(reported) => reported.trim(),
        };
        if listed(&self.retry, reported) {
            return Judgement::Error;
        }
        if listed(&self.refuse, reported) {
            return Judgement::Fails;
        }
        let version = |holds: &dyn Fn(OsVersion) -> Option<bool>| OsVersion::parse(reported).and_then(holds);
        let holds = match self.operator {
            Operator::Accept => match self.accept.get(&text(wanted)) {
                Some(accepted) => Some(listed(accepted, reported)),
                None => return Judgement::NotEvaluated,
            },
            Operator::AtLeast => whole(reported).zip(wanted.as_i64()).map(|(has, wants)| has >= wants),
            Operator::AtMost => whole(reported).zip(wanted.as_i64()).map(|(has, wants)| has <= wants),
            Operator::VersionAtLeast => version(&|has| OsVersion::parse(wanted.as_str()?).map(|wants| has >= wants)),
            Operator::VersionAtMost => version(&|has| OsVersion::parse(wanted.as_str()?).map(|wants| has <= wants)),
            Operator::VersionWithin => version(&|has| Some(ranges(wanted)?.iter().any(|(low, high)| (*low..=*high).contains(&has)))),
            Operator::Present => Some(!reported.is_empty()),
        };
        match holds {
            Some(true) => Judgement::Holds,
            Some(false) => Judgement::Fails,
            None => Judgement::Error,
        }
    }
}

/// Whether the reported value is one of the listed, in any spelling of numbers and truth values.
fn listed(values: &[String], reported: &str) -> bool {
    values.iter().any(|value| {
        value.eq_ignore_ascii_case(reported)
            || (whole(value).is_some() && whole(value) == whole(reported))
            || (truth(value).is_some() && truth(value) == truth(reported))
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn ranges(value: &Value) -> Option<Vec<(OsVersion, OsVersion)>> {
    let end = |range: &Value, name: &str| range.get(name).and_then(Value::as_str).and_then(OsVersion::parse);
    value.as_array()?.iter().map(|range| Some((end(range, "lowestVersion")?, end(range, "highestVersion")?))).collect()
}
