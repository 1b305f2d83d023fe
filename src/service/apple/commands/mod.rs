//! The requests that Apple devices get: a file each, with what is asked, what comes back and what follows from it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::turn::Turn;
use crate::catalogue::FactRow;
use crate::domain::desired::Input;
use crate::domain::device::Platform;
use crate::domain::fact::{self, Fact};
use crate::domain::inventory;
use crate::service::Result;
use crate::service::effect::Effect;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{self, Dict};

/// The status of a fact of a request that failed.
const FAILED: i64 = 500;
/// The key under which bytes stand among the keys of an order, in Base64.
const BYTES: &str = "$bytes";

/// Declares the requests: the module, and its place in the list.
macro_rules! requests {
    ($($module:ident :: $request:ident),+ $(,)?) => {
        $(pub(super) mod $module;)+

        /// The request of that type.
        pub(in crate::service) fn find(name: &str) -> Option<&'static dyn Request> {
            const ALL: &[&dyn Request] = &[$(&$module::$request),+];
            ALL.iter().copied().find(|request| request.name() == name)
        }
    };
}

pub(super) mod device_configured;
mod password;
mod pin;
pub(super) mod renew_identity;
pub(super) mod user_configured;

pub(super) use erase_device::RETURN;

requests! {
    account_configuration::AccountConfiguration,
    activation_lock_bypass_code::ActivationLockBypassCode,
    available_os_updates::AvailableOsUpdates,
    certificate_list::CertificateList,
    clear_activation_lock_bypass_code::ClearActivationLockBypassCode,
    clear_passcode::ClearPasscode,
    content_caching_information::ContentCachingInformation,
    declarative_management::DeclarativeManagement,
    delete_user::DeleteUser,
    device_attestation::DeviceAttestation,
    device_information::DeviceInformation,
    device_location::DeviceLocation,
    device_lock::DeviceLock,
    disable_lost_mode::DisableLostMode,
    disable_remote_desktop::DisableRemoteDesktop,
    enable_lost_mode::EnableLostMode,
    enable_remote_desktop::EnableRemoteDesktop,
    erase_device::EraseDevice,
    install_application::InstallApplication,
    install_enterprise_application::InstallEnterpriseApplication,
    install_media::InstallMedia,
    install_profile::InstallProfile,
    install_provisioning_profile::InstallProvisioningProfile,
    installed_application_list::InstalledApplicationList,
    log_out_user::LogOutUser,
    lom_device_request::LomDeviceRequest,
    lom_setup_request::LomSetupRequest,
    managed_application_list::ManagedApplicationList,
    managed_media_list::ManagedMediaList,
    ns_extension_mappings::NsExtensionMappings,
    os_update_status::OsUpdateStatus,
    play_lost_mode_sound::PlayLostModeSound,
    profile_list::ProfileList,
    provisioning_profile_list::ProvisioningProfileList,
    refresh_cellular_plans::RefreshCellularPlans,
    remove_application::RemoveApplication,
    remove_media::RemoveMedia,
    remove_profile::RemoveProfile,
    remove_provisioning_profile::RemoveProvisioningProfile,
    restart_device::RestartDevice,
    restrictions::Restrictions,
    rotate_file_vault_key::RotateFileVaultKey,
    schedule_os_update::ScheduleOsUpdate,
    schedule_os_update_scan::ScheduleOsUpdateScan,
    security_info::SecurityInfo,
    set_auto_admin_password::SetAutoAdminPassword,
    set_firmware_password::SetFirmwarePassword,
    set_recovery_lock::SetRecoveryLock,
    settings::Settings,
    shut_down_device::ShutDownDevice,
    unlock_user_account::UnlockUserAccount,
    user_list::UserList,
    validate_applications::ValidateApplications,
    verify_firmware_password::VerifyFirmwarePassword,
    verify_recovery_lock::VerifyRecoveryLock,
}

/// What a request is made of at the moment of its delivery.
pub(in crate::service) enum Body {
    /// Its keys.
    Keys(Dict),
    /// The keys of another request, which has to be sent in its place.
    Instead(&'static str, Dict),
    /// Nothing: it is not wanted any more, or cannot be made. The text says why, for people.
    Nothing(String),
}

/// Which devices that are their users' own (user enrolment) obey a request, as Apple's schema says it.
pub(in crate::service) enum ForUsers {
    /// None.
    None,
    /// All.
    All,
    /// iPhones and iPads.
    Phones,
    /// All, when the keys of the order hold nothing else.
    Keys(fn(&Map<String, Value>) -> bool),
}

impl ForUsers {
    /// Whether a device of that platform does, with the keys of an order.
    pub(in crate::service) fn has(&self, platform: Platform, keys: &Map<String, Value>) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Phones => platform == Platform::Ios,
            Self::Keys(hold) => hold(keys),
        }
    }
}

/// A request type.
pub(in crate::service) trait Request: Sync {
    /// As devices spell it.
    fn name(&self) -> &'static str;

    /// Whether the device can answer it, as far as is known: else its facts are not asked for.
    fn fits(&self, turn: &Turn<'_>) -> bool {
        let _ = turn;
        true
    }

    /// Whether doing it twice does harm.
    fn once(&self) -> bool {
        false
    }

    /// Whether the device may have done it although it answers with an error.
    fn may_have_run(&self) -> bool {
        false
    }

    /// Whether the device refuses because what is to be taken away is not there: that is as good as done.
    fn is_gone(&self, answer: &Answer) -> bool {
        let _ = answer;
        false
    }

    /// Which devices obey that are their users' own (user enrolment).
    fn for_users(&self) -> ForUsers {
        ForUsers::None
    }

    /// Whether it is one of a device's users who does it, not the device itself.
    fn by_user(&self, platform: Platform) -> bool {
        let _ = platform;
        false
    }

    /// The keys of an administrator's order, from what was given with it: values that the catalogue's row takes.
    ///
    /// # Errors
    /// What is wrong, for the person who gave the order.
    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> std::result::Result<Map<String, Value>, String> {
        let _ = values;
        Ok(Map::new())
    }

    /// What a device says that did it, for the person who gave the order.
    ///
    /// # Errors
    /// Why it was not done after all, although the device acknowledged the command.
    fn says(&self, answer: &Answer) -> std::result::Result<String, String> {
        let _ = answer;
        Ok("done".into())
    }

    /// What to send for `subject`: a record, or the keys of an order. Made anew at each delivery.
    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        let _ = turn;
        async move { Ok(Body::Keys(subject.keys())) }.boxed()
    }

    /// The device did it.
    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, answer: &Answer) {
        let _ = (turn, subject, answer);
    }

    /// The device did not do it, or nobody knows.
    fn failed(&self, turn: &mut Turn<'_>, subject: Subject<'_>, why: &str) {
        if let Subject::Record(record) = subject {
            turn.apply(record, Input::Retry { status: 0, original_error: Some(why.to_owned()) });
        }
    }
}

/// What a request is about.
#[derive(Clone, Copy)]
pub(in crate::service) enum Subject<'s> {
    /// Nothing but itself.
    Nothing,
    /// A record of the desired state.
    Record(&'s str),
    /// An order's keys.
    Order(&'s Map<String, Value>),
}

impl<'s> Subject<'s> {
    /// What a key of the queue is about: an order with its keys, or a record where there is one.
    pub(super) fn of(order: Option<&'s Map<String, Value>>, record: &'s str) -> Self {
        match (order, record) {
            (Some(keys), _) => Self::Order(keys),
            (None, "") => Self::Nothing,
            (None, record) => Self::Record(record),
        }
    }

    /// The keys that an order brings.
    pub(super) fn keys(self) -> Dict {
        let Self::Order(keys) = self else { return Dict::new() };
        keys.iter().filter_map(|(key, value)| Some((key.clone(), sent(value)?))).collect()
    }

    pub(super) fn record(&self) -> &str {
        match self {
            Self::Record(record) => record,
            Self::Nothing | Self::Order(_) => "",
        }
    }
}

/// Yes or no; `None` when the value was not given.
fn flag(values: &BTreeMap<String, String>, name: &str) -> std::result::Result<Option<bool>, String> {
    match values.get(name).map(String::as_str) {
        None => Ok(None),
        Some("yes") => Ok(Some(true)),
        Some("no") => Ok(Some(false)),
        Some(_) => Err(format!("{name}: yes or no")),
    }
}

/// A value that has to be given.
fn needed<'v>(values: &'v BTreeMap<String, String>, name: &str) -> std::result::Result<&'v str, String> {
    values.get(name).map(String::as_str).filter(|value| !value.trim().is_empty()).ok_or_else(|| format!("{name}: is needed"))
}

/// The file of an order: its bytes, and how they stand among the order's keys.
fn file(values: &BTreeMap<String, String>, name: &str) -> std::result::Result<Option<(Vec<u8>, Value)>, String> {
    let Some(text) = values.get(name) else { return Ok(None) };
    let bytes = STANDARD.decode(text).map_err(|_| format!("{name}: a file (--with-file {name}=FILE)"))?;
    Ok(Some((bytes, json!({ BYTES: text }))))
}

/// The value of an order's key as it is sent: bytes stand in the order as Base64.
fn sent(value: &Value) -> Option<plist::Value> {
    Some(match value {
        Value::Object(entries) => match entries.get(BYTES).and_then(Value::as_str) {
            Some(text) => plist::Value::Data(plist::Data(STANDARD.decode(text).ok()?)),
            None => plist::Value::Dict(entries.iter().filter_map(|(key, value)| Some((key.clone(), sent(value)?))).collect()),
        },
        Value::Array(items) => plist::Value::Array(items.iter().filter_map(sent).collect()),
        scalar => plist::Value::from_json(scalar)?,
    })
}

/// Texts that were given with commas between them.
fn list_of(values: &BTreeMap<String, String>, name: &str) -> std::result::Result<Option<Value>, String> {
    let Some(text) = values.get(name) else { return Ok(None) };
    let all: Vec<&str> = text.split(',').map(str::trim).collect();
    if all.iter().any(|one| one.is_empty()) { Err(format!("{name}: texts with commas between them")) } else { Ok(Some(json!(all))) }
}

/// Keeps the list of an answer.
fn keep_list(turn: &mut Turn<'_>, kind: inventory::Kind, answer: &Answer, at: &str) {
    keep_entries(turn, kind, answer.body.array(at).unwrap_or_default());
}

/// Keeps a list that was made of an answer.
fn keep_entries(turn: &mut Turn<'_>, kind: inventory::Kind, entries: &[plist::Value]) {
    let list = inventory::List::of(entries, kind);
    turn.effects.push(Effect::Inventory { kind, list });
}

/// How long the list of an answer is, for people.
///
/// # Errors
/// When there is none.
fn count(answer: &Answer, at: &str, kind: inventory::Kind) -> std::result::Result<String, String> {
    match answer.body.array(at) {
        Some(list) => Ok(format!("{} {kind}; muster device inventory shows them", list.len())),
        None => Err(format!("no {at} in the answer")),
    }
}

/// The keys of the values that were given, under the protocol's names.
fn named(values: &BTreeMap<String, String>, names: &[(&str, &str)]) -> Map<String, Value> {
    names.iter().filter_map(|(ours, theirs)| Some(((*theirs).to_owned(), Value::from(values.get(*ours)?.as_str())))).collect()
}

/// Takes the facts of an answer in: those whose place it holds, and of the others that it left them out.
fn report(turn: &mut Turn<'_>, request: &str, answer: Option<&Dict>) {
    let rows = asked(turn, request);
    for row in rows {
        let Some(asked) = &row.asked else { continue };
        let found = answer.and_then(|answer| {
            let mut names = asked.at.split('/');
            let first = answer.get(names.next()?)?;
            text(names.try_fold(first, |value, name| match value {
                plist::Value::Array(items) => items.get(name.parse::<usize>().ok()?),
                other => other.as_dict()?.get(name),
            })?)
        });
        let status = match (&found, answer) {
            (Some(_), _) => 200,
            (None, Some(_)) => 204,
            (None, None) => FAILED,
        };
        if found.is_none() && turn.keeps_known(row, request, status) {
            continue;
        }
        turn.report(&row.name, found, status, request, Some(row.every_hours));
    }
}

impl Turn<'_> {
    /// The facts that the device is asked for.
    pub(super) fn facts(&self) -> impl Iterator<Item = &'static FactRow> {
        let (platform, user) = (self.device.platform.as_str(), self.known.enrollment.is_user_enrollment());
        let automated = self.fact("macos.automated") == Some("true");
        self.catalogue
            .facts()
            .filter(move |row| row.is_asked(platform, user) && (automated || !row.asked.as_ref().is_some_and(|asked| asked.automated)))
    }

    /// What is known of a fact, from this message or before.
    pub(super) fn fact(&self, name: &str) -> Option<&str> {
        self.reported.get(name).or_else(|| self.known.facts.get(name))?.value.as_deref()
    }

    /// Keeps what is known of a fact that an answer lacks, where it outlives that; it is asked for again in its time.
    fn keeps_known(&mut self, row: &FactRow, request: &str, status: i64) -> bool {
        // Nothing is left out of an answer that did not come.
        let stands = |fact: &&Fact| match status {
            FAILED => fact::outlives_failure(fact, row.every_hours, self.now),
            _ => fact::outlives_silence(fact, request),
        };
        let Some(known) = self.reported.get(&row.name).or_else(|| self.known.facts.get(&row.name)).filter(stands) else { return false };
        let kept = Fact { next_at: Some(fact::next_read(row.every_hours, self.now)), ..known.clone() };
        self.reported.insert(row.name.clone(), kept);
        true
    }

    /// A fact that a command made true.
    fn made(&mut self, name: &str, value: bool, request: &str) {
        let hours = self.catalogue.fact(name).map_or(24, |row| row.every_hours);
        self.report(name, Some(value.to_string()), 200, request, Some(hours));
    }
}

/// The facts that a request answers.
fn asked(turn: &Turn<'_>, request: &str) -> Vec<&'static FactRow> {
    turn.facts().filter(|row| row.asked.as_ref().is_some_and(|asked| asked.request == request)).collect()
}

/// The text of a value of an answer; lists and dictionaries have none.
fn text(value: &plist::Value) -> Option<String> {
    match value {
        plist::Value::String(text) => Some(text.clone()),
        plist::Value::Integer(number) => Some(number.to_string()),
        plist::Value::Unsigned(number) => Some(number.to_string()),
        plist::Value::Real(number) => Some(number.to_string()),
        plist::Value::Boolean(truth) => Some(truth.to_string()),
        plist::Value::Data(_) | plist::Value::Date(_) | plist::Value::Array(_) | plist::Value::Dict(_) => None,
    }
}
