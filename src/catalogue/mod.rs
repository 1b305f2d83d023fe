//! The catalogue: settings, facts, commands and compliance rules as rows of the TOML files under `profiles/`.
//!
//! | Folder | Holds |
//! | --- | --- |
//! | `profiles/windows/` | settings and commands, a file per configuration service provider or policy area, and `facts.toml` |
//! | `profiles/apple/` | payloads of configuration profiles and declarations, a file each; `facts.toml` and `commands.toml` |
//! | `profiles/compliance/` | rules: what a device is judged by |
//! | `profiles/baselines/` | ready profiles that `muster profile apply` and the demo use |
//!
//! A new setting is a new row; nothing in the program names a single setting. The rows are held against the device makers' own
//! description files by the tests `windows_ddf` and `apple_payloads`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

mod admx;
mod allowed;
mod baseline;
mod command;
mod edition;
mod fact;
mod nearest;
mod node;
pub mod payload;
mod rule;
mod setting;
mod version;

pub use allowed::Allowed;
pub use baseline::{Baseline, baselines};
pub use command::{CommandRow, Need};
pub use edition::Family;
pub use fact::{Asked, FactRow, Inventory};
pub use nearest::{asked_after, meant};
pub use node::{Access, Format, Scope, Vars, Verb};
pub use payload::PayloadRow;
pub use rule::{Check, Enforce, Judgement, Operator, Reading, RuleRow, ValueType};
pub use setting::{Setting, Stricter, Withdraw};
pub use version::OsVersion;

/// The files as they were when the program was built.
#[derive(rust_embed::RustEmbed)]
#[folder = "profiles/"]
#[include = "*.toml"]
struct Files;

/// What one file of rows may hold.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The area that rows without one of their own belong to.
    #[serde(default)]
    area: String,
    /// The platform whose devices the rules are for.
    #[serde(default)]
    platform: String,
    #[serde(default)]
    setting: Vec<Setting>,
    #[serde(default)]
    command: Vec<CommandRow>,
    #[serde(default)]
    fact: Vec<FactRow>,
    #[serde(default)]
    rule: Vec<RuleRow>,
    #[serde(default)]
    payload: Vec<PayloadRow>,
}

/// All rows, by identifier.
#[derive(Debug, Default)]
pub struct Catalogue {
    settings: BTreeMap<String, Setting>,
    commands: BTreeMap<String, CommandRow>,
    facts: BTreeMap<String, FactRow>,
    rules: BTreeMap<String, BTreeMap<String, RuleRow>>,
    payloads: BTreeMap<String, PayloadRow>,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    #[allow(clippy::panic, reason = "the rows are part of the program: a test loads them, and nothing can run on wrong ones")]
    Catalogue::load().unwrap_or_else(|problem| panic!("the built-in catalogue is wrong: {problem}"))
});

/// The catalogue of this program.
#[must_use]
pub fn catalogue() -> &'static Catalogue {
    &CATALOGUE
}

impl Catalogue {
    /// Reads the embedded rows.
    ///
    /// # Errors
    /// Names the file and row that is wrong.
    pub fn load() -> Result<Self, String> {
        let mut catalogue = Self::default();
        for name in Files::iter().filter(|name| !name.starts_with("baselines/")) {
            let file = Files::get(&name).ok_or_else(|| format!("{name} is not there"))?;
            let text = std::str::from_utf8(&file.data).map_err(|e| format!("{name}: {e}"))?;
            catalogue.add(text).map_err(|problem| format!("{name}: {problem}"))?;
        }
        catalogue.complete()?;
        catalogue.check()?;
        Ok(catalogue)
    }

    /// Gives payloads the keys of those that they are like.
    fn complete(&mut self) -> Result<(), String> {
        let likes = |row: &PayloadRow| Some((row.id.clone(), row.like.clone()?));
        for (id, like) in self.payloads.values().filter_map(likes).collect::<Vec<_>>() {
            let keys = self.payloads.get(&like).ok_or_else(|| format!("{id}: there is no payload {like}"))?.keys.clone();
            if let Some(row) = self.payloads.get_mut(&id) {
                row.keys.extend(keys);
                row.check()?;
            }
        }
        Ok(())
    }

    /// Adds the rows of one file.
    ///
    /// # Errors
    /// Names the row that is wrong.
    fn add(&mut self, text: &str) -> Result<(), String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        for mut row in file.setting {
            row.settle(&file.area)?;
            put(&mut self.settings, row.id.clone(), row)?;
        }
        for mut row in file.command {
            row.settle(&file.area)?;
            put(&mut self.commands, row.id.clone(), row)?;
        }
        for row in file.fact {
            row.check()?;
            put(&mut self.facts, row.name.clone(), row)?;
        }
        for mut row in file.rule {
            if row.platform.is_empty() {
                row.platform.clone_from(&file.platform);
            }
            put(self.rules.entry(row.platform.clone()).or_default(), row.id.clone(), row)?;
        }
        for row in file.payload {
            row.check()?;
            put(&mut self.payloads, row.id.clone(), row)?;
        }
        Ok(())
    }

    /// Checks what ties rows together.
    fn check(&self) -> Result<(), String> {
        self.rules().try_for_each(|rule| rule.check_against(self))
    }

    /// All settings in the order of their identifiers.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.settings.values()
    }

    /// The setting of this identifier.
    #[must_use]
    pub fn setting(&self, id: &str) -> Option<&Setting> {
        self.settings.get(id)
    }

    /// All commands.
    pub fn commands(&self) -> impl Iterator<Item = &CommandRow> {
        self.commands.values()
    }

    /// The command of this identifier.
    #[must_use]
    pub fn command(&self, id: &str) -> Option<&CommandRow> {
        self.commands.get(id)
    }

    /// All facts.
    pub fn facts(&self) -> impl Iterator<Item = &FactRow> {
        self.facts.values()
    }

    /// The fact of this name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&FactRow> {
        self.facts.get(name)
    }

    /// All compliance rules.
    pub fn rules(&self) -> impl Iterator<Item = &RuleRow> {
        self.rules.values().flat_map(BTreeMap::values)
    }

    /// All payloads of Apple devices.
    pub fn payloads(&self) -> impl Iterator<Item = &PayloadRow> {
        self.payloads.values()
    }

    /// The payload of this type.
    #[must_use]
    pub fn payload(&self, id: &str) -> Option<&PayloadRow> {
        self.payloads.get(id)
    }

    /// The compliance rule of this identifier (the property name of a compliance policy) for devices of that platform (`windows`).
    #[must_use]
    pub fn rule(&self, platform: &str, id: &str) -> Option<&RuleRow> {
        self.rules.get(platform)?.get(id)
    }
}

fn put<T>(rows: &mut BTreeMap<String, T>, id: String, row: T) -> Result<(), String> {
    match rows.entry(id) {
        std::collections::btree_map::Entry::Occupied(taken) => Err(format!("{} appears twice", taken.key())),
        std::collections::btree_map::Entry::Vacant(free) => {
            free.insert(row);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
