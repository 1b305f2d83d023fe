//! Commands: what devices are told to do. On Windows a node that is run, on Apple devices a request.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::edition::{self, Family};
use super::node::{self, Format, Scope, Vars};
use super::payload::{Range, range};
use super::version::OsVersion;

/// A command: one `Exec` on one node, one request, or either by platform.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRow {
    /// Identifier, kebab case: `reboot`, `wipe`.
    pub id: String,
    /// Name for people.
    pub title: String,
    /// What it does.
    pub help: String,
    /// The provider; the file's when the row has none.
    #[serde(default)]
    pub area: String,
    /// The node, as in [`super::Setting::uri`]; empty where Windows has no such command.
    #[serde(default)]
    pub uri: String,
    /// The request of Apple devices (`RestartDevice`); empty where they have none.
    #[serde(default)]
    pub request: String,
    /// The platforms that have the request; all of Apple's when empty.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// The versions of macOS that have the request; all when it is not given.
    #[serde(default, deserialize_with = "range")]
    pub macos: Option<Range>,
    /// The same of iOS and iPadOS.
    #[serde(default, deserialize_with = "range")]
    pub ios: Option<Range>,
    /// What a device has to be, beside its version, to obey.
    #[serde(default)]
    pub needs: Needs,
    /// The values that an Apple device can be told with it, by name.
    #[serde(default)]
    pub takes: Vec<String>,
    /// Those of the values that are files.
    #[serde(default)]
    pub files: Vec<String>,
    /// The versions that know a value, where they are fewer than those that have the request.
    #[serde(default)]
    pub versions: Versions,
    /// Format on the wire; [`Format::Null`] has no data.
    #[serde(default = "null")]
    pub format: Format,
    /// The data; `{provider}` is filled in.
    #[serde(default)]
    pub data: Option<String>,
    /// As in [`super::Setting::since`].
    #[serde(default)]
    pub since: Vec<OsVersion>,
    /// As in [`super::Setting::editions`].
    #[serde(default)]
    pub editions: Vec<u32>,
    /// As in [`super::Setting::lacking`].
    #[serde(default)]
    pub lacking: Vec<Family>,
    /// Takes data or the enrolment away: asks for confirmation and is never sent twice.
    #[serde(default)]
    pub destructive: bool,
    /// A device that obeys is managed no more: it left, or everything on it is gone.
    #[serde(default)]
    pub ends_enrollment: bool,
    /// The session ends with it: no Status may come.
    #[serde(default)]
    pub ends_session: bool,
}

/// What devices have to be to obey, by platform.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Macs.
    #[serde(default)]
    pub macos: Vec<Need>,
    /// iPhones and iPads.
    #[serde(default)]
    pub ios: Vec<Need>,
}

/// Since which versions values are known, by platform and name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Macs.
    #[serde(default)]
    pub macos: BTreeMap<String, OsVersion>,
    /// iPhones and iPads.
    #[serde(default)]
    pub ios: BTreeMap<String, OsVersion>,
}

/// What a device has to be to obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Supervised.
    Supervision,
    /// A Mac with Apple silicon.
    Silicon,
    /// A Mac with an Intel processor.
    Intel,
    /// An iPad that several users share.
    SharedIpad,
    /// Marked as lost.
    LostMode,
    /// Enrolled from Setup Assistant.
    Automated,
    /// Waiting in Setup Assistant.
    Setup,
    /// A Mac whose recovery key is kept.
    RecoveryKey,
}

fn null() -> Format {
    Format::Null
}

impl CommandRow {
    pub(super) fn settle(&mut self, area: &str) -> Result<(), String> {
        if self.area.is_empty() {
            self.area = area.to_owned();
        }
        if self.id.is_empty() || self.title.is_empty() || self.help.is_empty() {
            return Err(format!("{}{}: id, title and help must be there", self.uri, self.request));
        }
        let named = self.files.iter().chain(self.versions.macos.keys()).chain(self.versions.ios.keys());
        if let Some(name) = named.into_iter().find(|name| !self.takes.contains(name)) {
            return Err(format!("{}: it does not take {name}", self.id));
        }
        if self.uri.is_empty() && !self.request.is_empty() { Ok(()) } else { node::check_template(&self.uri) }
    }

    /// The platforms whose devices have it.
    #[must_use]
    pub fn platforms(&self) -> Vec<&'static str> {
        ["windows", "macos", "ios"].into_iter().filter(|platform| self.is_of(platform)).collect()
    }

    /// Whether devices of that platform (`windows`, `macos`, `ios`) have it.
    #[must_use]
    pub fn is_of(&self, platform: &str) -> bool {
        match platform {
            "windows" => !self.uri.is_empty(),
            "macos" | "ios" => !self.request.is_empty() && (self.platforms.is_empty() || self.platforms.iter().any(|one| one == platform)),
            _ => false,
        }
    }

    /// What devices of that platform have to be to obey.
    #[must_use]
    pub fn needs(&self, platform: &str) -> &[Need] {
        match platform {
            "macos" => &self.needs.macos,
            "ios" => &self.needs.ios,
            _ => &[],
        }
    }

    /// The first version of the system that knows the value, where not all know it that have the command.
    #[must_use]
    pub fn knows_since(&self, platform: &str, value: &str) -> Option<OsVersion> {
        let known = if platform == "macos" { &self.versions.macos } else { &self.versions.ios };
        known.get(value).copied()
    }

    /// The node's address.
    #[must_use]
    pub fn locuri(&self, vars: &Vars<'_>) -> String {
        node::fill(&self.uri, Scope::Device, vars)
    }

    /// The data to send.
    #[must_use]
    pub fn data(&self, vars: &Vars<'_>) -> Option<String> {
        self.data.as_ref().map(|data| data.replace("{provider}", vars.provider))
    }

    /// Whether the system of this version has the command; unknown versions are taken to have it.
    #[must_use]
    pub fn supports(&self, platform: &str, os_version: &str) -> bool {
        let Some(version) = OsVersion::parse(os_version) else { return true };
        match platform {
            "macos" => self.macos.is_none_or(|range| range.has(version)),
            "ios" => self.ios.is_none_or(|range| range.has(version)),
            _ => version.has(&self.since),
        }
    }

    /// Whether that edition of Windows (a SKU number) has the command; unknown editions are taken to have it.
    #[must_use]
    pub fn has_edition(&self, edition: &str) -> bool {
        edition::is_among(edition, &self.editions, &self.lacking)
    }
}
