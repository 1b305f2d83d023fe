//! Commands: nodes that are run, not written.

use serde::Deserialize;

use super::node::{self, Format, Scope, Vars};
use super::version::OsVersion;

/// A command that is one `Exec` on one node.
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
    /// The node, as in [`super::Setting::uri`].
    pub uri: String,
    /// Format on the wire; [`Format::Null`] has no data.
    pub format: Format,
    /// The data; `{provider}` is filled in.
    #[serde(default)]
    pub data: Option<String>,
    /// As in [`super::Setting::since`].
    #[serde(default)]
    pub since: Vec<OsVersion>,
    /// Takes data or the enrolment away: asks for confirmation and is never sent twice.
    #[serde(default)]
    pub destructive: bool,
    /// The session ends with it: no Status may come.
    #[serde(default)]
    pub ends_session: bool,
}

impl CommandRow {
    pub(super) fn settle(&mut self, area: &str) -> Result<(), String> {
        if self.area.is_empty() {
            self.area = area.to_owned();
        }
        if self.id.is_empty() || self.title.is_empty() || self.help.is_empty() {
            return Err(format!("{}: id, title and help must be there", self.uri));
        }
        node::check_template(&self.uri)
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

    /// Whether Windows of this version has the command; unknown versions are taken to have it.
    #[must_use]
    pub fn supports(&self, os_version: &str) -> bool {
        OsVersion::parse(os_version).is_none_or(|version| version.has(&self.since))
    }
}
