//! Applications on Apple devices: what a profile asks for, and what a device's own words for the state of one mean.
//!
//! An application is a thing of its own among the device's items, under its bundle identifier: two profiles that ask for the same one
//! meet, and the older profile's wish counts where they differ.

use openssl::x509::X509;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::catalogue::OsVersion;
use crate::catalogue::payload::System;
use crate::domain::apple::content::app::{MANAGED, PACKAGE};
use crate::domain::apple::vpn;
use crate::domain::certificate::Variables;
use crate::domain::profile::{Payload, fields};

/// The payload of an application that the organisation hands out itself.
pub const ENTERPRISE: &str = "enterprise-app";
/// The payload of an application of the App Store.
pub const STORE: &str = "store-app";
/// How the keys of records of applications begin.
pub const RECORD: &str = "app:";
/// Largest package, in bytes.
pub const LARGEST_PACKAGE: u64 = 2 << 30;
/// Bytes over which devices check one hash.
pub const PART: usize = 4 << 20;
/// Longest address of a manifest, in bytes.
const LONGEST_URL: usize = 2_000;
/// Most certificates that a manifest's server may be pinned to.
const MOST_PINS: usize = 10;
/// Largest configuration, in bytes of JSON.
const LARGEST_CONFIGURATION: usize = 64 * 1024;

/// Remove the application with the management.
const REMOVE_WITH_MANAGEMENT: i64 = 1;
/// Keep its data out of backups.
const NO_BACKUP: i64 = 4;

/// An application that devices should have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(clippy::struct_excessive_bools, reason = "they are the switches of the document")]
pub struct App {
    /// Its bundle identifier.
    pub bundle_id: String,
    /// The name of a package that was uploaded …
    #[serde(default)]
    pub package: Option<String>,
    /// … or where somebody else's manifest is.
    #[serde(default)]
    pub manifest_url: Option<String>,
    /// Its number in the App Store (`store-app` alone).
    #[serde(default)]
    pub store_id: Option<i64>,
    /// The device gets a licence of the organisation's; without one, its user needs an account of the store's.
    #[serde(default = "yes")]
    pub licence: bool,
    /// Certificates (PEM) of which that server must have one; Macs only.
    #[serde(default)]
    pub manifest_certificates: Vec<String>,
    /// The oldest version that counts as installed; that of the package when there is one.
    #[serde(default)]
    pub version: Option<String>,
    /// What the application reads as its managed configuration.
    #[serde(default)]
    pub configuration: Map<String, Value>,
    /// The network that it uses: the `VPNUUID` of a `com.apple.vpn.managed.applayer`. This and the next three on iPhones and iPads only.
    #[serde(default)]
    pub vpn: Option<String>,
    /// The identifier of its content filter.
    #[serde(default)]
    pub content_filter: Option<String>,
    /// The identifier of its DNS proxy.
    #[serde(default)]
    pub dns_proxy: Option<String>,
    /// The identifier of its relay.
    #[serde(default)]
    pub relay: Option<String>,
    /// Who signed it, on Macs: the ten letters and digits of the developer's team.
    #[serde(default)]
    pub team_id: Option<String>,
    /// On Macs: the application is managed, as it always is on iPhones and iPads.
    #[serde(default = "yes")]
    pub managed: bool,
    /// Manage it even if its user installed it.
    #[serde(default)]
    pub take_over: bool,
    /// Leave it when the profile does not ask for it any more.
    #[serde(default)]
    pub keep: bool,
    /// Leave it when management ends.
    #[serde(default)]
    pub keep_after_management: bool,
    /// Its data may go into backups; iPhones and iPads only.
    #[serde(default = "yes")]
    pub backup: bool,
}

fn yes() -> bool {
    true
}

/// Whether a payload is an application.
#[must_use]
pub fn is_app(payload: &Payload) -> bool {
    [ENTERPRISE, STORE].contains(&payload.kind.as_str())
}

/// Whether a payload is an application for which devices get a licence of the organisation's.
#[must_use]
pub fn wants_licence(payload: &Payload) -> bool {
    payload.kind == STORE && payload.body.get("licence").and_then(Value::as_bool).unwrap_or_else(yes)
}

/// The key of an application's record.
#[must_use]
pub fn record(payload: &Payload) -> Option<String> {
    let bundle = payload.body.get("bundle-id").and_then(Value::as_str)?;
    Some(format!("{RECORD}{bundle}"))
}

/// Whether a text can be a bundle identifier.
#[must_use]
pub fn is_bundle_id(text: &str) -> bool {
    (1..=155).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Whether a text can be a version: numbers with dots between them come first.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let formed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    (1..=64).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(formed)
}

/// Whether a text can name a package.
#[must_use]
pub fn is_name(text: &str) -> bool {
    // Shorter than an identifier, which packages have for a name while they are taken in.
    (1..=35).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether one version is another or newer, number by number.
#[must_use]
pub fn at_least(has: &str, wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let plain = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        plain.split('.').map(|number| number.parse().unwrap_or(0)).collect()
    };
    let (mut has, mut wanted) = (numbers(has), numbers(wanted));
    let length = has.len().max(wanted.len());
    has.resize(length, 0);
    wanted.resize(length, 0);
    has >= wanted
}

impl App {
    /// Reads a payload.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(payload: &Payload, system: System) -> Result<Self, String> {
        let app: Self = fields(&payload.body)?;
        app.check(payload.kind == STORE, system)?;
        Ok(app)
    }

    fn check(&self, of_store: bool, system: System) -> Result<(), String> {
        let mac = system == System::Mac;
        if !is_bundle_id(&self.bundle_id) {
            return Err("bundle-id: letters, digits, dots, hyphens and underscores".into());
        }
        match (&self.package, &self.manifest_url) {
            (None, None) if of_store && self.store_id.is_some_and(|id| id > 0) => {}
            _ if of_store => return Err("store-id: the application's number in the store, and neither package nor manifest-url".into()),
            _ if self.store_id.is_some() || !self.licence => return Err("store-id, licence: only for store-app".into()),
            (Some(name), None) if is_name(name) => {}
            (Some(_), None) => return Err("package: up to 35 lower-case letters, digits and hyphens".into()),
            (None, Some(url)) if url.starts_with("https://") && url.len() <= LONGEST_URL && !url.contains(char::is_whitespace) => {}
            (None, Some(_)) => return Err("manifest-url: begins with https://".into()),
            _ => return Err("exactly one of package and manifest-url is needed".into()),
        }
        if self.version.as_deref().is_some_and(|version| self.manifest_url.is_none() || !is_version(version)) {
            return Err("version: numbers with dots between them, and only with manifest-url: a package brings its own".into());
        }
        if !self.manifest_certificates.is_empty() && (!mac || self.manifest_url.is_none()) {
            return Err("manifest-certificates: only for Macs, and with manifest-url".into());
        }
        if self.manifest_certificates.len() > MOST_PINS {
            return Err(format!("manifest-certificates: at most {MOST_PINS}"));
        }
        self.pins()?;
        if !mac && !self.managed {
            return Err("managed: always so on iPhones and iPads".into());
        }
        if !self.managed && (self.take_over || !self.configuration.is_empty()) {
            return Err("managed: take-over and configuration are for managed applications".into());
        }
        let newest = OsVersion { major: u32::MAX, minor: 0, build: 0, revision: 0 };
        let attributes = self.attributes(newest);
        if mac && !attributes.is_empty() {
            return Err(
                "vpn, content-filter, dns-proxy, relay: only for iPhones and iPads; on Macs com.apple.vpn.managed.appmapping".into()
            );
        }
        if let Some((key, _)) = attributes.iter().find(|(_, identifier)| !vpn::is_identifier(identifier)) {
            return Err(format!("vpn, content-filter, dns-proxy, relay: {key} should be a UUID"));
        }
        let formed = |team: &String| team.len() == 10 && team.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if self.team_id.as_ref().is_some_and(|team| !mac || of_store || !formed(team)) {
            return Err("team-id: ten capital letters and digits, and only for enterprise-app on Macs".into());
        }
        if mac && !self.backup {
            return Err("backup: only for iPhones and iPads".into());
        }
        if Value::Object(self.configuration.clone()).to_string().len() > LARGEST_CONFIGURATION {
            return Err(format!("configuration: larger than {LARGEST_CONFIGURATION} bytes"));
        }
        self.configured(&Variables::samples()).map(drop)
    }

    /// The certificates of [`Self::manifest_certificates`], DER.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn pins(&self) -> Result<Vec<Vec<u8>>, String> {
        let one = |pem: &String| X509::from_pem(pem.as_bytes()).and_then(|certificate| certificate.to_der());
        self.manifest_certificates.iter().map(one).collect::<Result<_, _>>().map_err(|_| "manifest-certificates: not in PEM".into())
    }

    /// The configuration with the values of its variables.
    ///
    /// # Errors
    /// Which variable is unknown or has no value.
    pub fn configured(&self, variables: &Variables) -> Result<Map<String, Value>, String> {
        let fill = |text: &str| variables.fill(text).map_err(|why| format!("configuration: {why}"));
        match filled(&Value::Object(self.configuration.clone()), &fill)? {
            Value::Object(filled) => Ok(filled),
            _ => Ok(Map::new()),
        }
    }

    /// Apple's `Attributes` that a device of that version knows, with their values.
    #[must_use]
    pub fn attributes(&self, version: OsVersion) -> Vec<(&'static str, &str)> {
        let all = [
            ("VPNUUID", &self.vpn, 7),
            ("ContentFilterUUID", &self.content_filter, 16),
            ("DNSProxyUUID", &self.dns_proxy, 16),
            ("RelayUUID", &self.relay, 17),
        ];
        all.into_iter()
            .filter(|(_, _, since)| version.major >= *since)
            .filter_map(|(key, value, _)| Some((key, value.as_deref()?)))
            .collect()
    }

    /// Whether the device manages it: Macs do so from version 11 on.
    #[must_use]
    pub fn is_managed(&self, system: System, version: OsVersion) -> bool {
        system == System::Ios || (self.managed && version.major >= 11)
    }

    /// The declarations that give it to a device of that version as the profile asks for it; `None`: commands alone do. A declared
    /// application goes with its declaration and with the management, and one of the store has a licence.
    #[must_use]
    pub fn declarations(&self, system: System, version: OsVersion) -> Option<Vec<&'static str>> {
        let since = |major, minor| version >= OsVersion { major, minor, build: 0, revision: 0 };
        let (mac, configured) = (system == System::Mac, !self.configuration.is_empty());
        let configures = if mac { since(27, 0) } else { since(18, 4) };
        let by_command = self.keep || self.keep_after_management || !self.manifest_certificates.is_empty();
        if by_command || self.store_id.is_some() && !self.licence || configured && !configures {
            return None;
        }
        let mut all = match (mac, self.store_id) {
            (false, _) | (true, Some(_)) => vec![MANAGED],
            (true, None) if !self.managed => return Some(vec![PACKAGE]),
            // Before, a Mac wants to know who signed an application that it did not install by itself.
            (true, None) if self.team_id.is_some() || since(27, 0) => vec![PACKAGE, MANAGED],
            (true, None) => return None,
        };
        all.extend(configured.then_some("com.apple.asset.data"));
        self.managed.then_some(all)
    }

    /// Apple's `ManagementFlags`; none when there is nothing to say.
    #[must_use]
    pub fn flags(&self) -> Option<i64> {
        let mut flags = 0;
        if !self.keep_after_management {
            flags |= REMOVE_WITH_MANAGEMENT;
        }
        if !self.backup {
            flags |= NO_BACKUP;
        }
        Some(flags).filter(|flags| *flags != 0)
    }
}

fn filled(value: &Value, fill: &impl Fn(&str) -> Result<String, String>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => fill(text)?.into(),
        Value::Array(items) => items.iter().map(|item| filled(item, fill)).collect::<Result<_, _>>()?,
        Value::Object(fields) => {
            let one = |(key, value): (&String, &Value)| Ok::<_, String>((key.clone(), filled(value, fill)?));
            Value::Object(fields.iter().map(one).collect::<Result<_, _>>()?)
        }
        Value::Null => return Err("configuration: property lists have no null".into()),
        Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

/// How far a device is with an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is there, and managed.
    There,
    /// The device or its user is at it.
    Working,
    /// It did not come to it; trying again may help.
    Failed,
    /// It is not there.
    Absent,
}

/// What a status of `ManagedApplicationList` means.
#[must_use]
pub fn progress(status: &str) -> Progress {
    match status {
        "Managed" => Progress::There,
        "Queued"
        | "Redeeming"
        | "Prompting"
        | "PromptingForLogin"
        | "ValidatingPurchase"
        | "PromptingForUpdate"
        | "PromptingForUpdateLogin"
        | "PromptingForManagement"
        | "ValidatingUpdate"
        | "Updating"
        | "Installing" => Progress::Working,
        "ManagedButUninstalled" => Progress::Absent,
        // NeedsRedemption (codes are not handed out), UserInstalledApp, UserRejected, UpdateRejected, ManagementRejected, Failed, Unknown.
        _ => Progress::Failed,
    }
}

/// What a state of the status items `app.managed.list` and `package.list` means.
#[must_use]
pub fn declared_progress(state: &str) -> Progress {
    match state {
        "managed" | "installed" => Progress::There,
        "queued" | "prompting-for-consent" | "prompting-for-login" | "prompting-for-management" | "downloading" | "installing" => {
            Progress::Working
        }
        // Optional is what nobody asked for: the device has not looked at the declaration yet.
        "managed-but-uninstalled" | "not-present" | "optional" => Progress::Absent,
        _ => Progress::Failed,
    }
}

/// Whether a device will never take it, whatever is tried: a `RejectionReason`.
#[must_use]
pub fn is_final(reason: &str) -> bool {
    ["NotAnApp", "NotSupported", "ManagementChangeNotSupported", "PurchaseMethodNotSupported", "PurchaseMethodNotSupportedInMultiUser"]
        .contains(&reason)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value, system: System) -> Result<App, String> {
        let payload = Payload { kind: ENTERPRISE.into(), name: "x".into(), body: body.as_object().unwrap().clone() };
        App::read(&payload, system)
    }

    #[test]
    fn what_a_document_may_not_say_is_refused_with_the_place() {
        let good = json!({ "bundle-id": "org.example.a", "package": "a" });
        read(&good, System::Mac).unwrap();
        read(&good, System::Ios).unwrap();
        for (system, change, says) in [
            (System::Mac, json!({ "bundle-id": "a b" }), "bundle-id:"),
            (System::Mac, json!({ "bundle-id": "" }), "bundle-id:"),
            (System::Mac, json!({ "package": "A" }), "package:"),
            (System::Mac, json!({ "package": null }), "exactly one"),
            (System::Mac, json!({ "manifest-url": "https://e/m" }), "exactly one"),
            (System::Mac, json!({ "package": null, "manifest-url": "http://e/m" }), "manifest-url:"),
            (System::Mac, json!({ "package": null, "manifest-url": "https://e/ m" }), "manifest-url:"),
            (System::Mac, json!({ "version": "1.0" }), "version:"),
            (System::Mac, json!({ "package": null, "manifest-url": "https://e/m", "version": "x" }), "version:"),
            (System::Mac, json!({ "manifest-certificates": ["x"] }), "manifest-certificates:"),
            (System::Mac, json!({ "package": null, "manifest-url": "https://e/m", "manifest-certificates": ["x"] }), "not in PEM"),
            (System::Ios, json!({ "package": null, "manifest-url": "https://e/m", "manifest-certificates": ["x"] }), "only for Macs"),
            (System::Ios, json!({ "managed": false }), "managed:"),
            (System::Mac, json!({ "managed": false, "take-over": true }), "managed:"),
            (System::Mac, json!({ "backup": false }), "backup:"),
            (System::Mac, json!({ "vpn": "4e1d6e0c-6e4b-4d54-9d2a-111111111111" }), "only for iPhones"),
            (System::Ios, json!({ "vpn": "office" }), "VPNUUID should be a UUID"),
            (System::Mac, json!({ "team-id": "abc" }), "team-id:"),
            (System::Ios, json!({ "team-id": "ABCDE12345" }), "team-id:"),
            (System::Mac, json!({ "configuration": { "a": null } }), "configuration:"),
            (System::Mac, json!({ "configuration": { "a": ["{{Nobody}}"] } }), "configuration:"),
            (System::Mac, json!({ "configuration": { "a": "x".repeat(70_000) } }), "configuration:"),
            (System::Mac, json!({ "store-id": 1 }), "store-id"),
            (System::Mac, json!({ "licence": false }), "licence"),
            (System::Mac, json!({ "unheard": 1 }), "unheard"),
        ] {
            let mut body = good.clone();
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let why = read(&body, system).unwrap_err();
            assert!(why.contains(says), "{change}: {why}");
        }
    }

    #[test]
    fn an_application_of_the_store_has_a_number_and_nothing_of_a_package() {
        let read = |body: Value| {
            let body = body.as_object().unwrap().clone();
            App::read(&Payload { kind: STORE.into(), name: "x".into(), body }, System::Ios)
        };
        assert!(read(json!({ "bundle-id": "a", "store-id": 12 })).unwrap().licence);
        for wrong in
            [json!({}), json!({ "store-id": 0 }), json!({ "store-id": 1, "package": "a" }), json!({ "store-id": 1, "version": "1" })]
        {
            let mut body = json!({ "bundle-id": "a" });
            body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
            assert!(read(body).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_of_a_configuration_get_their_values_at_any_depth() {
        let body = json!({ "bundle-id": "a", "package": "a", "configuration": {
            "text": "a;b{c}", "user": "{{UserPrincipalName}} at {{SerialNumber}}", "deep": [{ "n": 1, "t": "{{DeviceName}}" }] } });
        let app = read(&body, System::Ios).unwrap();
        let filled = app.configured(&Variables::samples()).unwrap();
        let expected = json!({ "text": "a;b{c}", "user": "sample@example.org at sample", "deep": [{ "n": 1, "t": "sample" }] });
        assert_eq!(Value::Object(filled), expected);
        assert!(app.configured(&Variables::default()).is_err(), "a value that is not known is not left out");
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (has, wanted, enough) in
            [("1.10", "1.9", true), ("1.9", "1.10", false), ("2", "2.0.0", true), ("1.2.3-b4", "1.2.3", true), ("1.2", "1.2.0.1", false)]
        {
            assert_eq!(at_least(has, wanted), enough, "{has} {wanted}");
        }
    }

    #[test]
    fn the_words_of_devices_are_understood() {
        for (word, meant) in [
            ("Managed", Progress::There),
            ("Prompting", Progress::Working),
            ("ManagedButUninstalled", Progress::Absent),
            ("UserRejected", Progress::Failed),
            ("NeedsRedemption", Progress::Failed),
            ("Unheard", Progress::Failed),
        ] {
            assert_eq!(progress(word), meant, "{word}");
        }
        for (word, meant) in [
            ("managed", Progress::There),
            ("installed", Progress::There),
            ("prompting-for-management", Progress::Working),
            ("managed-but-uninstalled", Progress::Absent),
            ("not-present", Progress::Absent),
            ("failed", Progress::Failed),
            ("unheard", Progress::Failed),
        ] {
            assert_eq!(declared_progress(word), meant, "{word}");
        }
        assert!(is_final("NotSupported") && !is_final("AppStoreDisabled"));
    }
}
