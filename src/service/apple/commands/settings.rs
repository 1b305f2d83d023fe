//! `Settings`: names, options and switches of a device. An answer says for each how it went.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ForUsers, Request, file, flag, list_of};
use crate::domain::device::Platform;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{self, Dict};

pub(super) struct Settings;

/// Settings that are one text.
const TEXTS: [(&str, &str); 3] = [("device-name", "DeviceName"), ("host-name", "HostName"), ("time-zone", "TimeZone")];
/// Settings that are on or off.
const SWITCHES: [(&str, &str); 5] = [
    ("bluetooth", "Bluetooth"),
    ("data-roaming", "DataRoaming"),
    ("personal-hotspot", "PersonalHotspot"),
    ("diagnostics", "DiagnosticSubmission"),
    ("app-analytics", "AppAnalytics"),
];
/// Where a picture can be shown.
const SCREENS: [(&str, i64); 3] = [("lock", 1), ("home", 2), ("both", 3)];
/// What the settings of an application can name: a payload's UUID (of a VPN its `VPNUUID`).
const NAMED_BY_APPLICATIONS: [(&str, &str); 4] =
    [("vpn", "VPNUUID"), ("content-filter", "ContentFilterUUID"), ("dns-proxy", "DNSProxyUUID"), ("relay", "RelayUUID")];
/// What an application may or has to do.
const OF_APPLICATIONS: [(&str, &str); 5] = [
    ("direct-downloads", "AssociatedDomainsEnableDirectDownloads"),
    ("removable", "Removable"),
    ("tap-to-pay-lock", "TapToPayScreenLock"),
    ("hideable", "Hideable"),
    ("lockable", "Lockable"),
];
/// Numbers of a Shared iPad, each with its smallest value.
const NUMBERS_OF_SHARED: [(&str, &str, u32); 5] = [
    ("quota", "QuotaSize", 1),
    ("users", "ResidentUsers", 1),
    ("user-timeout", "UserSessionTimeout", 30),
    ("guest-timeout", "TemporarySessionTimeout", 30),
    ("offline-days", "OnlineAuthenticationGracePeriod", 0),
];
/// Switches of a Shared iPad.
const SWITCHES_OF_SHARED: [(&str, &str); 2] = [("guests-only", "TemporarySessionOnly"), ("skip-language", "SkipLanguageAndLocaleSetupForNewUsers")];
/// Helps for people with a disability.
const ACCESSIBILITY: [(&str, &str); 7] = [
    ("bold-text", "BoldTextEnabled"),
    ("increase-contrast", "IncreaseContrastEnabled"),
    ("reduce-motion", "ReduceMotionEnabled"),
    ("reduce-transparency", "ReduceTransparencyEnabled"),
    ("touch-accommodations", "TouchAccommodationsEnabled"),
    ("voice-over", "VoiceOverEnabled"),
    ("zoom", "ZoomEnabled"),
];
/// What the user is told of the organisation.
const ORGANISATION: [(&str, &str); 5] = [
    ("organization", "OrganizationName"),
    ("organization-short", "OrganizationShortName"),
    ("organization-email", "OrganizationEmail"),
    ("organization-phone", "OrganizationPhone"),
    ("organization-address", "OrganizationAddress"),
];
/// Options of the management.
const OPTIONS: [(&str, &str); 2] =
    [("activation-lock", "ActivationLockAllowedWhileSupervised"), ("bootstrap-prompt", "PromptUserToAllowBootstrapTokenForAuthentication")];
/// Results of one answer that are looked at.
const MOST: usize = 50;

/// Whether the order only says who the organisation is or what its applications may do: what Apple leaves of it on a user's own device.
fn is_for_users(keys: &Map<String, Value>) -> bool {
    let items = keys.get("Settings").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let own = |item: &Value| matches!(item.get("Item").and_then(Value::as_str), Some("OrganizationInfo" | "ApplicationAttributes"));
    items.iter().all(own)
}

type Values = BTreeMap<String, String>;

/// The switches that were given, under the protocol's names.
fn switches(values: &Values, names: &[(&str, &str)]) -> Result<Map<String, Value>, String> {
    let mut on = Map::new();
    for (ours, theirs) in names {
        on.extend(flag(values, ours)?.map(|yes| ((*theirs).to_owned(), yes.into())));
    }
    Ok(on)
}

fn wallpaper(values: &Values) -> Result<Option<Value>, String> {
    let Some((bytes, image)) = file(values, "image")? else { return Ok(None) };
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") && !bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Err("image: a picture in PNG or JPEG".into());
    }
    let screen = values.get("screen").map_or("both", String::as_str);
    let (_, place) = SCREENS.iter().find(|(word, _)| *word == screen).ok_or("screen: lock, home or both")?;
    Ok(Some(json!({ "Item": "Wallpaper", "Image": image, "Where": place })))
}

/// What an application may do and where its traffic goes; without attributes it is what it is by itself.
fn application(values: &Values) -> Result<Option<Value>, String> {
    let Some(application) = values.get("application") else { return Ok(None) };
    let mut attributes = super::named(values, &NAMED_BY_APPLICATIONS);
    attributes.extend(switches(values, &OF_APPLICATIONS)?);
    attributes.extend(list_of(values, "associated-domains")?.map(|all| ("AssociatedDomains".to_owned(), all)));
    let mut item = json!({ "Item": "ApplicationAttributes", "Identifier": application });
    if let Some(item) = item.as_object_mut().filter(|_| !attributes.is_empty()) {
        item.insert("Attributes".into(), attributes.into());
    }
    Ok(Some(item))
}

fn shared_ipad(values: &Values) -> Result<Option<Value>, String> {
    let mut item = switches(values, &SWITCHES_OF_SHARED)?;
    for (ours, theirs, least) in NUMBERS_OF_SHARED {
        let Some(text) = values.get(ours) else { continue };
        // A time of nought is none at all.
        let timeless = text == "0" && ours.ends_with("timeout");
        let number: u32 = text.parse().ok().filter(|number| timeless || *number >= least).ok_or(format!("{ours}: a number from {least} on"))?;
        item.insert(theirs.to_owned(), number.into());
    }
    item.extend(list_of(values, "domains")?.map(|all| ("ManagedAppleIDDefaultDomains".to_owned(), all)));
    item.extend(flag(values, "await-users")?.map(|on| ("AwaitUserConfiguration".to_owned(), json!({ "Enabled": on }))));
    if item.is_empty() {
        return Ok(None);
    }
    item.insert("Item".into(), "SharedDeviceConfiguration".into());
    Ok(Some(item.into()))
}

fn accessibility(values: &Values) -> Result<Option<Value>, String> {
    let mut item = switches(values, &ACCESSIBILITY)?;
    if let Some(text) = values.get("text-size") {
        let size: u32 = text.parse().ok().filter(|size| *size <= 11).ok_or("text-size: 0 to 11")?;
        item.insert("TextSize".into(), size.into());
    }
    if item.is_empty() {
        return Ok(None);
    }
    item.insert("Item".into(), "AccessibilitySettings".into());
    Ok(Some(item.into()))
}

impl Request for Settings {
    fn name(&self) -> &'static str {
        "Settings"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::Keys(is_for_users)
    }

    fn order(&self, values: &BTreeMap<String, String>, platform: Platform) -> Result<Map<String, Value>, String> {
        let mut items = Vec::new();
        for (ours, theirs) in TEXTS {
            if let Some(text) = values.get(ours) {
                if text.trim().is_empty() {
                    return Err(format!("{ours}: a text"));
                }
                items.push(json!({ "Item": theirs, theirs: text }));
            }
        }
        for (ours, theirs) in SWITCHES {
            if let Some(on) = flag(values, ours)? {
                items.push(json!({ "Item": theirs, "Enabled": on }));
            }
        }
        for made in [wallpaper, application, shared_ipad, accessibility] {
            items.extend(made(values)?);
        }
        let options = switches(values, &OPTIONS)?;
        if platform != Platform::MacOs && values.contains_key("bootstrap-prompt") {
            return Err("bootstrap-prompt: only for Macs".into());
        }
        if !options.is_empty() {
            items.push(json!({ "Item": "MDMOptions", "MDMOptions": options }));
        }
        let organisation = super::named(values, &ORGANISATION);
        if !organisation.is_empty() {
            if !organisation.contains_key("OrganizationName") {
                return Err("organization: is needed with the others".into());
            }
            items.push(json!({ "Item": "OrganizationInfo", "OrganizationInfo": organisation }));
        }
        if items.is_empty() {
            return Err("a value is needed".into());
        }
        Ok([("Settings".to_owned(), items.into())].into_iter().collect())
    }

    /// Apple's schema has one result, and its older description a list of them: both are read.
    fn says(&self, answer: &Answer) -> Result<String, String> {
        let results: Vec<&Dict> = match answer.body.get("Settings") {
            Some(plist::Value::Dict(one)) => vec![one],
            Some(plist::Value::Array(all)) => all.iter().take(MOST).filter_map(plist::Value::as_dict).collect(),
            _ => Vec::new(),
        };
        let words = |result: &Dict| {
            let chain = result.array("ErrorChain").unwrap_or_default().iter().take(MOST).filter_map(plist::Value::as_dict);
            let texts = chain.filter_map(|link| link.string("USEnglishDescription").or(link.string("LocalizedDescription")));
            let why = texts.map(|text| text.chars().take(200).collect::<String>()).collect::<Vec<_>>().join("; ");
            if why.is_empty() { "the device did not take the setting".to_owned() } else { why }
        };
        let failed = results.into_iter().filter(|result| result.string("Status") != Some("Acknowledged")).map(words);
        let failed = failed.collect::<Vec<_>>().join("; ");
        if failed.is_empty() { Ok("done".into()) } else { Err(failed) }
    }
}
