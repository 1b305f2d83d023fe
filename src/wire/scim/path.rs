//! How attributes are named (RFC 7644, section 3.10): `userName`, `name.givenName`, `urn:…:User:department`, in any case.

use super::schema::{Attribute, COMMON, Resource, Schema};

/// What a name leads to.
#[derive(Clone, Copy, Debug)]
pub enum Named {
    /// An attribute that is kept.
    Attribute(Place),
    /// All that an extension adds.
    Extension(&'static Schema),
    /// The list of schemas, which follows from the rest.
    Schemas,
    /// What the standard has and is not kept.
    Ignored,
}

/// Where an attribute is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The extension; `None` for the resource itself.
    pub extension: Option<&'static Schema>,
    /// The attribute.
    pub attribute: &'static Attribute,
    /// The attribute of its values.
    pub sub: Option<&'static Attribute>,
}

impl Place {
    /// Its name for filters: without the schema where that is the resource's own.
    #[must_use]
    pub fn name(&self) -> String {
        let bare = match self.sub {
            Some(sub) => format!("{}.{}", self.attribute.name, sub.name),
            None => self.attribute.name.to_owned(),
        };
        self.extension.map_or(bare.clone(), |schema| format!("{}:{bare}", schema.urn))
    }
}

/// What follows a prefix that is written in any case.
fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    if head.eq_ignore_ascii_case(prefix) { text.get(prefix.len()..) } else { None }
}

/// Finds what is named; `None` when a resource of that kind has no such thing.
#[must_use]
pub fn find(resource: &Resource, name: &str) -> Option<Named> {
    let (schema, bare) = match resource.schemas().find_map(|schema| after(name, schema.urn).map(|rest| (schema, rest))) {
        Some((schema, "")) if schema.urn != resource.core.urn => return Some(Named::Extension(schema)),
        Some((schema, rest)) => (schema, rest.strip_prefix(':')?),
        None => (resource.core, name),
    };
    let (first, second) = bare.split_once('.').map_or((bare, None), |(first, second)| (first, Some(second)));
    let is_core = schema.urn == resource.core.urn;
    let common = COMMON.iter().find(|attribute| is_core && attribute.name.eq_ignore_ascii_case(first));
    let Some(attribute) = schema.attribute(first).or(common) else {
        if is_core && first.eq_ignore_ascii_case("schemas") {
            return Some(Named::Schemas);
        }
        return schema.ignored.iter().any(|known| known.eq_ignore_ascii_case(first)).then_some(Named::Ignored);
    };
    let extension = (!is_core).then_some(schema);
    let Some(second) = second else { return Some(Named::Attribute(Place { extension, attribute, sub: None })) };
    match attribute.sub(second) {
        Some(sub) => Some(Named::Attribute(Place { extension, attribute, sub: Some(sub) })),
        // Parts of what is kept in part, such as `name.formatted` or `addresses.locality`.
        None => (!attribute.subs.is_empty() && is_word(second)).then_some(Named::Ignored),
    }
}

/// Whether a text can be the name of an attribute.
#[must_use]
pub fn is_word(text: &str) -> bool {
    let bare = text.strip_prefix('$').unwrap_or(text);
    bare.starts_with(|c: char| c.is_ascii_alphabetic()) && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scim::schema::{GROUP, USER};

    fn shown(resource: &Resource, name: &str) -> String {
        match find(resource, name) {
            Some(Named::Attribute(place)) => place.name(),
            Some(Named::Extension(schema)) => format!("all of {}", schema.name),
            Some(Named::Schemas) => "schemas".into(),
            Some(Named::Ignored) => "ignored".into(),
            None => "nothing".into(),
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_with_their_schema() {
        let department = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department";
        for (name, found) in [
            ("userName", "userName"),
            ("USERNAME", "userName"),
            ("urn:ietf:params:scim:schemas:core:2.0:User:name.familyname", "name.familyName"),
            ("emails.value", "emails.value"),
            ("meta.lastModified", "meta.lastModified"),
            (department, department),
            ("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User", "all of EnterpriseUser"),
            ("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", "ignored"),
            ("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value", "ignored"),
            ("name.formatted", "ignored"),
            ("nickName", "ignored"),
            ("schemas", "schemas"),
            ("department", "nothing"),
            ("userName.x", "nothing"),
            ("urn:ietf:params:scim:schemas:core:2.0:User", "nothing"),
            ("urn:ietf:params:scim:schemas:core:2.0:UserX", "nothing"),
            ("urn:example:2.0:User:tag", "nothing"),
            ("", "nothing"),
            ("ä", "nothing"),
        ] {
            assert_eq!(shown(&USER, name), found, "{name}");
        }
        assert_eq!(shown(&GROUP, "members.$ref"), "members.$ref");
        assert_eq!(shown(&GROUP, "userName"), "nothing");
    }
}
