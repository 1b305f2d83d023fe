//! Reading the configuration from its sources.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind as Fault;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Value};

use super::check::Wrong;
use super::show::{Kind, Row};
use super::{Config, check};

/// The file that is read when it exists and none is named.
const DEFAULT_FILE: &str = "muster.toml";
/// Variables with our prefix that are no settings.
const NOT_SETTINGS: [&str; 3] = ["MUSTER_CONFIG", "MUSTER_LOG", "MUSTER_MASTER_KEY"];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] std::io::Error),
    /// The file is not TOML; the text names line and column.
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
    /// [`Error`] names each wrong value by its key, with what is allowed.
    pub fn load(&self) -> Result<(Config, Vec<String>), Error> {
        let rows = Config::default().rows();
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        if let Some(path) = self.file.clone().or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|p| p.is_file())) {
            figment = figment.merge(Toml::string(&read(&path)?));
        }
        let (mut overlay, mut ignored, mut wrong) = (Dict::new(), Vec::new(), Vec::new());
        let variables = self.environment.iter().filter(|(name, _)| name.starts_with("MUSTER_") && !NOT_SETTINGS.contains(&name.as_str()));
        for (name, text) in variables {
            match rows.iter().find(|row| row.variable() == *name && row.kind != Kind::Section) {
                Some(row) => put(&mut overlay, row, text),
                None => ignored.push(name.clone()),
            }
        }
        for pair in &self.set {
            let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
            match rows.iter().find(|row| row.key == key.trim() && row.kind != Kind::Section) {
                Some(row) => put(&mut overlay, row, text),
                None => wrong.push(Wrong::new(key.trim(), None, "there is no such setting; `muster config print` shows all".into())),
            }
        }
        if !wrong.is_empty() {
            return Err(Error::Wrong(wrong));
        }
        let config: Config = figment.merge(Serialized::globals(overlay)).extract().map_err(|e| Error::Wrong(faults(e)))?;
        let wrong = check::check(&config);
        if wrong.is_empty() { Ok((config, ignored)) } else { Err(Error::Wrong(wrong)) }
    }
}

/// The file's text, when it is TOML at all.
fn read(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::File(path.to_owned(), e))?;
    match toml::from_str::<toml::Table>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Error::Syntax(path.to_owned(), error.to_string())),
    }
}

/// Puts a text from the environment or the command line in its place, as what the setting takes. Texts that do not fit stay texts, and
/// are then refused with the others.
fn put(overlay: &mut Dict, row: &Row, text: &str) {
    let text = text.trim();
    let toml_list = || toml::from_str::<toml::Table>(&format!("x = {text}")).ok().and_then(|mut t| t.remove("x"));
    let value = match row.kind {
        Kind::Number => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        Kind::Switch => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Kind::List if !text.starts_with('[') => {
            Value::from(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(Value::from).collect::<Vec<_>>())
        }
        Kind::List | Kind::Tables => toml_list().and_then(|v| Value::serialize(v).ok()).unwrap_or_else(|| Value::from(text)),
        Kind::Section | Kind::Text => Value::from(text),
    };
    let mut levels = row.key.split('.').rev();
    let Some(mut name) = levels.next() else { return };
    let mut value = value;
    for level in levels {
        value = Value::from(Dict::from([(name.to_owned(), value)]));
        name = level;
    }
    match (overlay.get_mut(name), value) {
        (Some(Value::Dict(_, old)), Value::Dict(_, new)) => merge(old, new),
        (_, value) => drop(overlay.insert(name.to_owned(), value)),
    }
}

fn merge(old: &mut Dict, new: Dict) {
    for (name, value) in new {
        match (old.get_mut(&name), value) {
            (Some(Value::Dict(_, below)), Value::Dict(_, value)) => merge(below, value),
            (_, value) => drop(old.insert(name, value)),
        }
    }
}

fn faults(error: figment::Error) -> Vec<Wrong> {
    let wrong = |error: figment::Error| {
        let key = error.path.join(".");
        let secret = key.ends_with("client_secret") || key == "database";
        let shown = |found: String| if secret { None } else { Some(found) };
        match error.kind {
            Fault::UnknownField(name, known) => {
                let key = if error.path.last().is_some_and(|last| *last == name) { key } else { super::show::below(&key, &name) };
                Wrong::new(&key, None, format!("there is no such setting; there are: {}", known.join(", ")))
            }
            Fault::InvalidType(found, expected) | Fault::InvalidValue(found, expected) => {
                Wrong::new(&key, shown(found.to_string()), format!("must be {expected}"))
            }
            other => Wrong::new(&key, None, if secret { "is not of the right kind".into() } else { other.to_string() }),
        }
    };
    error.into_iter().map(wrong).collect()
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
        let cases: [Case; 9] = [
            ("nonsense = 1", &[], &[], "nonsense: there is no such setting"),
            ("[web]\nlisten = 5", &[], &[], "web.listen"),
            ("[web]\nport = 5", &[], &[], "web.port: there is no such setting"),
            ("[windows]\npoll_minutes = 'often'", &[], &[], "windows.poll_minutes"),
            ("", &[("MUSTER_WORKERS", "many")], &[], "workers"),
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
    fn a_wrong_secret_is_named_but_not_shown() {
        let said = load("[windows.wns]\nclient_secret = 4711", &[], &[]).unwrap_err();
        assert!(said.contains("windows.wns.client_secret") && !said.contains("4711"), "{said}");
    }
}
