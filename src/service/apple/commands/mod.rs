//! The requests that Apple devices get: a file each, with what is asked, what comes back and what follows from it.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::turn::Turn;
use crate::catalogue::FactRow;
use crate::domain::desired::Input;
use crate::domain::device::Platform;
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{self, Dict};

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
pub(super) mod renew_identity;

requests! {
    certificate_list::CertificateList,
    clear_passcode::ClearPasscode,
    declarative_management::DeclarativeManagement,
    device_information::DeviceInformation,
    device_lock::DeviceLock,
    erase_device::EraseDevice,
    install_profile::InstallProfile,
    profile_list::ProfileList,
    remove_profile::RemoveProfile,
    restart_device::RestartDevice,
    rotate_file_vault_key::RotateFileVaultKey,
    security_info::SecurityInfo,
    set_recovery_lock::SetRecoveryLock,
    shut_down_device::ShutDownDevice,
}

/// What a request is made of at the moment of its delivery.
pub(in crate::service) enum Body {
    /// Its keys.
    Keys(Dict),
    /// Nothing: it is not wanted any more, or cannot be made. The text says why, for people.
    Nothing(String),
}

/// A request type.
pub(in crate::service) trait Request: Sync {
    /// As devices spell it.
    fn name(&self) -> &'static str;

    /// Whether doing it twice does harm.
    fn once(&self) -> bool {
        false
    }

    /// Whether the device may have done it although it answers with an error.
    fn may_have_run(&self) -> bool {
        false
    }

    /// The keys of an administrator's order, from what was given with it.
    ///
    /// # Errors
    /// What is wrong, for the person who gave the order.
    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> std::result::Result<Map<String, Value>, String> {
        only(values, &[])?;
        Ok(Map::new())
    }

    /// What to send for `subject`: a record, or the keys of an order. Made anew at each delivery.
    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        let _ = turn;
        async move { Ok(Body::Keys(subject.keys())) }.boxed()
    }

    /// The device did it.
    fn done(&self, turn: &mut Turn<'_>, record: &str, answer: &Answer) {
        let _ = (turn, record, answer);
    }

    /// The device did not do it, or nobody knows.
    fn failed(&self, turn: &mut Turn<'_>, record: &str, why: &str) {
        if !record.is_empty() {
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

impl Subject<'_> {
    /// The keys that an order brings.
    pub(super) fn keys(self) -> Dict {
        let Self::Order(keys) = self else { return Dict::new() };
        keys.iter().filter_map(|(key, value)| Some((key.clone(), plist::Value::from_json(value)?))).collect()
    }

    fn record(&self) -> &str {
        match self {
            Self::Record(record) => record,
            Self::Nothing | Self::Order(_) => "",
        }
    }
}

/// Refuses values that are not among the known.
fn only(values: &BTreeMap<String, String>, known: &[&str]) -> std::result::Result<(), String> {
    match values.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) if known.is_empty() => Err(format!("{name}: the order takes no values")),
        Some(name) => Err(format!("{name}: the order takes {}", known.join(", "))),
        None => Ok(()),
    }
}

/// The six digits that unlock a Mac after it was locked or erased.
fn pin(values: &BTreeMap<String, String>) -> std::result::Result<Option<&String>, String> {
    match values.get("pin") {
        Some(pin) if pin.len() != 6 || !pin.bytes().all(|b| b.is_ascii_digit()) => Err("pin: six digits".into()),
        other => Ok(other),
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
            text(names.try_fold(first, |value, name| value.as_dict()?.get(name))?)
        });
        let status = match (&found, answer) {
            (Some(_), _) => 200,
            (None, Some(_)) => 204,
            (None, None) => 500,
        };
        turn.report(&row.name, found, status, request, row.every_hours);
    }
}

/// The facts of the device's platform that a request answers.
fn asked(turn: &Turn<'_>, request: &str) -> Vec<&'static FactRow> {
    let platform = turn.device.platform.as_str();
    turn.catalogue.facts().filter(|row| row.is_of(platform) && row.asked.as_ref().is_some_and(|asked| asked.request == request)).collect()
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
