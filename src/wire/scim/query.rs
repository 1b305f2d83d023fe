//! What a client wants to see (RFC 7644, sections 3.4.2 and 3.4.3): the parameters of an address, or the body of a search.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::document::Document;
use super::path::{self, Named};
use super::schema::Resource;
use super::{Kind, Wrong};

/// Longest query.
const LONGEST: usize = 16 * 1024;
/// How many attributes are named at most.
const MOST_NAMES: usize = 200;
/// The farthest place that a page begins at.
const FARTHEST: u32 = 1_000_000;
/// How many resources a page has, if nobody says otherwise.
pub const USUAL: u32 = 100;
/// How many it has at most.
pub const MOST: u32 = 200;

/// What a client wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Which resources.
    pub filter: Option<String>,
    /// From which one on; the first is 1.
    start: Option<i64>,
    /// How many.
    count: Option<i64>,
    /// Only these attributes; all that are usual when empty.
    attributes: Vec<String>,
    /// Not these.
    excluded: Vec<String>,
}

impl Query {
    /// Reads the part of an address after the question mark. What is not known is read over: Entra ID adds flags of its own.
    ///
    /// # Errors
    /// [`Kind::InvalidValue`], [`Kind::InvalidSyntax`].
    pub fn parse(raw: &str) -> Result<Self, Wrong> {
        if raw.len() > LONGEST {
            return Err(Wrong::new(Kind::InvalidSyntax, "The query is too long."));
        }
        let mut query = Self::default();
        for pair in raw.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let spaced = value.replace('+', " ");
            let value =
                percent_decode_str(&spaced).decode_utf8().map_err(|_| Wrong::new(Kind::InvalidSyntax, "The query is not UTF-8."))?;
            query.take(name, &Value::from(value.into_owned()))?;
        }
        Ok(query)
    }

    /// Reads the body of a search.
    ///
    /// # Errors
    /// [`Kind::InvalidValue`], [`Kind::InvalidSyntax`].
    pub fn of_search(body: &Value) -> Result<Self, Wrong> {
        let body = body.as_object().ok_or_else(|| Wrong::new(Kind::InvalidSyntax, "A search is an object."))?;
        let mut query = Self::default();
        for (name, value) in body {
            query.take(name, value)?;
        }
        Ok(query)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<(), Wrong> {
        let invalid = |what: &'static str| Wrong::new(Kind::InvalidValue, what);
        match name.to_ascii_lowercase().as_str() {
            "filter" => {
                let text = value.as_str().ok_or_else(|| invalid("A filter is a text."))?;
                self.filter = Some(text.to_owned()).filter(|text| !text.trim().is_empty());
            }
            "startindex" => self.start = Some(number(value).ok_or_else(|| invalid("startIndex is a whole number."))?),
            "count" => self.count = Some(number(value).ok_or_else(|| invalid("count is a whole number."))?),
            "attributes" => self.attributes = names(value)?,
            "excludedattributes" => self.excluded = names(value)?,
            _ => {}
        }
        Ok(())
    }

    /// The place of the first resource, from 1.
    #[must_use]
    pub fn start(&self) -> u32 {
        u32::try_from(self.start.unwrap_or(1).clamp(1, i64::from(FARTHEST) + 1)).unwrap_or(1)
    }

    /// How many resources.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.count.unwrap_or(i64::from(USUAL)).clamp(0, i64::from(MOST))).unwrap_or(USUAL)
    }

    /// Whether the client says which attributes it wants.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        !self.attributes.is_empty() || !self.excluded.is_empty()
    }

    /// Whether an attribute is to be shown, of the resource itself; `usual` when nobody says.
    #[must_use]
    pub fn shows(&self, resource: &Resource, attribute: &str, usual: bool) -> bool {
        let has = |names: &[String], whole: bool| {
            names.iter().any(|name| match path::find(resource, name) {
                Some(Named::Attribute(place)) => place.attribute.name == attribute && !(whole && place.sub.is_some()),
                _ => false,
            })
        };
        let wanted = if self.attributes.is_empty() { usual } else { has(&self.attributes, false) };
        wanted && !has(&self.excluded, true)
    }

    /// Leaves of a document what is to be shown; the identifier and the schemas always are.
    #[must_use]
    pub fn show(&self, resource: &Resource, whole: Document) -> Document {
        let mut shown = if self.attributes.is_empty() { whole } else { self.only(resource, whole) };
        for name in &self.excluded {
            match path::find(resource, name) {
                Some(Named::Attribute(place)) if place.attribute.name != "id" => {
                    let outer = match place.extension {
                        Some(schema) => shown.get_mut(schema.urn).and_then(Value::as_object_mut),
                        None => Some(&mut shown),
                    };
                    let Some(outer) = outer else { continue };
                    match place.sub {
                        None => drop(outer.remove(place.attribute.name)),
                        Some(sub) => {
                            let parts = outer.get_mut(place.attribute.name).into_iter().flat_map(objects);
                            parts.for_each(|object| drop(object.remove(sub.name)));
                        }
                    }
                }
                Some(Named::Extension(schema)) => drop(shown.remove(schema.urn)),
                _ => {}
            }
        }
        shown
    }

    fn only(&self, resource: &Resource, mut whole: Document) -> Document {
        let mut shown = Document::new();
        for name in ["schemas", "id"] {
            shown.extend(whole.remove(name).map(|value| (name.to_owned(), value)));
        }
        for name in &self.attributes {
            match path::find(resource, name) {
                Some(Named::Attribute(place)) => {
                    let source = match place.extension {
                        Some(schema) => whole.get(schema.urn).and_then(Value::as_object),
                        None => Some(&whole),
                    };
                    let Some(value) = source.and_then(|source| source.get(place.attribute.name)) else { continue };
                    let target = match place.extension {
                        Some(schema) => objects(shown.entry(schema.urn).or_insert_with(|| Map::new().into())).next(),
                        None => Some(&mut shown),
                    };
                    let Some(target) = target else { continue };
                    match place.sub {
                        None => drop(target.insert(place.attribute.name.to_owned(), value.clone())),
                        Some(sub) => part(target, place.attribute.name, value, sub.name),
                    }
                }
                Some(Named::Extension(schema)) => {
                    shown.extend(whole.get(schema.urn).map(|value| (schema.urn.to_owned(), value.clone())));
                }
                _ => {}
            }
        }
        shown
    }
}

/// The objects that a value is, or holds.
fn objects(value: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let (one, many) = match value {
        Value::Object(object) => (Some(object), None),
        Value::Array(all) => (None, Some(all)),
        _ => (None, None),
    };
    one.into_iter().chain(many.into_iter().flatten().filter_map(Value::as_object_mut))
}

/// Shows one part of a value, beside those that are shown already.
fn part(target: &mut Map<String, Value>, name: &str, value: &Value, sub: &str) {
    let picked = |value: &Value| value.get(sub).map(|part| (sub.to_owned(), part.clone()));
    match value {
        Value::Array(all) => {
            let shown = target.entry(name).or_insert_with(|| Value::Array(all.iter().map(|_| Map::new().into()).collect()));
            for (object, source) in objects(shown).zip(all) {
                object.extend(picked(source));
            }
        }
        other => {
            let shown = target.entry(name).or_insert_with(|| Map::new().into());
            objects(shown).for_each(|object| object.extend(picked(other)));
        }
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    }
}

/// Names with commas between, or a list of them.
fn names(value: &Value) -> Result<Vec<String>, Wrong> {
    let clean = |text: &str| text.trim().to_owned();
    let all: Option<Vec<String>> = match value {
        Value::String(text) => Some(text.split(',').map(clean).filter(|name| !name.is_empty()).collect()),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(clean)).collect(),
        _ => None,
    };
    let all = all.filter(|all| all.len() <= MOST_NAMES);
    all.ok_or_else(|| Wrong::new(Kind::InvalidValue, "Attributes are named by a list of their names, which is not too long."))
}
