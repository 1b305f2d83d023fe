//! Reading the configuration from its sources.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::check::Wrong;
use super::show::{Kind, Row, below};
use super::{Config, check};

/// The file that is read when it exists and none is named.
const DEFAULT_FILE: &str = "muster.toml";
/// Variables with our prefix that are no settings.
const NOT_SETTINGS: [&str; 4] = ["MUSTER_CONFIG", "MUSTER_LOG", "MUSTER_MASTER_KEY", "MUSTER_SERVER"];
/// Longest value that is shown where it is wrong, in letters.
const LONGEST_SHOWN: usize = 100;
/// A text that no rule about texts allows.
const NO_TEXT: &str = "\u{1}";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The file is not TOML; the text names the line.
    #[error("{0}: {1}")]
    Syntax(PathBuf, String),
    /// Values that are not allowed, all of them.
    #[error("the configuration is not right:\n{}", .0.iter().map(|w| format!("  {w}")).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Wrong>),
}

/// Where the configuration comes from, in rising order of precedence.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file that must exist; else `muster.toml` when it is there.
    pub file: Option<PathBuf>,
    /// Environment variables; those without our prefix are not looked at.
    pub environment: Vec<(String, String)>,
    /// `KEY=VALUE` from the command line.
    pub set: Vec<String>,
}

impl Sources {
    /// The named file (or the usual one), this process's environment, and the given settings.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, set: Vec<String>) -> Self {
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        Self { file, environment, set }
    }

    /// Reads and checks. Beside the configuration come the names of variables that look like settings and are none (orchestrators set
    /// such names by themselves, so they are not an error).
    ///
    /// # Errors
    /// [`Error`] names every wrong value of all sources by its key, with what is allowed.
    pub fn load(&self) -> Result<(Config, Vec<String>), Error> {
        let rows = Config::default().rows();
        let mut given = match self.file.clone().or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|p| p.is_file())) {
            Some(path) => read(&path)?,
            None => Table::new(),
        };
        let (mut ignored, mut wrong) = (Vec::new(), Vec::new());
        let variables = self.environment.iter().filter(|(name, _)| name.starts_with("MUSTER_") && !NOT_SETTINGS.contains(&name.as_str()));
        for (name, text) in variables {
            match rows.iter().find(|row| row.variable() == *name && row.kind != Kind::Section) {
                Some(row) => put(&mut given, &row.key, typed(row, text)),
                None => ignored.push(name.clone()),
            }
        }
        for pair in &self.set {
            let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
            match rows.iter().find(|row| row.key == key.trim() && row.kind != Kind::Section) {
                Some(row) => put(&mut given, &row.key, typed(row, text)),
                None => wrong.push(Wrong::new(key.trim(), None, "there is no such setting; `muster config print` shows all".into())),
            }
        }
        let mut right = Table::new();
        sort_out(&rows, "", given, &mut right, &mut wrong);
        // Each value alone is of the right kind: what is left are the rules. Where a value is wrong already, its default is judged.
        let config = whole(right).map_err(|e| Error::Wrong(vec![Wrong::new("", None, e.message().to_owned())]))?;
        let by_rule = check::check(&config).into_iter().filter(|rule| wrong.iter().all(|known| known.key != rule.key)).collect::<Vec<_>>();
        wrong.extend(by_rule);
        if wrong.is_empty() { Ok((config, ignored)) } else { Err(Error::Wrong(wrong)) }
    }
}

/// What the file says, when it is TOML at all.
fn read(path: &Path) -> Result<Table, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::File(path.to_owned(), e))?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        // Without the line itself, which may hold a secret.
        let line = error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        Error::Syntax(path.to_owned(), format!("line {line}: {}", error.message()))
    })
}

/// A text from the environment or the command line as what the setting takes. Texts that do not fit stay texts, and are then refused with
/// the others.
fn typed(row: &Row, text: &str) -> Value {
    let text = text.trim();
    let toml_list = || toml::from_str::<Table>(&format!("x = {text}")).ok().and_then(|mut t| t.remove("x"));
    match row.kind {
        Kind::Number => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
        Kind::Switch => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Kind::List if !text.starts_with('[') => {
            Value::from(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(Value::from).collect::<Vec<_>>())
        }
        Kind::List | Kind::Tables => toml_list().unwrap_or_else(|| Value::from(text)),
        Kind::Section | Kind::Text => Value::from(text),
    }
}

/// Puts a value under a key with dots. Where something else than a table is in its way, it stays: that is refused.
fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            if let Value::Table(inner) = table.entry(section).or_insert_with(|| Value::Table(Table::new())) {
                put(inner, rest, value);
            }
        }
    }
}

/// Takes over each value that its setting can have, and names those that it cannot have and those of no setting.
fn sort_out(rows: &[Row], section: &str, given: Table, right: &mut Table, wrong: &mut Vec<Wrong>) {
    for (name, value) in given {
        let key = below(section, &name);
        let Some(row) = rows.iter().find(|row| row.key == key) else {
            wrong.push(Wrong::new(&key, None, format!("there is no such setting; there are: {}", names(rows, section))));
            continue;
        };
        match (row.kind, value) {
            (Kind::Section, Value::Table(inner)) => sort_out(rows, &key, inner, right, wrong),
            (Kind::Section, other) => {
                // What a list holds may be a secret.
                let shown = (!other.is_array()).then(|| shown(&other));
                wrong.push(Wrong::new(&key, shown, format!("is a table with: {}", names(rows, &key))));
            }
            (_, value) if is_of_kind(&key, value.clone()) => put(right, &key, value),
            (_, value) => {
                let secret = key.ends_with("client_secret") || key == "database";
                wrong.push(Wrong::new(&key, (!secret).then(|| shown(&value)), allowed(row)));
            }
        }
    }
}

/// The settings and tables of a section.
fn names(rows: &[Row], section: &str) -> String {
    let inside = |row: &Row| {
        let rest =
            if section.is_empty() { Some(row.key.as_str()) } else { row.key.strip_prefix(section).and_then(|r| r.strip_prefix('.')) };
        rest.filter(|rest| !rest.is_empty() && !rest.contains('.')).map(str::to_owned)
    };
    rows.iter().filter_map(inside).collect::<Vec<_>>().join(", ")
}

fn shown(value: &Value) -> String {
    value.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_SHOWN).collect()
}

/// A configuration where only this is said.
fn alone(key: &str, value: Value) -> Option<Config> {
    let mut table = Table::new();
    put(&mut table, key, value);
    whole(table).ok()
}

/// The configuration with defaults for what is not said: those of the whole, since a section may have others there than by itself.
fn whole(said: Table) -> Result<Config, toml::de::Error> {
    let mut all = Table::try_from(Config::default()).map_err(serde::de::Error::custom)?;
    merge(&mut all, said);
    Value::Table(all).try_into()
}

fn merge(all: &mut Table, said: Table) {
    for (name, value) in said {
        match (all.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(said)) => merge(below, said),
            (_, value) => drop(all.insert(name, value)),
        }
    }
}

fn is_of_kind(key: &str, value: Value) -> bool {
    alone(key, value).is_some()
}

/// What a setting may be: by the rule that refuses a value of the right kind that nobody wants, else by its kind.
fn allowed(row: &Row) -> String {
    let unwanted = match row.kind {
        Kind::Number => Value::from(i64::from(u32::MAX)),
        Kind::List => Value::from(vec![NO_TEXT]),
        Kind::Section | Kind::Switch | Kind::Tables | Kind::Text => Value::from(NO_TEXT),
    };
    let config = alone(&row.key, unwanted);
    let takes_any = config.is_some();
    let rule = config.and_then(|config| check::check(&config).into_iter().find(|wrong| wrong.key == row.key));
    rule.map_or_else(|| of_kind(row, takes_any), |rule| rule.allowed)
}

fn of_kind(row: &Row, takes_any: bool) -> String {
    match row.kind {
        Kind::Number => format!("must be a whole number from 0 to {}", u32::MAX),
        Kind::Switch => "must be true or false".into(),
        Kind::List if takes_any => "must be a list of texts".into(),
        Kind::List => "must be a list of IP addresses".into(),
        Kind::Tables => "must be a list of tables with tenant_id, issuer, audience and jwks_uri".into(),
        Kind::Text if takes_any => "must be a text".into(),
        Kind::Section | Kind::Text => format!("must be of the form {}", row.value.as_deref().unwrap_or("of a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<(Config, Vec<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.toml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let set = set.iter().map(|s| (*s).to_owned()).collect();
        Sources { file: Some(path), environment, set }.load().map_err(|e| e.to_string())
    }

    #[test]
    fn later_sources_win_and_a_section_keeps_its_other_defaults() {
        let file = "organisation = 'File'\n[web]\nurl = 'https://muster.example.org'\n[windows]\npoll_minutes = 60\n";
        let (config, ignored) = load(
            file,
            &[
                ("MUSTER_ORGANISATION", "123"),
                ("MUSTER_WINDOWS__WNS__CLIENT_SECRET", "456"),
                ("MUSTER_WINDOWS__DRIFT_HOURS", "12"),
                ("MUSTER_PORT_8443_TCP", "tcp://10.0.0.1:8443"),
                ("MUSTER_MASTER_KEY", "no setting"),
                ("PATH", "/bin"),
            ],
            &["windows.poll_minutes=30", "proxies=10.0.0.1, 10.0.0.2", "single_port=false"],
        )
        .unwrap();
        assert_eq!(config.organisation, "123");
        assert_eq!(config.windows.wns.client_secret.expose(), "456");
        assert_eq!((config.windows.poll_minutes, config.windows.drift_hours, config.windows.commands_per_message), (30, 12, 100));
        assert_eq!(config.web.listen.port(), 8443);
        assert_eq!(config.proxies.len(), 2);
        assert_eq!(ignored, ["MUSTER_PORT_8443_TCP"]);
    }

    #[test]
    fn each_fault_names_its_key_and_what_is_allowed() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static str);
        let cases: [Case; 17] = [
            ("nonsense = 1", &[], &[], "nonsense: there is no such setting; there are: data_dir, "),
            ("[nonsense]\nport = 1", &[], &[], "nonsense: there is no such setting"),
            ("web = 5", &[], &["web.url=https://x"], "web = 5: is a table with: listen, url"),
            ("[web]\nlisten = 5", &[], &[], "web.listen = 5: must be of the form \"0.0.0.0:8443\""),
            ("[web]\nport = 5", &[], &[], "web.port: there is no such setting; there are: listen, url"),
            ("[windows]\npoll_minutes = 'often'", &[], &[], "windows.poll_minutes = \"often\": must be 1 to 44640"),
            ("single_port = 1", &[], &[], "single_port = 1: must be true or false"),
            ("organisation = 1", &[], &[], "organisation = 1: must be a text"),
            ("[ca]\nkey_algorithm = 2048", &[], &[], "ca.key_algorithm = 2048: must be one of rsa-2048"),
            ("[limits]\nanonymous_per_second = -1", &[], &[], "limits.anonymous_per_second = -1: must be a whole number from 0"),
            ("", &[("MUSTER_PROXIES", "here")], &[], "proxies = [\"here\"]: must be a list of IP addresses"),
            ("[[windows.entra]]\ntenant_id = 'x'", &[], &[], "must be a list of tables with tenant_id, issuer"),
            ("", &[("MUSTER_WORKERS", "many")], &[], "workers = \"many\": must be 0 to 1024"),
            ("", &[], &["nothing=1"], "nothing: there is no such setting"),
            ("[ca]\nkey_algorithm = 'rsa-1024'", &[], &[], "ca.key_algorithm = rsa-1024: must be one of rsa-2048"),
            ("[compliance]\nvalidity_days = 500", &[], &[], "compliance.validity_days = 500: must be 1 to 120"),
            ("organisation = ", &[], &[], "line 1"),
        ];
        for (file, environment, set, expected) in cases {
            let said = load(file, environment, set).unwrap_err();
            assert!(said.contains(expected), "{expected}: {said}");
        }
        let said = load("[compliance]\nvalidity_days = 0\n[signals]\ntimeout_seconds = 0", &[], &[]).unwrap_err();
        assert!(said.contains("compliance.validity_days") && said.contains("signals.timeout_seconds"), "all at once: {said}");
    }

    #[test]
    fn every_fault_of_every_source_is_named_at_once() {
        let file =
            "colour = 'red'\n[webb]\nurl = 'x'\n[windows]\npoll_minutes = 'often'\ndrift_hours = 0\n[signals]\ntimeout_seconds = true\n";
        let said = load(
            file,
            &[("MUSTER_WORKERS", "many"), ("MUSTER_CA__KEY_ALGORITHM", "rsa-1024"), ("MUSTER_DATABASE", "mysql://u:hunter2@x")],
            &["scep.renewal_percent=101", "nothing=1", "apple.user_channels=yes"],
        )
        .unwrap_err();
        for expected in [
            "colour: there is no such setting",
            "webb: there is no such setting",
            "windows.poll_minutes = \"often\": must be 1 to 44640",
            "windows.drift_hours = 0: must be 1 to 8760",
            "signals.timeout_seconds = true: must be 1 to 120",
            "workers = \"many\": must be 0 to 1024",
            "ca.key_algorithm = rsa-1024: must be one of rsa-2048",
            "database: must be a postgres:// URL",
            "scep.renewal_percent = 101: must be 1 to 100",
            "nothing: there is no such setting",
            "apple.user_channels = \"yes\": must be true or false",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        assert_eq!(said.lines().count(), 12, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn a_wrong_secret_is_named_but_not_shown() {
        let said = load("\n[windows.wns]\nclient_secret = hunter2", &[], &[]).unwrap_err();
        assert!(said.contains("line 3") && !said.contains("hunter2"), "{said}");
        let said = load("[windows.wns]\nclient_secret = 4711", &[], &[]).unwrap_err();
        assert!(said.contains("windows.wns.client_secret") && !said.contains("4711"), "{said}");
    }
}
