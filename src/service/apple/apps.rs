//! Applications of a device: what is wanted of each, and what is known of them, from its lists ([`judge`]) or from its own reports
//! ([`declared`]).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::licences::{self, Standing};
use super::packages;
use super::turn::Turn;
use crate::catalogue::OsVersion;
use crate::catalogue::payload::System;
use crate::clock::{DAY, HOUR, MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::apple::app::{self, App, Progress};
use crate::domain::apple::content;
use crate::domain::apple::package::Package;
use crate::domain::certificate::Variables;
use crate::domain::desired::{Content, Input, Lack, Loaded, State};
use crate::domain::device::Platform;
use crate::service::Result;
use crate::service::effect::Effect;
use crate::wire::plist::{self, Dict};

pub(super) mod declared;

/// What a record is called that stands for all applications.
pub(super) const ALL: &str = "apps";
/// Milliseconds until a device is asked again that is at it.
const AGAIN: i64 = 5 * MINUTE;
/// Milliseconds that an application may be under way, with a user who is asked for it.
const LONGEST: i64 = DAY;
/// Milliseconds that one may be on its way without a sign of it.
const LONGEST_SILENCE: i64 = HOUR;
/// Milliseconds until it is looked again whether a licence is there.
const LICENCE_AGAIN: i64 = 2 * MINUTE;
/// Where a record remembers of which application the device has a licence.
const LICENCE: &str = "licence";
/// Where it remembers which package it was given.
const PACKAGE: &str = "package";

/// The questions that show which applications are there: the last one judges.
pub(super) fn questions(platform: Platform) -> &'static [&'static str] {
    match platform {
        Platform::Ios => &["InstalledApplicationList:apps", "ManagedApplicationList:apps"],
        _ => &["InstalledApplicationList:apps"],
    }
}

/// An application that a device should have, and what it is.
pub(super) struct Wanted {
    pub(super) app: App,
    pub(super) system: System,
    pub(super) version: OsVersion,
    /// The configuration with its values.
    configuration: Map<String, Value>,
    /// The package, when it is one of ours.
    pub(super) package: Option<Package>,
    /// The device is its user's own.
    of_user: bool,
}

impl Wanted {
    /// Whether the device manages it.
    pub(super) fn is_managed(&self) -> bool {
        self.app.is_managed(self.system, self.version)
    }

    /// The keys that all commands share which install one.
    pub(super) fn keys(&self) -> Dict {
        let mut keys = Dict::new();
        if !self.is_managed() {
            return keys;
        }
        if self.system == System::Mac {
            keys.insert("InstallAsManaged", true);
        }
        let attributes = self.app.attributes(self.version);
        if !attributes.is_empty() {
            keys.insert("Attributes", attributes.into_iter().collect::<Dict>());
        }
        keys.insert_some("ManagementFlags", self.app.flags());
        // Where the device is its user's own, what the user installed stays the user's.
        if self.app.take_over && !self.of_user {
            keys.insert("ChangeManagementState", "Managed");
        }
        if !self.configuration.is_empty() {
            let filled = self.configuration.iter().filter_map(|(key, value)| Some((key.clone(), plist::Value::from_json(value)?)));
            keys.insert("Configuration", filled.collect::<Dict>());
        }
        keys
    }

    /// Where its manifest is, ours or somebody else's.
    pub(super) async fn manifest(&self, turn: &Turn<'_>) -> Result<Option<String>> {
        match &self.package {
            Some(package) => Ok(Some(packages::manifest_link(turn.app, &package.name, &turn.known.enrollment.id).await?)),
            None => Ok(self.app.manifest_url.clone()),
        }
    }
}

/// The packages that the profiles of a device name.
pub(super) fn packages_named(items: &[Loaded]) -> BTreeSet<String> {
    let payloads = items.iter().filter_map(|loaded| loaded.desired.as_ref()).flat_map(|document| &document.payloads);
    let named = payloads.filter(|payload| payload.kind == app::ENTERPRISE).filter_map(|payload| payload.body.get("package")?.as_str());
    named.map(str::to_owned).collect()
}

/// What a record's profile says.
fn read(turn: &Turn<'_>, key: &str) -> Option<std::result::Result<App, String>> {
    let payload = match &turn.effective.winners.get(key)?.content {
        Content::Payload(payload) => payload,
        Content::Declarations(payloads) => payloads.first()?,
        Content::Setting { .. } | Content::Custom(_) | Content::Profile(_) => return None,
    };
    Some(App::read(payload, content::system(turn.device.platform)?))
}

/// The package of ours that a record's application comes in.
fn package<'t>(turn: &'t Turn<'_>, key: &str) -> Option<&'t Package> {
    turn.packages.get(&read(turn, key)?.ok()?.package?)
}

/// The request that installs a record's application.
pub(super) fn request(turn: &Turn<'_>, key: &str) -> &'static str {
    let of_store = read(turn, key).is_some_and(|read| read.is_ok_and(|app| app.store_id.is_some()));
    if turn.device.platform == Platform::MacOs && !of_store { "InstallEnterpriseApplication" } else { "InstallApplication" }
}

/// Has applications given anew whose package is another one by now, or is there at last; says of those that are declared what their
/// configuration lacks meanwhile.
pub(super) fn renew(turn: &mut Turn<'_>) {
    let keys: Vec<String> = turn.wanted().map(|(key, _)| key).filter(|key| key.starts_with(app::RECORD)).cloned().collect();
    for key in keys {
        let holds = turn.record(&key).is_some_and(|(_, record)| matches!(record.state, State::Delivered | State::Verified));
        let lacks = || read(turn, &key)?.ok()?.configured(&Variables::of(turn.known.user.as_ref(), Some(&turn.device))).err();
        if let Some(why) = (holds && declared::was(turn, &key)).then(lacks).flatten() {
            turn.apply(&key, Input::Unmet { why });
            continue;
        }
        let Some(now) = package(turn, &key).map(|package| package.id.to_string()) else { continue };
        if memory(turn, &key, PACKAGE).and_then(Value::as_str) != Some(now.as_str()) {
            turn.apply(&key, Input::Changed);
        }
    }
}

/// What is to be installed by a command for a record, after the record was told so; else the reason why nothing is.
pub(super) async fn begin(turn: &mut Turn<'_>, key: &str) -> Result<std::result::Result<Wanted, String>> {
    let wanted = match prepare(turn, key).await? {
        Ok(wanted) => wanted,
        Err(why) => return Ok(Err(why)),
    };
    let removable = wanted.is_managed() && !wanted.app.keep;
    let bundle = wanted.app.bundle_id.clone();
    begun(turn, key, &wanted);
    turn.remember(key, |memory| memory.extend(removable.then(|| ("identifier".to_owned(), bundle.into()))));
    Ok(Ok(wanted))
}

/// Tells a record that its application is given now.
fn begun(turn: &mut Turn<'_>, key: &str, wanted: &Wanted) {
    let (now, licensed) = (turn.now, wanted.app.store_id.filter(|_| wanted.app.licence));
    turn.remember(key, |memory| {
        memory.remove("identifier");
        memory.insert("since".into(), json!(now.0));
        memory.remove(LICENCE);
        memory.extend(licensed.map(|store_id| (LICENCE.to_owned(), json!(store_id))));
    });
    turn.apply(key, Input::Sent);
}

/// What is to be given for a record; else the reason why nothing is, which the record was told.
async fn prepare(turn: &mut Turn<'_>, key: &str) -> Result<std::result::Result<Wanted, String>> {
    let Some(read) = read(turn, key) else { return Ok(Err("the application is not wanted any more".into())) };
    let unmet = |turn: &mut Turn<'_>, why: String| {
        turn.apply(key, Input::Unmet { why: why.clone() });
        Ok(Err(why))
    };
    let app = match read {
        Ok(app) => app,
        Err(why) => return unmet(turn, why),
    };
    let system = content::system(turn.device.platform);
    let version = turn.device.os_version.as_deref().and_then(OsVersion::parse);
    let Some((system, version)) = system.zip(version) else { return Ok(Err("the version of the device is not known yet".into())) };
    if version < first(system) {
        turn.apply(key, Input::Lacks(Lack::Version));
        return Ok(Err(format!("{version} does not take applications so")));
    }
    let package = package(turn, key).cloned();
    // Whatever becomes of it: this package is not tried again by itself.
    turn.remember(key, |memory| {
        memory.remove(PACKAGE);
        memory.extend(package.as_ref().map(|package| (PACKAGE.to_owned(), package.id.to_string().into())));
    });
    match (&package, &app.package) {
        (None, Some(name)) => return unmet(turn, format!("no package is called {name}")),
        (Some(package), Some(name)) if package.bundle_id != app.bundle_id => {
            return unmet(turn, format!("the package {name} is {}", package.bundle_id));
        }
        (Some(package), Some(name)) if !form_fits(package, system) => {
            return unmet(turn, format!("the package {name} is a .{} file, which the device does not take", package.form));
        }
        _ => {}
    }
    let configuration = match app.configured(&Variables::of(turn.known.user.as_ref(), Some(&turn.device))) {
        Ok(filled) => filled,
        Err(why) => return unmet(turn, why),
    };
    let of_user = turn.known.enrollment.is_user_enrollment();
    let wanted = Wanted { app, system, version, configuration, package, of_user };
    if let Some(store_id) = wanted.app.store_id.filter(|_| wanted.app.licence)
        && let Err(why) = licensed_for(turn, key, store_id).await?
    {
        return Ok(Err(why));
    }
    Ok(Ok(wanted))
}

/// Whether the device has its licence; else it is asked for, and the record was told how it stands.
async fn licensed_for(turn: &mut Turn<'_>, key: &str, store_id: i64) -> Result<std::result::Result<(), String>> {
    let of_user = turn.known.enrollment.is_user_enrollment();
    let Some(serial) = turn.device.serial_number.clone().filter(|_| !of_user) else {
        let why = "a licence needs a device whose serial number is known".to_owned();
        turn.apply(key, Input::Unmet { why: why.clone() });
        return Ok(Err(why));
    };
    let wish = Effect::Licence { serial: serial.clone(), store_id, wanted: true };
    let (input, why) = match licences::standing(turn.app, &serial, store_id).await? {
        Standing::Held => return Ok(Ok(())),
        Standing::Unconnected => {
            let why = Refusal::AppTokenMissing.to_string();
            (Input::Unmet { why: why.clone() }, why)
        }
        Standing::Awaited => (Input::Postponed { until: turn.now.plus(LICENCE_AGAIN) }, "the licence is on its way".into()),
        Standing::None => {
            turn.effects.push(wish);
            (Input::Postponed { until: turn.now.plus(LICENCE_AGAIN) }, "a licence is asked for".into())
        }
        Standing::Failed(words) => {
            turn.effects.push(wish);
            let why = format!("no licence: {words}");
            (Input::Retry { status: 0, original_error: Some(why.clone()) }, why)
        }
    };
    // From now on there is something to take back, even if the application never comes.
    turn.apply(key, Input::Sent);
    turn.apply(key, Input::Lost);
    turn.remember(key, |memory| {
        memory.insert(LICENCE.into(), json!(store_id));
    });
    turn.apply(key, input);
    Ok(Err(why))
}

/// Nobody asks for the application any more, and what the device has of it stays, with its licence; if it never came, the licence goes
/// back.
pub(super) fn left_alone(turn: &mut Turn<'_>, key: &str) {
    let came = memory(turn, key, "since").is_some();
    if came { turn.apply(key, Input::Removed) } else { removed(turn, key) }
}

/// The device does not have the application any more: its licence goes back.
pub(super) fn removed(turn: &mut Turn<'_>, key: &str) {
    let store_id = memory(turn, key, LICENCE).and_then(Value::as_i64);
    if let Some((serial, store_id)) = turn.device.serial_number.clone().zip(store_id) {
        turn.effects.push(Effect::Licence { serial, store_id, wanted: false });
    }
    turn.apply(key, Input::Removed);
}

fn form_fits(package: &Package, system: System) -> bool {
    use crate::domain::apple::package::Form;
    match system {
        System::Mac => package.form == Form::Pkg,
        System::Ios => package.form == Form::Ipa,
    }
}

/// The first version that takes applications as they are given here.
fn first(system: System) -> OsVersion {
    let (major, minor) = if system == System::Mac { (10, 15) } else { (9, 0) };
    OsVersion { major, minor, build: 0, revision: 0 }
}

/// The device took the command: the application comes when it comes.
pub(super) fn taken(turn: &mut Turn<'_>, key: &str) {
    // A command from before the device knew better.
    if declared::is(turn, key) {
        return;
    }
    let until = turn.now.plus(AGAIN);
    turn.apply(key, Input::Taken { status: 200 });
    turn.apply(key, Input::Deferred { until });
}

/// The device did not take the command.
pub(super) fn refused(turn: &mut Turn<'_>, key: &str, why: &str) {
    if why == "AppAlreadyQueued" || declared::is(turn, key) {
        return taken(turn, key);
    }
    let original_error = Some(why.to_owned());
    turn.apply(
        key,
        if app::is_final(why) { Input::Refused { status: 0, original_error } } else { Input::Retry { status: 0, original_error } },
    );
}

/// The records of applications that a list says something about.
pub(super) fn records(turn: &Turn<'_>) -> Vec<String> {
    let shows = |state| matches!(state, State::Delivered | State::Verified | State::Removing);
    let all = turn.records().filter(|(key, record)| key.starts_with(app::RECORD) && shows(record.state));
    all.filter(|(key, _)| !declared::is(turn, key)).map(|(key, _)| key.clone()).collect()
}

/// The keys of a question about the applications that profiles ask for, and nothing else.
pub(super) fn ask(turn: &Turn<'_>) -> Dict {
    let keys = records(turn);
    let bundles = keys.iter().filter_map(|key| key.strip_prefix(app::RECORD)).map(plist::Value::from).collect::<Vec<_>>();
    Dict::new().with("Identifiers", bundles)
}

/// A list did not come: it is asked for again.
pub(super) fn unanswered(turn: &mut Turn<'_>) {
    let until = turn.now.plus(HOUR);
    for key in records(turn) {
        turn.apply(&key, Input::Postponed { until });
    }
}

fn memory<'t>(turn: &'t Turn<'_>, key: &str, name: &str) -> Option<&'t Value> {
    turn.record(key)?.1.memory.get(name)
}

/// Notes the version of an application that the device has; `None`: it has none.
pub(super) fn found(turn: &mut Turn<'_>, key: &str, version: Option<String>) {
    turn.remember(key, |memory| {
        memory.remove("found");
        memory.extend(version.map(|version| ("found".to_owned(), version.into())));
    });
}

/// The version that an application has to have: that of the package of this moment, which may have taken the place of another.
fn version(turn: &Turn<'_>, key: &str) -> Option<String> {
    package(turn, key).map(|package| package.version.clone()).or_else(|| read(turn, key)?.ok()?.version)
}

/// Moves a record by what the device says of its application: the state, in the device's word where it has one.
pub(super) fn judge(turn: &mut Turn<'_>, key: &str, progress: Progress, word: &str) {
    let Some(state) = turn.record(key).map(|(_, record)| record.state) else { return };
    if state == State::Removing {
        if progress == Progress::Absent {
            removed(turn, key);
        }
        return;
    }
    let found = memory(turn, key, "found").and_then(Value::as_str);
    let old = match (version(turn, key), found) {
        (Some(wanted), Some(found)) if !app::at_least(found, &wanted) => Some(format!("version {found} and not {wanted}")),
        _ => None,
    };
    let since = memory(turn, key, "since").and_then(Value::as_i64).map_or(turn.now, Time);
    let under_way = turn.now.since(since);
    let missing = || Input::Retry { status: 0, original_error: Some(word.to_owned()) };
    // A device that tells by itself is not asked in between.
    let waits = |longest: i64| {
        let again = turn.now.plus(AGAIN);
        Input::Deferred { until: if declared::is(turn, key) { again.max(since.plus(longest)) } else { again } }
    };
    let input = match (progress, old) {
        (Progress::There, None) => Input::Matches,
        // It was right and is not any more: the device lost it, or another package is wanted.
        (Progress::There, Some(old)) if state == State::Verified => Input::Differs { found: Some(old) },
        (Progress::Absent, _) if state == State::Verified => Input::Differs { found: Some(word.to_owned()) },
        (Progress::Working, _) if state == State::Verified || under_way < LONGEST => waits(LONGEST),
        (Progress::There | Progress::Absent, _) if under_way < LONGEST_SILENCE => waits(LONGEST_SILENCE),
        (Progress::There, Some(old)) => Input::Retry { status: 0, original_error: Some(old) },
        (Progress::Failed | Progress::Working | Progress::Absent, _) => missing(),
    };
    if state == State::Verified && matches!(input, Input::Differs { .. }) {
        let object = format!("device:{}", turn.device.id);
        turn.audit("setting.drift", object, &json!({ "setting": key }));
    }
    turn.apply(key, input);
}
