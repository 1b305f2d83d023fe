//! Facts: what devices are asked for, a node on Windows and a key of an answer on Apple devices.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::edition::{self, Family};
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

/// What of a fact an Apple device shows that is its user's own (user enrolment).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// As other devices.
    #[default]
    Everything,
    /// Only the answer to a request.
    Answer,
    /// Only the status item.
    Status,
    /// Nothing.
    Nothing,
}

/// Where a fact of an Apple device stands.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The request whose answer holds it: `DeviceInformation`, `SecurityInfo`, or `DeviceAttestation` for what an attestation says.
    pub request: String,
    /// Its place in that answer: names, and numbers of items of lists, with slashes between them.
    pub at: String,
    /// The status item that says the same, on devices that report it by themselves.
    #[serde(default)]
    pub status: Option<String>,
    /// The platforms that have it; all of Apple's when empty.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Only devices that enrolled from Setup Assistant are asked.
    #[serde(default)]
    pub automated: bool,
    /// What of it devices show that are their users' own.
    #[serde(default)]
    pub user_enrollment: Shown,
}

impl Asked {
    /// The key of the answer: what is asked for.
    #[must_use]
    pub fn key(&self) -> &str {
        self.at.split('/').next().unwrap_or_default()
    }
}

/// A fact.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactRow {
    /// Name with dots: `bitlocker.device-encryption-status`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// The node, as in [`super::Setting::uri`]; empty for facts of Apple devices.
    #[serde(default)]
    pub uri: String,
    /// Where it stands on Apple devices.
    #[serde(default)]
    pub asked: Option<Asked>,
    /// In whose context it is read.
    #[serde(default = "device")]
    pub scope: Scope,
    /// Format on the wire.
    #[serde(default = "null")]
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
    /// As in [`super::Setting::editions`].
    #[serde(default)]
    pub editions: Vec<u32>,
    /// As in [`super::Setting::lacking`].
    #[serde(default)]
    pub lacking: Vec<Family>,
    /// What a healthy Windows 11 PC reports; simulated devices start from it. A fact without a sample is absent there.
    #[serde(default)]
    pub sample: Option<String>,
}

fn device() -> Scope {
    Scope::Device
}

fn null() -> Format {
    Format::Null
}

impl FactRow {
    pub(super) fn check(&self) -> Result<(), String> {
        let formed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        if !self.name.contains('.') || !self.name.bytes().all(formed) || self.title.is_empty() || self.source.is_empty() {
            return Err(format!("{}: a fact has a dotted name, a title and a source", self.name));
        }
        match &self.asked {
            None => node::check_template(&self.uri),
            Some(_) if !self.uri.is_empty() => Err(format!("{}: a node or a key, not both", self.name)),
            Some(asked)
                if asked.at.is_empty() || !["DeviceAttestation", "DeviceInformation", "SecurityInfo"].contains(&asked.request.as_str()) =>
            {
                Err(format!("{}: no request answers it", self.name))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether devices of that platform (`windows`, `macos`, `ios`) are asked for it.
    #[must_use]
    pub fn is_of(&self, platform: &str) -> bool {
        match &self.asked {
            None => platform == "windows",
            Some(asked) if asked.platforms.is_empty() => matches!(platform, "macos" | "ios"),
            Some(asked) => asked.platforms.iter().any(|one| one == platform),
        }
    }

    /// Whether an Apple device of that platform is asked for it: one in a user enrolment, or another.
    #[must_use]
    pub fn is_asked(&self, platform: &str, user_enrollment: bool) -> bool {
        let shown = |asked: &Asked| !user_enrollment || matches!(asked.user_enrollment, Shown::Everything | Shown::Answer);
        self.is_of(platform) && self.asked.as_ref().is_some_and(shown)
    }

    /// The status item with which such a device reports it by itself.
    #[must_use]
    pub fn status_item(&self, platform: &str, user_enrollment: bool) -> Option<&str> {
        let shown = |asked: &&Asked| !user_enrollment || matches!(asked.user_enrollment, Shown::Everything | Shown::Status);
        self.asked.as_ref().filter(|_| self.is_of(platform)).filter(shown)?.status.as_deref()
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

    /// Whether that edition of Windows (a SKU number) has the node; unknown editions are taken to have it.
    #[must_use]
    pub fn has_edition(&self, edition: &str) -> bool {
        edition::is_among(edition, &self.editions, &self.lacking)
    }
}
