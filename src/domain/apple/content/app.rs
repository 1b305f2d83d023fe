//! An application as declarations: what `store-app` and `enterprise-app` become on devices that keep applications by themselves.
//!
//! On a Mac a package and the application in it are two things: one is installed, and the other, known by its signature, is managed. The
//! declarations are named after the application and not after a profile, so that it stays where it is when another profile asks for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::catalogue::OsVersion;
use crate::catalogue::payload::System;
use crate::domain::apple::app::App;
use crate::domain::profile::Payload;
use crate::wire::plist;

pub use crate::wire::apple::ddm::{MANAGED, PACKAGE};

/// What stands in the place of a profile in the names of these declarations.
pub const PROFILE: &str = "app";
/// The first version of iOS that is told whose licence it is by another key.
const ASSIGNMENT: u32 = 18;

/// What an application's declarations are made of.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Where its manifest is.
    pub manifest: Option<&'a str>,
    /// The configuration with its values.
    pub configuration: &'a Map<String, Value>,
    /// The device's system.
    pub system: System,
    /// Its version.
    pub version: OsVersion,
}

/// The name of the payload that is an application's package.
#[must_use]
pub fn package(bundle: &str) -> String {
    // Bundle identifiers have no tilde, and addresses of assets may have one.
    format!("{bundle}~package")
}

fn payload(kind: &str, name: String, body: Value) -> Payload {
    let body = match body {
        Value::Object(body) => body,
        _ => Map::new(),
    };
    Payload { kind: kind.to_owned(), name, body }
}

/// The payloads whose declarations give an application to a device.
///
/// # Errors
/// What is missing or cannot be written.
pub fn payloads(app: &App, given: &Given<'_>) -> Result<Vec<Payload>, String> {
    let (mac, bundle) = (given.system == System::Mac, &app.bundle_id);
    let mut install = json!({ "Install": "Required" });
    let mut body = Map::new();
    let mut all = Vec::new();
    if let Some(store_id) = app.store_id {
        let named = if mac || given.version.major >= ASSIGNMENT { "Assignment" } else { "VPPType" };
        if let Some(install) = install.as_object_mut() {
            install.insert("License".into(), json!({ named: "Device" }));
        }
        body.insert("AppStoreID".into(), store_id.to_string().into());
    } else {
        let manifest = given.manifest.ok_or("the application has no manifest")?;
        if mac {
            let installed = json!({ "ManifestURL": manifest, "InstallBehavior": { "Install": "Required" } });
            all.push(payload(PACKAGE, package(bundle), installed));
            if !app.managed {
                return Ok(all);
            }
            let composed = app.team_id.as_ref().map_or_else(|| bundle.clone(), |team| format!("{bundle} ({team})"));
            body.insert("AppComposedIdentifier".into(), composed.into());
        } else {
            body.insert("ManifestURL".into(), manifest.into());
            // Which version it has is decided here.
            body.insert("UpdateBehavior".into(), json!({ "AutomaticAppUpdates": "AlwaysOn" }));
        }
    }
    body.insert("InstallBehavior".into(), install);
    if !app.backup {
        body.insert("IncludeInBackup".into(), false.into());
    }
    let attributes = app.attributes(given.version);
    if !attributes.is_empty() {
        let attributes: Map<String, Value> = attributes.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        body.insert("Attributes".into(), attributes.into());
    }
    if !given.configuration.is_empty() {
        let name = format!("{bundle}~configuration");
        let written =
            plist::Value::from_json(&Value::Object(given.configuration.clone())).ok_or("configuration: property lists have no null")?;
        let content = json!({ "content": STANDARD.encode(plist::encode(&written)), "content-type": "application/plist" });
        body.insert("LegacyAppConfigAssetReference".into(), name.as_str().into());
        all.push(payload("data-asset", name, content));
    }
    all.push(payload(MANAGED, bundle.clone(), Value::Object(body)));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::apple::app::{ENTERPRISE, STORE};

    fn made(kind: &str, body: &Value, system: System, version: &str, configuration: &Value) -> Vec<(String, Value)> {
        let payload = Payload { kind: kind.into(), name: "x".into(), body: body.as_object().unwrap().clone() };
        let app = App::read(&payload, system).unwrap();
        let given = Given {
            manifest: Some("https://h/m"),
            configuration: configuration.as_object().unwrap(),
            system,
            version: OsVersion::parse(version).unwrap(),
        };
        payloads(&app, &given).unwrap().into_iter().map(|made| (made.name, Value::Object(made.body))).collect()
    }

    #[test]
    fn each_kind_of_application_is_declared_as_its_system_wants_it() {
        let store = json!({ "bundle-id": "a", "store-id": 12 });
        let licence = |made: Vec<(String, Value)>| made[0].1["InstallBehavior"]["License"].clone();
        assert_eq!(licence(made(STORE, &store, System::Ios, "17.2", &json!({}))), json!({ "VPPType": "Device" }));
        assert_eq!(licence(made(STORE, &store, System::Ios, "18.0", &json!({}))), json!({ "Assignment": "Device" }));
        assert_eq!(licence(made(STORE, &store, System::Mac, "26.0", &json!({}))), json!({ "Assignment": "Device" }));

        let own = json!({ "bundle-id": "a", "package": "p", "backup": false });
        let phone = made(ENTERPRISE, &own, System::Ios, "18.4", &json!({ "k": 1 }));
        assert_eq!((phone[0].0.as_str(), phone[1].0.as_str()), ("a~configuration", "a"));
        assert_eq!(phone[1].1["LegacyAppConfigAssetReference"], "a~configuration");
        assert_eq!((&phone[1].1["IncludeInBackup"], &phone[1].1["ManifestURL"]), (&json!(false), &json!("https://h/m")));

        let own = json!({ "bundle-id": "a", "package": "p", "team-id": "ABCDE12345" });
        let mac = made(ENTERPRISE, &own, System::Mac, "26.0", &json!({}));
        assert_eq!((mac[0].0.as_str(), &mac[1].1["AppComposedIdentifier"]), ("a~package", &json!("a (ABCDE12345)")));
        let own = json!({ "bundle-id": "a", "package": "p", "managed": false });
        assert_eq!(made(ENTERPRISE, &own, System::Mac, "26.0", &json!({})).len(), 1, "nothing manages it");
    }
}
