//! Applications that a device has by declaration: when they are declared, how they become declarations, and what its reports say of them.
//!
//! An application that came by a command and is declared later stays where it is: the device only keeps it in another way from then on. So
//! its record is the same one in both ways, and remembers in which the device has it.

use serde_json::{Value, json};

use super::super::ground::Ground;
use super::super::turn::Turn;
use super::{AGAIN, PACKAGE, begun, found, judge, memory, prepare, read, removed};
use crate::domain::apple::app::{self, App, Progress};
use crate::domain::apple::content::app::{self as content, Given, PROFILE};
use crate::domain::apple::declarations::identifier;
use crate::domain::apple::declared::Standing;
use crate::domain::certificate::Variables;
use crate::domain::desired::{Content, Input, State};
use crate::domain::profile::Payload;
use crate::service::Result;
use crate::wire::apple::ddm::{Kind, Listed, MANAGED_APPS, PACKAGES, StatusReport};

/// Where a record remembers that its application was declared, and where its manifest is.
const DECLARED: &str = "declared";
/// Where it remembers since when the device is to try anew.
const ROUND: &str = "round";
/// Where it remembers what the device said of the application.
const TOLD: &str = "told";
/// Where it remembers what the device said of the package.
const PACKAGE_TOLD: &str = "package-told";
/// Longest word of a device that is kept, in characters.
const LONGEST_WORD: usize = 150;

/// Whether a record's application is given by declaration to this device.
pub(in super::super) fn is(turn: &Turn<'_>, key: &str) -> bool {
    key.starts_with(app::RECORD) && turn.effective.winners.get(key).is_some_and(|winner| matches!(winner.content, Content::Declarations(_)))
}

/// Whether the device was given a record's application by declaration, and has it so as far as is known.
pub(in super::super) fn was(turn: &Turn<'_>, key: &str) -> bool {
    key.starts_with(app::RECORD) && memory(turn, key, DECLARED).is_some()
}

fn keys(turn: &Turn<'_>, which: impl Fn(&str) -> bool) -> Vec<String> {
    turn.records().map(|(key, _)| key).filter(|key| which(key)).cloned().collect()
}

/// Declares what is due. Each failure is another round, which changes the declaration: only so does a device try anew.
///
/// # Errors
/// Only the database's own.
pub(in super::super) async fn begin(turn: &mut Turn<'_>) -> Result<()> {
    let due = |turn: &Turn<'_>, key: &str| {
        let record = turn.record(key).map(|(_, record)| record);
        let open = record.filter(|record| matches!(record.state, State::Pending | State::Sent | State::Failed));
        is(turn, key) && open.is_some_and(|record| record.due_at.is_some_and(|at| at <= turn.now))
    };
    for key in keys(turn, |key| due(turn, key)) {
        let Ok(wanted) = prepare(turn, &key).await? else { continue };
        let manifest = wanted.manifest(turn).await?.unwrap_or_default();
        let again = turn.record(&key).is_some_and(|(_, record)| record.tries > 0 || record.drift.is_some());
        begun(turn, &key, &wanted);
        let now = turn.now;
        turn.remember(&key, |memory| {
            memory.insert(DECLARED.into(), manifest.into());
            if again {
                memory.insert(ROUND.into(), json!(now.0));
            }
        });
    }
    Ok(())
}

/// The payloads whose declarations give a record's application to the device, and what changes them beside that; `None`: it was not
/// declared yet. Errors name what is wrong.
pub(in super::super) fn payloads(
    turn: &Turn<'_>,
    ground: &Ground,
    key: &str,
) -> Option<std::result::Result<(Vec<Payload>, String), String>> {
    let manifest = memory(turn, key, DECLARED)?.as_str()?;
    let behind = json!([memory(turn, key, PACKAGE), memory(turn, key, ROUND)]).to_string();
    let make = |app: App| {
        // Without a value that it needs it waits as it is, without its configuration: taken back, it would lose its data.
        let configuration = app.configured(&Variables::of(turn.known.user.as_ref(), Some(&turn.device))).unwrap_or_default();
        let (system, version) = (ground.system(), ground.version());
        let manifest = Some(manifest).filter(|manifest| !manifest.is_empty());
        content::payloads(&app, &Given { manifest, configuration: &configuration, system, version })
    };
    Some(read(turn, key)?.and_then(make).map(|payloads| (payloads, behind)))
}

/// The device has looked at its declarations: what was declared is on its way, and what is not declared any more goes.
pub(in super::super) fn synchronised(turn: &mut Turn<'_>) {
    for key in keys(turn, |key| was(turn, key)) {
        match turn.record(&key).map(|(_, record)| record.state) {
            Some(State::Removing) => removed(turn, &key),
            Some(State::Sent) if is(turn, &key) => {
                let until = turn.now.plus(AGAIN);
                turn.apply(&key, Input::Taken { status: 200 });
                turn.apply(&key, Input::Deferred { until });
            }
            _ => {}
        }
    }
}

/// The device did not look at its declarations.
pub(in super::super) fn unsynchronised(turn: &mut Turn<'_>, why: &str) {
    let open = |state| matches!(state, State::Sent | State::Removing);
    for key in keys(turn, |key| was(turn, key) && turn.record(key).is_some_and(|(_, record)| open(record.state))) {
        turn.apply(&key, Input::Retry { status: 0, original_error: Some(why.to_owned()) });
    }
}

/// What was declared and has to be given by commands from now on is undeclared first: until then the device refuses them. Whether it is so.
pub(in super::super) fn undeclare(turn: &mut Turn<'_>, key: &str) -> bool {
    if !was(turn, key) {
        return false;
    }
    turn.remember(key, |memory| {
        for name in [DECLARED, ROUND, TOLD, PACKAGE_TOLD] {
            memory.remove(name);
        }
    });
    let until = turn.now.plus(AGAIN);
    turn.apply(key, Input::Postponed { until });
    true
}

/// Takes in what a report says of applications and packages.
pub(in super::super) fn hear(turn: &mut Turn<'_>, report: &StatusReport, prefix: &str) {
    let (all, now) = (keys(turn, |key| is(turn, key)), turn.now);
    for (item, at) in [(MANAGED_APPS, TOLD), (PACKAGES, PACKAGE_TOLD)] {
        let Some(listed) = report.listed(item) else { continue };
        for key in &all {
            let bundle = key.strip_prefix(app::RECORD).unwrap_or_default();
            let named = if at == TOLD { bundle.to_owned() } else { content::package(bundle) };
            let name = identifier(prefix, Kind::Configuration, &format!("{PROFILE}.{named}"));
            // What could not be read yet has no other name than its declaration's.
            let is_its = |entry: &&Listed| {
                entry.declaration_identifier.as_deref() == Some(name.as_str()) || at == TOLD && entry.identifier == bundle
            };
            let entry = listed.iter().find(is_its);
            if entry.is_none() && !report.full_report {
                continue;
            }
            let told = entry.filter(|entry| !entry.removed).map(|entry| {
                let codes: Vec<&str> = entry.reasons.iter().map(|reason| reason.code.as_str()).collect();
                let state = entry.state.as_deref().unwrap_or_default();
                let short = |text: &str| text.chars().take(LONGEST_WORD).collect::<String>();
                json!({ "state": short(state), "why": short(&codes.join(", ")), "at": now.0 })
            });
            if at == TOLD {
                let version = entry.and_then(|entry| entry.short_version.as_ref().or(entry.version.as_ref()));
                found(turn, key, version.map(|version| version.chars().take(64).collect()));
            }
            turn.remember(key, |memory| {
                memory.remove(at);
                memory.extend(told.map(|told| (at.to_owned(), told)));
            });
        }
    }
}

/// How far the device says that it is, in its own word.
fn told(turn: &Turn<'_>, key: &str) -> (Progress, String) {
    let of = |at: &str| {
        let told = memory(turn, key, at)?;
        let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (state, why) = (text("state"), text("why"));
        let at = told.get("at").and_then(Value::as_i64);
        let progress = match app::declared_progress(&state) {
            // It was said of the try before.
            Progress::Failed if at < memory(turn, key, "since").and_then(Value::as_i64) => Progress::Absent,
            progress => progress,
        };
        Some((progress, if why.is_empty() { state } else { why }))
    };
    let managed = read(turn, key).is_some_and(|read| read.is_ok_and(|app| app.managed));
    match (of(TOLD), of(PACKAGE_TOLD)) {
        // Without its package it does not come.
        (_, Some((Progress::Failed, why))) => (Progress::Failed, why),
        (Some((Progress::Absent, _)), Some((Progress::Working, word))) => (Progress::Working, word),
        (Some(app), _) => app,
        (None, Some(package)) if !managed => package,
        (None, _) => (Progress::Absent, "the device says nothing of it".into()),
    }
}

/// Moves a record by how it stands with its declarations, and then by what the device says of the application.
pub(in super::super) fn judge_by(turn: &mut Turn<'_>, key: &str, standing: Standing) {
    let Some((state, due)) = turn.record(key).map(|(_, record)| (record.state, record.due_at)) else { return };
    let later = due.is_some_and(|at| at > turn.now);
    let (progress, word) = match (standing, state) {
        (Standing::Refused(why) | Standing::NotInForce(why), State::Delivered | State::Verified) => (Progress::Failed, why),
        (Standing::InForce, State::Delivered | State::Verified) => told(turn, key),
        (Standing::Unknown, State::Delivered) => (Progress::Absent, "the device says nothing of its declaration".into()),
        // The device tells when that changes.
        (Standing::Unknown, State::Verified) => (Progress::There, String::new()),
        _ => return,
    };
    // What is known already is not said again.
    if !(later && progress == Progress::There && state == State::Verified) {
        judge(turn, key, progress, &word);
    }
}
