//! `/deviceManagement/depOnboardingSettings`: servers of Apple Business Manager, and the devices that they list.

use actix_web::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::apple_push::{READ, WRITE, check_writer};
use crate::config::SetupProfile;
use crate::domain::device::Platform;
use crate::http::graph::answer::{Answer, base, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, MANAGEMENT};
use crate::http::graph::route::{Call, routes};
use crate::service::apple::ade::{self, Import, Listed, Onboarding};
use crate::wire::odata::edm;
use crate::wire::odata::shape::Shape;

const SET: &str = "deviceManagement/depOnboardingSettings";
/// Seconds between two readings of a list that somebody asks for.
const PAUSE: i64 = 15 * 60;

const SHAPE: Shape = Shape {
    usual: &[
        "appleIdentifier",
        "dataSharingConsentGranted",
        "lastModifiedDateTime",
        "lastSuccessfulSyncDateTime",
        "lastSyncErrorCode",
        "lastSyncTriggeredDateTime",
        "roleScopeTagIds",
        "shareTokenWithSchoolDataSyncService",
        "syncedDeviceCount",
        "tokenExpirationDateTime",
        "tokenName",
        "tokenType",
    ],
    more: &[],
    beta: &[],
};

const DEVICE_SHAPE: Shape = Shape {
    usual: &[
        "createdDateTime",
        "description",
        "discoverySource",
        "enrollmentState",
        "isDeleted",
        "isSupervised",
        "lastContactedDateTime",
        "platform",
        "requestedEnrollmentProfileAssignmentDateTime",
        "requestedEnrollmentProfileId",
        "serialNumber",
    ],
    more: &[],
    beta: &[],
};

routes! {
    Get "deviceManagement/depOnboardingSettings", READ => list_all, beta;
    Post "deviceManagement/depOnboardingSettings", WRITE => create, beta;
    Get "deviceManagement/depOnboardingSettings/$count", READ => count, beta;
    Get "deviceManagement/depOnboardingSettings/{id}", READ => show, beta;
    Delete "deviceManagement/depOnboardingSettings/{id}", WRITE => delete, beta;
    Get "deviceManagement/depOnboardingSettings/{id}/getEncryptionPublicKey", READ => public_key, beta;
    Post "deviceManagement/depOnboardingSettings/{id}/generateEncryptionPublicKey", WRITE => new_key, beta;
    Post "deviceManagement/depOnboardingSettings/{id}/uploadDepToken", WRITE => upload, beta;
    Post "deviceManagement/depOnboardingSettings/{id}/syncWithAppleDeviceEnrollmentProgram", WRITE => sync, beta;
    Get "deviceManagement/depOnboardingSettings/{id}/enrollmentProfiles", READ => profiles, beta;
    Get "deviceManagement/depOnboardingSettings/{id}/enrollmentProfiles/{profile}", READ => profile, beta;
    Get "deviceManagement/depOnboardingSettings/{id}/importedAppleDeviceIdentities", READ => devices, beta;
}

fn json(found: &Onboarding) -> Map<String, Value> {
    let (server, link) = (&found.server, found.server.link.as_ref());
    object! {
        "id": server.id,
        "appleIdentifier": server.account,
        "dataSharingConsentGranted": false,
        "lastModifiedDateTime": edm::time(server.created_at.0),
        "lastSuccessfulSyncDateTime": edm::time_or_never(server.synced_at.map(|at| at.0)),
        // Apple's reasons are words; the log and muster apple ade-status have them.
        "lastSyncErrorCode": i32::from(server.alarm.is_some()),
        "lastSyncTriggeredDateTime": edm::time_or_never(server.synced_at.map(|at| at.0)),
        "roleScopeTagIds": ["0"],
        "shareTokenWithSchoolDataSyncService": false,
        "syncedDeviceCount": found.devices,
        "tokenExpirationDateTime": edm::time_or_never(link.map(|link| link.ends_at.0)),
        "tokenName": server.name,
        "tokenType": if link.is_some() { "dep" } else { "none" },
    }
}

async fn list_all(call: Call<'_>) -> Result<Answer> {
    let all = ade::list_onboarding(call.app).await?;
    list::few(&call, &SHAPE, SET, all.iter().map(json).collect())
}

async fn count(call: Call<'_>) -> Result<Answer> {
    Ok(Answer::text(ade::list_onboarding(call.app).await?.len().to_string()))
}

async fn named(call: &Call<'_>) -> Result<Onboarding> {
    let id = call.key(0)?.to_ascii_lowercase();
    let all = ade::list_onboarding(call.app).await?;
    all.into_iter().find(|found| found.server.id.as_str() == id).ok_or_else(GraphProblem::not_found)
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let found = named(&call).await?;
    Ok(Answer::ok(list::single(&call, &SHAPE, SET, json(&found))?))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Given {
    token_name: Option<String>,
    apple_id: Option<String>,
    dep_token: Option<String>,
}

async fn create(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let given: Given = call.request.json()?;
    let name = given.token_name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| GraphProblem::invalid("tokenName is required: the name of the server here."))?;
    if ade::list_onboarding(call.app).await?.iter().any(|known| known.server.name == name) {
        return Err(GraphProblem::new(StatusCode::CONFLICT, "NameConflict", "There is a server of that name already."));
    }
    let by = call.by();
    ade::request(call.app, name.clone(), false, &by.actor, &by.origin).await?;
    let all = ade::list_onboarding(call.app).await?;
    let made = all.iter().find(|known| known.server.name == name).ok_or_else(GraphProblem::not_found)?;
    let location = format!("{}/{SET}/{}", base(&call.app.config, call.request.version), made.server.id);
    Ok(Answer::created(location, list::single(&call, &SHAPE, SET, json(made))?))
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let (found, by) = (named(&call).await?, call.by());
    ade::remove(call.app, found.server.name, &by.actor, &by.origin).await?;
    Ok(Answer::done())
}

fn text(call: &Call<'_>, value: &str) -> Answer {
    let context = format!("{}/$metadata#Edm.String", base(&call.app.config, call.request.version));
    Answer::ok(json!({ "@odata.context": context, "value": value }))
}

async fn key(call: &Call<'_>, fresh: bool) -> Result<Answer> {
    let (found, by) = (named(call).await?, call.by());
    Ok(text(call, &ade::request(call.app, found.server.name, fresh, &by.actor, &by.origin).await?))
}

async fn public_key(call: Call<'_>) -> Result<Answer> {
    key(&call, false).await
}

async fn new_key(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    key(&call, true).await
}

/// The file as Apple gives it, or that in Base64.
fn file(text: &str) -> Vec<u8> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(bare).unwrap_or_else(|_| text.as_bytes().to_vec())
}

async fn upload(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let (found, by) = (named(&call).await?, call.by());
    let given: Given = call.request.json()?;
    let token = given.dep_token.filter(|text| !text.trim().is_empty());
    let token = token.ok_or_else(|| GraphProblem::invalid("depToken is the file that Apple Business Manager gave."))?;
    let import = Import { name: found.server.name, file: file(&token), replace: false, account: given.apple_id };
    ade::import(call.app, import, &by.actor, &by.origin).await?;
    Ok(Answer::done())
}

async fn sync(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let (found, by) = (named(&call).await?, call.by());
    let since = found.server.synced_at.map(|at| call.app.now().since(at).div_euclid(1000));
    if let Some(left) = since.map(|since| PAUSE - since).filter(|left| *left > 0) {
        return Err(GraphProblem::throttled(u64::try_from(left).unwrap_or(1)));
    }
    ade::sync(call.app, &found.server.name, &by.actor, &by.origin).await?;
    Ok(Answer::done())
}

/// What Setup Assistant leaves out, and what Graph calls that.
const SKIPPED: [(&str, &str); 11] = [
    ("appleIdDisabled", "AppleID"),
    ("applePayDisabled", "Payment"),
    ("diagnosticsDisabled", "Diagnostics"),
    ("displayToneSetupDisabled", "DisplayTone"),
    ("locationDisabled", "Location"),
    ("privacyPaneDisabled", "Privacy"),
    ("restoreBlocked", "Restore"),
    ("screenTimeScreenDisabled", "ScreenTime"),
    ("siriDisabled", "Siri"),
    ("termsAndConditionsDisabled", "TOS"),
    ("touchIdDisabled", "Biometric"),
];

/// The profile that a server's devices are told: that of the configuration, under the id that Apple gave it.
fn profile_of(call: &Call<'_>, found: &Onboarding) -> Option<Map<String, Value>> {
    let (id, _) = found.server.profile.as_ref()?;
    let automated = &call.app.config.apple.automated;
    let wanted: &SetupProfile = &automated.profile;
    let mut whole = object! {
        "@odata.type": "#microsoft.graph.depEnrollmentBaseProfile",
        "id": id,
        "configurationEndpointUrl": Value::Null,
        "configurationWebUrl": automated.require_sign_in,
        "description": Value::Null,
        "deviceNameTemplate": Value::Null,
        "displayName": wanted.name,
        "enableAuthenticationViaCompanyPortal": false,
        "enabledSkipKeys": wanted.skip_setup_items,
        "isDefault": true,
        "isMandatory": wanted.mandatory,
        "profileRemovalDisabled": !wanted.removable,
        "requireCompanyPortalOnSetupAssistantEnrolledDevices": false,
        "requiresUserAuthentication": automated.require_sign_in,
        "supervisedModeEnabled": true,
        "supportDepartment": Some(&wanted.department).filter(|text| !text.is_empty()),
        "supportPhoneNumber": Some(&wanted.support_phone_number).filter(|text| !text.is_empty()),
        "waitForDeviceConfiguredConfirmation": wanted.await_configured,
    };
    for (name, item) in SKIPPED {
        whole.insert(name.into(), wanted.skip_setup_items.iter().any(|skipped| skipped == item).into());
    }
    Some(whole)
}

async fn profiles(call: Call<'_>) -> Result<Answer> {
    let found = named(&call).await?;
    let all = profile_of(&call, &found).into_iter().collect();
    list::fixed(&call, "deviceManagement/depOnboardingSettings/enrollmentProfiles", all)
}

async fn profile(call: Call<'_>) -> Result<Answer> {
    let (found, id) = (named(&call).await?, call.key(1)?);
    let own = profile_of(&call, &found).filter(|own| own.get("id").and_then(Value::as_str).is_some_and(|own| own.eq_ignore_ascii_case(id)));
    let own = own.ok_or_else(GraphProblem::not_found)?;
    list::fixed_single(&call, "deviceManagement/depOnboardingSettings/enrollmentProfiles", own)
}

fn device_json(listed: &Listed) -> Map<String, Value> {
    let device = &listed.device;
    let platform = match listed.platform() {
        Some(Platform::MacOs) => "macOS",
        Some(Platform::Ios) => "ios",
        _ => "unknown",
    };
    object! {
        "@odata.type": "#microsoft.graph.importedAppleDeviceIdentity",
        "id": device.serial,
        "createdDateTime": edm::time_or_never(device.assigned_at.map(|at| at.0)),
        "description": device.description,
        "discoverySource": "deviceEnrollmentProgram",
        "enrollmentState": if listed.enrolled.is_some() { "enrolled" } else { "notContacted" },
        "isDeleted": false,
        "isSupervised": true,
        "lastContactedDateTime": edm::time_or_never(listed.enrolled.flatten().map(|at| at.0)),
        "platform": platform,
        "requestedEnrollmentProfileAssignmentDateTime": edm::NEVER,
        "requestedEnrollmentProfileId": device.profile_uuid,
        "serialNumber": device.serial,
    }
}

async fn devices(call: Call<'_>) -> Result<Answer> {
    let found = named(&call).await?;
    let find = async |query: &_, limit| ade::page_listed(call.app, &found.server.id, query, &call.reach, limit).await;
    list::answer(
        &call,
        (&DEVICE_SHAPE, MANAGEMENT, "deviceManagement/depOnboardingSettings/importedAppleDeviceIdentities"),
        find,
        device_json,
    )
    .await
}
