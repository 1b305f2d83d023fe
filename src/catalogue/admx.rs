//! Values of settings that stand for a group policy: `<disabled/>`, or `<enabled/>` and a `<data id value/>` for each element.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::wire::xml::{Limits, Reader, Token, Writer};

/// The policy behind a setting.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The elements that the policy has, by id, with what they mean; empty when they are not listed, and then any are taken.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// The values that an element takes, by its id; one without an entry takes any.
    #[serde(default)]
    pub values: BTreeMap<String, Vec<String>>,
    /// Devices take all of the elements or none.
    #[serde(default)]
    pub whole: bool,
}

/// A policy's state as read from a value.
#[derive(Debug, PartialEq, Eq)]
struct State {
    enabled: bool,
    data: BTreeMap<String, String>,
}

impl Policy {
    /// The state as text: `true` and `false`, an object of elements (which means enabled), or the text itself. `None` when it is no state;
    /// the error names the element that is wrong.
    pub(super) fn encode(&self, value: &Value) -> Option<Result<String, String>> {
        let state = match value {
            Value::Bool(enabled) => State { enabled: *enabled, data: BTreeMap::new() },
            Value::String(text) => parse(text)?,
            Value::Object(elements) => {
                let text = |value: &Value| match value {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    Value::Bool(truth) => Some(truth.to_string()),
                    _ => None,
                };
                let data: Option<_> = elements.iter().map(|(id, value)| Some((id.clone(), text(value)?))).collect();
                State { enabled: true, data: data? }
            }
            _ => return None,
        };
        let known = |id: &String| !id.is_empty() && (self.data.is_empty() || self.data.contains_key(id));
        (state.enabled || state.data.is_empty()).then_some(())?;
        state.data.keys().all(known).then_some(())?;
        Some(self.check(&state).map(|()| write(&state)))
    }

    /// Judges the elements of a state.
    fn check(&self, state: &State) -> Result<(), String> {
        let missing = self.data.keys().find(|id| !state.data.contains_key(*id));
        if let Some(id) = missing.filter(|_| self.whole && state.enabled) {
            return Err(format!("{id} is missing; expected all of {}", self.elements()));
        }
        for (id, value) in &state.data {
            if let Some(values) = self.values.get(id).filter(|values| !values.contains(value)) {
                let meaning = self.data.get(id).map_or("", String::as_str);
                return Err(format!("{id}: expected one of {} ({meaning})", values.join(", ")));
            }
        }
        Ok(())
    }

    fn elements(&self) -> String {
        self.data.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// What is allowed, for people.
    pub(super) fn describe(&self) -> String {
        if self.data.is_empty() {
            return "true, false or an object of the policy's elements".into();
        }
        if self.whole {
            format!("false or an object of all of {}", self.elements())
        } else {
            format!("true, false or an object of {}", self.elements())
        }
    }
}

/// Whether two values put the policy in the same state.
pub(super) fn same(a: &str, b: &str) -> bool {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn write(state: &State) -> String {
    let mut w = Writer::new();
    w.open(if state.enabled { "enabled" } else { "disabled" }).close();
    for (id, value) in &state.data {
        w.open("data").attribute("id", id).attribute("value", value).close();
    }
    String::from_utf8(w.finish()).unwrap_or_default()
}

/// Reads a state; `None` when it is anything else.
fn parse(text: &str) -> Option<State> {
    let whole = format!("<policy>{text}</policy>");
    let mut reader = Reader::new(whole.as_bytes(), Limits::SOAP).ok()?;
    let (mut root, mut enabled, mut data) = (true, None, BTreeMap::new());
    loop {
        match reader.next().ok()? {
            Token::Open(_) if root => root = false,
            Token::Open(element) => match element.local().to_ascii_lowercase().as_str() {
                "enabled" if enabled.is_none() => enabled = Some(true),
                "disabled" if enabled.is_none() => enabled = Some(false),
                "data" if enabled == Some(true) => {
                    data.insert(element.attribute_anyhow("id")?, element.attribute_anyhow("value")?);
                }
                _ => return None,
            },
            Token::Text(text) if text.trim().is_empty() => {}
            Token::Text(_) => return None,
            Token::Close => {}
            Token::End => break,
        }
    }
    Some(State { enabled: enabled?, data })
}
