//! Profiles: named sets of what a device should have, and compliance policies, as documents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::device::Platform;
use crate::ids::ProfileId;

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
    /// Catalogue settings: id to value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Value>,
    /// Settings that the catalogue does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<Custom>,
    /// Parts with behaviour of their own: certificates, SCEP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payloads: Vec<Payload>,
    /// The rules, when this is a compliance policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance: Option<Compliance>,
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
