//! Applications of a device: what is wanted of each, and what its lists say of them.

use serde_json::{Value, json};

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
use crate::domain::desired::{Content, Input, Lack, State};
use crate::domain::device::Platform;
use crate::service::Result;
use crate::service::effect::Effect;
use crate::wire::plist::{self, Dict};

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
    pub(super) configuration: Dict,
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
        keys.insert_some("ManagementFlags", self.app.flags());
        // Where the device is its user's own, what the user installed stays the user's.
        if self.app.take_over && !self.of_user {
            keys.insert("ChangeManagementState", "Managed");
        }
        if !self.configuration.is_empty() {
            keys.insert("Configuration", self.configuration.clone());
        }
        keys
    }
}

/// What a record's profile says.
fn read(turn: &Turn<'_>, key: &str) -> Option<std::result::Result<App, String>> {
    let Content::Payload(payload) = &turn.effective.winners.get(key)?.content else { return None };
    Some(App::read(payload, content::system(turn.device.platform)?))
}

/// The request that installs a record's application.
pub(super) fn request(turn: &Turn<'_>, key: &str) -> &'static str {
    let of_store = read(turn, key).is_some_and(|read| read.is_ok_and(|app| app.store_id.is_some()));
    if turn.device.platform == Platform::MacOs && !of_store { "InstallEnterpriseApplication" } else { "InstallApplication" }
}

/// What is to be installed for a record, after the record was told so; else the reason why nothing is.
pub(super) async fn begin(turn: &mut Turn<'_>, key: &str) -> Result<std::result::Result<Wanted, String>> {
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
    let variables = Variables::of(turn.known.user.as_ref(), Some(&turn.device));
    let configuration = match app.configured(&variables) {
        Ok(filled) => filled.iter().filter_map(|(key, value)| Some((key.clone(), plist::Value::from_json(value)?))).collect(),
        Err(why) => return unmet(turn, why),
    };
    let package = match &app.package {
        None => None,
        Some(name) => match packages::find(turn.app, name).await? {
            None => return unmet(turn, format!("no package is called {name}")),
            Some(package) if package.bundle_id != app.bundle_id => {
                return unmet(turn, format!("the package {name} is {}", package.bundle_id));
            }
            Some(package) if !form_fits(&package, system) => {
                return unmet(turn, format!("the package {name} is a .{} file, which the device does not take", package.form));
            }
            found => found,
        },
    };
    let of_user = turn.known.enrollment.is_user_enrollment();
    let wanted = Wanted { app, system, version, configuration, package, of_user };
    let licensed = wanted.app.store_id.filter(|_| wanted.app.licence);
    if let Some(store_id) = licensed
        && let Err(why) = licensed_for(turn, key, store_id).await?
    {
        return Ok(Err(why));
    }
    let removable = wanted.is_managed() && !wanted.app.keep;
    let (now, bundle) = (turn.now, wanted.app.bundle_id.clone());
    turn.remember(key, |memory| {
        memory.remove("identifier");
        if removable {
            memory.insert("identifier".into(), bundle.into());
        }
        memory.insert("since".into(), json!(now.0));
        memory.remove(LICENCE);
        memory.extend(licensed.map(|store_id| (LICENCE.to_owned(), json!(store_id))));
    });
    turn.apply(key, Input::Sent);
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
    let until = turn.now.plus(AGAIN);
    turn.apply(key, Input::Taken { status: 200 });
    turn.apply(key, Input::Deferred { until });
}

/// The device did not take the command.
pub(super) fn refused(turn: &mut Turn<'_>, key: &str, why: &str) {
    if why == "AppAlreadyQueued" {
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
    turn.records().filter(|(key, record)| key.starts_with(app::RECORD) && shows(record.state)).map(|(key, _)| key.clone()).collect()
}

/// The keys of a question about the applications that profiles ask for, and nothing else. The packages' versions of this moment are noted:
/// one may have taken the place of another.
pub(super) async fn ask(turn: &mut Turn<'_>) -> Result<Dict> {
    let keys = records(turn);
    for key in &keys {
        let Some(Ok(app)) = read(turn, key) else { continue };
        let version = match &app.package {
            Some(name) => packages::find(turn.app, name).await?.map(|package| package.version),
            None => app.version,
        };
        turn.remember(key, |memory| {
            memory.remove("version");
            memory.extend(version.map(|version| ("version".to_owned(), version.into())));
        });
    }
    let bundles = keys.iter().filter_map(|key| key.strip_prefix(app::RECORD)).map(plist::Value::from).collect::<Vec<_>>();
    Ok(Dict::new().with("Identifiers", bundles))
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

/// Moves a record by what the device says of its application: the state, in the device's word where it has one.
pub(super) fn judge(turn: &mut Turn<'_>, key: &str, progress: Progress, word: &str) {
    let Some(state) = turn.record(key).map(|(_, record)| record.state) else { return };
    if state == State::Removing {
        if progress == Progress::Absent {
            removed(turn, key);
        }
        return;
    }
    let text = |name: &str| memory(turn, key, name).and_then(Value::as_str);
    let old = match (text("version"), text("found")) {
        (Some(wanted), Some(found)) if !app::at_least(found, wanted) => Some(format!("version {found} and not {wanted}")),
        _ => None,
    };
    let since = memory(turn, key, "since").and_then(Value::as_i64).map_or(turn.now, Time);
    let under_way = turn.now.since(since);
    let missing = || Input::Retry { status: 0, original_error: Some(word.to_owned()) };
    let waits = Input::Deferred { until: turn.now.plus(AGAIN) };
    let input = match (progress, old) {
        (Progress::There, None) => Input::Matches,
        // It was right and is not any more: the device lost it, or another package is wanted.
        (Progress::There, Some(old)) if state == State::Verified => Input::Differs { found: Some(old) },
        (Progress::Absent, _) if state == State::Verified => Input::Differs { found: Some(word.to_owned()) },
        (Progress::Working, _) if state == State::Verified || under_way < LONGEST => waits,
        (Progress::There | Progress::Absent, _) if under_way < LONGEST_SILENCE => waits,
        (Progress::There, Some(old)) => Input::Retry { status: 0, original_error: Some(old) },
        (Progress::Failed | Progress::Working | Progress::Absent, _) => missing(),
    };
    if state == State::Verified && matches!(input, Input::Differs { .. }) {
        let object = format!("device:{}", turn.device.id);
        turn.audit("setting.drift", object, &json!({ "setting": key }));
    }
    turn.apply(key, input);
}
