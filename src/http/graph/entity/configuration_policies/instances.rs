//! Settings of a policy as instances of the catalogue's definitions, from a profile's document and back.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::definitions::{ALL, Choice, Definition, Form, PREFIX, Place, ROOT, word};
use crate::catalogue::payload::HIDDEN;
use crate::domain::apple::sso::PAYLOAD;
use crate::domain::device::Platform;
use crate::domain::profile::{Document, Payload, split_scope};
use crate::http::graph::error::{GraphProblem, Result};
use crate::wire::odata::quoted;

/// The settings of a document, each with its number.
pub(super) fn settings(document: &Document, platform: Platform) -> Vec<Value> {
    let all = instances(document, platform, None);
    (0..).zip(all).map(|(number, one): (usize, _)| json!({ "id": number.to_string(), "settingInstance": one })).collect()
}

fn instances(document: &Document, platform: Platform, parent: Option<&str>) -> Vec<Value> {
    let own = ALL.values().filter(|one| one.parent.as_deref() == parent && one.is_for(platform));
    own.filter_map(|one| instance(document, platform, one)).collect()
}

fn instance(document: &Document, platform: Platform, definition: &Definition) -> Option<Value> {
    let id = &definition.id;
    let with = |property: &str, value: Value| json!({ "@odata.type": format!("{PREFIX}{}", definition.form.instance()), "settingDefinitionId": id, property: value });
    if definition.form == Form::Group {
        let children = instances(document, platform, Some(id));
        return (!children.is_empty()).then(|| with("groupSettingCollectionValue", json!([{ "children": children }])));
    }
    let value = stored(document, &definition.place)?;
    let choice = |choices: &[Choice], value: &Value| {
        let (end, ..) = choices.iter().find(|(_, stored, _)| stored == value)?;
        Some(json!({ "value": format!("{id}_{end}"), "children": [] }))
    };
    let text = |text: &str| json!({ "@odata.type": format!("{PREFIX}StringSettingValue"), "value": text });
    Some(match &definition.form {
        Form::One(choices) => with("choiceSettingValue", choice(choices, value)?),
        Form::Some(choices) => {
            let all = value.as_array()?.iter().filter_map(|one| choice(choices, one)).collect();
            with("choiceSettingCollectionValue", all)
        }
        Form::Number(_) => {
            let number = value.as_i64()?;
            with("simpleSettingValue", json!({ "@odata.type": format!("{PREFIX}IntegerSettingValue"), "value": number }))
        }
        Form::Text => with("simpleSettingValue", text(value.as_str()?)),
        Form::Texts => with("simpleSettingCollectionValue", value.as_array()?.iter().filter_map(Value::as_str).map(text).collect()),
        Form::Group => return None,
    })
}

/// What stands at a place; a setting may say its scope or leave it to the row.
fn stored<'a>(document: &'a Document, place: &Place) -> Option<&'a Value> {
    match place {
        Place::Nowhere => None,
        Place::Key(at) => {
            let body = document.payloads.first().map(|payload| &payload.body)?;
            let mut parts = at.split('/');
            parts.next().and_then(|first| body.get(first)).and_then(|value| parts.try_fold(value, |value, part| value.get(part)))
        }
        Place::Setting(name) => {
            let with_scope = || {
                let (_, scope) = split_scope(name);
                document.settings.get(&format!("{name}@device")).filter(|_| scope.is_none())
            };
            document.settings.get(name).or_else(with_scope)
        }
    }
}

fn remove(body: &mut Map<String, Value>, at: &str) -> Option<Value> {
    match at.split_once('/') {
        None => body.remove(at),
        Some((first, rest)) => remove(body.get_mut(first)?.as_object_mut()?, rest),
    }
}

fn insert(body: &mut Map<String, Value>, at: &str, value: Value) {
    match at.split_once('/') {
        None => {
            body.insert(at.to_owned(), value);
        }
        Some((first, rest)) => {
            let within = body.entry(first).or_insert_with(|| json!({}));
            if let Some(within) = within.as_object_mut() {
                insert(within, rest, value);
            }
        }
    }
}

/// Puts settings in the place of those that a document has; what no setting stands for stays.
pub(super) fn read(document: &mut Document, platform: Platform, given: &Value) -> Result<()> {
    let before = document.clone();
    if platform.is_apple() && document.payloads.is_empty() {
        document.payloads.push(Payload { kind: PAYLOAD.into(), name: "sso".into(), body: Map::new() });
    }
    // Groups after what they hold: an empty one is none.
    for definition in ALL.values().rev().filter(|one| one.is_for(platform)) {
        match (&definition.place, &definition.form) {
            (Place::Key(at), form) => {
                let stays = *form == Form::Group
                    && stored(document, &definition.place).and_then(Value::as_object).is_some_and(|held| !held.is_empty());
                if let Some(payload) = document.payloads.first_mut().filter(|_| !stays) {
                    remove(&mut payload.body, at);
                }
            }
            (Place::Setting(name), _) => {
                document.settings.remove(name);
                document.settings.remove(&format!("{name}@device"));
            }
            (Place::Nowhere, _) => {}
        }
    }
    let all =
        given.as_array().filter(|all| !all.is_empty()).ok_or_else(|| GraphProblem::invalid("settings is a list with settings in it."))?;
    let mut reader = Reader { document, before: &before, platform, seen: BTreeSet::new() };
    for one in all {
        let instance = one.get("settingInstance").ok_or_else(|| GraphProblem::invalid("Each of the settings has a settingInstance."))?;
        reader.instance(instance, None)?;
    }
    if platform.is_apple() && !reader.seen.contains(ROOT) {
        return Err(GraphProblem::invalid(format!("settings holds {ROOT}.")));
    }
    Ok(())
}

struct Reader<'a> {
    document: &'a mut Document,
    before: &'a Document,
    platform: Platform,
    seen: BTreeSet<&'static str>,
}

impl Reader<'_> {
    fn instance(&mut self, one: &Value, parent: Option<&str>) -> Result<()> {
        let id = one.get("settingDefinitionId").and_then(Value::as_str).unwrap_or_default();
        let invalid = |why: String| GraphProblem::invalid(format!("settingDefinitionId '{}': {why}.", quoted(id)));
        let definition: &'static Definition = ALL.get(id).ok_or_else(|| invalid("there is no such setting here".into()))?;
        if !definition.is_for(self.platform) {
            return Err(invalid(format!("it is not for {}", word(Some(self.platform)))));
        }
        if definition.parent.as_deref() != parent {
            return Err(invalid(format!("it belongs into {}", definition.parent.as_deref().unwrap_or("the settings themselves"))));
        }
        if !self.seen.insert(definition.id.as_str()) {
            return Err(invalid("it is there twice".into()));
        }
        let kind = one.get("@odata.type").and_then(Value::as_str).unwrap_or_default();
        let expected = format!("{PREFIX}{}", definition.form.instance());
        if kind.trim_start_matches('#') != expected.trim_start_matches('#') {
            return Err(invalid(format!("its @odata.type is {expected}")));
        }
        let choice = |choices: &[Choice], value: Option<&Value>| {
            if value.and_then(|value| value.get("children")).and_then(Value::as_array).is_some_and(|children| !children.is_empty()) {
                return Err(invalid("its values hold no settings".into()));
            }
            let said = value.and_then(|value| value.get("value")).and_then(Value::as_str);
            let end = said.and_then(|said| said.strip_prefix(id)).and_then(|rest| rest.strip_prefix('_'));
            let found = choices.iter().find(|(known, ..)| Some(known.as_str()) == end);
            found.map(|(_, value, _)| value.clone()).ok_or_else(|| invalid(format!("its values are {id}_{}", ends(choices))))
        };
        let text = |value: Option<&Value>| {
            let text = value.and_then(|value| value.get("value")).filter(|text| text.is_string());
            text.cloned().ok_or_else(|| invalid("its value is a text".into()))
        };
        let many = |name: &str| one.get(name).and_then(Value::as_array).ok_or_else(|| invalid(format!("{name} is a list")));
        let value = match &definition.form {
            Form::Group => {
                let [group] = many("groupSettingCollectionValue")?.as_slice() else { return Err(invalid("it is there once".into())) };
                for child in group.get("children").and_then(Value::as_array).into_iter().flatten() {
                    self.instance(child, Some(id))?;
                }
                return Ok(());
            }
            Form::One(choices) => choice(choices, one.get("choiceSettingValue"))?,
            Form::Some(choices) => {
                many("choiceSettingCollectionValue")?.iter().map(|value| choice(choices, Some(value))).collect::<Result<_>>()?
            }
            Form::Number(_) => {
                let number = one.get("simpleSettingValue").and_then(|value| value.get("value")).and_then(Value::as_i64);
                json!(number.ok_or_else(|| invalid("its value is a whole number".into()))?)
            }
            Form::Text => text(one.get("simpleSettingValue"))?,
            Form::Texts => many("simpleSettingCollectionValue")?.iter().map(|value| text(Some(value))).collect::<Result<_>>()?,
        };
        // What comes back as it was shown, hidden, stays what it was.
        let value = match stored(self.before, &definition.place) {
            Some(known) if value.as_str() == Some(HIDDEN) => known.clone(),
            _ => value,
        };
        match &definition.place {
            Place::Nowhere => {}
            Place::Key(at) => {
                if let Some(payload) = self.document.payloads.first_mut() {
                    insert(&mut payload.body, at, value);
                }
            }
            Place::Setting(name) => {
                self.document.settings.insert(name.clone(), value);
            }
        }
        Ok(())
    }
}

fn ends(choices: &[Choice]) -> String {
    choices.iter().map(|(end, ..)| end.as_str()).collect::<Vec<_>>().join(", _")
}
