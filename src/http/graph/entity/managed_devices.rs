//! `/deviceManagement/managedDevices`: devices under management, and what is done to them.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::devices::system;
use super::{device_secrets, device_states};
use crate::config::Config;
use crate::domain::access::{Action, Need, Scope};
use crate::domain::command::State as CommandState;
use crate::domain::compliance::State;
use crate::domain::device::Platform;
use crate::domain::subscription::Kind;
use crate::http::graph::answer::{Answer, object, tagged};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, Expandable, MANAGEMENT};
use crate::http::graph::route::{Call, routes};
use crate::ids::UserId;
use crate::service::device::managed::{self, Given, Managed, Task, Wipe};
use crate::wire::odata::edm;
use crate::wire::odata::filter::{Comparison, Expr, Literal};
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

pub(super) const READ: Need = Kind::ManagedDevice.need();

/// What an order needs; the role's part is that of the order.
const fn task(action: Action) -> Need {
    Need { scopes: &[Scope::ManagedDevicesPrivileged], action: Some(action) }
}

const DELETE: Need = Need { scopes: &[Scope::ManagedDevicesReadWriteAll], action: Some(Action::ManagedDevicesDelete) };

/// Bytes of a megabyte and a gigabyte as systems count them.
const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;

const SHAPE: Shape = Shape {
    usual: &[
        "activationLockBypassCode",
        "androidSecurityPatchLevel",
        "azureADDeviceId",
        "azureADRegistered",
        "complianceGracePeriodExpirationDateTime",
        "complianceState",
        "deviceActionResults",
        "deviceCategoryDisplayName",
        "deviceEnrollmentType",
        "deviceHealthAttestationState",
        "deviceName",
        "deviceRegistrationState",
        "easActivated",
        "easActivationDateTime",
        "easDeviceId",
        "emailAddress",
        "enrolledDateTime",
        "enrollmentProfileName",
        "ethernetMacAddress",
        "exchangeAccessState",
        "exchangeAccessStateReason",
        "exchangeLastSuccessfulSyncDateTime",
        "freeStorageSpaceInBytes",
        "iccid",
        "imei",
        "isEncrypted",
        "isSupervised",
        "jailBroken",
        "lastSyncDateTime",
        "managedDeviceName",
        "managedDeviceOwnerType",
        "managementAgent",
        "managementCertificateExpirationDate",
        "managementState",
        "manufacturer",
        "meid",
        "model",
        "notes",
        "operatingSystem",
        "osVersion",
        "partnerReportedThreatState",
        "phoneNumber",
        "physicalMemoryInBytes",
        "remoteAssistanceSessionErrorDetails",
        "remoteAssistanceSessionUrl",
        "requireUserEnrollmentApproval",
        "serialNumber",
        "subscriberCarrier",
        "totalStorageSpaceInBytes",
        "udid",
        "userDisplayName",
        "userId",
        "userPrincipalName",
        "wiFiMacAddress",
    ],
    more: &[],
    beta: &["managementState"],
};

const POLICY_STATES: &str = "deviceCompliancePolicyStates";

/// What is expanded of a device that is shown by itself.
const EXPANDABLE: [Expandable; 2] = [(POLICY_STATES, &[]), ("deviceConfigurationStates", &[])];

routes! {
    Get "deviceManagement/managedDevices", READ => list_devices;
    Get "deviceManagement/managedDevices/$count", READ => count;
    Get "deviceManagement/managedDevices/delta", READ => delta;
    Get "deviceManagement/managedDevices/{id}", READ => show;
    Delete "deviceManagement/managedDevices/{id}", DELETE => delete;
    Post "deviceManagement/managedDevices/{id}/syncDevice", task(Action::RemoteSync) => sync;
    Post "deviceManagement/managedDevices/{id}/rebootNow", task(Action::RemoteReboot) => reboot;
    Post "deviceManagement/managedDevices/{id}/shutDown", task(Action::RemoteReboot) => shut_down;
    Post "deviceManagement/managedDevices/{id}/remoteLock", task(Action::RemoteLock) => lock, urgent;
    Post "deviceManagement/managedDevices/{id}/resetPasscode", task(Action::RemoteResetPasscode) => reset_passcode;
    Post "deviceManagement/managedDevices/{id}/retire", task(Action::RemoteRetire) => retire, urgent;
    Post "deviceManagement/managedDevices/{id}/wipe", task(Action::RemoteWipe) => wipe, urgent;
    Post "deviceManagement/managedDevices/{id}/locateDevice", task(Action::RemoteLocate) => locate;
    Post "deviceManagement/managedDevices/{id}/disableLostMode", task(Action::RemoteLocate) => disable_lost_mode;
    Post "deviceManagement/managedDevices/{id}/enableLostMode", task(Action::RemoteLocate) => enable_lost_mode, beta;
    Post "deviceManagement/managedDevices/{id}/playLostModeSound", task(Action::RemoteLocate) => play_sound, beta;
    Post "deviceManagement/managedDevices/{id}/rotateBitLockerKeys", task(Action::RemoteRotateKeys) => rotate_bitlocker, beta;
    Post "deviceManagement/managedDevices/{id}/rotateFileVaultKey", task(Action::RemoteRotateKeys) => rotate_filevault, beta;
    Post "deviceManagement/managedDevices/{id}/setDeviceName", task(Action::RemoteOther) => set_name, beta;
    Post "deviceManagement/managedDevices/{id}/windowsDefenderScan", task(Action::RemoteOther) => defender_scan;
    Post "deviceManagement/managedDevices/{id}/windowsDefenderUpdateSignatures", task(Action::RemoteOther) => defender_signatures;
}

fn bytes(managed: &Managed, name: &str, unit: f64) -> Option<i64> {
    let value: f64 = managed.facts.get(name)?.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, reason = "sizes of disks fit")]
    Some((value * unit) as i64)
}

fn is(managed: &Managed, name: &str, value: &str) -> bool {
    managed.facts.get(name).is_some_and(|known| known == value)
}

/// A managed device as JSON, whole, with the orders that it was given when they were read.
fn json(config: &Config, managed: &Managed, orders: &[Given]) -> Map<String, Value> {
    let Managed { enrollment, device, user, verdict, .. } = managed;
    let apple = device.platform.is_apple();
    let size = |windows, apple_name| if apple { bytes(managed, apple_name, GIB) } else { bytes(managed, windows, MIB) };
    let state = verdict.as_ref().map_or(State::Unknown, |verdict| verdict.state);
    object! {
        "id": enrollment.id,
        "activationLockBypassCode": Value::Null,
        "androidSecurityPatchLevel": Value::Null,
        "azureADDeviceId": device.entra_device_id.clone().unwrap_or_else(|| device.id.to_string()),
        "azureADRegistered": device.entra_device_id.is_some(),
        "complianceGracePeriodExpirationDateTime":
            edm::time_or_never(verdict.as_ref().and_then(|verdict| verdict.grace_expires_at).map(|at| at.0)),
        "complianceState": state,
        "deviceActionResults": orders.iter().map(action_result).collect::<Vec<_>>(),
        "deviceCategoryDisplayName": Value::Null,
        "deviceEnrollmentType": enrollment_type(managed),
        "deviceHealthAttestationState": Value::Null,
        "deviceName": device.display_name,
        "deviceRegistrationState": "registered",
        "easActivated": false,
        "easActivationDateTime": edm::NEVER,
        "easDeviceId": Value::Null,
        "emailAddress": user.as_ref().and_then(|user| user.mail.clone()),
        "enrolledDateTime": edm::time(enrollment.enrolled_at.0),
        "enrollmentProfileName": Value::Null,
        "ethernetMacAddress": Value::Null,
        "exchangeAccessState": "none",
        "exchangeAccessStateReason": "none",
        "exchangeLastSuccessfulSyncDateTime": edm::NEVER,
        "freeStorageSpaceInBytes": size("dev-detail.free-storage", "apple.capacity-free").unwrap_or(0),
        "iccid": Value::Null,
        "imei": Value::Null,
        "isEncrypted": is(managed, "bitlocker.device-encryption-status", "0") || is(managed, "macos.filevault", "true"),
        "isSupervised": is(managed, "apple.supervised", "true"),
        "jailBroken": "Unknown",
        "lastSyncDateTime": edm::time_or_never(enrollment.last_seen_at.map(|at| at.0)),
        "managedDeviceName": Value::Null,
        "managedDeviceOwnerType": managed::ownership(config, managed),
        "managementAgent": "mdm",
        "managementCertificateExpirationDate": edm::time_or_never(managed.certificate_until.map(|at| at.0)),
        "managementState": if device.state == crate::domain::device::State::Retiring { "retirePending" } else { "managed" },
        "manufacturer": device.manufacturer,
        "meid": Value::Null,
        "model": device.model,
        "notes": Value::Null,
        "operatingSystem": system(device.platform),
        "osVersion": device.os_version,
        "partnerReportedThreatState": "unknown",
        "phoneNumber": Value::Null,
        "physicalMemoryInBytes": bytes(managed, "dev-detail.total-ram", MIB).unwrap_or(0),
        "remoteAssistanceSessionErrorDetails": Value::Null,
        "remoteAssistanceSessionUrl": Value::Null,
        "requireUserEnrollmentApproval": Value::Null,
        "serialNumber": device.serial_number,
        "subscriberCarrier": Value::Null,
        "totalStorageSpaceInBytes": size("dev-detail.total-storage", "apple.capacity").unwrap_or(0),
        "udid": if apple { device.hardware_id.clone() } else { None },
        "userDisplayName": user.as_ref().map(|user| &user.display_name),
        "userId": device.user_id,
        "userPrincipalName": user.as_ref().map(|user| &user.upn),
        "wiFiMacAddress": managed.facts.get("dev-detail.wlan-mac-address"),
    }
}

fn enrollment_type(managed: &Managed) -> &'static str {
    match (managed.device.platform, managed.enrollment.is_user_enrollment(), managed.device.user_id.is_some()) {
        (Platform::Windows, _, true) if managed.device.entra_device_id.is_some() => "windowsAzureADJoin",
        (Platform::Windows, _, false) => "windowsBulkUserless",
        (Platform::MacOs | Platform::Ios, true, _) => "appleUserEnrollment",
        (Platform::MacOs | Platform::Ios, false, true) => "appleBulkWithUser",
        (Platform::MacOs | Platform::Ios, false, false) => "appleBulkWithoutUser",
        _ => "userEnrollment",
    }
}

/// An order as a result of an action (`deviceActionResult`).
fn action_result(given: &Given) -> Value {
    let order = &given.order;
    let state = match order.state {
        CommandState::Queued => "pending",
        CommandState::Sent => "active",
        CommandState::Done => "done",
        CommandState::Failed | CommandState::Uncertain => "failed",
        CommandState::Cancelled => "canceled",
    };
    let name = ACTIONS.iter().find(|(kind, _)| *kind == order.kind).map_or(order.kind.as_str(), |(_, name)| name);
    json!({
        "@odata.type": "#microsoft.graph.deviceActionResult",
        "actionName": name,
        "actionState": state,
        "startDateTime": edm::time(given.created_at.0),
        "lastUpdatedDateTime": edm::time(given.updated_at.0),
    })
}

/// Orders and what Graph calls them.
const ACTIONS: &[(&str, &str)] = &[
    ("clear-passcode", "resetPasscode"),
    ("disable-lost-mode", "disableLostMode"),
    ("enable-lost-mode", "enableLostMode"),
    ("locate", "locateDevice"),
    ("lock", "remoteLock"),
    ("play-sound", "playLostModeSound"),
    ("reboot", "rebootNow"),
    ("rotate-bitlocker-keys", "rotateBitLockerKeys"),
    ("rotate-filevault-key", "rotateFileVaultKey"),
    ("shut-down", "shutDown"),
    ("unenroll", "retire"),
    ("wipe", "wipe"),
];

async fn list_devices(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| managed::page_managed(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&SHAPE, MANAGEMENT, "deviceManagement/managedDevices"), find, |found| json(&call.app.config, found, &[])).await
}

/// The managed devices of a user.
pub(super) async fn list_of_user(call: &Call<'_>, user: &UserId) -> Result<Answer> {
    let own = Expr::Compare("userId".into(), Comparison::Equal, Literal::Text(user.to_string()));
    let find = async |query: &Query, limit| {
        let filter = match &query.filter {
            Some(filter) => Expr::And(Box::new(own), Box::new(filter.clone())),
            None => own,
        };
        managed::page_managed(call.app, &Query { filter: Some(filter), ..query.clone() }, &call.reach, limit).await
    };
    list::answer(call, (&SHAPE, MANAGEMENT, "managedDevices"), find, |found| json(&call.app.config, found, &[])).await
}

async fn delta(call: Call<'_>) -> Result<Answer> {
    let follow = async |query: &_, limit| managed::follow_managed(call.app, query, limit).await;
    list::delta(&call, (&SHAPE, MANAGEMENT, "deviceManagement/managedDevices"), follow, |found| json(&call.app.config, found, &[])).await
}

async fn count(call: Call<'_>) -> Result<Answer> {
    let query = Query { count: true, ..list::query(call.request, &SHAPE)? };
    let found = managed::page_managed(call.app, &query, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

async fn named(call: &Call<'_>) -> Result<Managed> {
    Ok(managed::find_one(call.app, call.key(0)?, &call.reach).await?)
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let query = list::query_expanding(call.request, &SHAPE, &EXPANDABLE)?;
    let found = named(&call).await?;
    let orders = managed::orders_of(call.app, &found).await?;
    // A secret makes no other version, or the version would tell of it.
    let mut whole = tagged(json(&call.app.config, &found, &orders));
    let bypass = device_secrets::bypass_code(&call, &found, &query).await?;
    whole.insert("activationLockBypassCode".into(), bypass);
    let mut more = Map::new();
    for expand in &query.expand {
        let states = match expand.property.as_str() {
            POLICY_STATES => device_states::of_policies(&call, &found).await?,
            _ => device_states::of_configurations(&call, &found).await?,
        };
        more.insert(expand.property.clone(), list::expansion(expand, states)?);
    }
    Ok(Answer::ok(list::single_expanded(&call, (&SHAPE, "deviceManagement/managedDevices"), &query, whole, more)?))
}

/// Does it; 204 when the order waits for the device.
async fn give(call: &Call<'_>, task: Task<'_>) -> Result<Answer> {
    let found = named(call).await?;
    managed::do_task(call.app, &found, task, &call.by()).await.map_err(not_for_platform)?;
    Ok(Answer::done())
}

/// Orders that the platform has not are answered 400 in any case.
fn not_for_platform(error: crate::service::Error) -> GraphProblem {
    let mut problem = GraphProblem::from(error);
    if problem.status == StatusCode::FORBIDDEN {
        problem.status = StatusCode::BAD_REQUEST;
    }
    problem
}

fn order(id: &'static str) -> Task<'static> {
    Task::Order(id, BTreeMap::new())
}

fn with(id: &'static str, values: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Task<'static> {
    let given = values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.filter(|text| !text.is_empty())?)));
    Task::Order(id, given.collect())
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    give(&call, Task::Delete).await
}

async fn sync(call: Call<'_>) -> Result<Answer> {
    give(&call, Task::Sync).await
}

async fn reboot(call: Call<'_>) -> Result<Answer> {
    give(&call, order("reboot")).await
}

async fn shut_down(call: Call<'_>) -> Result<Answer> {
    give(&call, order("shut-down")).await
}

async fn lock(call: Call<'_>) -> Result<Answer> {
    give(&call, order("lock")).await
}

async fn reset_passcode(call: Call<'_>) -> Result<Answer> {
    give(&call, order("clear-passcode")).await
}

async fn retire(call: Call<'_>) -> Result<Answer> {
    give(&call, Task::Retire).await
}

async fn locate(call: Call<'_>) -> Result<Answer> {
    give(&call, order("locate")).await
}

async fn disable_lost_mode(call: Call<'_>) -> Result<Answer> {
    give(&call, order("disable-lost-mode")).await
}

async fn rotate_bitlocker(call: Call<'_>) -> Result<Answer> {
    give(&call, order("rotate-bitlocker-keys")).await
}

async fn rotate_filevault(call: Call<'_>) -> Result<Answer> {
    give(&call, order("rotate-filevault-key")).await
}

async fn play_sound(call: Call<'_>) -> Result<Answer> {
    give(&call, order("play-sound")).await
}

async fn defender_signatures(call: Call<'_>) -> Result<Answer> {
    give(&call, order("defender-update-signatures")).await
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WipeGiven {
    keep_enrollment_data: Option<bool>,
    keep_user_data: Option<bool>,
    use_protected_wipe: Option<bool>,
    persist_esim_data_plan: Option<bool>,
    mac_os_unlock_code: Option<String>,
}

async fn wipe(call: Call<'_>) -> Result<Answer> {
    let given: WipeGiven = call.request.json()?;
    let code = given.mac_os_unlock_code.as_deref().filter(|code| !code.is_empty());
    if code.is_some_and(|code| code.len() != 6 || !code.bytes().all(|b| b.is_ascii_digit())) {
        return Err(GraphProblem::invalid("macOsUnlockCode has six digits."));
    }
    let wipe = Wipe {
        keep_enrollment: given.keep_enrollment_data.unwrap_or_default(),
        keep_user_data: given.keep_user_data.unwrap_or_default(),
        protected: given.use_protected_wipe.unwrap_or_default(),
        keep_data_plan: given.persist_esim_data_plan.unwrap_or_default(),
        unlock_code: code,
    };
    give(&call, Task::Wipe(wipe)).await
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LostGiven {
    message: Option<String>,
    phone_number: Option<String>,
    footer: Option<String>,
}

async fn enable_lost_mode(call: Call<'_>) -> Result<Answer> {
    let given: LostGiven = call.request.json()?;
    let values = [("message", given.message), ("phone", given.phone_number), ("footnote", given.footer)];
    give(&call, with("enable-lost-mode", values)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NameGiven {
    device_name: String,
}

async fn set_name(call: Call<'_>) -> Result<Answer> {
    let given: NameGiven = call.request.json()?;
    give(&call, with("set-device-name", [("device-name", Some(given.device_name))])).await
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScanGiven {
    quick_scan: Option<bool>,
}

async fn defender_scan(call: Call<'_>) -> Result<Answer> {
    let given: ScanGiven = call.request.json()?;
    give(&call, order(if given.quick_scan.unwrap_or(true) { "defender-quick-scan" } else { "defender-full-scan" })).await
}
