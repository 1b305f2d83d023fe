//! `Settings`: names, options and switches of a device. An answer says for each how it went.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ForUsers, Request, flag};
use crate::domain::device::Platform;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{self, Dict};

pub(super) struct Settings;

/// Settings that are one text.
const TEXTS: [(&str, &str); 3] = [("device-name", "DeviceName"), ("host-name", "HostName"), ("time-zone", "TimeZone")];
/// Settings that are on or off.
const SWITCHES: [(&str, &str); 2] = [("bluetooth", "Bluetooth"), ("data-roaming", "DataRoaming")];
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

/// Whether the order only says who the organisation is: what Apple leaves of it on a user's own device.
fn names_the_organisation(keys: &Map<String, Value>) -> bool {
    let items = keys.get("Settings").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    items.iter().all(|item| item.get("Item").and_then(Value::as_str) == Some("OrganizationInfo"))
}

impl Request for Settings {
    fn name(&self) -> &'static str {
        "Settings"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::Keys(names_the_organisation)
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
        let mut options = Map::new();
        for (ours, theirs) in OPTIONS {
            options.extend(flag(values, ours)?.map(|on| (theirs.to_owned(), on.into())));
        }
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
