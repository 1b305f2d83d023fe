//! SCIM 2.0 (RFC 7643, RFC 7644): schemas, paths, filters, changes and lists, as identity providers send and expect them.

pub mod document;
pub mod filter;
pub mod patch;
pub mod path;
pub mod query;
pub mod schema;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde_json::{Value, json};

/// The media type (RFC 7644, section 8.1).
pub const MEDIA_TYPE: &str = "application/scim+json";
/// Schema of a list.
pub const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
/// Schema of an error.
pub const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";

/// What kind of mistake a request has (RFC 7644, section 3.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The filter is none, or asks for what cannot be filtered by.
    InvalidFilter,
    /// The path of a change is none, or names what there is not.
    InvalidPath,
    /// The body is not of the form that it should have.
    InvalidSyntax,
    /// A value is missing or not one that is taken.
    InvalidValue,
    /// What is to be changed cannot be changed.
    Mutability,
    /// The path of a change leads to nothing.
    NoTarget,
    /// The answer would be larger than any that is given.
    TooMany,
    /// Somebody else has the value.
    Uniqueness,
}

impl Kind {
    /// The word in an error.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidFilter => "invalidFilter",
            Self::InvalidPath => "invalidPath",
            Self::InvalidSyntax => "invalidSyntax",
            Self::InvalidValue => "invalidValue",
            Self::Mutability => "mutability",
            Self::NoTarget => "noTarget",
            Self::TooMany => "tooMany",
            Self::Uniqueness => "uniqueness",
        }
    }
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What kind of mistake.
    pub kind: Kind,
    /// For people.
    pub detail: Cow<'static, str>,
}

impl Wrong {
    /// Names what is wrong and where.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// The body of an error.
#[must_use]
pub fn error(status: u16, kind: Option<Kind>, detail: &str) -> Value {
    let mut body = json!({ "schemas": [ERROR], "status": status.to_string(), "detail": detail });
    if let (Some(kind), Some(members)) = (kind, body.as_object_mut()) {
        members.insert("scimType".into(), kind.as_str().into());
    }
    body
}

/// A page of a list: `start` is the place of its first resource among all, from 1.
#[must_use]
pub fn list(total: i64, start: u32, resources: &[Value]) -> Value {
    json!({
        "schemas": [LIST],
        "totalResults": total,
        "startIndex": start,
        "itemsPerPage": resources.len(),
        "Resources": resources,
    })
}
