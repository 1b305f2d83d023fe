//! Resources as JSON with the names and types of their schema: what clients send is brought into this form, and changed in it.

use serde_json::{Map, Value};

use super::path::Place;
use super::schema::{Attribute, Type};
use super::{Kind, Wrong};
use crate::wire::odata::evaluate::fits;
use crate::wire::odata::filter::{Comparison, Expr, Literal};
use crate::wire::odata::quoted;

/// A resource; nothing in it is null or empty.
pub type Document = Map<String, Value>;

/// Longest text.
const LONGEST: usize = 1024;
/// How many values a list has at most.
const MOST_VALUES: usize = 100;

/// What is done to an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Adds a value.
    Add,
    /// Puts a value in the place of what is there.
    Replace,
    /// Takes away.
    Remove,
}

/// One change of one attribute.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub op: Op,
    /// To which attribute.
    pub place: Place,
    /// To which values of a list.
    pub filter: Option<Expr>,
    /// With what.
    pub value: Value,
}

fn invalid(name: &str, expected: &str) -> Wrong {
    Wrong::new(Kind::InvalidValue, format!("The value of '{name}' is not {expected}."))
}

/// A value of a single attribute; `None` when there is none.
fn single(attribute: &Attribute, value: &Value) -> Result<Option<Value>, Wrong> {
    let name = attribute.name;
    match (attribute.kind, value) {
        (_, Value::Null) => Ok(None),
        // Entra ID has written single values as lists of one.
        (_, Value::Array(all)) => match all.as_slice() {
            [] => Ok(None),
            [Value::Object(one)] if one.contains_key("value") => single(attribute, one.get("value").unwrap_or(&Value::Null)),
            _ => Err(invalid(name, "a single value")),
        },
        (Type::Bool, Value::Bool(_)) => Ok(Some(value.clone())),
        (Type::Bool, Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true.into())),
        (Type::Bool, Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false.into())),
        (Type::Bool, _) => Err(invalid(name, "true or false")),
        (_, Value::String(text)) if text.is_empty() => Ok(None),
        (_, Value::String(text)) if text.chars().count() > LONGEST || text.chars().any(char::is_control) => {
            Err(invalid(name, "a text of one line that is not too long"))
        }
        (_, Value::String(_)) => Ok(Some(value.clone())),
        (_, Value::Number(number)) => Ok(Some(number.to_string().into())),
        _ => Err(invalid(name, "a text")),
    }
}

/// What an object says of the attributes that a complex one has, each as it is set or taken away.
fn parts(attribute: &Attribute, value: &Value) -> Result<Vec<(&'static Attribute, Option<Value>)>, Wrong> {
    match value {
        Value::Object(given) => {
            let known = given.iter().filter_map(|(name, value)| attribute.sub(name).map(|sub| (sub, value)));
            known.map(|(sub, value)| Ok((sub, single(sub, value)?))).collect()
        }
        // A list of texts is one of values.
        Value::String(_) => match attribute.sub("value") {
            Some(sub) => Ok(vec![(sub, single(sub, value)?)]),
            None => Err(invalid(attribute.name, "an object")),
        },
        _ => Err(invalid(attribute.name, "an object")),
    }
}

fn write(object: &mut Map<String, Value>, parts: Vec<(&'static Attribute, Option<Value>)>) {
    for (sub, value) in parts {
        match value {
            Some(value) => object.insert(sub.name.to_owned(), value),
            None => object.remove(sub.name),
        };
    }
}

/// Which type a value of a list has: where it says none, the first that there is.
fn type_of<'a>(attribute: &'a Attribute, value: &'a Map<String, Value>) -> Option<&'a str> {
    let usual = attribute.sub("type").and_then(|sub| sub.canonical.first().copied());
    value.get("type").and_then(Value::as_str).or(usual)
}

/// The values that a list is given.
fn values(attribute: &Attribute, value: &Value) -> Result<Vec<Map<String, Value>>, Wrong> {
    let all = match value {
        Value::Null => Vec::new(),
        Value::Array(all) if all.len() > MOST_VALUES => return Err(invalid(attribute.name, "a list of a reasonable length")),
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    };
    let read = |one| {
        let mut object = Map::new();
        write(&mut object, parts(attribute, one)?);
        Ok(object)
    };
    all.into_iter().map(read).collect()
}

/// The value that a filter asks for, where it asks for one type: `[type eq "work"]`.
fn wanted(filter: &Expr) -> Option<Map<String, Value>> {
    match filter {
        Expr::Compare(name, Comparison::Equal, Literal::Text(text)) if name == "type" => {
            Some(Map::from_iter([("type".to_owned(), Value::from(text.as_str()))]))
        }
        _ => None,
    }
}

fn change_list(list: &mut Vec<Value>, step: &Step) -> Result<(), Wrong> {
    let attribute = step.place.attribute;
    let touched = |item: &Value| step.filter.as_ref().is_none_or(|filter| fits(filter, item));
    match (step.op, step.place.sub) {
        (Op::Remove, Some(sub)) => {
            for item in list.iter_mut().filter(|item| touched(item)) {
                item.as_object_mut().map(|object| object.remove(sub.name));
            }
        }
        (Op::Remove, None) if step.filter.is_none() && !step.value.is_null() => {
            let gone = values(attribute, &step.value)?;
            list.retain(|item| {
                !gone.iter().any(|gone| item.as_object().is_some_and(|item| gone.iter().all(|(k, v)| item.get(k) == Some(v))))
            });
        }
        (Op::Remove, None) => list.retain(|item| !touched(item)),
        (op, None) if step.filter.is_none() => {
            if op == Op::Replace {
                list.clear();
            }
            for value in values(attribute, &step.value)? {
                let same =
                    list.iter_mut().filter_map(Value::as_object_mut).find(|item| type_of(attribute, item) == type_of(attribute, &value));
                match same {
                    Some(item) => *item = value,
                    None => list.push(Value::Object(value)),
                }
            }
        }
        (_, sub) => {
            let given = match sub {
                Some(sub) => vec![(sub, single(sub, &step.value)?)],
                None => parts(attribute, &step.value)?,
            };
            let mut found = false;
            for item in list.iter_mut().filter(|item| touched(item)) {
                if let Some(object) = item.as_object_mut() {
                    write(object, given.clone());
                    found = true;
                }
            }
            if !found {
                // The standard has a filter without a hit refused. Entra ID replaces what it means to add, too.
                let Some(mut fresh) = step.filter.as_ref().map_or(Some(Map::new()), wanted) else {
                    return Err(Wrong::new(Kind::NoTarget, format!("No value of '{}' is as the path wants it.", attribute.name)));
                };
                write(&mut fresh, given);
                list.push(Value::Object(fresh));
            }
        }
    }
    // What is left without a value is none.
    list.retain(|item| item.as_object().is_some_and(|object| object.keys().any(|name| name != "type" && name != "primary")));
    if list.len() > MOST_VALUES { Err(invalid(attribute.name, "a list of a reasonable length")) } else { Ok(()) }
}

fn change_object(object: &mut Map<String, Value>, step: &Step) -> Result<(), Wrong> {
    let attribute = step.place.attribute;
    match (step.op, step.place.sub) {
        (Op::Remove, Some(sub)) => drop(object.remove(sub.name)),
        (Op::Remove, None) => object.clear(),
        (_, Some(sub)) => write(object, vec![(sub, single(sub, &step.value)?)]),
        (_, None) if step.value.is_null() => object.clear(),
        (_, None) => write(object, parts(attribute, &step.value)?),
    }
    Ok(())
}

/// Changes a document.
///
/// # Errors
/// [`Kind::InvalidValue`], [`Kind::Mutability`] when something would be missing that has to be there, [`Kind::NoTarget`].
pub fn apply(document: &mut Document, step: &Step) -> Result<(), Wrong> {
    let attribute = step.place.attribute;
    if let Some(schema) = step.place.extension {
        let mut inner = match document.remove(schema.urn) {
            Some(Value::Object(inner)) => inner,
            _ => Map::new(),
        };
        let place = Place { extension: None, ..step.place };
        let outcome = apply(&mut inner, &Step { place, ..step.clone() });
        if !inner.is_empty() {
            document.insert(schema.urn.to_owned(), Value::Object(inner));
        }
        return outcome;
    }
    let name = attribute.name;
    let before = document.remove(name);
    let after = if attribute.kind != Type::Complex {
        match step.op {
            Op::Remove => None,
            _ => single(attribute, &step.value)?,
        }
    } else if attribute.multi {
        let mut list = match before {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        };
        change_list(&mut list, step)?;
        Some(Value::Array(list)).filter(|list| list.as_array().is_some_and(|list| !list.is_empty()))
    } else {
        let mut object = match before {
            Some(Value::Object(object)) => object,
            _ => Map::new(),
        };
        change_object(&mut object, step)?;
        Some(Value::Object(object)).filter(|object| object.as_object().is_some_and(|object| !object.is_empty()))
    };
    match after {
        Some(after) => drop(document.insert(name.to_owned(), after)),
        None if attribute.required && step.op == Op::Remove => {
            return Err(Wrong::new(Kind::Mutability, format!("'{}' cannot be taken away.", quoted(name))));
        }
        None if attribute.required => return Err(invalid(name, "there, and it has to be")),
        None => {}
    }
    Ok(())
}
