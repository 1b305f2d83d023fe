//! Changes (RFC 7644, section 3.5.2), and whole resources, which are changes of nothing; with what Entra ID and Okta write otherwise than
//! the standard has it.

use serde_json::{Map, Value};

use super::document::{Document, Op, Step, apply};
use super::path::{self, Named, Place};
use super::schema::{Mutability, Resource, Schema, Type};
use super::{Kind, Wrong, filter};
use crate::wire::odata::filter::{Comparison, Expr, Literal};
use crate::wire::odata::quoted;

/// How many operations a change has at most.
pub const MOST_OPERATIONS: usize = 1000;
/// How many members an operation names at most.
pub const MOST_MEMBERS: usize = 50_000;
/// Longest path.
const LONGEST: usize = 1024;
/// The list that is no part of its resource's document, as it may be long.
const MEMBERS: &str = "members";

/// A change of who belongs to a group, by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// These as well.
    Add(Vec<String>),
    /// Without these.
    Remove(Vec<String>),
    /// These and nobody else.
    Set(Vec<String>),
}

/// A change.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Of attributes, in their order.
    pub steps: Vec<Step>,
    /// Of members, in their order.
    pub members: Vec<Members>,
}

impl Changes {
    /// Reads the body of a change.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn parse(resource: &Resource, body: &Value) -> Result<Self, Wrong> {
        let syntax = |what: &'static str| Wrong::new(Kind::InvalidSyntax, what);
        let body = body.as_object().ok_or_else(|| syntax("A change is an object with Operations."))?;
        let operations = member(body, "operations").and_then(Value::as_array).ok_or_else(|| syntax("The change has no Operations."))?;
        if operations.is_empty() || operations.len() > MOST_OPERATIONS {
            return Err(syntax("A change has between 1 and 1000 operations."));
        }
        let mut changes = Self::default();
        for operation in operations {
            let operation = operation.as_object().ok_or_else(|| syntax("An operation is an object."))?;
            // Entra ID writes them with a capital.
            let op = match member(operation, "op").and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
                Some("add") => Op::Add,
                Some("replace") => Op::Replace,
                Some("remove") => Op::Remove,
                _ => return Err(syntax("An operation is add, replace or remove.")),
            };
            let path = match member(operation, "path") {
                None | Some(Value::Null) => "",
                Some(Value::String(path)) => path.trim(),
                Some(_) => return Err(Wrong::new(Kind::InvalidPath, "A path is a text.")),
            };
            changes.take(resource, op, path, member(operation, "value"))?;
        }
        Ok(changes)
    }

    /// Reads a whole resource. What only the server says is read over, as is what is not known.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn of_whole(resource: &Resource, body: &Value) -> Result<(Document, Self), Wrong> {
        let body = body.as_object().ok_or_else(|| Wrong::new(Kind::InvalidSyntax, "A resource is an object."))?;
        let mut changes = Self::default();
        changes.spread(resource, Op::Add, None, body)?;
        let mut document = Document::new();
        changes.apply(&mut document)?;
        Ok((document, changes))
    }

    /// Changes a document.
    ///
    /// # Errors
    /// As [`apply`].
    pub fn apply(&self, document: &mut Document) -> Result<(), Wrong> {
        self.steps.iter().try_for_each(|step| apply(document, step))
    }

    fn take(&mut self, resource: &Resource, op: Op, path: &str, value: Option<&Value>) -> Result<(), Wrong> {
        if path.is_empty() {
            return match (op, value) {
                (Op::Remove, _) => Err(Wrong::new(Kind::NoTarget, "What is removed has to be named by a path.")),
                (_, Some(Value::Object(value))) => self.spread(resource, op, None, value),
                _ => Err(Wrong::new(Kind::InvalidValue, "Without a path the value is an object.")),
            };
        }
        let unknown = || Wrong::new(Kind::InvalidPath, format!("There is no '{}'.", quoted(path)));
        let (named, filter) = read_path(resource, path)?.ok_or_else(unknown)?;
        let needed = || value.ok_or_else(|| Wrong::new(Kind::InvalidValue, "The operation has no value."));
        match named {
            Named::Ignored | Named::Schemas => Ok(()),
            Named::Extension(schema) => match (op, needed()) {
                (Op::Remove, _) => {
                    let place = |attribute| Place { extension: Some(schema), attribute, sub: None };
                    self.steps.extend(schema.attributes.iter().map(|attribute| Step {
                        op,
                        place: place(attribute),
                        filter: None,
                        value: Value::Null,
                    }));
                    Ok(())
                }
                (_, Ok(Value::Object(value))) => self.spread(resource, op, Some(schema), value),
                (_, Ok(_)) => Err(Wrong::new(Kind::InvalidValue, "What an extension is given is an object.")),
                (_, Err(wrong)) => Err(wrong),
            },
            Named::Attribute(place) if place.attribute.mutability == Mutability::ReadOnly => {
                Err(Wrong::new(Kind::Mutability, format!("'{}' cannot be changed.", place.attribute.name)))
            }
            Named::Attribute(place) => {
                let value = if op == Op::Remove { value.unwrap_or(&Value::Null) } else { needed()? };
                self.put(op, place, filter, value)
            }
        }
    }

    /// What an object says, attribute by attribute.
    fn spread(&mut self, resource: &Resource, op: Op, of: Option<&'static Schema>, given: &Map<String, Value>) -> Result<(), Wrong> {
        for (name, value) in given.iter().filter(|(_, value)| !(op == Op::Add && value.is_null())) {
            let full = of.map_or_else(|| name.clone(), |schema| format!("{}:{name}", schema.urn));
            // Names may be paths: Entra ID writes `name.givenName`, and `emails[type eq "work"].value`.
            let Ok(Some((named, filter))) = read_path(resource, &full) else { continue };
            match (named, value) {
                (Named::Extension(schema), Value::Object(value)) if of.is_none() => self.spread(resource, op, Some(schema), value)?,
                (Named::Attribute(place), _) if place.attribute.mutability != Mutability::ReadOnly => self.put(op, place, filter, value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, op: Op, place: Place, filter: Option<Expr>, value: &Value) -> Result<(), Wrong> {
        if place.attribute.name == MEMBERS {
            let more = members(op, place, filter.as_ref(), value)?;
            // Okta names each member in an operation of its own.
            match (self.members.last_mut(), more) {
                (Some(Members::Add(all)), Members::Add(more)) | (Some(Members::Remove(all)), Members::Remove(more)) => all.extend(more),
                (_, more) => self.members.push(more),
            }
        } else {
            self.steps.push(Step { op, place, filter, value: value.clone() });
        }
        Ok(())
    }
}

/// A member of an object whose name may be written in any case.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// Reads a path: an attribute, with a filter after a list, and a part of its values; `None` when there is no such thing.
fn read_path(resource: &Resource, text: &str) -> Result<Option<(Named, Option<Expr>)>, Wrong> {
    if text.len() > LONGEST {
        return Err(Wrong::new(Kind::InvalidPath, "The path is too long."));
    }
    let Some((name, rest)) = text.split_once('[') else { return Ok(path::find(resource, text).map(|named| (named, None))) };
    let place = match path::find(resource, name) {
        Some(Named::Attribute(place)) if place.attribute.multi && place.attribute.kind == Type::Complex && place.sub.is_none() => place,
        Some(Named::Ignored) => return Ok(Some((Named::Ignored, None))),
        _ => return Ok(None),
    };
    let (filter, used) = filter::parse_inner(place.attribute, rest)?;
    match rest.get(used..).unwrap_or_default() {
        "" => Ok(Some((Named::Attribute(place), Some(filter)))),
        part => {
            let Some(part) = part.strip_prefix('.').filter(|part| path::is_word(part)) else { return Ok(None) };
            Ok(Some(match place.attribute.sub(part) {
                Some(sub) => (Named::Attribute(Place { sub: Some(sub), ..place }), Some(filter)),
                None => (Named::Ignored, None),
            }))
        }
    }
}

fn members(op: Op, place: Place, filter: Option<&Expr>, value: &Value) -> Result<Members, Wrong> {
    if place.sub.is_some() {
        return Err(Wrong::new(Kind::Mutability, "Members are added and removed; what is said of them is not changed."));
    }
    Ok(match (op, filter) {
        (Op::Add, None) => Members::Add(ids(value)?),
        (Op::Replace, None) => Members::Set(ids(value)?),
        (Op::Remove, None) if value.is_null() => Members::Set(Vec::new()),
        (Op::Remove, None) => Members::Remove(ids(value)?),
        (Op::Remove, Some(filter)) => {
            let mut found = Vec::new();
            named(filter, &mut found)?;
            Members::Remove(found)
        }
        (_, Some(_)) => return Err(Wrong::new(Kind::Mutability, "Members are added and removed; what is said of them is not changed.")),
    })
}

/// The ids that members of a list have as their values.
fn ids(value: &Value) -> Result<Vec<String>, Wrong> {
    let invalid = |what: &'static str| Wrong::new(Kind::InvalidValue, what);
    let one = |value: &Value| {
        let id = match value {
            Value::Object(object) => member(object, "value").and_then(Value::as_str),
            other => other.as_str(),
        };
        id.filter(|id| !id.is_empty()).map(str::to_owned).ok_or_else(|| invalid("A member is an object whose value is the user's id."))
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) if all.len() > MOST_MEMBERS => Err(invalid("At most 50000 members are named at once.")),
        Value::Array(all) => all.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

/// The ids that a filter names.
fn named(filter: &Expr, found: &mut Vec<String>) -> Result<(), Wrong> {
    match filter {
        Expr::Or(a, b) => {
            named(a, found)?;
            named(b, found)
        }
        Expr::Compare(name, Comparison::Equal, Literal::Text(id)) if name == "value" => {
            found.push(id.clone());
            Ok(())
        }
        _ => Err(Wrong::new(Kind::InvalidFilter, "Members are named by their value: members[value eq \"…\"].")),
    }
}
