//! What the document says of a type. A type that is written out or read in says so itself, by the same lines that declare it, so that the
//! document cannot say anything else than what is sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::clock::Time;
use crate::domain::{authority, certificate, compliance, desired, device, profile, readiness, signal};

/// The schemas that have names.
#[derive(Debug, Default)]
pub struct Schemas {
    all: BTreeMap<String, (&'static str, Value)>,
    doubled: Vec<String>,
}

/// A field as its declaration has it: name, text, schema, and whether it may be left out.
pub type Field = (&'static str, &'static str, Value, bool);

impl Schemas {
    /// The schema of a type: a reference where it has a name.
    pub fn of<T: Described>(&mut self) -> Value {
        let Some(name) = T::name() else { return T::describe(self) };
        let whose = std::any::type_name::<T>();
        match self.all.get(&name) {
            Some((other, _)) if *other != whose => self.doubled.push(name.clone()),
            Some(_) => {}
            None => {
                // Set aside, as a type may hold others of its kind.
                self.all.insert(name.clone(), (whose, Value::Null));
                let schema = T::describe(self);
                self.all.insert(name.clone(), (whose, schema));
            }
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// All of them, by name.
    #[must_use]
    pub fn into_inner(self) -> BTreeMap<String, Value> {
        self.all.into_iter().map(|(name, (_, schema))| (name, schema)).collect()
    }

    /// Names that more than one type has: the document would tell of one of them only.
    #[must_use]
    pub fn doubled(&self) -> &[String] {
        &self.doubled
    }
}

/// A type of which the document speaks.
pub trait Described {
    /// Whether a field of it may be left out where it is read in.
    const OPTIONAL: bool = false;

    /// Its name in the document; `None`: it is written out in its place.
    #[must_use]
    fn name() -> Option<String> {
        None
    }

    /// Its JSON Schema (2020-12).
    fn describe(all: &mut Schemas) -> Value;
}

/// The schema of an object; `taken`: it is read in, so what it does not know is refused.
#[must_use]
pub fn object(text: &str, fields: Vec<Field>, taken: bool) -> Value {
    let needed: Vec<&str> = fields.iter().filter(|(.., optional)| !(taken && *optional)).map(|(name, ..)| *name).collect();
    let mut properties = Map::new();
    for (name, text, mut schema, _) in fields {
        if let Some(members) = schema.as_object_mut() {
            members.insert("description".into(), text.trim().into());
        }
        properties.insert(name.to_owned(), schema);
    }
    let mut schema = json!({ "type": "object", "description": text.trim(), "properties": properties });
    if let Some(members) = schema.as_object_mut() {
        if !needed.is_empty() {
            members.insert("required".into(), json!(needed));
        }
        if taken {
            members.insert("additionalProperties".into(), false.into());
        }
    }
    schema
}

/// Declares what is written out: the struct, its JSON and its schema.
macro_rules! shown {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $text:literal])+ $field:ident: $type:ty),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, serde::Serialize)]
        pub(super) struct $name { $($(#[doc = $text])+ pub(super) $field: $type),+ }

        $crate::http::api::schema::described! { $name, concat!($($doc),+), false, $($field, concat!($($text),+), $type);+ }
    };
}

/// Declares what is read in: the struct, how it is read and its schema. What it does not know is refused.
macro_rules! taken {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $text:literal])+ $field:ident: $type:ty),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name { $($(#[doc = $text])+ pub(super) $field: $type),+ }

        $crate::http::api::schema::described! { $name, concat!($($doc),+), true, $($field, concat!($($text),+), $type);+ }
    };
}

macro_rules! described {
    ($name:ident, $doc:expr, $taken:literal, $($field:ident, $text:expr, $type:ty);+) => {
        impl $crate::http::api::schema::Described for $name {
            fn name() -> Option<String> {
                Some(stringify!($name).to_owned())
            }

            fn describe(all: &mut $crate::http::api::schema::Schemas) -> serde_json::Value {
                let fields = vec![$((
                    stringify!($field), $text, all.of::<$type>(), <$type as $crate::http::api::schema::Described>::OPTIONAL
                )),+];
                $crate::http::api::schema::object($doc, fields, $taken)
            }
        }
    };
}
pub(super) use {described, shown, taken};

macro_rules! plain {
    ($($type:ty = $schema:tt;)+) => {$(
        impl Described for $type {
            fn describe(_: &mut Schemas) -> Value {
                json!($schema)
            }
        }
    )+};
}

plain! {
    bool = { "type": "boolean" };
    i64 = { "type": "integer", "format": "int64" };
    u32 = { "type": "integer", "format": "int64", "minimum": 0, "maximum": 4_294_967_295_u32 };
    String = { "type": "string" };
    Value = {};
}

impl Described for &'static str {
    fn describe(all: &mut Schemas) -> Value {
        String::describe(all)
    }
}

impl<T: Described> Described for Option<T> {
    const OPTIONAL: bool = true;

    fn describe(all: &mut Schemas) -> Value {
        let mut inner = all.of::<T>();
        let plain = inner.get("type").filter(|_| inner.get("enum").is_none()).and_then(Value::as_str).map(str::to_owned);
        match (plain, inner.as_object_mut()) {
            (Some(kind), Some(members)) => {
                members.insert("type".into(), json!([kind, "null"]));
                inner
            }
            _ => json!({ "anyOf": [inner, { "type": "null" }] }),
        }
    }
}

impl<T: Described> Described for Vec<T> {
    fn describe(all: &mut Schemas) -> Value {
        json!({ "type": "array", "items": all.of::<T>() })
    }
}

impl<T: Described> Described for BTreeMap<String, T> {
    fn describe(all: &mut Schemas) -> Value {
        json!({ "type": "object", "additionalProperties": all.of::<T>() })
    }
}

/// No query, no body, no answer.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl Described for Nothing {
    fn describe(_: &mut Schemas) -> Value {
        Value::Null
    }
}

/// A moment, RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct At(String);

impl From<Time> for At {
    fn from(time: Time) -> Self {
        Self(time.to_string())
    }
}

impl Described for At {
    fn describe(_: &mut Schemas) -> Value {
        json!({ "type": "string", "format": "date-time" })
    }
}

/// A text of that many letters, none of which is a control character.
#[derive(Clone, Debug)]
pub struct Text<const LEAST: usize, const MOST: usize>(pub String);

impl<'de, const LEAST: usize, const MOST: usize> Deserialize<'de> for Text<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if (LEAST..=MOST).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        Err(serde::de::Error::custom(format_args!("a text of {LEAST} to {MOST} letters without control characters is wanted")))
    }
}

impl<const LEAST: usize, const MOST: usize> Described for Text<LEAST, MOST> {
    fn describe(_: &mut Schemas) -> Value {
        json!({ "type": "string", "minLength": LEAST, "maxLength": MOST, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$" })
    }
}

/// A text of several lines, such as a file in PEM.
#[derive(Clone, Debug)]
pub struct Lines<const MOST: usize>(pub String);

impl<'de, const MOST: usize> Deserialize<'de> for Lines<MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if (1..=MOST).contains(&text.chars().count()) {
            return Ok(Self(text));
        }
        Err(serde::de::Error::custom(format_args!("a text of 1 to {MOST} letters is wanted")))
    }
}

impl<const MOST: usize> Described for Lines<MOST> {
    fn describe(_: &mut Schemas) -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": MOST })
    }
}

/// A text that is never shown, not in the log either.
#[derive(Clone)]
pub struct Hidden<const LEAST: usize, const MOST: usize>(pub String);

impl<const LEAST: usize, const MOST: usize> std::fmt::Debug for Hidden<LEAST, MOST> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl<'de, const LEAST: usize, const MOST: usize> Deserialize<'de> for Hidden<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Text::<LEAST, MOST>::deserialize(from).map(|text| Self(text.0))
    }
}

impl<const LEAST: usize, const MOST: usize> Described for Hidden<LEAST, MOST> {
    fn describe(all: &mut Schemas) -> Value {
        let mut schema = Text::<LEAST, MOST>::describe(all);
        if let Some(members) = schema.as_object_mut() {
            members.insert("writeOnly".into(), true.into());
        }
        schema
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Number<const LEAST: i64, const MOST: i64>(pub i64);

impl<'de, const LEAST: i64, const MOST: i64> Deserialize<'de> for Number<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(from)?;
        if (LEAST..=MOST).contains(&number) {
            return Ok(Self(number));
        }
        Err(serde::de::Error::custom(format_args!("a number from {LEAST} to {MOST} is wanted")))
    }
}

impl<const LEAST: i64, const MOST: i64> Described for Number<LEAST, MOST> {
    fn describe(_: &mut Schemas) -> Value {
        json!({ "type": "integer", "format": "int64", "minimum": LEAST, "maximum": MOST })
    }
}

macro_rules! worded {
    ($($type:ty),+ $(,)?) => {$(
        impl Described for $type {
            fn describe(_: &mut Schemas) -> Value {
                let words: Vec<&str> = Self::ALL.iter().map(|word| word.as_str()).collect();
                json!({ "type": "string", "enum": words })
            }
        }
    )+};
}

worded! {
    authority::Kind, certificate::CertificateStatus, certificate::KeyAlgorithm, certificate::Purpose, certificate::RevocationReason,
    compliance::State, compliance::Status, desired::Lack, desired::Note, desired::State, device::Ownership, device::Platform, device::State,
    profile::Kind, readiness::Method, readiness::Missing, readiness::Standing, signal::ReceiverStatus,
}

#[cfg(test)]
mod tests {
    use super::*;

    taken! {
        /// An order.
        Order {
            /// Its name.
            name: Text<1, 3>,
            /// How often.
            times: Option<Number<1, 5>>,
        }
    }

    #[test]
    fn what_is_read_is_what_the_document_says() {
        let mut all = Schemas::default();
        assert_eq!(all.of::<Order>(), json!({ "$ref": "#/components/schemas/Order" }));
        let all = all.into_inner();
        assert_eq!(
            all["Order"],
            json!({
                "type": "object", "description": "An order.", "required": ["name"], "additionalProperties": false,
                "properties": {
                    "name": {
                        "type": "string", "minLength": 1, "maxLength": 3, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
                        "description": "Its name.",
                    },
                    "times": { "type": ["integer", "null"], "format": "int64", "minimum": 1, "maximum": 5, "description": "How often." },
                },
            })
        );
        let read = |text: &str| serde_json::from_str::<Order>(text);
        let order = read(r#"{"name":"äöü","times":5}"#).unwrap();
        assert_eq!((order.name.0.as_str(), order.times.map(|times| times.0)), ("äöü", Some(5)));
        assert!(read(r#"{"name":"a"}"#).unwrap().times.is_none());
        for wrong in [
            r#"{}"#,
            r#"{"name":""}"#,
            r#"{"name":"abcd"}"#,
            r#"{"name":"a\u0000"}"#,
            r#"{"name":"a","times":6}"#,
            r#"{"name":"a","more":1}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
