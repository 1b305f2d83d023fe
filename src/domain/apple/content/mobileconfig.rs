//! `mobileconfig`: a profile that was made elsewhere.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Target;
use crate::domain::apple::profile::Part;
use crate::wire::apple::profile::{Content, Profile};
use crate::wire::plist;

/// The enrolment itself: nothing that a profile may bring.
const ENROLMENT: [&str; 3] = ["com.apple.declarations", "com.apple.mdm", "Configuration"];

/// `mobileconfig`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mobileconfig {
    /// The document, as XML or as Base64 of it; without a signature.
    content: String,
}

/// The document that `content` holds.
///
/// # Errors
/// When it is none.
pub(super) fn document(content: &str) -> Result<Vec<u8>, String> {
    let text = content.trim();
    if text.starts_with('<') {
        return Ok(text.as_bytes().to_vec());
    }
    let compact: String = text.split_whitespace().collect();
    STANDARD.decode(compact).map_err(|_| "content: neither XML nor Base64".to_owned())
}

/// The profile that `content` holds.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(content: &str) -> Result<Profile, String> {
    let document = document(content)?;
    let profile =
        Profile::decode(&document).map_err(|why| format!("content: {why}; a signed profile has to be given without its signature"))?;
    if matches!(profile.content, Content::Encrypted(_)) {
        return Err("content: the profile is encrypted to some device".into());
    }
    if profile.payloads().is_empty() {
        return Err("content: the profile has no payloads".into());
    }
    match profile.payloads().iter().find(|payload| ENROLMENT.contains(&payload.kind.as_str())) {
        Some(payload) => Err(format!("content: {} cannot come with a profile", payload.kind)),
        None => Ok(profile),
    }
}

impl Mobileconfig {
    /// The payloads under names of ours. What names another payload by its UUID names it by the new one.
    pub(super) fn parts(&self, name: &str, target: &Target<'_>) -> Result<Vec<Part>, String> {
        let profile = read(&self.content)?;
        let generation = (target.generation)(name);
        let named = |at: usize| format!("{name}-{}", at + 1);
        let renamed: BTreeMap<String, String> = profile
            .payloads()
            .iter()
            .enumerate()
            .map(|(at, payload)| (payload.uuid.clone(), target.names.payload_uuid(target.identifier, &named(at), &generation)))
            .collect();
        let part = |(at, payload): (usize, &crate::wire::apple::profile::Payload)| Part {
            kind: payload.kind.clone(),
            name: named(at),
            generation: generation.clone(),
            body: payload.body.iter().map(|(key, value)| (key.to_owned(), rename(value, &renamed))).collect(),
        };
        Ok(profile.payloads().iter().enumerate().map(part).collect())
    }
}

fn rename(value: &plist::Value, renamed: &BTreeMap<String, String>) -> plist::Value {
    match value {
        plist::Value::String(text) => plist::Value::String(renamed.get(text).unwrap_or(text).clone()),
        plist::Value::Array(items) => plist::Value::Array(items.iter().map(|item| rename(item, renamed)).collect()),
        plist::Value::Dict(dict) => plist::Value::Dict(dict.iter().map(|(key, value)| (key.to_owned(), rename(value, renamed))).collect()),
        other => other.clone(),
    }
}
