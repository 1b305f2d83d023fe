//! `ScheduleOSUpdate`: downloads or installs an update of the system, on versions before 27. Later ones are told by declarations.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Request;
use crate::domain::device::Platform;
use crate::wire::apple::command::Answer;
use crate::wire::plist;

pub(super) struct ScheduleOsUpdate;

/// What may be done with an update.
const ACTIONS: [&str; 3] = ["Default", "DownloadOnly", "InstallASAP"];
/// The same on Macs only.
const ACTIONS_OF_MACS: [&str; 3] = ["NotifyOnly", "InstallLater", "InstallForceRestart"];
/// Results of one answer that are looked at.
const MOST: usize = 20;

impl Request for ScheduleOsUpdate {
    fn name(&self) -> &'static str {
        "ScheduleOSUpdate"
    }

    fn order(&self, values: &BTreeMap<String, String>, platform: Platform) -> Result<Map<String, Value>, String> {
        let mac = platform == Platform::MacOs;
        let mut update = Map::new();
        match (values.get("version"), values.get("product-key")) {
            (None, None) => return Err("version, product-key: one of them is needed".into()),
            (version, key) => {
                update.extend(version.map(|version| ("ProductVersion".to_owned(), version.as_str().into())));
                update.extend(key.map(|key| ("ProductKey".to_owned(), key.as_str().into())));
            }
        }
        let action = values.get("action").map_or("Default", String::as_str);
        if !(ACTIONS.contains(&action) || mac && ACTIONS_OF_MACS.contains(&action)) {
            let macs = if mac { ACTIONS_OF_MACS.join(", ") } else { String::new() };
            return Err(format!("action: {} {macs}", ACTIONS.join(", ")));
        }
        update.insert("InstallAction".into(), action.into());
        if !mac && (values.contains_key("deferrals") || values.contains_key("priority")) {
            return Err("deferrals, priority: only for Macs".into());
        }
        if let Some(deferrals) = values.get("deferrals") {
            let times: u32 = deferrals.parse().ok().filter(|times| *times <= 100).ok_or("deferrals: 0 to 100")?;
            if action != "InstallLater" {
                return Err("deferrals: only with action=InstallLater".into());
            }
            update.insert("MaxUserDeferrals".into(), times.into());
        }
        match values.get("priority").map(String::as_str) {
            None => {}
            Some(priority @ ("Low" | "High")) => drop(update.insert("Priority".into(), priority.into())),
            Some(_) => return Err("priority: Low or High".into()),
        }
        Ok([("Updates".to_owned(), json!([update]))].into_iter().collect())
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        let results = answer.body.array("UpdateResults").unwrap_or_default();
        let result = |item: &plist::Value| {
            let dict = item.as_dict()?;
            let word = |key: &str| dict.string(key).unwrap_or("?").chars().take(100).collect::<String>();
            Some((dict.string("InstallAction") == Some("Error"), format!("{}: {} {}", word("ProductKey"), word("InstallAction"), word("Status"))))
        };
        let results: Vec<(bool, String)> = results.iter().take(MOST).filter_map(result).collect();
        let text = results.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
        if results.iter().any(|(failed, _)| *failed) { Err(text) } else { Ok(if text.is_empty() { "done".into() } else { text }) }
    }
}
