//! Applications that a simulated device has by declaration: it installs and takes over what is declared, removes what is not declared any
//! more, and reports of both by itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::Device;
use super::apps::{App, User};
use super::assets::Material;
use crate::catalogue::payload::System;
use crate::wire::apple::app::Manifest;
use crate::wire::apple::ddm::{Declaration, Kind, Listed, MANAGED, MANAGED_APPS, PACKAGE, PACKAGES, Reason, Valid};
use crate::wire::plist::{self, Dict, Limits};

/// Whose licence an application has is said by another key from this version on.
const ASSIGNMENT: u32 = 18;

/// One application or package by declaration.
#[derive(Clone, Debug)]
struct Kept {
    /// The declaration's server token that it was last tried with.
    token: String,
    entry: Listed,
}

/// What a device has by declaration, by the declarations' identifiers.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared {
    apps: BTreeMap<String, Kept>,
    packages: BTreeMap<String, Kept>,
}

impl Declared {
    /// Whether an application is kept by declaration.
    pub(super) fn has(&self, bundle: &str) -> bool {
        self.apps.values().any(|kept| kept.entry.identifier == bundle)
    }

    /// The user took an application away; whether it was kept by declaration.
    pub(super) fn lost(&mut self, bundle: &str) -> bool {
        let kept = self.apps.values_mut().find(|kept| kept.entry.identifier == bundle);
        kept.map(|kept| kept.entry.state = Some("managed-but-uninstalled".into())).is_some()
    }

    /// The value of the status item of that name.
    pub(super) fn item(&self, name: &str) -> Option<Json> {
        let all = match name {
            MANAGED_APPS => &self.apps,
            PACKAGES => &self.packages,
            _ => return None,
        };
        Some(all.values().map(|kept| json!(kept.entry)).collect())
    }
}

/// The status items that a device of that system and version has for them.
pub(super) fn items(mac: bool, version: crate::catalogue::OsVersion) -> &'static [&'static str] {
    match (mac, version.major, version.minor) {
        (true, 26.., _) => &[MANAGED_APPS, PACKAGES],
        (false, 18.., _) | (false, 17, 2..) => &[MANAGED_APPS],
        _ => &[],
    }
}

/// What is new in a list that was told before: entries that changed, and those that went.
pub(super) fn changes(before: Option<&Json>, now: &Json) -> Json {
    let (Some(before), Some(now)) = (before.and_then(Json::as_array), now.as_array()) else { return now.clone() };
    let named = |all: &[Json], entry: &Json| all.iter().any(|other| other.get("identifier") == entry.get("identifier"));
    let mut news: Vec<Json> = now.iter().filter(|entry| !before.contains(entry)).cloned().collect();
    let gone = before.iter().filter(|entry| !named(now, entry));
    news.extend(gone.map(|entry| json!({ "identifier": entry.get("identifier"), "_removed": true })));
    news.into()
}

/// What is wrong with a declaration of an application beyond its keys, on that system and version.
pub(super) fn wrong(declaration: &Declaration, mac: bool, major: u32) -> Option<&'static str> {
    let payload = &declaration.payload;
    if declaration.kind != MANAGED {
        return None;
    }
    let sources = ["AppStoreID", "BundleID", "ManifestURL", "AppComposedIdentifier"];
    if sources.iter().filter(|source| payload.contains_key(**source)).count() != 1 {
        return Some("exactly one of AppStoreID, BundleID, ManifestURL and AppComposedIdentifier is needed");
    }
    let licence = if mac || major >= ASSIGNMENT { "/InstallBehavior/License/Assignment" } else { "/InstallBehavior/License/VPPType" };
    let of_store = payload.contains_key("AppStoreID") || payload.contains_key("BundleID");
    if of_store && Json::Object(payload.clone()).pointer(licence).is_none() {
        return Some("an application of the store needs a licence");
    }
    let composed = payload.get("AppComposedIdentifier").and_then(Json::as_str);
    (composed.is_some_and(|text| major < 27 && !text.ends_with(')'))).then_some("AppComposedIdentifier names no team")
}

fn failed(code: &str, why: String) -> (Option<String>, Vec<Reason>) {
    (Some("failed".into()), vec![Reason { code: code.into(), description: Some(why), details: Map::new() }])
}

impl Device {
    /// Does what declarations in force say of applications.
    pub(super) async fn keep_apps(&mut self) {
        for kind in [PACKAGE, MANAGED] {
            let held = self.declarations.held.iter().filter(|((of, _), held)| *of == Kind::Configuration && held.declaration.kind == kind);
            let held = held.filter(|(_, held)| held.status.active && held.status.valid == Valid::Valid);
            let wanted: Vec<Declaration> = held.map(|(_, held)| held.declaration.clone()).collect();
            self.drop_apps(kind, &wanted);
            for declaration in wanted {
                let all = if kind == MANAGED { &self.apps.declared.apps } else { &self.apps.declared.packages };
                let known = all.get(&declaration.identifier).filter(|kept| kept.token == declaration.server_token);
                // A question that was left open is asked again, and what may come is waited for.
                let open = |state: &str| state.starts_with("prompting") || state == "not-present";
                if known.is_some_and(|kept| !kept.entry.state.as_deref().is_some_and(open)) {
                    continue;
                }
                let entry = if kind == MANAGED { self.keep_app(&declaration).await } else { self.keep_package(&declaration).await };
                let kept = Kept { token: declaration.server_token.clone(), entry };
                let all = if kind == MANAGED { &mut self.apps.declared.apps } else { &mut self.apps.declared.packages };
                all.insert(declaration.identifier, kept);
            }
        }
    }

    /// Removes what is not declared any more; the files of packages stay.
    fn drop_apps(&mut self, kind: &str, wanted: &[Declaration]) {
        let is_wanted = |name: &String| wanted.iter().any(|declaration| declaration.identifier == *name);
        if kind == PACKAGE {
            self.apps.declared.packages.retain(|name, _| is_wanted(name));
            return;
        }
        let gone: Vec<String> = self.apps.declared.apps.keys().filter(|name| !is_wanted(name)).cloned().collect();
        for kept in gone.iter().filter_map(|name| self.apps.declared.apps.remove(name)).collect::<Vec<_>>() {
            if self.apps.installed.get(&kept.entry.identifier).is_some_and(|app| app.managed) {
                self.apps.installed.remove(&kept.entry.identifier);
            }
        }
    }

    async fn keep_package(&mut self, declaration: &Declaration) -> Listed {
        let url = declaration.payload.get("ManifestURL").and_then(Json::as_str).unwrap_or_default().to_owned();
        let mut entry = Listed { declaration_identifier: Some(declaration.identifier.clone()), ..Listed::default() };
        let manifest = match self.manifest(&url).await {
            Ok(manifest) => manifest,
            Err(why) => {
                entry.identifier.clone_from(&declaration.identifier);
                (entry.state, entry.reasons) = failed("Error.DownloadFailed", why);
                return entry;
            }
        };
        entry.identifier = format!("{}.pkg", manifest.bundle_id);
        (entry.name, entry.version) = (Some(manifest.title.clone()), Some(manifest.version.clone()));
        let known = self.apps.installed.get(&manifest.bundle_id).filter(|app| app.version == manifest.version).cloned();
        (entry.state, entry.reasons) = match known {
            // It was there already.
            Some(_) => (Some("installed".into()), Vec::new()),
            None => match self.package(&manifest).await {
                Ok(size) => {
                    let managed = self.apps.installed.get(&manifest.bundle_id).is_some_and(|app| app.managed);
                    let app = App { version: manifest.version, size, managed, leaves: managed, configuration: None, vpn: None };
                    self.apps.installed.insert(manifest.bundle_id, app);
                    (Some("installed".into()), Vec::new())
                }
                Err(why) => failed("Error.DownloadFailed", why),
            },
        };
        entry
    }

    async fn keep_app(&mut self, declaration: &Declaration) -> Listed {
        let payload = &declaration.payload;
        let text = |name: &str| payload.get(name).and_then(Json::as_str).map(str::to_owned);
        let mut entry = Listed { declaration_identifier: Some(declaration.identifier.clone()), ..Listed::default() };
        let source = match (text("AppStoreID"), text("ManifestURL"), text("AppComposedIdentifier")) {
            (Some(number), _, _) => self.buy(number.parse().unwrap_or_default(), true).map(|(manifest, _)| (manifest, true)),
            (None, Some(url), _) => self.manifest(&url).await.map(|manifest| (manifest, false)),
            (None, None, composed) => {
                let bundle = composed.unwrap_or_default().split(' ').next().unwrap_or_default().to_owned();
                return self.adopt(entry, bundle, declaration);
            }
        };
        let (manifest, of_store) = match source {
            Ok(source) => source,
            Err(why) => {
                // It knows no better name yet.
                entry.identifier.clone_from(&declaration.identifier);
                let code = if why.contains("licence") { "Error.LicenseNotFound" } else { "Error.DownloadFailed" };
                (entry.state, entry.reasons) = failed(code, why);
                return entry;
            }
        };
        entry.identifier.clone_from(&manifest.bundle_id);
        let (state, reasons) = self.get_app(&manifest, of_store).await;
        (entry.state, entry.reasons) = (state, reasons);
        self.hold(entry, declaration)
    }

    /// Installs an application unless it is there, or asks its user.
    async fn get_app(&mut self, manifest: &Manifest, of_store: bool) -> (Option<String>, Vec<Reason>) {
        let known = self.apps.installed.get(&manifest.bundle_id).cloned();
        let silent = self.machine.system == System::Mac || self.machine.supervised || known.as_ref().is_some_and(|app| app.managed);
        let asks = if known.is_some() { "prompting-for-management" } else { "prompting-for-consent" };
        match self.apps.user {
            User::Refuses if !silent => return failed("Error.UserRejected", "the user said no".into()),
            User::Waits if !silent => return (Some(asks.into()), Vec::new()),
            _ => {}
        }
        let size = match &known {
            Some(app) if app.version == manifest.version => Ok(app.size),
            _ if of_store => Ok(1),
            _ => self.package(manifest).await,
        };
        match size {
            Ok(size) => {
                let app = App { version: manifest.version.clone(), size, managed: true, leaves: true, configuration: None, vpn: None };
                self.apps.installed.insert(manifest.bundle_id.clone(), app);
                (Some("managed".into()), Vec::new())
            }
            Err(why) => failed("Error.DownloadFailed", why),
        }
    }

    /// Takes over an application that came in another way.
    fn adopt(&mut self, mut entry: Listed, bundle: String, declaration: &Declaration) -> Listed {
        let there = self.apps.installed.get_mut(&bundle);
        let state = there.map_or("not-present", |app| {
            (app.managed, app.leaves) = (true, true);
            "managed"
        });
        (entry.identifier, entry.state) = (bundle, Some(state.into()));
        self.hold(entry, declaration)
    }

    /// What a managed application reads, and what the device says of it.
    fn hold(&mut self, mut entry: Listed, declaration: &Declaration) -> Listed {
        if entry.state.as_deref() != Some("managed") {
            return entry;
        }
        self.apps.transfer(&entry.identifier);
        let asset = declaration.payload.get("LegacyAppConfigAssetReference").and_then(Json::as_str);
        let configuration: Option<Dict> = asset.and_then(|name| match self.asset(name)? {
            Material::Data(_, bytes) => plist::decode_dict(bytes, Limits::MESSAGE).ok(),
            _ => None,
        });
        if let Some(app) = self.apps.installed.get_mut(&entry.identifier) {
            app.configuration = configuration;
            let attributes = declaration.payload.get("Attributes").and_then(|all| all.get("VPNUUID"));
            app.vpn = attributes.and_then(Json::as_str).map(str::to_owned);
            (entry.short_version, entry.version) = (Some(app.version.clone()), Some(app.version.clone()));
            entry.name = Some(entry.identifier.clone());
        }
        entry
    }
}
