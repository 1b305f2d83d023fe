//! `/deviceManagement/deviceConfigurations`: what devices are given. A type is a file here that reads its properties into a profile's document
//! and writes them from it; what a type has no property for stays in the document.

mod custom;
mod device_features;
mod hello;
pub(super) mod pkcs;
mod scep;
mod template;
mod trusted_root;

use serde_json::{Map, Value, json};

use super::profile_set::ProfileSet;
use super::{assignment, standings};
use crate::config::Config;
use crate::domain::access::{Action, Need, Scope};
use crate::domain::device::Platform;
use crate::domain::profile::{Document, Kind, Payload, Profile, Scope as ConfigScope};
use crate::http::graph::answer::{Answer, tagged};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::route::{Call, routes};
use crate::service::profile::Draft;
use crate::service::profile_sets::{self, Dated, Which};
use crate::wire::odata::edm;

const READ: Need = Need { scopes: &[Scope::ConfigurationReadAll, Scope::ConfigurationReadWriteAll], action: Some(Action::ProfilesRead) };

const fn write(action: Action) -> Need {
    Need { scopes: &[Scope::ConfigurationReadWriteAll], action: Some(action) }
}

const SET: ProfileSet = ProfileSet {
    which: Which::Configurations,
    path: "deviceManagement/deviceConfigurations",
    assignment: "#microsoft.graph.deviceConfigurationAssignment",
    json,
    expand: &[],
    uniform: false,
    is_assigned: None,
};

routes! {
    Get "deviceManagement/deviceConfigurations", READ => list_configurations;
    Post "deviceManagement/deviceConfigurations", write(Action::ProfilesCreate) => create;
    Get "deviceManagement/deviceConfigurations/$count", READ => count;
    Get "deviceManagement/deviceConfigurations/{id}", READ => show;
    Patch "deviceManagement/deviceConfigurations/{id}", write(Action::ProfilesUpdate) => update;
    Delete "deviceManagement/deviceConfigurations/{id}", write(Action::ProfilesDelete) => delete;
    Get "deviceManagement/deviceConfigurations/{id}/assignments", READ => show_assignments;
    Get "deviceManagement/deviceConfigurations/{id}/deviceStatuses", READ => show_statuses;
    Get "deviceManagement/deviceConfigurations/{id}/deviceStatusOverview", READ => show_overview;
    Post "deviceManagement/deviceConfigurations/{id}/assign", write(Action::ProfilesAssign) => assign;
}

/// What types need to know of the server.
struct Server<'a> {
    config: &'a Config,
}

/// A type of configuration.
struct Type {
    /// Its name, without the namespace.
    name: &'static str,
    /// For which devices.
    platform: Platform,
    /// Whether only beta has it.
    beta: bool,
    /// Whether beta says of it to which channel of a Mac it goes.
    channel: bool,
    /// Whether a document is one of it.
    fits: fn(&Document) -> bool,
    /// Its properties, from a document.
    write: fn(&Server<'_>, &Document, &mut Map<String, Value>),
    /// Writes a property over a document; `false` when the type has no such property.
    read: fn(&Server<'_>, &mut Document, &str, &Value) -> Result<bool>,
}

/// The types. The last one of a platform fits every document.
const TYPES: &[Type] = &[
    hello::TYPE,
    scep::WINDOWS,
    scep::MACOS,
    scep::IOS,
    pkcs::MACOS,
    pkcs::IOS,
    pkcs::IMPORTED_MACOS,
    pkcs::IMPORTED_IOS,
    device_features::MACOS,
    device_features::IOS,
    trusted_root::WINDOWS,
    trusted_root::MACOS,
    trusted_root::IOS,
    custom::WINDOWS,
    custom::MACOS,
    custom::IOS,
];

/// Types that Graph has and this server has nothing for, with what is there instead.
const UNSUPPORTED: [(&str, &str); 3] = [
    ("windows10ImportedPFXCertificateProfile", "this server brings no keys to PCs"),
    ("windows10PkcsCertificateProfile", "this server brings no keys to PCs; use windows81SCEPCertificateProfile"),
    ("windows81PkcsCertificateProfile", "this server brings no keys to PCs; use windows81SCEPCertificateProfile"),
];

/// The property that says to which channel of a Mac a configuration goes.
const CHANNEL: &str = "deploymentChannel";
const CHANNELS: [(&str, Option<ConfigScope>); 2] = [("deviceChannel", None), ("userChannel", Some(ConfigScope::User))];

/// The only payload of a document, when it is of that kind and there is nothing else.
fn only<'a>(document: &'a Document, kind: &str) -> Option<&'a Payload> {
    match document.payloads.as_slice() {
        [one] if one.kind == kind && document.settings.is_empty() && document.custom.is_empty() => Some(one),
        _ => None,
    }
}

/// The only payload, made when the document has none.
fn payload<'a>(document: &'a mut Document, kind: &str, name: &str) -> &'a mut Payload {
    if document.payloads.is_empty() {
        document.payloads.push(Payload { kind: kind.to_owned(), name: name.to_owned(), body: Map::new() });
    }
    // There is one now.
    let Some(first) = document.payloads.first_mut() else { unreachable!("it was just put there") };
    first
}

fn type_of(profile: &Profile) -> Option<&'static Type> {
    TYPES.iter().find(|one| one.platform == profile.platform && (one.fits)(&profile.document))
}

fn json(call: &Call<'_>, found: &Dated) -> Map<String, Value> {
    let profile = &found.profile;
    let mut whole = Map::new();
    if let Some(kind) = type_of(profile) {
        whole.insert("@odata.type".into(), json!(format!("#microsoft.graph.{}", kind.name)));
        (kind.write)(&Server { config: &call.app.config }, &profile.document, &mut whole);
        if kind.channel && call.is_beta() {
            let channel = CHANNELS.iter().find(|(_, scope)| *scope == profile.document.scope).map(|(word, _)| *word);
            whole.insert(CHANNEL.into(), json!(channel));
        }
    }
    whole.insert("id".into(), json!(profile.id));
    whole.insert("createdDateTime".into(), edm::time(found.created_at.0));
    whole.insert("description".into(), json!(profile.document.description));
    whole.insert("displayName".into(), json!(profile.display_name));
    whole.insert("lastModifiedDateTime".into(), edm::time(found.updated_at.0));
    whole.insert("version".into(), json!(profile.version));
    tagged(whole)
}

async fn list_configurations(call: Call<'_>) -> Result<Answer> {
    SET.list(&call).await
}

async fn count(call: Call<'_>) -> Result<Answer> {
    SET.count(&call).await
}

async fn show(call: Call<'_>) -> Result<Answer> {
    SET.show(&call).await
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    SET.delete(&call).await
}

async fn show_assignments(call: Call<'_>) -> Result<Answer> {
    SET.show_assignments(&call).await
}

async fn show_statuses(call: Call<'_>) -> Result<Answer> {
    standings::list(&call, &SET).await
}

async fn show_overview(call: Call<'_>) -> Result<Answer> {
    standings::overview(&call, &SET).await
}

async fn assign(call: Call<'_>) -> Result<Answer> {
    SET.assign(&call).await
}

/// Writes what the body has over a document.
fn change(server: &Server<'_>, kind: &Type, name: &mut String, document: &mut Document, body: &Map<String, Value>) -> Result<()> {
    let (mut present, mut body) = (Map::new(), body.clone());
    (kind.write)(server, document, &mut present);
    template::join_life(&mut body, &present);
    for (property, value) in &body {
        match property.as_str() {
            "displayName" => value.as_str().ok_or_else(|| GraphProblem::invalid("displayName is a text."))?.clone_into(name),
            "description" => value.as_str().unwrap_or_default().clone_into(&mut document.description),
            "id" | "createdDateTime" | "lastModifiedDateTime" | "version" | "roleScopeTagIds" | "assignments" | "supportsScopeTags" => {}
            CHANNEL if kind.channel => {
                let found = CHANNELS.iter().find(|(word, _)| value.as_str() == Some(word));
                let (_, scope) = found.ok_or_else(|| GraphProblem::invalid("deploymentChannel is deviceChannel or userChannel."))?;
                document.scope = *scope;
            }
            _ if property == "@odata.type" || property == "@odata.context" => {}
            _ => {
                if !((kind.read)(server, document, property, value)? || value.is_null() || property.contains('@')) {
                    let property: String = property.chars().take(60).collect();
                    return Err(GraphProblem::invalid(format!("{} has no property '{property}' here.", kind.name)));
                }
            }
        }
    }
    Ok(())
}

async fn create(call: Call<'_>) -> Result<Answer> {
    assignment::check_unbound(&call.reach)?;
    let body: Map<String, Value> = call.request.json()?;
    let wanted = body.get("@odata.type").and_then(Value::as_str).unwrap_or_default().trim_start_matches('#');
    let wanted = wanted.strip_prefix("microsoft.graph.").unwrap_or(wanted);
    if let Some((name, why)) = UNSUPPORTED.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
        return Err(GraphProblem::invalid(format!("{name} is not supported: {why}.")));
    }
    let kind = TYPES.iter().find(|one| one.name.eq_ignore_ascii_case(wanted) && (!one.beta || call.is_beta())).ok_or_else(|| {
        let names: Vec<&str> = TYPES.iter().filter(|one| !one.beta || call.is_beta()).map(|one| one.name).collect();
        GraphProblem::invalid(format!("@odata.type is one of {}.", names.join(", ")))
    })?;
    check_references(&call, &body).await?;
    let (mut name, mut document) = (String::new(), Document::default());
    change(&Server { config: &call.app.config }, kind, &mut name, &mut document, &body)?;
    let draft = Draft { display_name: name, kind: Kind::Configuration, platform: kind.platform, document };
    let id = profile_sets::create(call.app, draft, &call.by()).await?;
    SET.created(&call, &id).await
}

/// A root that is bound has to be a configuration of this server. Devices trust our authority's chain by what they are given for it, so the
/// link itself needs no place.
async fn check_references(call: &Call<'_>, body: &Map<String, Value>) -> Result<()> {
    let Some(bound) = body.get("rootCertificate@odata.bind") else { return Ok(()) };
    let wrong = || GraphProblem::invalid("rootCertificate@odata.bind names no trusted root of this server.");
    let text = bound.as_str().ok_or_else(wrong)?;
    if !text.starts_with(&call.app.config.web_url()) {
        return Err(wrong());
    }
    let id = text.trim_end_matches(['/', ')', '\'']).rsplit(['/', '(', '\'']).next().unwrap_or_default();
    let found = profile_sets::find_profile(call.app, Which::Configurations, id).await.map_err(|_| wrong())?;
    let roots = found.profile.document.payloads.iter().any(|payload| payload.kind == "trusted-certificate");
    if roots { Ok(()) } else { Err(wrong()) }
}

async fn update(call: Call<'_>) -> Result<Answer> {
    assignment::check_unbound(&call.reach)?;
    let found = SET.seen(&call).await?;
    let body: Map<String, Value> = call.request.json()?;
    check_references(&call, &body).await?;
    let server = Server { config: &call.app.config };
    let draft = |profile: Profile| {
        let kind = type_of(&profile).ok_or_else(GraphProblem::not_found)?;
        let (mut name, mut document) = (profile.display_name, profile.document);
        change(&server, kind, &mut name, &mut document, &body)?;
        Ok::<_, GraphProblem>(Draft { display_name: name, kind: Kind::Configuration, platform: profile.platform, document })
    };
    profile_sets::change(call.app, &found.profile, draft, &call.by()).await?;
    SET.changed(&call, &found.profile.id).await
}
