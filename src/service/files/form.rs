//! The form of the files, and what they are called.

use std::collections::{BTreeSet, HashSet};

use openssl::sha::sha256;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalogue::catalogue;
use crate::catalogue::payload::HIDDEN;
use crate::domain::assignment::Mode;
use crate::domain::device::Platform;
use crate::domain::profile::{Document, Kind};
use crate::service::profile::managed_platform;
use crate::service::{Error, Result};

/// Longest name of a file without its ending, in bytes; longer ones are cut and get a hash of the whole.
const LONGEST: usize = 100;

/// A group as a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GroupFile {
    /// Name for people, unique.
    pub display_name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who belongs to it, where a rule says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Who belongs to it, where no rule says so: exactly they.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub members: Members,
}

/// Who belongs to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// User principal names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub users: BTreeSet<String>,
    /// Names of devices; serial numbers of those whose name several have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<String>,
}

impl Members {
    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.devices.is_empty()
    }
}

/// A profile or policy as a file: what `muster profile export` writes, and whom it is for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// Name for people, unique.
    pub display_name: String,
    /// What it does.
    pub kind: Kind,
    /// For which devices.
    #[serde(deserialize_with = "managed_platform")]
    pub platform: Platform,
    /// Whom it is for: exactly they.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub assignments: BTreeSet<Assigned>,
    /// Its content.
    pub document: Document,
}

/// For whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Assigned {
    /// Everybody of a kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Everybody>,
    /// The members of the group of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Not for them, whatever else is assigned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclude: bool,
}

/// Everybody of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Everybody {
    /// Every device.
    Devices,
    /// Every device that has a user.
    Users,
}

impl Assigned {
    /// Gives or withholds.
    pub(super) fn mode(&self) -> Mode {
        if self.exclude { Mode::Exclude } else { Mode::Include }
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        let whom = match (&self.group, self.all) {
            (Some(group), _) => format!("group {group}"),
            (None, Some(Everybody::Users)) => "all users".into(),
            (None, _) => "all devices".into(),
        };
        if self.exclude { format!("not {whom}") } else { whom }
    }
}

/// All files of a folder, each with where it stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Wanted {
    /// Groups.
    pub groups: Vec<(String, GroupFile)>,
    /// Profiles and policies.
    pub profiles: Vec<(String, ProfileFile)>,
}

impl Wanted {
    /// The groups that files are about.
    pub(super) fn groups_named(&self) -> HashSet<&str> {
        self.groups.iter().map(|(_, file)| file.display_name.as_str()).collect()
    }

    /// Whether a file writes a secret out.
    #[must_use]
    pub fn writes_secrets(&self) -> bool {
        self.profiles.iter().any(|(_, file)| file.writes_secrets())
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
    toml::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| error.to_string().trim_end().to_owned())
}

fn text<T: Serialize>(file: &T) -> Result<String> {
    toml::to_string_pretty(file).map_err(Error::internal)
}

impl GroupFile {
    /// Reads a text.
    ///
    /// # Errors
    /// What does not parse, and where.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut file: Self = parse(text)?;
        file.members.users = file.members.users.iter().map(|upn| upn.to_lowercase()).collect();
        if file.rule.is_some() && !file.members.is_empty() {
            return Err("a group has a rule or members".into());
        }
        Ok(file)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// Never.
    pub fn text(&self) -> Result<String> {
        text(self)
    }
}

impl ProfileFile {
    /// Reads a text.
    ///
    /// # Errors
    /// What does not parse, and where.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let file: Self = parse(text)?;
        match file.assignments.iter().find(|one| one.group.is_some() == one.all.is_some()) {
            Some(_) => Err("an assignment names a group, or all = \"devices\" or \"users\"".into()),
            None => Ok(file),
        }
    }

    /// Whether it writes a secret out, in the place of the mask.
    pub(super) fn writes_secrets(&self) -> bool {
        self.document.masked(catalogue()) != self.document
    }

    /// The text of the file.
    ///
    /// # Errors
    /// Never.
    pub fn text(&self) -> Result<String> {
        text(self)
    }
}

/// Where the file of a group stands.
pub(super) fn path_of_group(name: &str) -> String {
    format!("groups/{}.toml", stem(name))
}

/// Where the file of a profile stands.
pub(super) fn path_of_profile(kind: Kind, name: &str) -> String {
    let folder = if kind == Kind::Compliance { "policies" } else { "profiles" };
    format!("{folder}/{}.toml", stem(name))
}

/// What a file is called: the name with underscores for spaces and `%XX` for all that some system gives a meaning to. Names that differ have
/// files that differ.
fn stem(name: &str) -> String {
    let mut stem = String::new();
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b' ' => stem.push('_'),
            b'.' if at > 0 => stem.push('.'),
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' => stem.push(char::from(byte)),
            other => stem.push_str(&format!("%{other:02X}")),
        }
    }
    if stem.len() > LONGEST {
        stem.truncate(LONGEST - 17);
        let hash = hex::encode(sha256(name.as_bytes()));
        stem = format!("{stem}~{}", hash.get(..16).unwrap_or_default());
    }
    stem
}

/// Puts what the profile has in the place of what is hidden in the file: at the same place, of the same payload or node.
pub(super) fn uncover(at: &str, new: &mut Value, held: Option<&Value>) -> std::result::Result<(), String> {
    match new {
        Value::String(text) if text == HIDDEN => {
            *new = held.cloned().ok_or_else(|| format!("{at}: the secret is hidden, and there is none to leave as it is"))?;
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                uncover(&format!("{at}/{name}"), value, held.and_then(|held| held.get(name.as_str())))?;
            }
        }
        Value::Array(items) => {
            let known = held.and_then(Value::as_array);
            let count = items.len();
            for (index, item) in items.iter_mut().enumerate() {
                let same = known.and_then(|known| {
                    // What is hidden depends on the format of a node: under another one it would be shown.
                    let key = |item: &Value| {
                        let name = item.get("uri").or_else(|| item.get("name"))?.clone();
                        Some((name, item.get("type").cloned(), item.get("format").cloned()))
                    };
                    match key(item) {
                        Some(own) => known.iter().find(|other| key(other).as_ref() == Some(&own)),
                        None => known.get(index).filter(|_| known.len() == count),
                    }
                });
                uncover(&format!("{at}/{index}"), item, same)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_called_so_that_no_name_leaves_the_folder_or_meets_another() {
        for (name, path) in [
            ("Wi-Fi", "groups/Wi-Fi.toml"),
            ("Wi Fi", "groups/Wi_Fi.toml"),
            ("Wi_Fi", "groups/Wi%5FFi.toml"),
            ("../x", "groups/%2E.%2Fx.toml"),
            (".git", "groups/%2Egit.toml"),
            ("Ä", "groups/%C3%84.toml"),
            ("a.b", "groups/a.b.toml"),
        ] {
            assert_eq!(path_of_group(name), path);
        }
        let long = path_of_group(&"ä".repeat(128));
        assert!(long.len() < 120 && long != path_of_group(&"ä".repeat(127)), "{long}");
        assert_eq!(path_of_profile(Kind::Compliance, "x"), "policies/x.toml");
    }

    #[test]
    fn what_is_hidden_stays_where_the_same_thing_is() {
        let held = json!({ "payloads": [
            { "type": "vpn", "name": "b", "secret": "two", "list": [{ "x": "deep" }] }, { "type": "wifi", "name": "a", "secret": "one" },
        ], "custom": [{ "uri": "./A", "name": "", "value": "v" }] });
        let mut new = json!({ "payloads": [
            { "type": "wifi", "name": "a", "secret": HIDDEN }, { "type": "vpn", "name": "b", "secret": HIDDEN, "list": [{ "x": HIDDEN }] },
        ], "custom": [{ "uri": "./A", "name": "other", "value": HIDDEN }] });
        uncover("document", &mut new, Some(&held)).unwrap();
        assert_eq!(new["payloads"][0]["secret"], "one");
        assert_eq!((&new["payloads"][1]["secret"], &new["payloads"][1]["list"][0]["x"]), (&json!("two"), &json!("deep")));
        assert_eq!(new["custom"][0]["value"], "v");
        for wrong in [
            json!({ "payloads": [{ "type": "vpn", "name": "a", "secret": HIDDEN }] }),
            json!({ "payloads": [{ "type": "wifi", "name": "c", "secret": HIDDEN }] }),
            json!({ "payloads": [{ "type": "vpn", "name": "b", "list": [{ "x": "1" }, { "x": HIDDEN }] }] }),
            json!({ "settings": { "x": HIDDEN } }),
            json!({ "custom": [{ "uri": "./A", "name": "", "format": "date", "value": HIDDEN }] }),
        ] {
            assert!(uncover("document", &mut wrong.clone(), Some(&held)).unwrap_err().contains("hidden"), "{wrong}");
        }
    }
}
