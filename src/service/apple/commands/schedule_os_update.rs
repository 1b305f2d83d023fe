//! `ScheduleOSUpdate`: downloads or installs an update of the system, on versions before 27: by order, and where a profile enforces an
//! update and the device has no declarations for it.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::super::turn::Turn;
use super::{Body, Request, Subject};
use crate::catalogue::OsVersion;
use crate::clock::{HOUR, Time};
use crate::domain::desired::{Content, Input, Lack};
use crate::domain::device::Platform;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{self, Dict};

pub(super) struct ScheduleOsUpdate;

/// What may be done with an update.
const ACTIONS: [&str; 3] = ["Default", "DownloadOnly", "InstallASAP"];
/// The same on Macs only.
const ACTIONS_OF_MACS: [&str; 3] = ["NotifyOnly", "InstallLater", "InstallForceRestart"];
/// Results of one answer that are looked at.
const MOST: usize = 20;

/// How long until a device is told again.
const AGAIN: i64 = 8 * HOUR;

/// An update that a profile enforces on a device that has no declarations for it.
struct Wanted {
    /// As the profile writes it.
    told: String,
    version: OsVersion,
    has: OsVersion,
    action: &'static str,
}

/// What a record wants; `None` when the device cannot be told a version (before macOS 12 and iOS 11.3).
fn wanted(turn: &Turn<'_>, key: &str) -> Option<Wanted> {
    let Content::Payload(payload) = &turn.effective.winners.get(key)?.content else { return None };
    let text = |name: &str| payload.body.get(name).and_then(Value::as_str);
    let told = text("TargetOSVersion")?.to_owned();
    let version = OsVersion::parse(&told)?;
    let has = OsVersion::parse(turn.device.os_version.as_deref()?)?;
    let mac = turn.device.platform == Platform::MacOs;
    let first = OsVersion { major: if mac { 12 } else { 11 }, minor: if mac { 0 } else { 3 }, build: 0, revision: 0 };
    // Local time is taken for UTC: the server does not know where the device is.
    let over = text("TargetLocalDateTime").and_then(|at| Time::parse(&format!("{at}Z"))).is_some_and(|at| turn.now >= at);
    let action = match (over, mac) {
        (true, true) => "InstallForceRestart",
        (true, false) => "InstallASAP",
        (false, true) => "InstallLater",
        (false, false) => "DownloadOnly",
    };
    (has >= first).then_some(Wanted { told, version, has, action })
}

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

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, crate::service::Result<Body>> {
        async move {
            let Subject::Record(key) = subject else { return Ok(Body::Keys(subject.keys())) };
            Ok(match wanted(turn, key) {
                Some(wanted) if wanted.version > wanted.has => {
                    turn.apply(key, Input::Sent);
                    let update = Dict::new().with("ProductVersion", wanted.told).with("InstallAction", wanted.action);
                    Body::Keys(Dict::new().with("Updates", vec![update.into()]))
                }
                Some(_) => {
                    turn.apply(key, Input::Matches);
                    Body::Nothing("the version is there".into())
                }
                None => {
                    turn.apply(key, Input::Lacks(Lack::Version));
                    Body::Nothing("the device cannot be told which version to install".into())
                }
            })
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, _answer: &Answer) {
        if let Subject::Record(key) = subject {
            // The device downloads, and its user may put it off: told again in a while, until the version is there.
            let until = turn.now.plus(AGAIN);
            turn.apply(key, Input::Taken { status: 200 });
            turn.apply(key, Input::Deferred { until });
        }
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
