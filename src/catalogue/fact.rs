//! Facts: nodes that are read.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::node::{self, Format, Scope, Vars};
use super::version::OsVersion;

/// The column of a device's row that a fact fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inventory {
    /// Its name.
    DisplayName,
    /// Its serial number.
    SerialNumber,
    /// Its maker.
    Manufacturer,
    /// Its model.
    Model,
    /// Its system's version.
    OsVersion,
    /// Its system's edition.
    OsEdition,
    /// Its stable hardware identifier.
    HardwareId,
    /// The identity provider's id of it.
    EntraDeviceId,
    /// Where to knock to wake it.
    ChannelUri,
}

/// A fact.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactRow {
    /// Name with dots: `bitlocker.device-encryption-status`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// The node, as in [`super::Setting::uri`].
    pub uri: String,
    /// In whose context it is read.
    #[serde(default = "device")]
    pub scope: Scope,
    /// Format on the wire.
    pub format: Format,
    /// Hours between two readings; 0: in each session.
    #[serde(default)]
    pub every_hours: u32,
    /// The device sends it by itself in each session: it is never asked for.
    #[serde(default)]
    pub volunteered: bool,
    /// Which provider says it, as explanations show it: `DeviceStatus`.
    pub source: String,
    /// The device column that it fills.
    #[serde(default)]
    pub inventory: Option<Inventory>,
    /// What the values mean.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// As in [`super::Setting::since`].
    #[serde(default)]
    pub since: Vec<OsVersion>,
    /// What a healthy Windows 11 PC reports; simulated devices start from it. A fact without a sample is absent there.
    #[serde(default)]
    pub sample: Option<String>,
}

fn device() -> Scope {
    Scope::Device
}

impl FactRow {
    pub(super) fn check(&self) -> Result<(), String> {
        let formed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        if !self.name.contains('.') || !self.name.bytes().all(formed) || self.title.is_empty() || self.source.is_empty() {
            return Err(format!("{}: a fact has a dotted name, a title and a source", self.name));
        }
        node::check_template(&self.uri)
    }

    /// The node's address.
    #[must_use]
    pub fn locuri(&self, vars: &Vars<'_>) -> String {
        node::fill(&self.uri, self.scope, vars)
    }

    /// Whether Windows of this version has the node; unknown versions are taken to have it.
    #[must_use]
    pub fn supports(&self, os_version: &str) -> bool {
        OsVersion::parse(os_version).is_none_or(|version| version.has(&self.since))
    }
}
