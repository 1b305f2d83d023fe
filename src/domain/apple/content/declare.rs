//! The declarations of a profile.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Target, asset, legacy, row_of};
use crate::catalogue::payload::{Device, Form, KeyRow};
use crate::catalogue::{Catalogue, PayloadRow};
use crate::domain::apple::declarations::{ACTIVATION, CONFIGURATIONS, PREDICATE, Wanted, identifier};
use crate::domain::profile::Payload;
use crate::wire::apple::ddm::Kind;
use crate::wire::apple::predicate;

/// The payloads of a profile by their names, with their rows and identifiers.
type Rows<'a> = BTreeMap<&'a str, (&'a Payload, &'a PayloadRow, String)>;

/// Makes the declarations of a profile, with their identifiers. Where a key names an asset of the same profile, or an activation its
/// configurations, the names become identifiers.
///
/// # Errors
/// The name of the payload and what is wrong with it.
pub fn declarations(
    payloads: &[Payload],
    profile: &str,
    prefix: &str,
    target: &Target<'_>,
    catalogue: &Catalogue,
) -> Result<Vec<(String, Wanted)>, (String, String)> {
    let device = Device { system: target.system, version: target.version, user_enrollment: target.user_enrollment, uuid_of: &|_| None };
    let mut rows: Rows<'_> = BTreeMap::new();
    for payload in payloads {
        let row = row_of(payload, catalogue).filter(|row| row.form == Form::Declaration);
        let row = row.ok_or_else(|| (payload.name.clone(), format!("there is no declaration of the type {}", payload.kind)))?;
        let kind = Kind::of_type(&row.id).unwrap_or(Kind::Configuration);
        rows.insert(&payload.name, (payload, row, identifier(prefix, kind, &format!("{profile}.{}", payload.name))));
    }
    let mut made = Vec::new();
    for payload in payloads {
        let Some((_, row, name)) = rows.get(payload.name.as_str()) else { continue };
        let one = || -> Result<Wanted, String> {
            if asset::type_of(&payload.kind).is_some() {
                let url = format!("{}/{name}", target.asset_url);
                let (body, behind) = match payload.kind.as_str() {
                    legacy::KIND => legacy::reference(payload, &url, target.names)?,
                    _ => asset::reference(payload, &url, &(target.generation)(&payload.name), target, catalogue)?,
                };
                return Ok(Wanted { kind: row.id.clone(), payload: row.encode_json(&body, &device)?, behind });
            }
            let mut body = Value::Object(row.encode_json(&payload.body, &device)?);
            for key in row.keys.iter().filter(|key| !key.assets.is_empty()) {
                let Some(wanted) = body.pointer_mut(&format!("/{}", key.at)) else { continue };
                let named = wanted.as_str().unwrap_or_default().to_owned();
                let found = rows.get(named.as_str()).filter(|(_, row, _)| key.assets.contains(&row.id));
                let (other, _, identifier) =
                    found.ok_or_else(|| format!("{}: the profile has no asset of that kind called {named}", key.at))?;
                media(key, other, target, catalogue)?;
                *wanted = identifier.as_str().into();
            }
            let Value::Object(mut body) = body else { return Err("no table".into()) };
            if row.id == ACTIVATION {
                activate(&mut body, &rows)?;
            }
            Ok(Wanted { kind: row.id.clone(), payload: body, behind: String::new() })
        };
        made.push((name.clone(), one().map_err(|why| (payload.name.clone(), why))?));
    }
    Ok(made)
}

/// Puts the identifiers of the configurations in the place of their names, and looks at the condition.
fn activate(body: &mut Map<String, Value>, rows: &Rows<'_>) -> Result<(), String> {
    let named = body.get_mut(CONFIGURATIONS).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default();
    if named.is_empty() {
        return Err(format!("{CONFIGURATIONS}: names none"));
    }
    for wanted in named {
        let name = wanted.as_str().unwrap_or_default().to_owned();
        let found = rows.get(name.as_str()).filter(|(_, row, _)| Kind::of_type(&row.id) == Some(Kind::Configuration));
        let (.., identifier) = found.ok_or_else(|| format!("{CONFIGURATIONS}: the profile has no configuration called {name}"))?;
        *wanted = identifier.as_str().into();
    }
    match body.get(PREDICATE).and_then(Value::as_str).map(predicate::check) {
        Some(Err(problem)) => Err(format!("{PREDICATE}: {problem}")),
        _ => Ok(()),
    }
}

/// Whether the asset is of the media type that the key wants, and, when it is somebody else's, says its hash: without these devices do not
/// take it.
fn media(key: &KeyRow, other: &Payload, target: &Target<'_>, catalogue: &Catalogue) -> Result<(), String> {
    if key.media.is_empty() {
        return Ok(());
    }
    let is_one = |media: &str| key.media.iter().any(|wanted| wanted == media);
    let fits = if asset::type_of(&other.kind).is_some() {
        is_one(asset::make(other, target, catalogue)?.media())
    } else {
        let none = Map::new();
        let reference = other.body.get("Reference").and_then(Value::as_object).unwrap_or(&none);
        reference.get("ContentType").and_then(Value::as_str).is_some_and(is_one) && reference.contains_key("Hash-SHA-256")
    };
    if fits { Ok(()) } else { Err(format!("{}: {} has to be {}, with its hash", key.at, other.name, key.media.join(" or "))) }
}
