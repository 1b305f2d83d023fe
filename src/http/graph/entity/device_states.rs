//! How managed devices stand with what they were given: with each compliance policy, and with each configuration.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::managed_devices::READ;
use crate::domain::compliance::{PolicyResult, SettingResult};
use crate::domain::desired::{Record, State};
use crate::domain::device::Platform;
use crate::domain::profile::Kind;
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::Result;
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::ids::ProfileId;
use crate::service::device::managed::{self, Managed};
use crate::service::device::{self, ProfileState};
use crate::wire::odata::shape::Shape;

routes! {
    Get "deviceManagement/managedDevices/{id}/deviceCompliancePolicyStates", READ => policy_states;
    Get "deviceManagement/managedDevices/{id}/deviceConfigurationStates", READ => configuration_states;
}

/// The properties of a state.
const SHAPE: Shape =
    Shape { usual: &["displayName", "platformType", "settingCount", "settingStates", "state", "version"], more: &[], beta: &[] };

/// `policyPlatformType`.
const fn platform_type(platform: Platform) -> &'static str {
    match platform {
        Platform::Windows => "windows10AndLater",
        Platform::MacOs => "macOS",
        Platform::Ios => "iOS",
        Platform::Android => "android",
    }
}

/// How the device stands with each policy (`deviceCompliancePolicyState`).
pub(super) async fn of_policies(call: &Call<'_>, found: &Managed) -> Result<Vec<Map<String, Value>>> {
    let names = managed::policy_names(call.app, found).await?;
    let show = |policy: &PolicyResult| {
        object! {
            "id": policy.policy,
            "displayName": names.get(&policy.policy),
            "platformType": platform_type(found.device.platform),
            "settingCount": policy.settings.len(),
            "state": policy.status,
            "version": policy.version,
            "settingStates": policy.settings.iter().map(rule_state).collect::<Vec<_>>(),
        }
    };
    Ok(found.verdict.iter().flat_map(|verdict| &verdict.policies).map(show).collect())
}

async fn policy_states(call: Call<'_>) -> Result<Answer> {
    let found = managed::find_one(call.app, call.key(0)?, &call.reach).await?;
    list::few(&call, &SHAPE, "deviceManagement/managedDevices/deviceCompliancePolicyStates", of_policies(&call, &found).await?)
}

/// How far the device has got with each configuration (`deviceConfigurationState`).
pub(super) async fn of_configurations(call: &Call<'_>, found: &Managed) -> Result<Vec<Map<String, Value>>> {
    let profiles = device::show(call.app, &found.device.id).await?.profiles;
    let names: BTreeMap<&ProfileId, &str> = profiles.iter().map(|profile| (&profile.id, profile.name.as_str())).collect();
    let show = |profile: &ProfileState| {
        object! {
            "id": profile.id,
            "displayName": profile.name,
            "platformType": platform_type(found.device.platform),
            "settingCount": profile.records.len(),
            "state": status(profile.state),
            "version": profile.desired_version.or(profile.applied_version).unwrap_or_default(),
            "settingStates": profile.records.iter().map(|(key, record)| record_state(key, record, &names)).collect::<Vec<_>>(),
        }
    };
    Ok(profiles.iter().filter(|profile| profile.kind == Kind::Configuration).map(show).collect())
}

async fn configuration_states(call: Call<'_>) -> Result<Answer> {
    let found = managed::find_one(call.app, call.key(0)?, &call.reach).await?;
    list::few(&call, &SHAPE, "deviceManagement/managedDevices/deviceConfigurationStates", of_configurations(&call, &found).await?)
}

/// `complianceStatus`: a device that has not answered is in no other state than unknown.
pub(super) const fn status(state: State) -> &'static str {
    match state {
        State::Pending | State::Sent => "unknown",
        State::Delivered => "remediated",
        State::Verified => "compliant",
        State::Failed => "error",
        State::Conflict => "conflict",
        State::NotApplicable => "notApplicable",
        State::Assigned | State::Removing => "notAssigned",
    }
}

/// A `deviceCompliancePolicySettingState`.
fn rule_state(rule: &SettingResult) -> Value {
    json!({
        "setting": rule.rule,
        "settingName": rule.rule,
        "instanceDisplayName": Value::Null,
        "state": rule.status,
        "errorCode": 0,
        "errorDescription": Value::Null,
        "userId": Value::Null,
        "userName": Value::Null,
        "userEmail": Value::Null,
        "userPrincipalName": Value::Null,
        "currentValue": rule.got,
        "sources": [],
    })
}

/// A `deviceConfigurationSettingState`. What the device holds is not said: it may be a secret.
fn record_state(key: &str, record: &Record, names: &BTreeMap<&ProfileId, &str>) -> Value {
    let source = |id: &ProfileId| json!({ "id": id, "displayName": names.get(id), "sourceType": "deviceConfiguration" });
    let lacks = record.lacks.map(|lack| format!("the device lacks: {lack}"));
    let why = record.original_error.clone().or(lacks).or_else(|| record.note.map(|note| note.to_string()));
    json!({
        "setting": key,
        "settingName": key,
        "instanceDisplayName": Value::Null,
        "state": status(record.state),
        "errorCode": if record.state == State::Failed { record.status.unwrap_or_default() } else { 0 },
        "errorDescription": why,
        "userId": Value::Null,
        "userName": Value::Null,
        "userEmail": Value::Null,
        "userPrincipalName": Value::Null,
        "currentValue": Value::Null,
        "sources": record.winner.iter().chain(&record.beaten).map(source).collect::<Vec<_>>(),
    })
}
