//! Profiles: named sets of what a device should have, and compliance policies, as documents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::device::Platform;
use crate::ids::ProfileId;
use crate::wire::locuri::LocUri;

mod check;
mod fields;
mod mask;

pub(super) use check::LIMITS;
pub use check::Problem;
pub use fields::fields;

words! {
    /// What a profile does.
    Kind {
        /// Gives devices settings, certificates and the like.
        Configuration = "configuration",
        /// Judges devices.
        Compliance = "compliance",
    }
}

pub use crate::catalogue::Scope;

/// A profile in one of its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Identifier.
    pub id: ProfileId,
    /// Name for people, unique.
    pub display_name: String,
    /// What it does.
    pub kind: Kind,
    /// For which devices.
    pub platform: Platform,
    /// Counts up with each change.
    pub version: i64,
    /// Its content.
    pub document: Document,
}

/// The content of a profile: the same shape in files, in the store and over the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Catalogue settings: id to value. A setting goes to the first tree that its row names; `<id>@user` or `<id>@device` chooses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Value>,
    /// Settings that the catalogue does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<Custom>,
    /// Parts with behaviour of their own: certificates, SCEP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payloads: Vec<Payload>,
    /// `user`: the payloads go to each managed user of a Mac; else to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The rules, when this is a compliance policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance: Option<Compliance>,
}

/// Settings of Windows Hello for Business, and the ticket that it brings.
#[must_use]
pub fn is_of_hello(setting: &str) -> bool {
    setting.starts_with("passport-for-work.") || setting == "kerberos.cloud-kerberos-ticket-retrieval-enabled"
}

impl Document {
    /// Whether the settings catalogue of the API has it: an extension for single sign-on alone, or Windows Hello alone.
    #[must_use]
    pub fn is_of_settings_catalogue(&self, platform: Platform) -> bool {
        if self.compliance.is_some() || !self.custom.is_empty() {
            return false;
        }
        match (platform, self.payloads.as_slice()) {
            (Platform::Windows, []) => !self.settings.is_empty() && self.settings.keys().all(|name| is_of_hello(split_scope(name).0)),
            (Platform::MacOs | Platform::Ios, [one]) => one.kind == super::apple::sso::PAYLOAD,
            _ => false,
        }
    }
}

/// One node of a Windows device that the catalogue has no row for (custom OMA-URI).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    /// Name for people.
    #[serde(default)]
    pub name: String,
    /// The node's address, `./Device/…`, `./User/…` or `./Vendor/…`.
    pub uri: String,
    /// OMA-DM format: `chr`, `int`, `bool`, `b64`, `xml`, `float`, `date`, `time`.
    pub format: String,
    /// The value as text.
    pub value: String,
}

/// A part with behaviour: which one, a name unique in the profile, and fields that its own file reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// Which behaviour: `trusted-certificate`, `scep`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Unique in the profile, stable over versions; letters, digits and hyphens.
    pub name: String,
    /// The rest.
    #[serde(flatten)]
    pub body: Map<String, Value>,
}

/// A compliance policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compliance {
    /// Catalogue rules: id to the value that is required.
    pub rules: BTreeMap<String, Value>,
    /// Hours between the first failure and "not compliant" (the `block` action's grace), 0 to 8760.
    #[serde(default)]
    pub grace_hours: u32,
}

/// Takes the name of a setting in a document apart: `<id>`, or `<id>@<scope>`.
#[must_use]
pub fn split_scope(name: &str) -> (&str, Option<Scope>) {
    match name.rsplit_once('@').map(|(id, scope)| (id, Scope::parse(scope))) {
        Some((id, Some(scope))) => (id, Some(scope)),
        _ => (name, None),
    }
}

impl Custom {
    /// The address in the form that is compared; as it is when it does not parse.
    #[must_use]
    pub fn address(&self) -> String {
        LocUri::parse(&self.uri).map_or_else(|_| self.uri.clone(), |address| address.key().to_owned())
    }
}

/// One difference between two documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Where, with slashes.
    pub at: String,
    /// What stood there; `null` when nothing.
    pub before: Value,
    /// What stands there; `null` when nothing.
    pub after: Value,
}

/// What is different, in the order of the places.
#[must_use]
pub fn diff(before: &Document, after: &Document) -> Vec<Change> {
    let json = |document| serde_json::to_value(document).unwrap_or_default();
    let mut changes = Vec::new();
    compare("", &json(before), &json(after), &mut changes);
    changes
}

fn compare(at: &str, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                compare(&format!("{at}/{key}"), old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), changes);
            }
        }
        (before, after) if before == after => {}
        (before, after) => changes.push(Change { at: at.to_owned(), before: before.clone(), after: after.clone() }),
    }
}
