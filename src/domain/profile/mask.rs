//! Documents without their secrets: for the audit log, and for administrators who do not ask for them.

use serde_json::{Map, Value};

use super::{Document, split_scope};
use crate::catalogue::Catalogue;
use crate::catalogue::payload::HIDDEN;
use crate::domain::apple::app::{ENTERPRISE, STORE};
use crate::domain::apple::content::single_sign_on;
use crate::domain::apple::sso;

impl Document {
    /// The document with a mask in the place of every secret, and of what may be one: texts of custom nodes, and payloads that
    /// nobody here knows.
    #[must_use]
    pub fn masked(&self, catalogue: &Catalogue) -> Self {
        let mut document = self.clone();
        for (name, value) in &mut document.settings {
            if catalogue.setting(split_scope(name).0).is_none_or(|row| row.secret) {
                *value = HIDDEN.into();
            }
        }
        // Secrets are texts; numbers and the like say what a profile does.
        for custom in document.custom.iter_mut().filter(|custom| ["chr", "b64", "xml"].contains(&custom.format.as_str())) {
            custom.value = HIDDEN.into();
        }
        for payload in &mut document.payloads {
            let direct = payload.body.get(single_sign_on::DIRECT).filter(|_| single_sign_on::is_own(payload)).cloned();
            let kind = if single_sign_on::is_own(payload) { sso::PAYLOAD } else { payload.kind.as_str() };
            payload.body = match catalogue.payload(kind) {
                Some(row) => row.redacted(&payload.body),
                None => payload.body.iter().map(|(name, value)| (name.clone(), own(&payload.kind, name, value))).collect(),
            };
            // The row does not have it, and it is no secret.
            payload.body.extend(direct.map(|direct| (single_sign_on::DIRECT.to_owned(), direct)));
        }
        document
    }

    /// Where the document has a mask, if it has one: somebody brings back what was shown to them without its secrets.
    #[must_use]
    pub fn find_mask(&self) -> Option<String> {
        let document = serde_json::to_value(self).unwrap_or_default();
        mask_in("", &document)
    }
}

/// A field of a payload with behaviour of its own: a profile or file that was made elsewhere, and the configuration of an application, may
/// hold any secret.
fn own(kind: &str, name: &str, value: &Value) -> Value {
    let secret = matches!(
        (kind, name),
        ("mobileconfig" | "declared-profile" | "data-asset", "content")
            | ("password-asset", "password")
            | (ENTERPRISE | STORE, "configuration")
    );
    if secret { HIDDEN.into() } else { value.clone() }
}

fn mask_in(at: &str, value: &Value) -> Option<String> {
    let within = |fields: &Map<String, Value>| fields.iter().find_map(|(name, value)| mask_in(&format!("{at}/{name}"), value));
    match value {
        Value::String(text) => (text == HIDDEN).then(|| at.to_owned()),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| mask_in(&format!("{at}/{index}"), item)),
        Value::Object(fields) => within(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}
