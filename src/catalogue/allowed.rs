//! The values that a node takes: checking, writing, comparing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::admx;
use super::node::Format;
use crate::wire::xml::is_char;

/// The longest text that a setting takes, in bytes.
const LONGEST: usize = 256 * 1024;

/// The values that are allowed; which of the fields counts follows from the row.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Whole numbers from the first to the second.
    #[serde(default)]
    pub range: Option<(i64, i64)>,
    /// One of these: text on the wire to what it means.
    #[serde(default)]
    pub choices: BTreeMap<String, String>,
    /// Text of this form.
    #[serde(default, deserialize_with = "regex")]
    pub pattern: Option<Regex>,
    /// What stands between the parts of a list.
    #[serde(default)]
    pub list: Option<String>,
    /// The value is the state of a group policy, with these elements.
    #[serde(default)]
    pub admx: Option<admx::Policy>,
}

fn regex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Regex>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Regex::new(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Reads text, a number or a truth value as the text that stands for it on the wire.
pub(super) fn scalar_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        other => return Err(serde::de::Error::custom(format!("{other} is not a text, number or truth value"))),
    }))
}

impl Allowed {
    /// Checks that the row's parts fit each other.
    pub(super) fn check(&self, format: Format) -> Result<(), String> {
        let fits = match format {
            Format::Int => self.pattern.is_none() && self.list.is_none() && self.admx.is_none(),
            Format::Chr => self.range.is_none(),
            Format::Null | Format::Node => false,
            _ => self.range.is_none() && self.choices.is_empty() && self.pattern.is_none() && self.list.is_none() && self.admx.is_none(),
        };
        if !fits {
            return Err(format!("these allowed values do not fit the format {}", format.as_str()));
        }
        if format == Format::Int && self.choices.keys().any(|key| key.parse::<i64>().is_err()) {
            return Err("the choices of a number are numbers".into());
        }
        if self.admx.as_ref().is_some_and(|policy| policy.values.keys().any(|id| !policy.data.contains_key(id))) {
            return Err("there are values of an element that the policy does not have".into());
        }
        if self.range.is_some_and(|(least, most)| least > most) {
            return Err("the range is empty".into());
        }
        Ok(())
    }

    /// The value as text on the wire.
    pub(super) fn encode(&self, format: Format, value: &Value) -> Result<String, String> {
        let refuse = || format!("{} is not allowed here; expected {}", shown(value), self.describe(format));
        match format {
            Format::Bool => match value {
                Value::Bool(truth) => Ok(truth.to_string()),
                Value::String(text) if text.eq_ignore_ascii_case("true") => Ok("true".into()),
                Value::String(text) if text.eq_ignore_ascii_case("false") => Ok("false".into()),
                _ => Err(refuse()),
            },
            Format::Int => {
                let number = match value {
                    Value::Number(number) => number.as_i64(),
                    Value::String(text) => whole(text),
                    _ => None,
                }
                .ok_or_else(refuse)?;
                let inside = self.range.is_none_or(|(least, most)| (least..=most).contains(&number));
                let chosen = self.choices.is_empty() || self.choices.contains_key(&number.to_string());
                if inside && chosen { Ok(number.to_string()) } else { Err(refuse()) }
            }
            Format::B64 | Format::Bin => match value {
                Value::String(text) if text.len() <= LONGEST => {
                    let text: String = text.split_whitespace().collect();
                    if STANDARD.decode(&text).is_ok() { Ok(text) } else { Err(refuse()) }
                }
                _ => Err(refuse()),
            },
            Format::Chr | Format::Xml | Format::Time | Format::Date | Format::Float => {
                let text = match (&self.admx, value) {
                    (Some(policy), value) => policy.encode(value).ok_or_else(refuse)??,
                    (None, Value::String(text)) => text.clone(),
                    (None, Value::Array(parts)) => self.join(parts).ok_or_else(refuse)?,
                    (None, _) => return Err(refuse()),
                };
                let plain = text.chars().all(|c| is_char(c) && (!c.is_control() || matches!(c, '\t' | '\n' | '\r')));
                let chosen = self.choices.is_empty() || self.choices.contains_key(&text);
                let formed = self.pattern.as_ref().is_none_or(|form| form.is_match(&text));
                if plain && chosen && formed && text.len() <= LONGEST { Ok(text) } else { Err(refuse()) }
            }
            Format::Null | Format::Node => Err(refuse()),
        }
    }

    fn join(&self, parts: &[Value]) -> Option<String> {
        let between = self.list.as_deref()?;
        let parts: Option<Vec<&str>> = parts.iter().map(|part| part.as_str().filter(|p| !p.is_empty() && !p.contains(between))).collect();
        Some(parts?.join(between))
    }

    /// Whether two texts stand for the same value.
    pub(super) fn same(&self, format: Format, reported: &str, wanted: &str) -> bool {
        let (reported, wanted) = (reported.trim(), wanted.trim());
        match format {
            Format::Bool => truth(reported).is_some() && truth(reported) == truth(wanted),
            Format::Int => whole(reported).is_some() && whole(reported) == whole(wanted),
            Format::B64 | Format::Bin => reported.split_whitespace().eq(wanted.split_whitespace().filter(|p| !p.is_empty())),
            _ if self.admx.is_some() => admx::same(reported, wanted),
            _ if !self.choices.is_empty() => reported.eq_ignore_ascii_case(wanted),
            _ => match &self.list {
                Some(between) => {
                    let parts = |text: &str| text.split(between.as_str()).map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect();
                    let (reported, wanted): (Vec<String>, Vec<String>) = (parts(reported), parts(wanted));
                    reported == wanted
                }
                None => reported == wanted,
            },
        }
    }

    /// What is allowed, for people.
    pub(super) fn describe(&self, format: Format) -> String {
        if let Some((least, most)) = self.range {
            return format!("a whole number from {least} to {most}");
        }
        if !self.choices.is_empty() {
            let mut choices: Vec<(&String, &String)> = self.choices.iter().collect();
            choices.sort_by_key(|(key, _)| key.parse::<i64>().unwrap_or(i64::MAX));
            let choices: Vec<String> = choices.iter().map(|(key, label)| format!("{key} ({label})")).collect();
            return format!("one of {}", choices.join(", "));
        }
        if let Some(policy) = &self.admx {
            return policy.describe();
        }
        if let Some(form) = &self.pattern {
            return format!("text of the form {form}");
        }
        match (format, &self.list) {
            (Format::Bool, _) => "true or false".into(),
            (Format::Int, _) => "a whole number".into(),
            (Format::B64 | Format::Bin, _) => "base64".into(),
            (Format::Null | Format::Node, _) => "no value".into(),
            (_, Some(_)) => "text or a list of texts".into(),
            (_, None) => "text".into(),
        }
    }
}

/// A value as messages show it, cut short.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// A whole number, decimal or `0x` hexadecimal.
pub(super) fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A truth value in the spellings that devices use.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
