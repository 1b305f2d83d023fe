//! Showing settings with their documentation: as a file, and as a table for the manual.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::{Config, EntraTenant, Hidden};
use crate::store::location;

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A group of settings.
    Section,
    /// Text, a path, an address.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// A list of texts.
    List,
    /// A list of tables.
    Tables,
}

/// A setting or section, as it is shown.
#[derive(Clone, Debug)]
pub struct Row {
    /// The key, with dots between levels; empty for the whole.
    pub key: String,
    /// The value as TOML; none when there is none.
    pub value: Option<String>,
    /// What it is for.
    pub doc: String,
    pub(super) kind: Kind,
}

impl Row {
    pub(super) fn section(key: &str, doc: &str) -> Self {
        Self { key: key.to_owned(), value: None, doc: doc.trim().to_owned(), kind: Kind::Section }
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("MUSTER_{}", self.key.replace('.', "__").to_uppercase())
    }
}

/// What can be shown: sections and single values.
pub(super) trait Shown {
    fn show(&self, key: &str, doc: &str, rows: &mut Vec<Row>);
}

pub(super) fn below(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

macro_rules! shown {
    ($($kind:ty => $what:ident;)+) => {$(
        impl Shown for $kind {
            fn show(&self, key: &str, doc: &str, rows: &mut Vec<Row>) {
                // A value that TOML cannot express is an absent option.
                let value = toml::Value::try_from(self).ok().map(|v| v.to_string());
                rows.push(Row { key: key.to_owned(), value, doc: doc.trim().to_owned(), kind: Kind::$what });
            }
        }
    )+};
}

shown! {
    bool => Switch;
    Hidden => Text;
    Option<PathBuf> => Text;
    Option<String> => Text;
    PathBuf => Text;
    SocketAddr => Text;
    String => Text;
    u32 => Number;
    usize => Number;
    Vec<EntraTenant> => Tables;
    Vec<IpAddr> => List;
    Vec<String> => List;
}

impl Config {
    /// All settings in order, secrets masked.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        self.show("", "", &mut rows);
        for row in rows.iter_mut().filter(|row| row.key == "database") {
            row.value = self.database.as_deref().map(|text| toml::Value::from(location::shown(text)).to_string());
        }
        rows
    }

    /// The settings by their keys, each value as TOML; secrets masked.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, Option<String>> {
        self.rows().into_iter().filter(|row| row.kind != Kind::Section).map(|row| (row.key, row.value)).collect()
    }

    /// The configuration as a commented TOML file, secrets masked.
    #[must_use]
    pub fn to_file(&self) -> String {
        let mut text = String::new();
        for row in self.rows().iter().filter(|row| !row.key.is_empty()) {
            text.push('\n');
            text.push_str(&format!("# {}\n", row.doc));
            let name = row.key.rsplit('.').next().unwrap_or(&row.key);
            match (row.kind, &row.value) {
                (Kind::Section, _) => text.push_str(&format!("[{}]\n", row.key)),
                (_, Some(value)) => text.push_str(&format!("{name} = {value}\n")),
                (_, None) => text.push_str(&format!("# {name} =\n")),
            }
        }
        text.trim_start().to_owned()
    }

    /// The table of all settings for the manual, in Markdown.
    #[must_use]
    pub fn manual() -> String {
        let mut text = String::from("| Key | Default | Meaning |\n| --- | --- | --- |\n");
        for row in Self::default().rows().iter().filter(|row| !row.key.is_empty()) {
            if row.kind == Kind::Section {
                text.push_str(&format!("| **`[{}]`** | | **{}** |\n", row.key, row.doc));
            } else {
                let default = row.value.as_deref().map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
                text.push_str(&format!("| `{}` | {default} | {} |\n", row.key, row.doc));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back_and_hides_secrets() {
        let mut config = Config { organisation: "Näme \"quoted\"".into(), ..Config::default() };
        config.tls.extra_names = vec!["enterpriseenrollment.example.org".into()];
        config.proxies = vec!["10.0.0.1".parse().unwrap()];
        let text = config.to_file();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config, "{text}");
        config.windows.wns.client_secret = Hidden::from("hunter2".to_owned());
        config.database = Some("postgres://muster:hunter2@db/muster".into());
        assert!(!config.to_file().contains("hunter2") && !format!("{:?}", config.windows).contains("hunter2"));
    }

    #[test]
    fn every_setting_is_documented() {
        for row in Config::default().rows().iter().filter(|row| !row.key.is_empty()) {
            assert!(row.doc.ends_with('.'), "{}: {}", row.key, row.doc);
        }
    }
}
