//! The judge: a value against the keys of a sheet.

use std::cmp::Ordering;

use muster::wire::plist::{Dict, Value};

use super::{Key, Sheet, Support, Target};

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As a property list: bytes and dates are kinds of their own.
    Plist,
    /// As JSON: bytes are Base64, dates are text.
    Json,
}

pub(super) struct Judge {
    target: Target,
    form: Form,
    pub(super) findings: Vec<String>,
}

/// Compares versions word by word.
fn compare(a: &str, b: &str) -> Ordering {
    let words = |text: &str| text.split('.').map(|word| word.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    let (mut a, mut b) = (words(a), words(b));
    let length = a.len().max(b.len());
    a.resize(length, 0);
    b.resize(length, 0);
    a.cmp(&b)
}

/// Stands for keys that the sheet does not name (`ANY`, `ANY app identifier`).
fn is_any(name: &str) -> bool {
    name == "ANY" || name.starts_with("ANY ")
}

fn below(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}/{step}") }
}

impl Judge {
    pub(super) fn new(target: Target, form: Form) -> Self {
        Self { target, form, findings: Vec::new() }
    }

    fn find(&mut self, path: &str, what: impl std::fmt::Display) {
        self.findings.push(format!("{path}: {what}"));
    }

    /// A whole document: whether it may be sent at all, and its keys.
    pub(super) fn sheet(&mut self, sheet: &Sheet, keys: &[Key], dict: &Dict, path: &str) {
        self.available(&sheet.support, path);
        self.dict(keys, dict, path);
    }

    /// Why something is not for the target; `None` when it is.
    fn unavailable(&self, support: &Support) -> Option<String> {
        let Target { os, version, user_channel, supervised, automated, user_enrollment } = self.target;
        let says = |name: &str| support.get(&format!("{os}.{name}")).map(String::as_str);
        let introduced = says("introduced")?;
        if introduced == "n/a" {
            return Some(format!("does not exist on {os}"));
        }
        if compare(version, introduced) == Ordering::Less {
            return Some(format!("exists since {os} {introduced}, not on {version}"));
        }
        if let Some(removed) = says("removed").filter(|removed| compare(version, removed) != Ordering::Less) {
            return Some(format!("was removed in {os} {removed}"));
        }
        let channel = if user_channel { "userchannel" } else { "devicechannel" };
        if says(channel) == Some("false") {
            return Some(format!("is not for the {channel}"));
        }
        if says("supervised") == Some("true") && !supervised {
            return Some("is only for supervised devices".into());
        }
        if says("requiresdep") == Some("true") && !automated {
            return Some("is only for devices from automated enrolment".into());
        }
        match says("userenrollment.mode") {
            Some("forbidden") if user_enrollment => return Some("is forbidden in a user enrolment".into()),
            Some("required") if !user_enrollment => return Some("is only for user enrolments".into()),
            _ => {}
        }
        if let Some(allowed) = says("allowed-enrollments") {
            let kinds: &[&str] = match (user_enrollment, supervised) {
                (true, _) => &["user"],
                (false, true) => &["supervised", "device"],
                (false, false) => &["device"],
            };
            if !allowed.split(',').any(|kind| kinds.contains(&kind)) {
                return Some(format!("is only for the enrolments {allowed}"));
            }
        }
        if let Some(allowed) = says("allowed-scopes") {
            let scope = if user_channel { "user" } else { "system" };
            if !allowed.split(',').any(|one| one == scope) {
                return Some(format!("is only for the scopes {allowed}"));
            }
        }
        None
    }

    pub(super) fn available(&mut self, support: &Support, path: &str) {
        if let Some(why) = self.unavailable(support) {
            self.find(path, why);
        }
    }

    pub(super) fn dict(&mut self, keys: &[Key], dict: &Dict, path: &str) {
        let free = keys.iter().find(|key| is_any(&key.name));
        for (name, value) in dict.iter() {
            let path = below(path, name);
            match keys.iter().filter(|key| key.name == name).collect::<Vec<_>>().as_slice() {
                [] => match free {
                    Some(key) => self.value(key, value, &path),
                    None => self.find(&path, "unknown key"),
                },
                [key] => self.present(key, value, &path),
                // Two sheets of one payload type share the name: one of them has to fit.
                several => {
                    let mut best: Option<Vec<String>> = None;
                    for key in several {
                        let mut one = Self::new(self.target, self.form);
                        one.present(key, value, &path);
                        if best.as_ref().is_none_or(|best| one.findings.len() < best.len()) {
                            best = Some(one.findings);
                        }
                    }
                    self.findings.extend(best.unwrap_or_default());
                }
            }
        }
        for key in keys.iter().filter(|key| key.required && !is_any(&key.name) && dict.get(&key.name).is_none()) {
            if self.unavailable(&key.support).is_none() {
                self.find(&below(path, &key.name), "is missing");
            }
        }
    }

    fn present(&mut self, key: &Key, value: &Value, path: &str) {
        match self.unavailable(&key.support) {
            Some(why) => self.find(path, why),
            None => self.value(key, value, path),
        }
    }

    fn value(&mut self, key: &Key, value: &Value, path: &str) {
        let json = self.form == Form::Json;
        let fits = match (key.kind.as_str(), value) {
            ("any", _)
            | ("string", Value::String(_))
            | ("integer", Value::Integer(_) | Value::Unsigned(_))
            | ("real", Value::Real(_) | Value::Integer(_))
            | ("boolean", Value::Boolean(_))
            | ("array", Value::Array(_))
            | ("dictionary", Value::Dict(_)) => true,
            ("data", Value::Data(_)) | ("date", Value::Date(_)) => !json,
            ("data" | "date", Value::String(_)) => json,
            _ => false,
        };
        if !fits {
            return self.find(path, format!("should be {}, and is {}", key.kind, value.kind()));
        }
        match value {
            Value::Dict(dict) => {
                if let Some(subkeys) = key.subkeys.as_ref().filter(|subkeys| !subkeys.is_empty() && key.kind == "dictionary") {
                    self.dict(subkeys, dict, path);
                }
            }
            Value::Array(items) => self.array(key, items, path),
            scalar => self.scalar(key, scalar, path),
        }
    }

    fn array(&mut self, key: &Key, items: &[Value], path: &str) {
        let Some(subkeys) = key.subkeys.as_ref().filter(|_| key.kind == "array") else { return };
        let repetition = key.repetition.or_else(|| subkeys.first().and_then(|item| item.repetition));
        #[allow(clippy::cast_precision_loss)]
        let count = items.len() as f64;
        if let Some((min, max)) = repetition.filter(|(min, max)| !(*min..=*max).contains(&count)) {
            self.find(path, format!("has {count} items, not {min} to {max}"));
        }
        for (at, value) in items.iter().enumerate() {
            let path = below(path, &at.to_string());
            // Where several kinds of items may stand, the one that fits best is meant.
            let mut best: Option<Vec<String>> = None;
            for item in subkeys.iter() {
                let mut one = Self::new(self.target, self.form);
                one.present(item, value, &path);
                if best.as_ref().is_none_or(|best| one.findings.len() < best.len()) {
                    best = Some(one.findings);
                }
            }
            self.findings.extend(best.unwrap_or_default());
        }
    }

    fn scalar(&mut self, key: &Key, value: &Value, path: &str) {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Unsigned(number) => number.to_string(),
            Value::Real(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Data(_) | Value::Date(_) | Value::Array(_) | Value::Dict(_) => return,
        };
        if !key.values.is_empty() && !key.values.contains(&text) {
            self.find(path, format!("{text} is none of {}", key.values.join(", ")));
        }
        // The items of a list of texts are listed like keys, each with the systems that know it.
        if let Some(known) = key.subkeys.as_ref().filter(|known| !known.is_empty()) {
            match known.iter().find(|one| one.name == text) {
                Some(one) => self.available(&one.support, &below(path, &text)),
                None => self.find(path, format!("{text} is not known")),
            }
        }
        let number = match value {
            Value::Real(number) => Some(*number),
            _ => value.as_real(),
        };
        if let (Some((min, max)), Some(number)) = (key.range, number)
            && !(min..=max).contains(&number)
        {
            self.find(path, format!("{number} is not from {min} to {max}"));
        }
        if let Some(format) = key.format.as_ref().filter(|format| matches!(value, Value::String(_)) && !format.is_match(&text)) {
            self.find(path, format!("is not of the form {format}"));
        }
    }
}
