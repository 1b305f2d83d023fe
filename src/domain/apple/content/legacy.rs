//! `declared-profile`: a profile that was made elsewhere, which devices fetch by declaration and install just as it is.
//!
//! Under its own identifiers it takes over what another way of management installed, if its payloads are the same in the same order; what
//! goes as `mobileconfig` gets names of ours.

use openssl::sha::sha256;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::mobileconfig;
use crate::domain::apple::profile::Names;
use crate::domain::profile::{Payload, fields};
use crate::wire::apple::profile::Scope;

/// The type of these payloads.
pub const KIND: &str = "declared-profile";
/// The declaration of a profile that the device installs.
pub const DECLARATION: &str = "com.apple.configuration.legacy";
/// The declaration of one that its user may install.
pub const INTERACTIVE: &str = "com.apple.configuration.legacy.interactive";
/// The media type of profiles.
pub const MEDIA: &str = "application/x-apple-aspen-config";
/// Longest profile, in bytes.
const LONGEST: usize = 512 * 1024;
/// What says that the user decides, and under which name.
const VISIBLE_NAME: &str = "visible-name";

/// `declared-profile`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Declared {
    /// As with `mobileconfig`.
    content: String,
    /// The name under which the device's user may install it; without it the device does.
    #[serde(default)]
    visible_name: Option<String>,
}

/// The declaration that the payload becomes.
#[must_use]
pub fn type_of(payload: &Payload) -> &'static str {
    if payload.body.contains_key(VISIBLE_NAME) { INTERACTIVE } else { DECLARATION }
}

/// Looks at a payload; `scope`: whose channel it goes to.
///
/// # Errors
/// What is wrong with it, and the identifier of its profile.
pub fn check(payload: &Payload, scope: Scope) -> Result<String, String> {
    let own: Declared = fields(&payload.body)?;
    if own.visible_name.is_some_and(|name| name.trim().is_empty()) {
        return Err("visible-name: a name that people see".into());
    }
    let profile = mobileconfig::read(&own.content)?;
    match profile.body.string("PayloadScope") {
        Some(said) if said != scope.as_str() => {
            Err(format!("content: its PayloadScope is {said}, and the profile goes to {}", scope.as_str()))
        }
        _ => Ok(profile.identifier),
    }
}

/// The profile. It was looked at when it was brought ([`check`]): devices ask for it often.
///
/// # Errors
/// What is wrong with it: too long, or under an identifier of this server's own profiles, which it would take over.
pub fn document(payload: &Payload, names: &Names) -> Result<Vec<u8>, String> {
    let own: Declared = fields(&payload.body)?;
    let document = mobileconfig::document(&own.content)?;
    if document.len() > LONGEST {
        return Err(format!("content: longer than {LONGEST} bytes"));
    }
    let text = String::from_utf8_lossy(&document);
    if text.contains(&names.profiles()) || text.contains(&names.enrollment()) {
        return Err("content: it has an identifier of a profile that this server makes".into());
    }
    Ok(document)
}

/// What the declaration says, and the hash of what stands behind its address.
///
/// # Errors
/// As [`document`].
pub fn reference(payload: &Payload, url: &str, names: &Names) -> Result<(Map<String, Value>, String), String> {
    let behind = hex::encode(sha256(&document(payload, names)?));
    let mut body: Map<String, Value> = [("ProfileURL".to_owned(), json!(url))].into_iter().collect();
    body.extend(payload.body.get(VISIBLE_NAME).map(|name| ("VisibleName".to_owned(), name.clone())));
    Ok((body, behind))
}
